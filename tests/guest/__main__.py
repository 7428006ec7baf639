"""`python3 -m tests.guest COMMAND ...`: a command on this machine's root under Debian's user-mode kernel.

A real kernel of the release (Debian 12: Linux 6.1, without FUSE passthrough), with its own NFS client and
server, as processes of this machine: no virtualization is needed. What is written lies on a disk of its own.
Needs root, and the packages user-mode-linux, kmod and iproute2.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
INIT: Final = Path(__file__).with_name("init.sh")
DISK_BYTES: Final = 16 << 30  # sparse
MEMORY: Final = "4G"


def boot(command: str, timeout_s: float) -> int:
    """Run a shell command in a guest, in the checkout, and print its output. Returns its exit code, or 124
    with what the kernel said if there is none after *timeout_s*."""
    with tempfile.TemporaryDirectory(prefix="policyfs-guest-", dir="/var/tmp") as made:
        place = Path(made)
        (place / "command").write_text(f"cd {shlex.quote(str(CHECKOUT))}\n{command}\n", encoding="utf-8")
        output, disk = place / "output", place / "disk"
        output.touch()
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", disk], check=True)
        with (place / "kernel").open("wb") as said:
            guest = subprocess.Popen(
                ["linux.uml", f"mem={MEMORY}", f"ubd0={disk}", "root=/dev/root", "rootfstype=hostfs", "ro",
                 f"init={INIT}", f"exchange={place}", f"umid={place.name}", f"uml_dir={place}", "con=null",
                 "con0=null,fd:1", "quiet"],
                stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip
        try:
            follow(guest, output, time.monotonic() + timeout_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(guest.pid, signal.SIGKILL)
            guest.wait()
        with suppress(OSError, ValueError):
            return int((place / "code").read_text(encoding="ascii"))
        for name in ("kernel", "console"):
            with suppress(OSError):
                print((place / name).read_text(encoding="utf-8", errors="replace")[-4000:], file=sys.stderr)
        return 124


def follow(guest: subprocess.Popen[bytes], output: Path, end: float) -> None:
    """Print what is appended to *output* until the guest ends or it is time."""
    with output.open("rb") as file:
        over = False
        while not over and time.monotonic() < end:
            with suppress(subprocess.TimeoutExpired):
                guest.wait(0.5)
                over = True
            shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.guest", description="under another kernel")
    parser.add_argument("--timeout", type=float, default=3600, metavar="S", help="seconds (3600)")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="run in the checkout, by a shell")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    return boot(shlex.join(arguments.command), arguments.timeout)


if __name__ == "__main__":
    sys.exit(main())

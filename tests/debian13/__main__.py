"""`make test-debian13`: set-up, `doctor`, the demo and the tests in another Debian release.

    python3 -m tests.debian13 [--suite trixie] [--root DIR] [--jobs N] [tests ...]

debootstrap builds the root from the mirror that apt uses here; a clone of HEAD goes into it. A process
namespace and a mount namespace of its own (inside.sh) hold everything that runs there, so that whatever
happens no process and no mount is left. Runs on Debian's own Python, without a virtual environment.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from tests.debian13.left_out import LEFT_OUT

CHECKOUT: Final = Path(__file__).resolve().parents[2]
INSIDE: Final = Path(__file__).with_name("inside.sh")
SCRIPTS: Final = Path("/usr/share/debootstrap/scripts")
BUILT: Final = ".policyfs-built"
"""In a root whose base system is complete."""
PLACE: Final = "policyfs"
"""Where the clone lies in the root."""
PASSED_ON: Final = re.compile(r"(?i)((http|https|ftp|all|no)_proxy|PIP_\w+|POLICYFS_(SOAK|CASES))")
KEPT_MIB: Final = 12_000
"""Free space that a root with all test packages, the clone and the tests' own files need."""


class Debian13Error(Exception):
    """The run could not go on; the message says why."""


def mirror() -> str:
    """The address that apt has Debian's packages from."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = done.stdout.split()
    if not found:
        raise Debian13Error("apt knows no Debian mirror; run `apt-get update` first, on a Debian machine")
    return found[0]


def build(root: Path, suite: str) -> None:
    """Make the base system, unless an earlier run has left it complete."""
    if (root / BUILT).exists():
        return
    if shutil.disk_usage(root).free >> 20 < KEPT_MIB:
        raise Debian13Error(f"{root} has less than {KEPT_MIB} MiB free; name another place with --root DIR")
    known = SCRIPTS / suite
    newer = () if known.exists() else (str(SCRIPTS / "sid"),)  # a suite that debootstrap is too old for
    run("debootstrap", "--variant=minbase", "--include=make", suite, str(root), mirror(), *newer)
    proxies = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    lines = [line for line in proxies.splitlines() if re.match(r"Acquire::\w+::Proxy\b", line)]
    (root / "etc/apt/apt.conf.d/90host").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (root / BUILT).touch()


def put_checkout(root: Path) -> None:
    """Clone HEAD into the root; an environment that an earlier run has made there stays."""
    place = root / PLACE
    kept = root / ".policyfs-venv"
    if (place / ".venv").exists():
        (place / ".venv").rename(kept)
    shutil.rmtree(place, ignore_errors=True)
    run("git", "clone", "--quiet", "--no-hardlinks", str(CHECKOUT), str(place))
    run("git", "-C", str(place), "remote", "remove", "origin")
    if kept.exists():
        kept.rename(place / ".venv")
        (place / ".venv/.stamp-installed").unlink(missing_ok=True)
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc", name), root / "etc" / name)


def environment(root: Path) -> dict[str, str]:
    """What the programs inside are given: proxies and pip's settings, but no path of this machine."""
    kept = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    certificates = kept.pop("PIP_CERT", None)
    kept = {name: value for name, value in kept.items() if "/" not in value or "://" in value}
    if certificates:
        shutil.copy(certificates, root / "etc/pip-certificates.pem")
        kept["PIP_CERT"] = "/etc/pip-certificates.pem"
    return kept | {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "PYTEST_ADDOPTS": shlex.join(f"--deselect={test}" for test in LEFT_OUT),
    }


def inside(root: Path, script: str) -> int:
    """Run a shell script in the root; returns its exit code. Nothing of it outlives this call."""
    command = ["setpriv", "--pdeathsig", "KILL"]
    command += ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    command += ["sh", str(INSIDE), str(root), f"cd /{PLACE} && {script}"]
    return subprocess.run(command, env=environment(root), stdin=subprocess.DEVNULL, check=False).returncode


def script(tests: Sequence[str], jobs: int) -> str:
    """What is run in the clone."""
    setup = "make -s setup"
    looked_at = "python3 --version && .venv/bin/policyfs doctor && make -s demo"
    # A test that is left out must fail there, or it is to be left in.
    left_out = "".join(
        f" && if PYTEST_ADDOPTS= .venv/bin/python -m pytest -q {shlex.quote(test)} >/dev/null 2>&1;"
        f" then echo {shlex.quote(f'{test} passes: take it out of left_out.py')}; exit 1; fi"
        for test in LEFT_OUT
    )
    if tests:
        chosen = f".venv/bin/python -m pytest -q {shlex.join(tests)} -m"
        side_by_side = f"{chosen} 'not soak and not alone' --jobs {jobs}"
        none_is_fine = "|| [ $? = 5 ]"
        return (
            f"{setup} && {looked_at} && {{ {side_by_side} {none_is_fine}; }}"
            f" && {{ {chosen} 'alone and not soak' {none_is_fine}; }}"
        )
    return f"{setup} && {looked_at} && make -s test JOBS={jobs}{left_out}"


def run(*command: str) -> None:
    """Run a program. Raises Debian13Error."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise Debian13Error(f"{shlex.join(command)} ended with {done.returncode}")


@contextmanager
def root_directory(asked: str | None) -> Iterator[Path]:
    """The directory asked for, which stays, or one that is removed at the end."""
    if asked is not None:
        root = Path(asked).absolute()
        root.mkdir(parents=True, exist_ok=True)
        yield root
        return
    root = Path(tempfile.mkdtemp(prefix="policyfs-debian13-", dir="/var/tmp"))
    root.chmod(0o755)
    try:
        yield root
    finally:
        release_loops(root)
        shutil.rmtree(root)


def release_loops(root: Path) -> None:
    """Detach loop devices whose files lie in the root: a test that was killed may leave one."""
    listed = subprocess.run(
        ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    for line in listed.stdout.splitlines():
        device, _, file = line.partition(" ")
        if file.strip().startswith(f"{root}/"):
            subprocess.run(["losetup", "--detach", device], check=False)


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.debian13", description="tests in another Debian")
    parser.add_argument("--suite", default="trixie", help="the release, as the mirror names it (trixie)")
    parser.add_argument("--root", metavar="DIR", help="build the root there, keep it, use it again")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="tests side by side (2)")
    parser.add_argument("tests", nargs="*", help="some tests, instead of all of `make test`")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("tests.debian13: needs root", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _end)  # so that what is to be cleared away is
    try:
        with root_directory(arguments.root) as root:
            build(root, arguments.suite)
            put_checkout(root)
            return inside(root, script(arguments.tests, arguments.jobs))
    except Debian13Error as error:
        print(f"tests.debian13: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())

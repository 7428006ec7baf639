"""A user other than root, as Debian makes one: an account, a home, subordinate ids, /dev/fuse for all.

All of it is in a mount namespace of the commands that run as the user: the machine has none of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.mount.daemons import Said

UID: Final = 4242
NAME: Final = "erin"
_SUBORDINATE_IDS: Final = range(300_000, 365_536)
SUBORDINATE: Final = f"{NAME}:{_SUBORDINATE_IDS.start}:{len(_SUBORDINATE_IDS)}\n"
_NEWNS, _BIND, _PRIVATE = 0x20000, 0x1000, 0x4000 | 1 << 18
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _real_uid(process: Path) -> int:
    """The real uid: /proc/PID belongs to root if the process may not be looked at."""
    return int((process / "status").read_text().partition("\nUid:")[2].split()[0])


def _forbid_namespaces() -> None:
    """Enter a user namespace, with all ids, whose limit of user namespaces is 0: the limit is its own."""
    heard, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        os.read(heard, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{os.getppid()}/{name}").write_text("0 0 4294967295")
        os._exit(0)
    assert _libc.unshare(0x10000000) == 0
    os.close(told)
    os.waitpid(pid, 0)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


class OrdinaryUser:
    """Runs commands of policyfs as the user. home: of the user. files: what replaces files of the machine.
    knows_limits: True once `run` has said what it lacks. forbidden: True if commands run where nobody can
    make a user namespace."""

    def __init__(self, place: Path) -> None:
        place.chmod(0o755)
        self.home = place / "home"
        self.home.mkdir(mode=0o700)
        self.runtime = place / "runtime"
        self.runtime.mkdir(mode=0o700)
        for directory in (self.home, self.runtime):
            os.chown(directory, UID, UID)
        self.files: dict[str, Path] = {}
        self.forbidden = False
        self.knows_limits = False
        self.program: tuple[str, ...] = ("policyfs.cli.main",)
        passwd = Path("/etc/passwd").read_text() + f"{NAME}:x:{UID}:{UID}::{self.home}:/bin/sh\n"
        group = Path("/etc/group").read_text() + f"{NAME}:x:{UID}:\n"
        texts = {"passwd": passwd, "group": group, "subuid": SUBORDINATE, "subgid": SUBORDINATE}
        for name, text in texts.items():
            self.files[f"/etc/{name}"] = place / name
            (place / name).write_text(text)
            (place / name).chmod(0o644)
        self.files["/dev/fuse"] = place / "fuse"
        os.mknod(place / "fuse", stat.S_IFCHR | 0o666, os.makedev(10, 229))
        (place / "fuse").chmod(0o666)
        self.environment = {
            "PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(self.home), "LC_ALL": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.runtime),
        }  # fmt: skip

    def _become(self) -> None:
        """In the child: take the account, in a mount namespace with the user's files."""
        assert _libc.unshare(_NEWNS) == 0
        assert _libc.mount(None, b"/", None, _PRIVATE, None) == 0
        for over, file in self.files.items():
            Path(over).touch()
            assert _libc.mount(os.fsencode(file), os.fsencode(over), None, _BIND, None) == 0, over
        if self.forbidden:
            _forbid_namespaces()
        os.setgroups([])
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)

    def start(
        self, *words: str | Path, environment: Mapping[str, str] = {}, **more: Any
    ) -> subprocess.Popen[str]:
        """Start `policyfs WORDS` as the user."""
        program = [sys.executable, "-P", "-m", *self.program, *map(str, words)]
        pipes: dict[str, Any] = {
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
            "cwd": self.home,
        }  # fmt: skip
        return subprocess.Popen(
            program, text=True, preexec_fn=self._become, **(pipes | more),
            env={**self.environment, "PYTHONPATH": os.getcwd(), **environment},
        )  # fmt: skip

    def policyfs(self, *words: str | Path, **more: Any) -> Said:
        """Run `policyfs WORDS` as the user to its end."""
        process = self.start(*words, **more)
        out, err = process.communicate(timeout=60)
        return Said(process.returncode, out, err)

    def left(self) -> list[int]:
        """The processes of the user, and of the subordinate uids."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                uid = path.stat().st_uid or _real_uid(path)
                if uid == UID or uid in _SUBORDINATE_IDS:
                    found.append(int(path.name))
        return found

    def make(self, path: str, text: str = "") -> Path:
        """Make a file of the user below the home, with the directories above it."""
        file = self.home / path
        for above in [*file.relative_to(self.home).parents][-2::-1]:
            directory = self.home / above
            directory.mkdir(exist_ok=True)
            os.chown(directory, UID, UID)
        file.write_text(text)
        os.chown(file, UID, UID)
        return file

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

from tests.support.machine.documents import CHECKOUT
from tests.support.mount.daemons import Said

NAME: Final = "erin"
_IDS: Final = 65_536
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


def _open_the_way(*directories: Path) -> None:
    """Show directories at their paths, also below one that others cannot search: it is covered by an empty
    one, with nothing but the way to them."""
    closed = {
        directory: next(above for above in [*directory.parents][::-1] if not above.stat().st_mode & 0o001)
        for directory in directories
        if any(not above.stat().st_mode & 0o001 for above in directory.parents)
    }
    fds = {directory: os.open(directory, os.O_PATH) for directory in closed}
    for above in {*closed.values()}:
        assert _libc.mount(b"none", os.fsencode(above), b"tmpfs", 0, b"mode=755") == 0
    for directory, fd in fds.items():
        directory.mkdir(parents=True, exist_ok=True)
        assert _libc.mount(b"/proc/self/fd/%d" % fd, os.fsencode(directory), None, _BIND, None) == 0
        os.close(fd)


class OrdinaryUser:
    """Runs commands of policyfs as the user. home: of the user. files: what replaces files of the machine.
    knows_limits: True once `run` has said what it lacks. forbidden: True if commands run where nobody can
    make a user namespace."""

    def __init__(self, place: Path) -> None:
        place.chmod(0o755)
        number = os.getpid() % 1000  # tests beside this one have users of their own
        self.uid = 5000 + number
        self.subordinate_ids = range(300_000 + number * _IDS, 300_000 + (number + 1) * _IDS)
        self.home = place / "home"
        self.home.mkdir(mode=0o700)
        self.runtime = place / "runtime"
        self.runtime.mkdir(mode=0o700)
        for directory in (self.home, self.runtime):
            os.chown(directory, self.uid, self.uid)
        self.files: dict[str, Path] = {}
        self.forbidden = False
        self.knows_limits = False
        self.program: tuple[str, ...] = ("policyfs.cli.main",)
        passwd = Path("/etc/passwd").read_text() + f"{NAME}:x:{self.uid}:{self.uid}::{self.home}:/bin/sh\n"
        group = Path("/etc/group").read_text() + f"{NAME}:x:{self.uid}:\n"
        ids = f"{NAME}:{self.subordinate_ids.start}:{_IDS}\n"
        texts = {"passwd": passwd, "group": group, "subuid": ids, "subgid": ids}
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
        _open_the_way(CHECKOUT, Path(sys.base_prefix))
        for over, file in self.files.items():
            Path(over).touch()
            assert _libc.mount(os.fsencode(file), os.fsencode(over), None, _BIND, None) == 0, over
        if self.forbidden:
            _forbid_namespaces()
        os.setgroups([])
        os.setresgid(self.uid, self.uid, self.uid)
        os.setresuid(self.uid, self.uid, self.uid)

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
                if uid == self.uid or uid in self.subordinate_ids:
                    found.append(int(path.name))
        return found

    def make(self, path: str, text: str = "") -> Path:
        """Make a file of the user below the home, with the directories above it."""
        file = self.home / path
        for above in [*file.relative_to(self.home).parents][-2::-1]:
            directory = self.home / above
            directory.mkdir(exist_ok=True)
            os.chown(directory, self.uid, self.uid)
        file.write_text(text)
        os.chown(file, self.uid, self.uid)
        return file

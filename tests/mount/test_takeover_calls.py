"""A daemon dies at each system call of a change, in turn: the app sees no error, and the change is made once.

strace(1) writes down the calls that a daemon's main thread makes for one change, and ends a daemon before
each of them in another."""

from __future__ import annotations

import os
import re
import select
import stat
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from policyfs.linux.libc import RENAME_EXCHANGE, rename2
from tests.mount.test_takeover import let_live
from tests.mount.test_takeover_held import is_over
from tests.mount.test_takeover_writes import APP, OF_APP, POLICY, work  # noqa: F401
from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.daemons import Mount

STAMP_NS = 1_000_000_000_000_000_000
RECORDED = POLICY.replace("rules:", "defaults: {audit: required}\nrules:")
IDLE = {
    "epoll_wait", "epoll_ctl", "futex", "getpid", "recvfrom", "sendto", "read", "lseek", "newfstatat",
    "brk", "mmap", "munmap", "mprotect", "clone3", "clone", "rt_sigprocmask",
}  # fmt: skip
"""Calls that a daemon makes when it rests, or begins a thread."""
LOOKS = {"open", "list"}  # operations on record of a look at a tree
ENDS_S = 0.2
HEARD_S = 0.2  # until the watch has heard of changes in the store
FEWEST = 15
FEWEST_IN_C = 5


def _append(at: Path) -> None:
    with (at / "file").open("ab", buffering=0) as file:
        file.write(b"more")


def _allocate(at: Path) -> None:
    with (at / "file").open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 8192)


def _exchange(at: Path) -> None:
    fd = os.open(at, os.O_RDONLY)
    rename2(fd, b"file", fd, b"other", RENAME_EXCHANGE)
    os.close(fd)


def _make_and_date(at: Path) -> None:
    with (at / "new").open("xb", buffering=0) as file:
        file.write(b"new text")
        os.utime(file.fileno(), ns=(STAMP_NS, STAMP_NS))


def _make_and_rename(at: Path) -> None:
    with (at / "new").open("xb", buffering=0) as file:
        file.write(b"new text")
        (at / "new").rename(at / "moved")
        file.write(b" and more")
        os.fsync(file.fileno())


CHANGES: dict[str, Callable[[Path], object]] = {
    "create": lambda at: os.close(os.open(at / "new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)),
    "make and date": _make_and_date,
    "append": _append,
    "overwrite": lambda at: (at / "file").write_bytes(b"new"),
    "truncate": lambda at: os.truncate(at / "file", 5),
    "allocate": _allocate,
    "mkdir": lambda at: (at / "new").mkdir(),
    "rmdir": lambda at: (at / "empty").rmdir(),
    "symlink": lambda at: (at / "new").symlink_to("file"),
    "link": lambda at: (at / "new").hardlink_to(at / "file"),
    "unlink": lambda at: (at / "file").unlink(),
    "rename": lambda at: (at / "file").rename(at / "empty" / "new"),
    "replace": lambda at: (at / "file").rename(at / "other"),
    "rename beside": lambda at: (at / "file").rename(at / "new"),
    "replace by name": lambda at: (at / "file").rename(at / "third"),
    "make and rename": _make_and_rename,
    "exchange": _exchange,
    "rename directory": lambda at: (at / "empty").rename(at / "new"),
    "utime": lambda at: os.utime(at / "file", ns=(STAMP_NS, STAMP_NS)),
    "setxattr": lambda at: os.setxattr(at / "file", "user.new", b"value"),
    "removexattr": lambda at: os.removexattr(at / "file", "user.kept"),
    "chmod": lambda at: (at / "file").chmod(0o711),
}
IN_C = {
    "create": "creates", "make and date": "setattrs", "unlink": "unlinks", "utime": "setattrs",
    "append": "opens", "overwrite": "opens", "chmod": "setattrs",
    "rename beside": "renames", "replace by name": "renames", "make and rename": "renames",
}  # fmt: skip
"""Changes that the bridge makes by itself, by what counts them, if no record must come first."""
WAYS: list[tuple[tuple[str, ...], tuple[str, ...], str]] = [
    (OF_APP, tuple(name for name in CHANGES if name not in {"chmod", *tuple(IN_C)[-3:]}), RECORDED),
    (OF_APP, tuple(IN_C), POLICY),
    ((), ("create", "link", "unlink", "rename", "replace"), RECORDED),
    (("--no-passthrough",), ("append", "overwrite", "truncate", "allocate"), RECORDED),
    ((*OF_APP, "--posix"), ("mkdir", "chmod"), RECORDED),
]


def _furnish(directory: Path) -> None:
    (directory / "empty").mkdir(parents=True)
    (directory / "file").write_bytes(b"old text")
    for name in ("other", "third"):
        (directory / name).write_bytes(b"another")
    os.setxattr(directory / "file", "user.kept", b"value")
    for path in (directory, *directory.iterdir()):
        os.chown(path, APP, APP)


def _warm(directory: Path) -> None:
    """Let a daemon leave changes in a directory to the bridge."""
    with (directory / "other").open("ab"), (directory / "warm").open("ab"):
        pass
    (directory / "warm").unlink()
    for name in ("file", "third"):
        (directory / name).stat()


def _found(directory: Path) -> list[tuple[object, ...]]:
    """What a change can do to a tree."""
    found: list[tuple[object, ...]] = []
    for path in sorted(directory.rglob("*")):
        is_file = stat.S_ISREG((seen := path.lstat()).st_mode)
        names = sorted(os.listxattr(path)) if is_file else []
        found.append((
            path.relative_to(directory), seen.st_mode, seen.st_uid, seen.st_mtime_ns == STAMP_NS,
            *((seen.st_nlink, path.read_bytes(), [one for one in names if one.startswith("user.")])
              if is_file else ()),
        ))  # fmt: skip
    return found


def _change_elsewhere(directory: Path) -> None:
    """The next daemon can go on: its next change is made."""
    directory.mkdir()
    directory.rmdir()


@contextmanager
def _traced(pid: int, *options: str) -> Iterator[Callable[[], bool]]:
    """strace(1) follows a process's main thread. Yields whether the process has ended."""
    process, status = os.pidfd_open(pid), Path(f"/proc/{pid}/status")
    with subprocess.Popen(["strace", "-qq", "-p", str(pid), *options]) as tracer:
        try:
            wait_for(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text(), "the tracer")
            yield lambda: bool(select.select([process], [], [], ENDS_S)[0])
        finally:
            tracer.terminate()
            os.close(process)


class _Deaths:
    """Changes of one kind, each in a directory of its own. expected: the directory after one. counted: what
    counts them, if the bridge makes them."""

    def __init__(
        self, mount: Mount, name: str, expected: list[tuple[object, ...]], counted: str | None
    ) -> None:
        self.mount, self.name, self.expected, self.counted = mount, name, expected, counted
        self.made = 0
        self.died: list[str] = []
        self.wanted = Counter[tuple[str, str]]()

    def calls(self, log: Path) -> list[tuple[str, int]]:
        """The calls of one change, each as its name and how many of this name there were with it."""
        self._change("-o", str(log))
        self._look()
        self.wanted = wait_for(lambda: self._records()[self._place()], "the change is on record")
        seen, found = Counter[str](), []
        for line in log.read_text().splitlines():
            if call := re.match(r"\w+(?=\()", line):
                seen[call[0]] += 1
                found.append((call[0], seen[call[0]]))
        return [one for one in found if one[0] not in IDLE]

    def die_at(self, call: str, number: int, deaths: int = 1) -> None:
        """A daemon dies before the call of this name and number, if it comes to it: the first change needs
        more calls than others. deaths: of that daemon, and of those after it."""
        before = self.mount.status()["takeover"]["count"]
        let_live()
        if self._change("-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={number}"):
            wait_for(lambda: is_over(self.mount, before + deaths), f"the next after {call} {number}", 20)
            self._look()
            call_as(APP, _change_elsewhere, self.mount / "Work" / "elsewhere")
            self.died.append(self._place())

    def check_trail(self) -> None:
        """Each change is on record, perhaps twice. A close may be missing, and what need not be on record."""
        records = self._records()
        for place in self.died:
            found = records[place]
            assert self.counted or {one for one, _ in self.wanted - found} <= {"release"}, place
            assert max((found - self.wanted).values(), default=0) <= 1, place

    def _records(self) -> dict[str, Counter[tuple[str, str]]]:
        """What the trail has of each directory, without what a look at it adds."""
        found: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
        for one in self.mount.events():
            if (path := one.get("path", "")).startswith("/Work/") and one["operation"] not in LOOKS:
                _, _, place, *rest = path.split("/", 3)
                if rest == ["warm"] or one["syscall"] == "open(O_WRONLY|O_APPEND)":
                    continue
                found[place][one["operation"], "".join(rest)] += 1
        return found

    def _place(self) -> str:
        return f"{self.name}-{self.made}"

    def _look(self) -> None:
        assert call_as(APP, _found, self.mount / "Work" / self._place()) == self.expected

    def _change(self, *options: str) -> bool:
        """Return whether a daemon has died meanwhile."""
        self.made += 1
        _furnish(self.mount.store / "Work" / self._place())
        if self.counted is not None:
            time.sleep(HEARD_S)
            call_as(APP, _warm, self.mount / "Work" / self._place())
        before = self._count()
        with _traced(self.mount.status()["pid"], *options) as has_ended:
            call_as(APP, CHANGES[self.name], self.mount / "Work" / self._place())
            assert _found(self.mount.store / "Work" / self._place()) == self.expected, options
            died = has_ended()
        assert died or self._count() > before or self.counted is None, options
        return died

    def _count(self) -> int:
        return 0 if self.counted is None else int(self.mount.status()["vectors"][self.counted])


@pytest.mark.parametrize(
    ("name", "call"), first(1, [("unlink", "unlinkat"), ("create", "linkat"), ("rename beside", "renameat2")])
)
def test_a_daemon_that_dies_before_it_serves_takes_no_intent_along(
    mounts, work: Path, name: str, call: str, arena: Path,  # noqa: F811
) -> None:  # fmt: skip
    """The one before has died between a change that the bridge has made and its answer."""
    work.chmod(0o700)
    os.chown(work / "Work", APP, APP)
    _furnish(arena / "native")
    call_as(APP, CHANGES[name], arena / "native")
    mount = mounts.prepare(POLICY, work, "--keeper", *OF_APP)
    mount.program = ("tests.support.mount.dying_twice",)
    mount.start()
    deaths = _Deaths(mount, name, _found(arena / "native"), IN_C[name])
    calls = deaths.calls(arena / "calls")
    deaths.die_at(*next(one for one in calls[calls.index((call, 1)) :] if one[0] == "writev"), deaths=2)
    assert len(deaths.died) == 1
    assert mount.status()["takeover"]["unknown"] == mount.status()["bugs"] == 0


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("options", "names", "policy"), WAYS)
def test_a_daemon_that_dies_at_any_call_has_made_a_change_once(
    mounts, work: Path, options: tuple[str, ...], names: tuple[str, ...], policy: str,  # noqa: F811
    arena: Path,
) -> None:  # fmt: skip
    work.chmod(0o755 if "--posix" in options else 0o700)
    os.chown(work / "Work", APP, APP)
    mount = mounts.start(policy, work, "--keeper", *options)
    for name in names:
        native = arena / "native" / name
        _furnish(native)
        call_as(APP, CHANGES[name], native)
        deaths = _Deaths(mount, name, _found(native), None if policy is RECORDED else IN_C[name])
        for call in deaths.calls(arena / "calls"):
            deaths.die_at(*call)
        print(f"{name}: {len(deaths.died)} deaths", flush=True)
        assert len(deaths.died) >= (FEWEST if policy is RECORDED else FEWEST_IN_C)
        deaths.check_trail()
    status = mount.status()
    assert status["bugs"] == 0
    assert status["takeover"]["unknown"] == 0

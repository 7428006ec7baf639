"""Calls made on a directory by several users, and everything that can be seen of it after each.

A case is a few steps; each is one call by one user, made in a directory of the case's own. After
every step all that is in the directory is looked at: type, mode, owner, group, links, size, which
times moved, which names are one file. Cases run natively and through a mount; the records must be
equal. Users are real: the child that runs the cases takes over each one's uid, gid and groups
(real, effective and file-system ids; root stays the saved id, to come back).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.machine.processes import wait_for


class User(NamedTuple):
    """Who makes a call: uid, gid, supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ":".join(map(str, [self.uid, self.gid, *self.groups]))


ROOT: Final = User(0, 0)


class Step(NamedTuple):
    """One call by one user under a umask. what: for people. behind: made straight in the store."""

    user: User
    what: str
    call: Callable[[], Any]
    umask: int
    behind: bool = False


class Case(NamedTuple):
    """Steps that build on one another. atime: access times are looked at, too.

    slowly: each step begins when the kernel's coarse clock is past every time on the files. Else a
    change of ctime may be stamped earlier than the atime before it, and relatime goes by their order.
    """

    name: str
    steps: tuple[Step, ...]
    atime: bool = False
    slowly: bool = False


class Record(NamedTuple):
    """What one step came to: errno or value, and what the case's directory then looked like."""

    outcome: str
    seen: dict[str, tuple[Any, ...]]

    def untimed(self) -> Record:
        """Without which times were changed."""
        return Record(self.outcome, {name: shown[:-1] for name, shown in self.seen.items()})


def do(user: User, call: Callable[..., Any], *arguments: Any, umask: int = 0o022) -> Step:
    """A step: `do(OWNER, os.chmod, "file", 0o600)`."""
    name = getattr(call, "__name__", str(call)).strip("<>")
    shown = ", ".join(_short(argument) for argument in arguments)
    return Step(user, f"{user} {name}({shown})", lambda: call(*arguments), umask)


def _short(argument: Any) -> str:
    text = oct(argument) if type(argument) is int and argument > 7 else repr(argument)
    return text if len(text) <= 40 else f"{text[:30]}..[{len(text)}]"


def case(name: str, *steps: Step | Iterable[Step], atime: bool = False, slowly: bool = False) -> Case:
    """A case of single steps and lists of them."""
    flat: list[Step] = []
    for step in steps:
        if isinstance(step, Step):
            flat.append(step)
        else:
            flat.extend(step)
    return Case(name, tuple(flat), atime, slowly)


# ---------------------------------------------------------------- being somebody


@contextlib.contextmanager
def being(user: User) -> Iterator[None]:
    """Act as a user; root's rights come back at the end."""
    os.setgroups(user.groups)
    os.setresgid(user.gid, user.gid, 0)
    os.setresuid(user.uid, user.uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(())


def outcome_of(step: Step) -> str:
    """Make a step's call; what it returned, or the name of its errno."""
    before = os.umask(step.umask)
    try:
        with being(step.user):
            return repr(step.call())
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    finally:
        os.umask(before)


# ---------------------------------------------------------------- looking

_COARSE: Final = 5  # CLOCK_REALTIME_COARSE
_Times = tuple[int, int, int]


class Eyes:
    """Looks at a directory, in which names are listed by *listed* and attributes come from *seen*.

    They are the same directory natively; else the store's own and the mount's, so that listing
    does not change what the kernel keeps of the mount. Remembers times, to tell which moved.
    """

    def __init__(self, listed: int, seen: int, *, atime: bool) -> None:
        self._listed = listed
        self._seen = seen
        self._atime = atime
        self._before: dict[int, _Times] = {}

    def look(self) -> dict[str, tuple[Any, ...]]:
        """Everything below, by path: see _Times and the code for what is said of each."""
        found: dict[str, tuple[Any, ...]] = {}
        inodes: dict[int, str] = {}
        times: dict[int, _Times] = {}
        for name in [".", *sorted(_names(self._listed))]:
            try:
                status = os.stat(name, dir_fd=self._seen, follow_symlinks=False)
            except OSError as error:
                found[name] = (errno.errorcode[error.errno or 0],)
                continue
            now = (status.st_mtime_ns, status.st_ctime_ns, status.st_atime_ns)
            times[status.st_ino] = now
            found[name] = (
                oct(status.st_mode), status.st_uid, status.st_gid, status.st_nlink,
                0 if stat.S_ISDIR(status.st_mode) else status.st_size,
                inodes.setdefault(status.st_ino, name) if name != "." else name,
                self._moved(status.st_ino, now),
            )  # fmt: skip
        self._before = times
        return found

    def wait_for_the_mount(self) -> None:
        """Until what was done straight in the store is seen through the mount."""
        wait_for(lambda: _shown(self._listed) == _shown(self._seen), "the mount shows the store's change")

    def wait_for_the_clock(self) -> None:
        """Until whatever is stamped now is later than all that was seen."""
        latest = max((max(times) for times in self._before.values()), default=0)
        while time.clock_gettime_ns(_COARSE) <= latest:
            os.sched_yield()

    def _moved(self, ino: int, now: _Times) -> str:
        before = self._before.get(ino)
        if before is None:
            return "new"
        shown = "mca" if self._atime else "mc"
        return "".join(mark for mark, was, is_ in zip(shown, before, now, strict=False) if was != is_)


def _shown(fd: int) -> tuple[int, int, int]:
    status = os.fstat(fd)
    return status.st_nlink, status.st_mtime_ns, status.st_ctime_ns


def _names(fd: int, below: str = "", deep: int = 0) -> Iterator[str]:
    """All paths below a directory; O_NOATIME, so that looking changes nothing."""
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, directory in found:
        yield below + name
        if directory and deep < 3:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME, dir_fd=fd)
            try:
                yield from _names(inner, f"{below}{name}/", deep + 1)
            finally:
                os.close(inner)


def contents(listed: int, fd: int) -> dict[str, str]:
    """What every file and symlink below holds, at the end of a case; names from *listed*."""
    held = {}
    for name in sorted(_names(listed)):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            held[name] = os.readlink(name, dir_fd=fd)
        elif stat.S_ISREG(status.st_mode) and status.st_size <= 1 << 20:
            file = os.open(name, os.O_RDONLY, dir_fd=fd)
            try:
                held[name] = hashlib.sha256(os.read(file, 1 << 20)).hexdigest()[:12]
            finally:
                os.close(file)
    return held


# ---------------------------------------------------------------- running


def run_cases(through: str, store: str, cases: Sequence[Case]) -> list[list[Record]]:
    """Run cases in directories of their own below *through*; *store* is the same place behind it. Root's, in
    a child: ids, umask and working directory change."""
    results = []
    for number, one in enumerate(cases):
        name = f"c{number}"
        os.mkdir(f"{through}/{name}")
        os.chmod(f"{through}/{name}", 0o777)
        results.append(_run_case(one, f"{through}/{name}", f"{store}/{name}"))
    os.chdir("/")
    return results


def _run_case(one: Case, through: str, store: str) -> list[Record]:
    os.chdir(through)
    listed = os.open(store, os.O_RDONLY | os.O_DIRECTORY | os.O_NOATIME)
    seen = os.open(through, os.O_PATH | os.O_DIRECTORY)
    records = []
    try:
        eyes = Eyes(listed, seen, atime=one.atime)
        eyes.look()
        for step in one.steps:
            if one.slowly:
                eyes.wait_for_the_clock()
            os.chdir(store if step.behind else through)
            outcome = outcome_of(step)
            if step.behind:
                eyes.wait_for_the_mount()
            records.append(Record(outcome, eyes.look()))
        records.append(Record("contents", {name: (held,) for name, held in contents(listed, seen).items()}))
    finally:
        os.chdir("/")
        os.close(listed)
        os.close(seen)
    return records


def differences(
    cases: Sequence[Case], mounted: Sequence[Sequence[Record]], native: Sequence[Sequence[Record]],
    *, times: bool = True,
) -> list[tuple[str, str]]:  # fmt: skip
    """(case: step, what differs) for every step that differs; a case's first one only. times: compare, too,
    which times a step has changed."""
    found = []
    for one, ours, theirs in zip(cases, mounted, native, strict=True):
        steps = [*(step.what for step in one.steps), "contents"]
        for what, our, their in zip(steps, ours, theirs, strict=True):
            if not times:
                our, their = our.untimed(), their.untimed()
            if our == their:
                continue
            said = []
            if our.outcome != their.outcome:
                said.append(f"{our.outcome} through the mount, {their.outcome} natively")
            said += [
                f"{name} is {our.seen.get(name)} through the mount, {their.seen.get(name)} natively"
                for name in sorted(our.seen.keys() | their.seen.keys())
                if our.seen.get(name) != their.seen.get(name)
            ]
            found.append((f"{one.name}: {what}", "; ".join(said)))
            break
    return found


def checks_in(cases: Sequence[Case]) -> int:
    """How many calls are compared, each with all that is seen after it."""
    return sum(len(one.steps) for one in cases)


def places(root: Path, name: str) -> Path:
    """A directory for one run of cases, open to everyone."""
    place = root / name
    place.mkdir()
    place.chmod(0o777)
    return place

"""flock, POSIX and OFD locks hold between views, mounts and the store, as on one local file.

What is compared with "natively" is the same done to a file without policyfs.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import count
from tests.support.machine.images import file_system
from tests.support.machine.processes import wait_for
from tests.support.mount.lockplace import POLICY, SIDES, UIDS, Place, how
from tests.support.mount.stores import Mounts
from tests.support.programs.lockers import SORTS, Locker, lockers

ROADS: Final = ("raw", "checked", "own")
"""Where what one process does is compared with the same done natively."""


@pytest.fixture(scope="module")
def place(module_arena: Path, module_mounts: Mounts, media: dict[str, Path]) -> Place:
    return Place(module_arena, module_mounts, media["photo_with_place.jpg"])


# -- sides against each other ------------------------------------------------------------------------


def strongest(side: str, sort: str) -> str:
    """Who has the file open for reading only gets no exclusive byte range, natively neither."""
    return "read" if side == "redacted" and sort != "flock" else "write"


@pytest.mark.parametrize("sort", SORTS)
def test_sides_exclude_each_other(place: Place, locker, sort: str) -> None:
    """Each pair in both directions, and two processes of one side."""
    start = place.file()
    ones, others = ({side: locker(side, start) for side in SIDES} for _ in range(2))
    for one, other in itertools.product(SIDES, SIDES):
        name = place.file()
        for side, each in ((one, ones[one]), (other, others[other])):
            assert each("open", "f", str(place.path(side, name)), how(side)) == "ok"
        exclude(ones[one], others[other], sort, strongest(one, sort), strongest(other, sort))


def exclude(first: Locker, second: Locker, sort: str, strong: str, against: str) -> None:
    assert first.lock(sort, strong) == "ok"
    both_read = strong == against == "read"
    assert second.lock(sort, against) == ("ok" if both_read else "EAGAIN")
    assert second.lock(sort, "read") == ("ok" if strong == "read" else "EAGAIN")
    assert first.lock(sort, "unlock") == "ok"
    assert second.lock(sort, against) == "ok"
    assert first.lock(sort, strong) == ("ok" if both_read else "EAGAIN")
    assert first.lock(sort, "read") == ("ok" if against == "read" else "EAGAIN")


def test_reading_for_reading_only(place: Place, locker) -> None:
    """An exclusive byte range needs a descriptor that may write; flock does not."""
    name = place.file()
    expected = [["EBADF", "ok", "ok"]] * 4
    seen = []
    for side in ("native", "raw", "redacted", "own"):
        one = locker(side, name, os.O_RDONLY)
        seen.append([one.lock("posix", "write"), one.lock("posix", "read"), one.lock("flock", "write")])
        one.kill()
    assert seen == expected


def test_a_reader_that_opens_the_file_for_writing_too(place: Place, locker) -> None:
    """Its read lock never lets go while it becomes a write lock."""
    name = place.file()
    one, other = locker("raw", name, os.O_RDONLY), locker("store", name)
    assert one.lock("posix", "read", 0, 10) == "ok"
    one("open", "w", str(place.path("raw", name)), os.O_RDWR)
    assert one("lock", "w", "posix", "write", 5, 1) == "ok"
    assert [other.lock("posix", "write", at, 1) for at in (0, 5, 9, 10)] == ["EAGAIN"] * 3 + ["ok"]
    assert [other.lock("posix", "read", at, 1) for at in (0, 5, 9)] == ["ok", "EAGAIN", "ok"]


def test_a_copy_that_is_outdated_locks_the_file(place: Place, locker) -> None:
    name = place.file()
    reader, writer = locker("redacted", name), locker("raw", name)
    writer("write", "f", b"\xff", 30)
    late = locker("redacted", name)
    assert reader.lock("flock", "write") == "ok"
    assert writer.lock("flock", "write") == late.lock("flock", "read") == "EAGAIN"
    assert reader.lock("flock", "unlock") == "ok"
    assert writer.lock("posix", "write", 0, 1) == "ok"
    assert reader.lock("posix", "read", 0, 1) == late.lock("posix", "read", 0, 1) == "EAGAIN"


def test_a_file_that_has_no_name_any_more(place: Place, locker) -> None:
    name = place.file()
    one, other, reader = locker("raw", name), locker("checked", name), locker("raw", name, os.O_RDONLY)
    assert one("unlink", str(place.path("raw", name))) == "ok"
    assert one.lock("flock", "write") == "ok"
    assert other.lock("flock", "write") == reader.lock("flock", "read") == "EAGAIN"
    assert other.lock("posix", "write") == "ok"
    assert reader.lock("posix", "read") == "EAGAIN"


def test_locks_are_no_writers(module_arena: Path, module_mounts: Mounts, media: dict[str, Path]) -> None:
    """A large photo is shown under a lease, which no writer may disturb: no reader's lock does, and of a
    writer's lock nothing is left when it has closed the file."""
    with file_system("tmpfs", module_arena) as top:
        (top / "store").mkdir(mode=0o700)
        (top / "store" / "a.jpg").write_bytes(media["photo_with_place.jpg"].read_bytes())
        mount = module_mounts.start(POLICY, top / "store", "--copy-max", "4K")
        try:
            with lockers() as make:
                readers = [make(UIDS[side], mount / "a.jpg", os.O_RDONLY) for side in ("redacted", "raw")]
                assert readers[0]("read", "f", 2, 0) == b"\xff\xd8"
                before = mount.status()["leases"]
                assert before["held"] == 1
                for sort, reader in itertools.product(SORTS, readers):
                    assert reader.lock(sort, "read") == "ok"
                assert mount.status()["leases"] == before
                writer = make(UIDS["raw"], mount / "a.jpg")
                assert writer.lock("posix", "write", 9, 1) == "EAGAIN"
                readers[0]("lock", "f", "posix", "unlock")
                assert [reader.lock("ofd", "unlock") for reader in readers] == ["ok", "ok"]
                assert readers[1].lock("posix", "unlock") == "ok"
                assert writer.lock("posix", "write", 9, 1) == writer.lock("ofd", "write", 10, 1) == "ok"
                assert readers[0]("read", "f", 2, 0) == "EBUSY"
                assert writer("close", "f") == "ok"
                wait_for(lambda: readers[0]("read", "f", 2, 0) == b"\xff\xd8", "a lease again")
        finally:
            assert mount.stop() == []
            module_mounts.all.remove(mount)


# -- one program, here and natively --------------------------------------------------------------------


def ends_of_locks(place: Place, locker, side: str) -> dict[str, list[object]]:
    """What is left of a process's locks after each thing that may end them, as another sees it."""
    found: dict[str, list[object]] = {}
    other = locker(side, place.file())

    def tried(what: str, steps: Callable[[Locker], object], *, ranges: tuple[str, ...] = SORTS) -> None:
        found[what] = []
        for sort in ranges:
            name = place.file()
            one = locker(side, name)
            other("open", "f", str(place.path(side, name)), os.O_RDWR)
            one.lock(sort, "write", 10, 10)
            done = steps(one)
            found[what] += [sort, done, other.lock(sort, "write", 15, 1)]
            one.kill()
            found[what].append(other.lock(sort, "write", 15, 1))

    def again(one: Locker) -> object:
        return one("open", "g", str(one.path), os.O_RDONLY), one("close", "g")

    tried("nothing", lambda one: "")
    tried("close", lambda one: one("close", "f"))
    tried("dup and close", lambda one: (one("dup", "f", "g"), one("close", "g")))
    tried("dup and close the first", lambda one: (one("dup", "f", "g"), one("close", "f")))
    tried("another open and close", again)
    tried("kill -9", lambda one: one.kill())
    tried("exec, closed by it", lambda one: one.exec())
    tried("exec, kept", lambda one: (one("inherit", "f"), one.exec()))
    tried("a child has it, and asks", lambda one: one("in_child", "f", "posix", "write", 15, 1))
    tried("a child has it still", lambda one: (isinstance(one.fork(), int), one("close", "f")))
    tried("a child had it", lambda one: (isinstance(one.fork(), int), one("end_child")))
    tried("unlocked in part", lambda one: one.lock("posix", "unlock", 15, 1), ranges=("posix", "ofd"))
    return found


def test_ends_of_locks(place: Place, locker) -> None:
    native = ends_of_locks(place, locker, "native")
    after = {what: tuple(seen[2::4]) for what, seen in native.items()}
    assert after["nothing"] == ("EAGAIN", "EAGAIN", "EAGAIN")
    assert after["dup and close"] == ("EAGAIN", "ok", "EAGAIN")
    assert after["kill -9"] == after["close"] == ("ok", "ok", "ok")
    assert after["a child has it still"] == ("EAGAIN", "ok", "EAGAIN")
    for side in ROADS:
        assert ends_of_locks(place, locker, side) == native, side


def test_a_child_that_outlives_its_parent(place: Place, locker) -> None:
    """The POSIX lock is the parent's, flock and OFD lock go with the descriptor."""
    seen = {}
    for side in ("native", *ROADS):
        seen[side] = []
        for sort in SORTS:
            name = place.file()
            one, other = locker(side, name), locker(side, name)
            one.lock(sort, "write")
            child = one.fork()
            one.kill()
            seen[side].append(other.lock(sort, "write"))
            os.kill(child, 9)
            seen[side].append(wait_for(lambda: other.lock(sort, "write") == "ok", "its end"))  # noqa: B023 - at once
    assert all(ends == ["EAGAIN", True, "ok", True, "EAGAIN", True] for ends in seen.values()), seen


class Walk:
    """Three processes that lock one file at random; each step is done here and natively."""

    def __init__(self, place: Place, locker, sides: tuple[str, ...], seed: int) -> None:
        name = place.file()
        self.chance = random.Random(seed)
        self.pairs = [(locker(side, name), locker("native", name)) for side in sides]
        self.paths = [(place.path(side, name), place.path("native", name)) for side in sides]
        self.pids = [{one.pid: n for n, one in enumerate(each)} for each in zip(*self.pairs, strict=True)]
        self.alike = len({str(path.parent) for path, _ in self.paths}) == 1
        self.steps: list[object] = []
        for (here, natively), (path, native) in zip(self.pairs, self.paths, strict=True):
            here("open", "g", str(path), os.O_RDWR)
            natively("open", "g", str(native), os.O_RDWR)

    def go(self, steps: int) -> None:
        for _ in range(steps):
            self.step()

    def step(self) -> None:
        who = self.chance.randrange(len(self.pairs))
        command, *arguments = self.choose()
        self.steps.append((who, command, *arguments))
        answers = []
        for which, one in enumerate(self.pairs[who]):
            path = str(self.paths[who][which])
            answers.append(one(command, *(path if word == "PATH" else word for word in arguments)))
        if command == "blocker":
            answers = self.comparable(answers, arguments[1])
        assert answers[0] == answers[1], f"{answers} after {self.steps[-40:]}"

    def choose(self) -> tuple[object, ...]:
        file = self.chance.choice("fg")
        action = self.chance.random()
        sort = self.chance.choice(SORTS)
        if action < 0.04:
            return ("open", file, "PATH", self.chance.choice([os.O_RDWR, os.O_RDONLY]))
        if action < 0.05:
            return ("in_child", file, sort, "write", *self.range())
        if action < 0.35 and sort != "flock":
            return ("blocker", file, sort, self.chance.choice(["read", "write"]), *self.range())
        kind = self.chance.choice(["read", "read", "write", "write", "unlock"])
        return ("lock", file, sort, kind, *self.range())

    def range(self) -> tuple[int, int]:
        start = self.chance.randrange(30)
        return start, self.chance.choice([0, 1, 2, 5, self.chance.randrange(1, 30)])

    def comparable(self, answers: list[object], sort: str) -> list[object]:
        """policyfs says of OFD locks too whose they are (natively -1); F_OFD_GETLK is never told (by the
        kernel). Of several mounts each names its own locks first."""
        if not all(isinstance(answer, tuple) for answer in answers):
            return answers
        if not self.alike:
            return [answer[0] == "unlock" for answer in answers]
        if sort == "ofd" or answers[1][3] == -1:
            return [answer[:3] for answer in answers]
        return [(*answer[:3], pids.get(answer[3])) for answer, pids in zip(answers, self.pids, strict=True)]


@pytest.mark.parametrize(
    "sides",
    [("raw", "raw", "raw"), ("raw", "checked", "raw"), ("own", "own", "own"), ("raw", "own", "store")],
    ids="+".join,
)
def test_random_locks_are_as_natively(place: Place, locker, sides: tuple[str, ...]) -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    Walk(place, locker, sides, seed).go(count(200, 50_000))

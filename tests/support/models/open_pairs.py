"""Two mounts of two equal stores, of which one answers opens in the bridge: both must say the same.

The same random calls on open files are made through both, by several uids: opens, reads, locks, mappings,
copies of descriptors, and all that others do to the files meanwhile, in the mounts and in the stores.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import random
import shutil
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.machine.processes import Child, start_as
from tests.support.models.pairs import TRAIL
from tests.support.models.sequence_policies import POLICIES, UIDS
from tests.support.models.sequenced import Difference, furnish
from tests.support.models.sequences import DATA, Hands, marks
from tests.support.mount.daemons import Mount

ACL: Final = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 6, 2**32 - 1) for tag in (1, 4, 32))
"""An ACL with the entries ACL_USER_OBJ, ACL_GROUP_OBJ and ACL_OTHER (linux/posix_acl_xattr.h)."""
_PATIENCE_S: Final = 3.0
"""How long the two may differ: the kernel sends a RELEASE when it likes, and a watch has to be heard."""
_PATHS: Final = (b"a", b"one/a", b"two/b", b"new")
_SLOTS: Final = 4
_R: Final = os.O_RDONLY
_FLAGS: Final = (
    *([_R] * 8), _R | os.O_NOFOLLOW | os.O_CLOEXEC, _R | os.O_NONBLOCK, os.O_RDWR, os.O_WRONLY,
    os.O_WRONLY | os.O_APPEND, os.O_RDWR | os.O_TRUNC, _R | os.O_TRUNC, os.O_RDWR | os.O_CREAT,
)  # fmt: skip
_MAKING: Final = tuple(
    os.O_CREAT | flags
    for flags in (
        os.O_WRONLY | os.O_EXCL, os.O_WRONLY | os.O_TRUNC, os.O_RDWR | os.O_APPEND, _R, os.O_RDWR | os.O_SYNC,
    )
)  # fmt: skip
_AGAIN: Final = frozenset({"content", "fstat", "pread", "mapped", "seek", "inherit", "fsync", "access"})
"""Calls that may be made again, until both mounts say the same."""


_ON_SLOTS: Final = (
    "pread", "pread", "fstat", "dup", "reopen", "inherit", "map", "mapped", "unmap", "flock", "lockf", "seek",
    "fsync", "close", "close", "pwrite",
)  # fmt: skip


_ON_PATHS: Final = (
    "put", "put", "unlink", "rename", "chmod", "truncate", "link", "setxattr", "utime", "listxattr",
    "getxattr", "acl", "copied",
)  # fmt: skip


class OpenHands(Hands):
    """Calls on open files."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: dict[int, mmap.mmap] = {}

    def do_dup(self, slot: int) -> None:
        """The descriptor is another one from now on; the open file is the same."""
        self._replace(slot, os.dup(self.slots[slot]))

    def do_reopen(self, slot: int) -> None:
        """An open by number, without a name."""
        self._replace(slot, os.open(f"/proc/self/fd/{self.slots[slot]}", os.O_RDONLY))

    def _replace(self, slot: int, new: int) -> None:
        """Close a slot's descriptor, which may fail: then it is closed all the same."""
        old, self.slots[slot] = self.slots[slot], new
        os.close(old)

    def do_inherit(self, slot: int) -> int:
        """A child reads what it has inherited."""
        fd = self.slots[slot]
        return _in_child(lambda: len(os.pread(fd, 100, 0)))

    def do_map(self, slot: int) -> None:
        self.maps[slot] = mmap.mmap(self.slots[slot], 0, prot=mmap.PROT_READ)

    def do_mapped(self, slot: int) -> int:
        """A child reads the mapping: it gets SIGBUS if the file is empty by now."""
        mapped = self.maps[slot]
        return _in_child(lambda: mapped[0])

    def do_unmap(self, slot: int) -> None:
        self.maps.pop(slot).close()

    def do_flock(self, slot: int, how: int) -> None:
        fcntl.flock(self.slots[slot], how | fcntl.LOCK_NB)

    def do_lockf(self, slot: int, how: int) -> None:
        fcntl.lockf(self.slots[slot], how | fcntl.LOCK_NB, 1)

    def do_seek(self, slot: int) -> int:
        return os.lseek(self.slots[slot], 0, os.SEEK_DATA)

    def do_acl(self, path: bytes) -> None:
        os.setxattr(path, "system.posix_acl_access", ACL)

    def do_copied(self, path: bytes, mode: int) -> None:
        """What rsync and `cp -a` do to each file."""
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fchown(fd, os.getuid(), -1)
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def do_fsync(self, slot: int) -> None:
        os.fsync(self.slots[slot])

    def do_fstat(self, slot: int) -> tuple[int, ...]:
        return marks(os.fstat(self.slots[slot]))

    def drop(self) -> None:
        """Close everything."""
        super().drop()
        for mapped in self.maps.values():
            mapped.close()
        self.maps.clear()


def _in_child(look: Callable[[], int]) -> int:
    """What a forked child finds, 0 to 254; 255 if it is refused, below 0 if a signal ends it."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(look() % 255)
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve(channel: Any) -> None:
    """The life of a uid's process: it has hands for each mount."""
    os.umask(0)
    hands = (OpenHands(), OpenHands())
    while (asked := channel.recv()) is not None:
        number, base, call, arguments = asked
        try:
            if call == "drop":
                hands[number].drop()
                channel.send(("ok", None))
                continue
            answer = hands[number].make(base, call, arguments)
            channel.send(("ok", answer))
        except KeyError:
            channel.send(("skipped", None))
        except (OSError, ValueError) as error:
            channel.send(("error", getattr(error, "errno", None) or str(error)))


class OpenPair:
    """Makes calls through two mounts, and compares. uids: the indices of those who call."""

    def __init__(self, mounts: Sequence[Mount], uids: Sequence[int], seed: int) -> None:
        self.mounts = mounts
        self.children: dict[int, Child] = {who: start_as(UIDS[who], serve) for who in uids}
        self.chance = random.Random(seed)
        self.name = "s0"
        self.done: list[str] = []

    def close(self) -> None:
        """End the uids' processes."""
        for child in self.children.values():
            child.send(None)
            child.result()

    def use(self, text: str) -> None:
        """Let both follow this policy. Both must find the same stale handles."""
        self.done.append("another policy")
        for mount in self.mounts:
            mount.policy.write_text(text, encoding="utf-8")
            said = mount.reload()
            assert said.returncode == 0, said
        self._until_same("stale handles", lambda number: _stale(self.mounts[number].status()))

    def run(self, number: int, length: int) -> None:
        """Make one sequence of calls in a new directory of both. Raises Difference."""
        self.name = f"s{number}"
        self.done.clear()
        for mount in self.mounts:
            furnish(mount.store / self.name)
        try:
            for _ in range(length):
                self._step()
            self._until_same("holdings", lambda number: _holdings(self.mounts[number].status()))
        except Difference as difference:
            difference.add_note("\n".join(self.done[-60:]))
            raise
        finally:
            for which, mount in enumerate(self.mounts):
                for who in self.children:
                    self._ask(who, which, "drop", ())
                shutil.rmtree(mount.store / self.name)

    def _step(self) -> None:
        chance, who = self.chance, self.chance.choice(list(self.children))
        slot, path = chance.randrange(_SLOTS), chance.choice(_PATHS)
        kind = chance.random()
        if kind < 0.25:
            for _ in range(3):
                self._call(who, "content", path)
        elif kind < 0.35:
            self._make_anew(who, slot, path)
        elif kind < 0.55:
            self._call(who, "close", slot)
            self._call(who, "open", slot, path, chance.choice(_FLAGS))
        elif kind < 0.85:
            call = chance.choice(_ON_SLOTS)
            self._call(who, call, slot, *self._arguments(call))
        elif kind < 0.95:
            call = chance.choice(_ON_PATHS)
            self._call(who, call, path, *self._arguments(call))
        elif kind < 0.99:
            self._in_store(path)
        else:
            self.use(chance.choice(TEXTS))

    def _make_anew(self, who: int, slot: int, path: bytes) -> None:
        self._call(who, "unlink", path)
        self._call(who, "close", slot)
        self._call(who, "open", slot, path, self.chance.choice(_MAKING))
        self._call(who, "stat", path)
        self._call(who, "pwrite", slot, *self._arguments("pwrite"))
        self._call(who, "utime", path, *self._arguments("utime"))
        self._call(who, "stat", path)
        ending = self.chance.random()
        if ending < 0.75:
            self._call(who, "close", slot)
        if ending < 0.4:
            self._call(who, "unlink", path)
        elif ending > 0.6:
            beside = {b"a": b"new", b"new": b"a"}.get(path)
            self._call(who, "rename", path, beside or self.chance.choice(_PATHS), 0)

    def _arguments(self, call: str) -> tuple[Any, ...]:
        chance = self.chance
        makers: dict[str, Callable[[], tuple[Any, ...]]] = {
            "pread": lambda: (chance.randrange(20), 400),
            "pwrite": lambda: (chance.randrange(20), chance.choice(list(DATA))),
            "flock": lambda: (chance.choice((fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN)),),
            "lockf": lambda: (chance.choice((fcntl.LOCK_SH, fcntl.LOCK_EX, fcntl.LOCK_UN)),),
            "put": lambda: (chance.choice(list(DATA)),),
            "rename": lambda: (chance.choice(_PATHS), 0),
            "chmod": lambda: (chance.choice((0o600, 0o644, 0o666, 0o2755)),),
            "copied": lambda: (chance.choice((0o640, 0o666)),),
            "truncate": lambda: (chance.randrange(900),),
            "link": lambda: (chance.choice(_PATHS),),
            "setxattr": lambda: (b"1",),
            "utime": lambda: (chance.randrange(2**40),),
        }
        return makers.get(call, tuple)()

    def _ask(self, who: int, number: int, call: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        base = os.fsencode(self.mounts[number] / self.name)
        self.children[who].send((number, base, call, arguments))
        answer: tuple[str, Any] = self.children[who].receive()
        return answer

    def _call(self, who: int, call: str, *arguments: Any) -> None:
        answers = [self._ask(who, number, call, arguments) for number in (0, 1)]
        deadline = time.monotonic() + _PATIENCE_S
        while answers[0] != answers[1] and time.monotonic() < deadline:
            time.sleep(0.005)
            self._again(who, call, arguments, answers)
        words = ", ".join(str(word) for word in arguments)
        self.done.append(f"uid {who}: {call}({words}) -> {str(answers[0])[:70]}")
        if answers[0] != answers[1]:
            raise Difference(f"uid {who}: {call}({words}): {answers[0]} in the bridge, {answers[1]} without")

    def _again(self, who: int, call: str, arguments: tuple[Any, ...], answers: list[tuple[str, Any]]) -> None:
        """Make a call again where that is the same as to make it later."""
        for number in (0, 1):
            busy = answers[number] == ("error", errno.EAGAIN) and call in {"flock", "lockf"}
            opened = call == "open" and not arguments[2] & (os.O_TRUNC | os.O_CREAT)
            if opened and answers[number][0] == "ok":
                self._ask(who, number, "close", arguments[:1])
            if call in _AGAIN or busy or opened or call in {"put", "setxattr", "chmod"}:
                answers[number] = self._ask(who, number, call, arguments)

    def _in_store(self, path: bytes) -> None:
        """Change a file in both stores, and wait until both mounts have heard of it."""
        what = self.chance.choice(("write", "replace", "unlink", "chown", "rename"))
        other = self.chance.choice(_PATHS)
        self.done.append(f"in the store: {what} {path!r} {other!r}")
        for mount in self.mounts:
            _change(mount.store / self.name, what, os.fsdecode(path), os.fsdecode(other))
        self._until_heard()
        for who in self.children:
            for seen in (path, other):
                self._call(who, "content", seen)

    def _until_heard(self) -> None:
        """Wait until no mount's watch has anything new to say."""
        before: list[int] = []
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            time.sleep(0.03)
            now = [mount.status()["watch"]["events"] for mount in self.mounts]
            if now == before:
                return
            before = now

    def _until_same(self, what: str, look: Callable[[int], object]) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while (ours := look(0)) != (theirs := look(1)):
            if time.monotonic() > deadline:
                raise Difference(f"{what}: {ours} with the bridge, {theirs} without")
            time.sleep(0.01)

    def settle(self) -> None:
        """In the end nothing is held in either."""
        self._until_same("what is left", lambda number: _holdings(self.mounts[number].status()))
        deadline = time.monotonic() + 10
        while (left := _left(self.mounts[0].status())) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not left, f"backing ids are left over: {left}"

    def trails(self) -> tuple[set[tuple[Any, ...]], ...]:
        """What is on record of each mount, without times, numbers and repeats, and without the kernel's
        questions for capabilities: of a file that is gone, only Python tells."""
        return tuple(
            {
                (*(str(event.get(field)) for field in TRAIL), str(event.get("path")))
                for event in mount.events()
                if event.get("operation") not in {None, "getxattr"}
            }
            for mount in self.mounts
        )


def _change(directory: Path, what: str, path: str, other: str) -> None:
    with contextlib.suppress(OSError):
        target = directory / path
        if what == "write":
            target.write_bytes(b"written in the store, by nobody in a mount")
        elif what == "replace":
            (directory / ".new").write_bytes(b"another file of that name")
            (directory / ".new").chmod(0o666)
            (directory / ".new").rename(target)
        elif what == "unlink":
            target.unlink()
        elif what == "chown":
            os.chown(target, UIDS[0], UIDS[0])
        else:
            target.rename(directory / other)


def _stale(status: dict[str, Any]) -> object:
    stale = status["stale_handles"]
    files = sorted((one["path"], one["uid"], one["access"], one["reason"]) for one in stale["files"])
    return stale["count"], stale["apps"], files


def _left(status: dict[str, Any]) -> int:
    """The number of backing ids beyond those of copies, which stay as long as their copies."""
    return max(0, int(status["backing_ids"]) - int(status["copies"]["count"]))


def _holdings(status: dict[str, Any]) -> object:
    """What is held now; counts of what was refused before may differ, since calls are made again."""
    locks = {name: status["locks"][name] for name in ("held", "descriptors", "waiting")}
    return status["handles"], locks, status["leases"]["held"]


_UNRECORDED: Final = tuple(
    text.replace("audit_denied: off", "audit_denied: best_effort") for text in POLICIES
)
TEXTS: Final = (
    *_UNRECORDED,
    *(text.replace("audit: off", "audit: best_effort").replace('audit: "off"', "audit: best_effort")
      for text in _UNRECORDED),
)  # fmt: skip
"""Allowed opens are on the trail under half of these."""


def compare(pair: OpenPair, sequences: int, length: int) -> None:
    """Many sequences under many policies."""
    for number in range(sequences):
        if number % 5 == 0:
            pair.use(pair.chance.choice(TEXTS))
        pair.run(number, length)
    pair.settle()

"""Two mounts of two equal stores, of which one answers repeats in the bridge: both must say the same.

The same random calls are made through both, by several uids, and after each call every uid looks at what
there is, more than once: then the bridge of one of them answers by itself.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import time
from collections.abc import Sequence
from typing import Any, Final

from tests.support.machine.processes import Child, start_as
from tests.support.models.sequence_policies import POLICIES, UIDS
from tests.support.models.sequenced import Difference, furnish
from tests.support.models.sequences import MAKERS, Hands, Step, sequence
from tests.support.mount.daemons import Mount

_PATIENCE_S: Final = 3.0
"""How long the two may differ in what is looked at: the kernel sends a RELEASE when it likes."""
_CALLS: Final = frozenset(MAKERS) - {"open", "pread", "pwrite", "ftruncate", "fstat", "close"}
"""Calls that leave nothing open."""
_OPENS: Final = frozenset({"put", "content", "truncate"})
_LOOKS: Final = (
    ("marks", ()), ("list", ()), ("access", (os.R_OK,)), ("xattrs", ()), ("list", ()), ("marks", ()),
)  # fmt: skip
_XATTRS: Final = (
    "security.capability", "system.posix_acl_access", "user.x", "user.none", "user.policyfs.owner",
    "security.selinux", "system.other", "odd",
)  # fmt: skip
_PATHS: Final = 4
"""How many paths are looked at after each call: those of the call, and others by chance."""
TRAIL: Final = ("uid", "app", "operation", "syscall", "decision", "errno", "rules", "view")


class Looks(Hands):
    """The calls of sequences, and all attributes of a path in one."""

    def do_marks(self, path: bytes) -> tuple[int, ...]:
        """What does not hang on the moment: of a directory also the size that is shown."""
        status = os.lstat(self.at(path))
        return (
            status.st_mode, status.st_nlink, status.st_uid, status.st_gid, status.st_size,
            status.st_blocks, status.st_blksize, status.st_rdev,
        )  # fmt: skip

    def do_xattrs(self, path: bytes) -> list[bytes | int | None]:
        """The values of extended attributes, or the error of each."""
        os.lstat(self.at(path))
        return [_xattr(self.at(path), name) for name in _XATTRS]


def _xattr(path: bytes, name: str) -> bytes | int | None:
    try:
        return os.getxattr(path, name, follow_symlinks=False)
    except OSError as error:
        return error.errno


def serve(channel: Any) -> None:
    """The life of a uid's process."""
    os.umask(0)
    hands = Looks()
    while (asked := channel.recv()) is not None:
        answers = []
        for base, call, arguments in asked:
            try:
                answers.append(("ok", hands.make(base, call, arguments)))
            except OSError as error:
                answers.append(("error", error.errno))
        channel.send(answers)


class Pair:
    """Makes calls through two mounts, and compares."""

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self.mounts = mounts
        self.children: list[Child] = [start_as(uid, serve) for uid in UIDS]
        self._made = itertools.count()
        self._chance = random.Random(1)
        self.calls = 0

    def close(self) -> None:
        """End the uids' processes."""
        for child in self.children:
            child.send(None)
            child.result()

    def use(self, text: str) -> None:
        """Let both mounts follow this policy from now on."""
        for mount in self.mounts:
            mount.policy.write_text(text, encoding="utf-8")
            said = mount.reload()
            assert said.returncode == 0, said

    def _ask(self, who: int, number: int, name: str, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> Any:
        base = os.fsencode(self.mounts[number] / name)
        self.children[who].send([(base, call, arguments) for call, arguments in calls])
        self.calls += len(calls)
        return self.children[who].receive()

    def _settle(self) -> None:
        """Wait until both daemons have seen all that was closed."""
        deadline = time.monotonic() + _PATIENCE_S
        for mount in self.mounts:
            while mount.status()["handles"]["files"] and time.monotonic() < deadline:
                time.sleep(0.001)

    def run(self, steps: Sequence[Step], between: dict[int, str]) -> None:
        """Make one sequence of calls in a new directory of both. Raises Difference."""
        name = f"s{next(self._made)}"
        for mount in self.mounts:
            furnish(mount.store / name)
        done: list[str] = []
        paths = {b"", b"one", b"two", b"a", b"one/a", b"two/b"}
        try:
            for number, step in enumerate(steps):
                if number in between:
                    self.use(between[number])
                    done.append("another policy")
                ours, theirs = (self._ask(step.who, n, name, [(step.call, step.arguments)]) for n in (0, 1))
                done.append(f"{step} -> {str(ours)[:80]}")
                if ours != theirs and step.call != "list":
                    raise Difference(f"{step}: {ours} with vectors, {theirs} without")
                paths |= {path for path in step.arguments if isinstance(path, bytes) and len(path) < 40}
                if step.call in _OPENS:
                    self._settle()
                own = [path for path in step.arguments if isinstance(path, bytes) and path in paths]
                others = self._chance.sample(sorted(paths), _PATHS - len(own))
                self._look(name, own + others)
        except Difference as difference:
            difference.add_note("\n".join(done))
            raise
        finally:
            for mount in self.mounts:
                shutil.rmtree(mount.store / name)

    def _look(self, name: str, paths: Sequence[bytes]) -> None:
        """Let every uid look at every path, and compare. What one has not heard of yet is looked at again."""
        looks = [(call, (path, *rest)) for path in paths for call, rest in _LOOKS]
        deadline = time.monotonic() + _PATIENCE_S
        for who in range(len(UIDS)):
            while (ours := self._ask(who, 0, name, looks)) != (theirs := self._ask(who, 1, name, looks)):
                if time.monotonic() > deadline:
                    wrong = [
                        f"{look}: {one} with vectors, {other} without"
                        for look, one, other in zip(looks, ours, theirs, strict=True)
                        if one != other
                    ]
                    raise Difference(f"uid {who}: " + "; ".join(wrong))
                time.sleep(0.002)

    def trails(self) -> tuple[set[tuple[Any, ...]], ...]:
        """What is on record of each mount, without times, numbers and repeats."""
        found = []
        for mount in self.mounts:
            events = mount.events()
            found.append(
                {
                    (*(str(event.get(field)) for field in TRAIL), str(event.get("path")))
                    for event in events
                    if event.get("operation")
                }
            )
        return tuple(found)


def compare(pair: Pair, seed: int, sequences: int, length: int, block: int) -> None:
    """Many sequences under many policies."""
    chance = random.Random(seed)
    through = tuple((who, 0) for who in range(len(UIDS)))
    for start in range(0, sequences, block):
        pair.use(chance.choice(POLICIES).replace("audit: off, audit_denied: off", "audit: best_effort"))
        for index in range(start, min(start + block, sequences)):
            steps = [s for s in sequence(f"{seed}-{index}", length, through) if s.call in _CALLS]
            between = {}
            if index == start + block - 1:
                between = {chance.randrange(len(steps) or 1): chance.choice(POLICIES)}
            try:
                pair.run(steps, between)
            except Difference as difference:
                difference.add_note(f"seed {seed}, sequence {index}")
                raise

"""Two mounts of one store, three uids, and a twin beside the store: sequences are run and judged here."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
import shutil
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from policyfs.linux.statx import fstatx
from policyfs.store.owner import Owners
from tests.support.machine.processes import Child, start_as
from tests.support.models.model import RENAME_EXCHANGE
from tests.support.models.oracle import Kinds, Oracle
from tests.support.models.reference import Reference, leaked
from tests.support.models.sequence_policies import APPS, POLICIES, STRANGER, UIDS
from tests.support.models.sequences import DATA, Step, sequence, serve, shorter
from tests.support.models.twin_tree import Expected, Skip
from tests.support.mount.daemons import Mount

_HEARD_S: Final = 0.02
"""In which a daemon has heard of what another mount did, most of the time."""
_PATIENCE_S: Final = 3.0
"""How long what was changed through another mount, or by a RELEASE, may go unseen."""
_KEPT: Final = frozenset({"stat", "lstat", "readlink", "list", "fstat"})
"""Calls that the kernel may answer by what it was told before; all others are decided anew."""


_LATE: Final = frozenset({errno.EIO, errno.EBUSY, errno.EXDEV})
"""What a call may say in a shared mount if it would have to wait too long for a file's kind under a lock of
the kernel, on a busy machine: nothing was done, and the answer is known a moment later."""
_NAMES_GONE: Final = frozenset({"rename", "move", "unlink", "rmdir"})


class Difference(AssertionError):
    """A call that came to something else than it had to."""


class Sequenced:
    """Runs sequences. mounts: one or more of one store; alone: of each, the one uid (index) that it
    admits, or None. native: a directory for the twins, on the same file system as the store."""

    def __init__(self, mounts: Sequence[Mount], alone: Sequence[int | None], native: Path) -> None:
        self.mounts = mounts
        self.alone = alone
        self.native = native
        self.kinds = Kinds()
        self.through = tuple(
            (who, number)
            for number, only in enumerate(alone)
            for who in range(len(UIDS))
            if only is None or who == only
        )
        self.children: list[Child] = [start_as(uid, serve) for uid in UIDS]
        self.oracles: list[Oracle] = []
        self._known: dict[tuple[str, str | None], Oracle] = {}
        self._generations = [0] * len(mounts)
        self._made = itertools.count()
        self._owners = Owners(True)
        self.outcomes: Counter[str] = Counter()
        """How often each call came to what it should: to something, or to which errno by the policy."""

    def close(self) -> None:
        """End the uids' processes."""
        for child in self.children:
            child.send(None)
            child.result()

    def use(self, number: int, text: str) -> None:
        """Let a mount follow this policy from now on."""
        mount = self.mounts[number]
        mount.policy.write_text(text, encoding="utf-8")
        said = mount.reload()
        assert said.returncode == 0, said
        self._generations[number] += 1
        oracle = self.oracle(number, text)
        if number < len(self.oracles):
            self.oracles[number] = oracle
        else:
            self.oracles.append(oracle)

    def oracle(self, number: int, text: str) -> Oracle:
        """What a policy says in a mount."""
        only = self.alone[number]
        app = None if only is None else APPS[UIDS[only]]
        if (text, app) not in self._known:
            self._known[text, app] = Oracle(text, APPS, (STRANGER, 0), self.kinds, app)
        return self._known[text, app]

    # ------------------------------------------------------------ one sequence

    def run(self, steps: Sequence[Step], between: dict[int, tuple[int, str]] | None = None) -> None:
        """Run one sequence in a new directory; then the store must be what the twin is. between: before which
        step which mount (an index) gets which policy. Raises Difference."""
        name = f"s{next(self._made)}"
        store, twin = self.mounts[0].store / name, self.native / name
        for top in (store, twin):
            furnish(top)
        reference = Reference(os.fsencode(twin), self.oracles, UIDS, self._generations)
        for path in (b"a", b"one/a", b"two/b"):
            reference.note_path(path)
        done: list[str] = []
        changed_by: set[int] = set()
        try:
            for number, step in enumerate(steps):
                if between and number in between:
                    self.use(*between[number])
                    done.append(f"mount {between[number][0]} gets another policy")
                with contextlib.suppress(Skip):
                    self._step(name, reference, step, changed_by, done)
            reference.close_all()
            for child in self.children:
                for number in range(len(self.mounts)):
                    child.send((number, b"", "drop", ()))
                    child.receive()
            self._compare(store, twin)
        except Difference as difference:
            difference.add_note("\n".join(done))
            reference.root.drop()
            for child in self.children:
                for number in range(len(self.mounts)):
                    child.send((number, b"", "drop", ()))
                    child.receive()
            raise
        finally:
            for handle in reference.handles.values():
                os.close(handle.fd)
            for top in (store, twin):
                shutil.rmtree(top)

    def ask(self, name: str, step: Step) -> tuple[str, Any]:
        """Make a call through a mount."""
        base = os.fsencode(self.mounts[step.mount] / name)
        child = self.children[step.who]
        child.send((step.mount, base, step.call, step.arguments))
        return child.receive()

    def _ask_in_time(self, name: str, step: Step, expected: Expected) -> tuple[str, Any]:
        """Make a call through a mount; once more while its answer is late (_LATE)."""
        deadline = time.monotonic() + _PATIENCE_S
        waits = self.alone[step.mount] is None and self.oracles[step.mount].wants_kinds
        right = expected.may_say if expected.allowed else expected.errnos
        while True:
            said, value = self.ask(name, step)
            late = (said == "error" and value in _LATE - right) or value == "open EIO"
            if not (waits and late) or time.monotonic() > deadline:
                return said, value
            time.sleep(_HEARD_S)

    def _step(
        self, name: str, reference: Reference, step: Step, changed_by: set[int], done: list[str]
    ) -> None:
        expected = reference.expect(step)
        late = bool(changed_by - {step.mount}) or -1 in changed_by
        said, value = self._ask_in_time(name, step, expected)
        done.append(f"{step} -> {_words(said, value)}")
        if expected.changes:
            # Of a close the daemon hears later, and of another name the kernel, where it is another node.
            changed_by.add(-1 if step.call in {"close", "link"} else step.mount)
        deadline = time.monotonic() + (_PATIENCE_S if late else 0.0)
        theirs: tuple[str, Any] | None = None
        # Not yet heard of a name: what is refused for another reason once it is must not happen to the twin.
        while late and (said, value) == ("error", errno.ENOENT) and expected.may_say:
            there = isinstance(path := step.arguments[0], bytes) and os.path.lexists(
                self.native / name / os.fsdecode(path)
            )
            if not there or time.monotonic() > deadline:
                break
            time.sleep(0.002)
            said, value = self.ask(name, step)
        if expected.allowed and not (said == "error" and value in expected.may_say):
            theirs = natively(expected)
        while True:
            wrong = judge(step, expected, (said, value), theirs)
            done_wrong = said == "ok" and (leaked(value) or not (expected.allowed or step.call in _KEPT))
            changed = (
                said == "ok" and expected.changes and not str(value).startswith("open ")
            )  # put's first step
            if not wrong or done_wrong or changed or time.monotonic() > deadline:
                break
            time.sleep(0.002)
            said, value = self.ask(name, step)
            if theirs is None and expected.allowed and not (said == "error" and value in expected.may_say):
                theirs = natively(expected)
        if wrong:
            raise Difference(f"{step} -> {_words(said, value)}: {wrong}")
        self.outcomes[f"{step.call} {'refused' if not expected.allowed else said}"] += 1
        if said == "ok" and theirs is not None and theirs[0] == "ok":
            expected.after()
            if step.call in _NAMES_GONE:
                self._let_all_see(name, reference, step, done)

    def _let_all_see(self, name: str, reference: Reference, step: Step, done: list[str]) -> None:
        """Names are gone: until the other mounts have heard of it, calls by them, or below them, go to where
        what had them is now."""
        paths = [path for path in step.arguments[:2] if isinstance(path, bytes)]
        swapped = step.arguments[2:] == (RENAME_EXCHANGE,)
        for (number, mount), path in itertools.product(enumerate(self.mounts), paths if swapped else ()):
            if number != step.mount:
                inside = os.fsdecode(os.path.join(os.fsencode(name), path))
                _wait_until_same(mount.mountpoint / inside, mount.store / inside)
        for (who, number), path in itertools.product(self.through, paths):
            if number != step.mount:
                self._step(name, reference, Step(who, number, "lstat", (path,)), {-1}, done)

    def _compare(self, store: Path, twin: Path) -> None:
        """The whole store beside the whole twin, once what was closed is released."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            ours, theirs = self.picture(store, twin=False), self.picture(twin, twin=True)
            if ours == theirs:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.002)
        wrong = [
            f"{path!r}: {ours.get(path)} in the store, {theirs.get(path)} in the twin"
            for path in sorted(ours.keys() | theirs.keys())
            if ours.get(path) != theirs.get(path)
        ]
        raise Difference("the store in the end: " + "; ".join(wrong))

    def picture(self, top: Path, *, twin: bool) -> dict[str, tuple[Any, ...]]:
        """Everything below a directory: type, mode, uid, links, bytes or target, xattrs, owner."""
        found = {}
        for directory, directories, files in os.walk(top):
            for name in directories + files:
                path = os.path.join(directory, name)
                status = os.lstat(path)
                fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
                try:
                    if twin:
                        owner = "none"
                        with contextlib.suppress(OSError):
                            owner = os.getxattr(path, "trusted.model", follow_symlinks=False).decode()
                    else:
                        owner = self._owners.get(fd, fstatx(fd))
                finally:
                    os.close(fd)
                held: Any = None
                if os.path.islink(path):
                    held = os.readlink(path)
                elif os.path.isfile(path):
                    held = _named(Path(path).read_bytes())
                xattrs = [x for x in os.listxattr(path, follow_symlinks=False) if x.startswith("user.")]
                found[os.path.relpath(path, top)] = (
                    oct(status.st_mode), status.st_uid, status.st_nlink, held, xattrs, owner,
                )  # fmt: skip
        return found


def _wait_until_same(shown: Path, there: Path) -> None:
    """Directories that changed places differ by their numbers only. Not where root sees nothing."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if os.lstat(shown).st_ino == os.lstat(there).st_ino:
                return
        except OSError:
            time.sleep(_HEARD_S)
            return
        time.sleep(0.002)


def furnish(top: Path) -> None:
    """What a sequence begins with; nobody's."""
    for directory in ("", "one", "two"):
        (top / directory).mkdir()
        (top / directory).chmod(0o755)
    for name, data in (("a", "text"), ("one/a", "place"), ("two/b", "plain")):
        (top / name).write_bytes(DATA[data])
        (top / name).chmod(0o644)


def natively(expected: Expected) -> tuple[str, Any]:
    """The twin's answer."""
    assert expected.native is not None
    try:
        return "ok", expected.native()
    except OSError as error:
        return "error", error.errno


def judge(step: Step, expected: Expected, ours: tuple[str, Any], theirs: tuple[str, Any] | None) -> str:
    """What is wrong with the mount's answer; nothing, if it is right."""
    said, value = ours
    if not expected.allowed:
        if said == "ok":
            return f"not refused: {[errno.errorcode[code] for code in expected.errnos]}"
        names = [errno.errorcode[code] for code in expected.errnos if code]
        return "" if value in expected.errnos else f"not {names}"
    if said == "error" and value in expected.may_say:
        return ""
    assert theirs is not None
    if said != theirs[0] or said == "error":
        return "" if ours == theirs else f"not {_words(*theirs)}"
    wrong = expected.check(value, theirs[1])
    return wrong or ""


def _words(said: str, value: Any) -> str:
    if said == "error":
        return errno.errorcode.get(value, str(value))
    return _named(value) if isinstance(value, bytes) else str(value)


def _named(data: bytes) -> str:
    for name, whole in DATA.items():
        if data == whole:
            return f"<{name}>"
    place = " with a place" if leaked(data) else ""
    return f"{len(data)} bytes {data[:20]!r}{place} #{zlib.crc32(data):x}"


def campaign(
    world: Sequenced, seed: int, sequences: int, length: int, block: int, *, first: int = 0, cut: bool = True
) -> None:
    """Many sequences under many policies. Raises Difference, with
    the shortest sequence that still differs as far as some replays show (if *cut*).
    Without those before *first*; the others are the same."""
    chance = random.Random(seed)
    for start in range(0, sequences, block):
        texts = [chance.choice(POLICIES) for _ in world.mounts]
        if None not in world.alone[1:] and chance.random() < 0.7:
            texts[1:] = texts[:1] * (len(texts) - 1)
        last = {chance.randrange(length): (chance.randrange(len(texts)), chance.choice(POLICIES))}
        if start + block <= first:
            continue
        for number, text in enumerate(texts):
            world.use(number, text)
        for index in range(max(start, first), min(start + block, sequences)):
            steps = sequence(f"{seed}-{index}", length, world.through)
            between = last if index == start + block - 1 else None
            try:
                world.run(steps, between)
            except Difference as difference:
                if cut and between is None:
                    explain(world, steps, difference)
                difference.add_note(f"seed {seed}, sequence {index}, a policy changed: {bool(between)}")
                for number, oracle in enumerate(world.oracles):
                    rules = oracle.text.split("rules:\n")[1]
                    difference.add_note(f"policy of mount {number}:\n{rules}")
                raise


def explain(world: Sequenced, steps: list[Step], difference: Difference) -> None:
    """Cut a failing sequence down and say so."""
    last: list[Difference] = []

    def fails(fewer: list[Step]) -> bool:
        try:
            world.run(fewer)
        except Difference as again:
            last.append(again)
            return True
        return False

    if not fails(steps):
        difference.add_note("it does not differ when it is replayed")
        return
    shorter(steps, fails, 150)
    notes = "\n".join(getattr(last[-1], "__notes__", []))
    difference.add_note(f"the shortest that differs: {last[-1]}\n{notes}")


def worlds(mounts: Sequence[Mount], alone: Sequence[int | None], native: Path) -> Iterator[Sequenced]:
    """A world, closed at the end."""
    world = Sequenced(mounts, alone, native)
    try:
        yield world
    finally:
        world.close()

"""Rights that an app has and did not use: proposals of deny rules, by directory and group of operations.

Other than a learnt policy, such rules take away only what nobody did, and leave all other rules as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policyfs.domain import Audit, Facts, FileType, Op
from policyfs.policy.decide import Engine
from policyfs.policy.globs.paths import parse_glob
from policyfs.policy.learn.globs import escaped
from policyfs.policy.learn.guards import names_of
from policyfs.policy.model import Effect, Policy
from policyfs.policy.replay.recorded import demand_of
from policyfs.policy.rules.table import sample_facts_of

CHANGES: Final = Op.WRITE | Op.CREATE | Op.DELETE | Op.ATTR
FILES: Final = 100_000
"""Maximum number of different files that are counted for one app in one directory."""
_ALONE: Final = Op.CREATE | Op.DELETE
"""The operations that may be taken away although the app makes other changes."""

Directory = tuple[str, ...]
"""The names of a directory's path; the root of the mount has none."""


@dataclass(slots=True)
class Activity:
    """The operations of one app in one directory, the different files (as hashes of their paths), and the
    number of refused requests."""

    ops: Op = field(default_factory=lambda: Op(0))
    refused: int = 0
    read: set[int] = field(default_factory=set)
    changed: set[int] = field(default_factory=set)

    def add(self, path: bytes, ops: Op) -> None:
        """Add the operations of a request on a path."""
        self.ops |= ops
        for files, some in ((self.read, Op.READ), (self.changed, CHANGES)):
            if ops & some and len(files) < FILES:
                files.add(hash(path))


class Taking(NamedTuple):
    """Operations to take away from an app in some directories, and in all directories below these."""

    app: str
    ops: Op
    directories: tuple[Directory, ...]

    @property
    def globs(self) -> list[str]:
        """The globs of the directories."""
        return ["".join(f"/{escaped(name)}" for name in one) + "/***" for one in self.directories]

    def touches(self, path: bytes) -> bool:
        """Return True if a path is in one of the directories, or above one of them."""
        names = _names(path)
        return any(one[: len(names)] == names[: len(one)] for one in self.directories)


class Unused:
    """A collector of what apps did, by directory: those at the top, and those that allow rules name."""

    def __init__(self, policy: Policy, tops: Iterable[str]) -> None:
        """tops: the names of the directories at the top of the store."""
        found = {(), *((name,) for name in tops), *_named(policy)}
        whole = {one[:size] for one in found for size in range(len(one) + 1)}
        self.directories: Final = sorted(one for one in whole if names_of(_path(one)) is not None)
        self._known: Final = frozenset(self.directories)
        self.done: Final[dict[str, dict[Directory, Activity]]] = defaultdict(dict)
        """For each app, by directory, what it did there, but not in a directory below that is in the list."""

    def add(self, app: str, path: bytes, ops: Op) -> None:
        """Add the operations that an app's request needed on a path."""
        self.done[app].setdefault(self._of(_names(path)), Activity()).add(path, ops)

    def add_below(self, app: str, path: bytes, ops: Op) -> None:
        """Add operations of requests somewhere in a directory, or below."""
        names = _names(path)
        self.done[app].setdefault(self._of(names), Activity()).ops |= ops
        for directory in self.directories:
            if directory[: len(names)] == names:
                self.done[app].setdefault(directory, Activity()).ops |= ops

    def add_refused(self, app: str, path: bytes, count: int) -> None:
        """Count requests on a path that were refused."""
        self.done[app].setdefault(self._of(_names(path)), Activity()).refused += count

    def refused(self, app: str, directories: Sequence[Directory]) -> int:
        """Return the number of an app's refused requests in some directories, and below these."""
        done = self.done[app].items()
        return sum(one.refused for at, one in done if any(at[: len(top)] == top for top in directories))

    def takings(self, app: str, engines: Sequence[Engine]) -> list[Taking]:
        """Return proposals for an app that did something. engines: the policy in force, then all others in
        force when the requests were recorded."""
        if not self.done[app]:
            return []
        spared = Op(0)  # a deny rule would also take away what an exception gives
        for one in engines[0].policy.exceptions:
            spared |= one.rule.ops
        may = {directory: _rights(app, directory, engines) & ~spared for directory in self.directories}
        found: dict[Op, list[Directory]] = defaultdict(list)
        self._take((), app, may, Op(0), found)
        return [Taking(app, ops, tuple(some)) for ops, some in sorted(found.items(), reverse=True)]

    def _of(self, names: Directory) -> Directory:
        return next(names[:size] for size in range(len(names), -1, -1) if names[:size] in self._known)

    def _take(
        self, at: Directory, app: str, may: Mapping[Directory, Op], taken: Op,
        found: dict[Op, list[Directory]],
    ) -> None:  # fmt: skip
        """Add what can be taken away in a directory, and then in those below it."""
        within = [one for one in self.directories if one[: len(at)] == at]
        used = Op(0)
        for one in within:
            used |= self.done[app][one].ops if one in self.done[app] else Op(0)
        ops = _proposed(used, is_root=not at) & may[at] & ~taken
        if ops:
            found[ops].append(at)
        for one in within:
            if len(one) == len(at) + 1:
                self._take(one, app, may, taken | ops, found)


def needs_of(operation: str, syscall: str) -> tuple[Op, Op]:
    """Return the operations that a recorded request can have needed at its path, and at its new path."""
    demand = demand_of(operation, syscall)
    if demand is None:
        return (Op.SEE | Op.READ | Op.WRITE, Op(0)) if operation == "open" else (Op.ALL, Op.ALL)
    if demand.move == "link":
        return Op.SEE | Op.READ | Op.WRITE, Op.SEE | Op.CREATE
    if demand.move:
        both = Op.SEE | Op.DELETE | Op.CREATE
        return (both if demand.move == "exchange" else Op.SEE | Op.DELETE), both
    ops = Op(0)
    for one in demand.ops:
        ops |= one
    return ops, Op(0)


def _proposed(used: Op, *, is_root: bool) -> Op:
    """Return the operations that may be taken away where these were used.

    Reading is taken away only where an app did not even list: who lists files may want to read one tomorrow.
    """
    if not used and not is_root:
        return CHANGES | Op.READ
    if not used & CHANGES:
        return CHANGES
    return _ALONE & ~used


def _rights(app: str, directory: Directory, engines: Sequence[Engine]) -> Op:
    """Return what an app may do with any file in a directory, as far as the trail surely shows its use."""
    may = quiet = Op(0)
    for number, engine in enumerate(engines):
        declared = next((one for one in engine.policy.apps if one.name == app), None)
        if declared is None:
            continue
        who = engine.app_principal(app, declared.uids[0][0] if declared.uids else 0)
        for below in (("x",), ("x", "x")):
            state = engine.state_of(_path((*directory, *below)))
            lives = engine.profile(who, state).lives
            for facts in (*sample_facts_of(lives, FileType.REGULAR, unknown=False), Facts(None, app)):
                for op in CHANGES | Op.READ:
                    decision = engine.decide(who, op, state, FileType.REGULAR, facts)
                    may |= op if decision.allowed and not number else Op(0)
                    quiet |= op if decision.allowed and decision.audit is Audit.OFF else Op(0)
    return may & ~quiet


def _named(policy: Policy) -> Iterator[Directory]:
    for rule in policy.rules:
        for text in (rule.paths or ()) if rule.effect is Effect.ALLOW else ():
            glob = parse_glob(text)
            plain = [one.plain for one in glob.segments]
            size = next((at for at, name in enumerate(plain) if not name), len(plain))
            yield tuple(plain[: size if glob.end.value or size < len(plain) else size - 1])


def _path(names: Sequence[str]) -> bytes:
    return "/".join(("", *names)).encode("utf-8", "surrogateescape") or b"/"


def _names(path: bytes) -> Directory:
    return tuple(name for name in path.decode("utf-8", "surrogateescape").split("/") if name)

"""Evidence for a proposed policy: the requests of a trail, by caller, way of use, directory and extension."""

from __future__ import annotations

import enum
import errno
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from policyfs.domain import Op
from policyfs.policy.learn.bound import Bound
from policyfs.policy.learn.guards import Guard, guard_of, names_of
from policyfs.policy.learn.refusals import Refusals
from policyfs.policy.replay.recorded import Recorded, demand_of

PLACES: Final = 100_000
"""Maximum number of places that are stored. Requests in further places are not used (Guard.MANY)."""
MADE: Final = 500_000
"""Maximum number of new files that are remembered. Further ones are no evidence."""
NAMES: Final = 16
"""Maximum number of names of one place that are remembered."""
ALIKE: Final = 3
"""Minimum number of names, or of directories, that one glob can replace."""
IDS: Final = 3
"""Maximum number of ids of requests that a proposal shows for one rule."""
_NAMED: Final = 100
"""Maximum number of names without an extension, at the top, that a proposal lists one by one."""
_EXTENSION: Final = re.compile(r".+\.([A-Za-z0-9]{1,10})", re.DOTALL)


Caller = tuple[str, int]
"""An app and the uid with which it made a request."""


class Use(enum.Enum):
    """A way in which an app uses files: list directories, look at files, read, or change them."""

    LIST = "list"
    LOOK = "look"
    READ = "read"
    OWN = "own"


class Place(NamedTuple):
    """Files of one directory with one extension (empty: no extension) that one caller uses in one way."""

    app: str
    uid: int
    use: Use
    directory: tuple[str, ...]
    extension: str

    @property
    def by_name(self) -> bool:
        """True if each name must be listed: a glob would match all names at the top of the mount."""
        return not self.directory and not self.extension


@dataclass(slots=True)
class Sample:
    """The requests for one place. names: the first few different names of files."""

    ops: Op = Op.SEE
    count: int = 0
    names: set[str] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)


class Evidence:
    """A collector of requests. A request is kept back if a guard (a reason not to allow it) applies."""

    def __init__(self) -> None:
        self.places: dict[Place, Sample] = {}
        self.uids: dict[int, str] = {}
        self.used = 0
        self.denied = 0
        """Number of requests that were denied, but not by a deny rule. They are no evidence for a rule."""
        self.kept_back: Counter[tuple[Guard, str, str]] = Counter()
        """Number of requests that were kept back, by guard (the reason), app and operation."""
        self.examples: dict[tuple[Guard, str, str], str] = {}
        self.users: dict[str, set[int]] = defaultdict(set)
        """For each app, the uids with which it made requests, allowed or refused."""
        self.refused: dict[Caller, Refusals] = defaultdict(Refusals)
        """For each app and uid, the operations that were refused: no rule of the proposal allows them."""
        self.contradictions: Counter[tuple[str, int, str]] = Counter()
        """Number of refused requests that only deny rules keep refused, by app, uid and operation."""
        self.contradicting: dict[tuple[str, int, str], str] = {}
        """The id of one of these requests."""
        self.bound: Bound | None = None
        """The policy in force at the end of the trail; None if it is not known, or if there are several."""
        self.too_wide: set[tuple[str, str]] = set()
        """Pairs of an app and a glob that allows more than the policy in force at the end of the trail."""
        self.raw_readers: set[str] = set()
        """Apps that read files unredacted (in the raw view)."""
        self._made: set[int] = set()

    def add(
        self, recorded: Recorded, path: bytes, count: int, id_: Callable[[], str], *, denied_by_rule: bool,
        by_exception: bool = False, taken_away: bool = False, only_own: bool = False, raw: bool = False,
    ) -> Guard | None:  # fmt: skip
        """Add *count* equal requests. Return the guard if they are kept back, else None.

        id_: a function that returns the id of one of them. denied_by_rule: a deny rule refused or only
        recorded them. by_exception: only exceptions allowed them. taken_away: the policy at the end refuses
        them, at least perhaps. only_own: it allows them only for the app's own files. raw: its rules about
        redaction are taken over, so that files of kinds that policyfs cannot clean are as readable as before.
        """
        if recorded.app is not None:
            self.users[recorded.app].add(recorded.uid)
        if not recorded.allowed and not denied_by_rule:
            self.denied += count
            return None
        names = names_of(path)
        key = hash((recorded.app, path))
        guard = guard_of(recorded, names, made=key in self._made, raw=raw)
        guard = Guard.EXCEPTION if by_exception else guard
        if denied_by_rule or taken_away:
            guard = Guard.DENIED if denied_by_rule else Guard.EXCEPTION if by_exception else Guard.TAKEN_AWAY
            if recorded.app is not None:
                self.refused[recorded.app, recorded.uid].add(path, refused_ops(recorded))
        if guard is not None and recorded.app is None:
            guard = Guard.STRANGER
        if guard is None and names is not None and recorded.app is not None:
            guard = self._keep(recorded, recorded.app, names, count, id_, key, only_own=only_own)
        if guard is None:
            self.used += count
            return None
        self._keep_back(guard, recorded, count, id_)
        return guard

    def refuse(self, recorded: Recorded, path: bytes, count: int, id_: Callable[[], str]) -> bool:
        """Add refused requests that a proposal would allow. Return False if they are known."""
        app = recorded.mounted
        if app is None:
            app = self.uids.get(recorded.uid) if self.bound is None else self.bound.app_of(recorded.uid)
        if app is None:
            return False
        self.users[app].add(recorded.uid)
        if not self.refused[app, recorded.uid].add(path, refused_ops(recorded)):
            return False
        key = (app, recorded.uid, recorded.operation)
        self.contradictions[key] += count
        self.contradicting.setdefault(key, id_())
        return True

    def lose(self, recorded: Recorded, count: int, id_: Callable[[], str]) -> None:
        """Count added requests that the proposal refuses as kept back."""
        self.used -= count
        self._keep_back(Guard.ELSEWHERE, recorded, count, id_)

    def narrow(self, globs: set[tuple[str, str]]) -> bool:
        """Add globs with apps, for later proposals. Return False if all are known."""
        known = len(self.too_wide)
        self.too_wide |= globs
        return len(self.too_wide) > known

    def _keep(
        self, recorded: Recorded, app: str, names: list[str], count: int, id_: Callable[[], str], key: int,
        *, only_own: bool,
    ) -> Guard | None:  # fmt: skip
        demand = demand_of(recorded.operation, recorded.syscall)
        if demand is None or (demand.creates and len(self._made) >= MADE):
            return Guard.MANY
        use = Use.LOOK if demand.ops[0] == Op.SEE else Use.READ
        if recorded.operation == "list":
            use = Use.LIST
        if only_own or demand.creates or demand.ops[0] & (Op.WRITE | Op.ATTR):
            use = Use.OWN
        directory, name = tuple(names[:-1]), names[-1] if names else ""
        place = Place(app, recorded.uid, use, directory, "" if use is Use.LIST else extension(name))
        sample = self.places.get(place)
        if sample is None:
            if len(self.places) >= PLACES:
                return Guard.MANY
            sample = self.places[place] = Sample()
        if place.by_name and name not in sample.names and len(sample.names) >= _NAMED:
            return Guard.MANY
        sample.ops |= demand.ops[0]
        sample.count += count
        if place.by_name or len(sample.names) < NAMES:
            sample.names.add(name)
        if len(sample.ids) < IDS:
            sample.ids.append(id_())
        if recorded.view == "raw" and demand.ops[0] & Op.READ and not demand.creates:
            self.raw_readers.add(app)
        if recorded.mounted is None:
            self.uids[recorded.uid] = app
        if demand.creates:
            self._made.add(key)
        return None

    def _keep_back(self, guard: Guard, recorded: Recorded, count: int, id_: Callable[[], str]) -> None:
        app = "stranger" if recorded.app is None else recorded.app
        key = (guard, app, recorded.operation)
        self.kept_back[key] += count
        if key not in self.examples:
            self.examples[key] = id_()


def refused_ops(recorded: Recorded) -> Op:
    """Return the operations to deny so that a recorded request is refused again."""
    demand = demand_of(recorded.operation, recorded.syscall)
    if demand is None or demand.move:
        return Op.ALL
    if len(demand.ops) > 1 and recorded.errno != errno.ENOENT:
        return Op.READ | Op.WRITE  # the caller saw the path, so `see` was not refused
    return demand.ops[0]


def extension(name: str) -> str:
    """Return the extension of a file's name, without the dot; empty if there is none."""
    found = _EXTENSION.fullmatch(name)
    return found[1] if found is not None else ""

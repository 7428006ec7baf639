"""Globs for the places of a trail: the least general globs that are short enough to read.

A caller's own folder: the whole folder. Three or more files of one directory with one extension: `/D/*.ext`
(`/D/*`, but never at the top). Three or more such directories: `/P/**/*.ext`, never below the root.
Everything else, also where many refused paths match: the path itself. A rule is for the users (uids) of the
app who made such requests.
"""

from __future__ import annotations

import functools
import operator
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final, NamedTuple, TypeVar

from policyfs.domain import Op
from policyfs.policy.learn.bound import Bound, Limit
from policyfs.policy.learn.evidence import ALIKE, IDS, Caller, Evidence, Place, Sample, Use
from policyfs.policy.learn.refusals import Refusals, names_as_text
from policyfs.policy.model import SELF, Block
from policyfs.policy.replay.recorded import Recorded, demand_of

_SPECIAL: Final = re.compile(r"([*?\[\]{}\\])")
_OWN: Final = Block(None, frozenset({SELF}), None)
_CONTRADICTED: Final = 10
"""Refused paths with which a glob is not proposed. Fewer are denied by the proposal."""

Names = tuple[str, ...]
_Key = TypeVar("_Key")


class Pattern(NamedTuple):
    """A set of paths below a directory, for one glob.

    name: the extension, or (whole) the last name of one path. deep: True for any depth. own: ``{app}`` or
    ``{uid}`` if the set is the caller's own folder, else empty.
    """

    directory: Names
    name: str
    deep: bool = False
    whole: bool = False
    own: str = ""

    @property
    def glob(self) -> str:
        """The set of paths as a glob of the policy language."""
        start = "".join("/" + escaped(name) for name in self.directory)
        if self.own:
            return f"{start}/{self.own}/***"
        if self.whole:
            return f"{start}/{escaped(self.name)}"
        return f"{start}{'/**' if self.deep else ''}/*{'.' + self.name if self.name else ''}"

    def is_above(self, path: Names) -> bool:
        """Return True if a path is the directory of the glob, or lies in it."""
        return path[: len(self.directory)] == self.directory

    def shows(self, path: Names, caller: Caller) -> bool:
        """Return True if a rule for the glob shows a path: a match, or a directory above one."""
        way = self.directory
        if self.own or self.whole:
            way = (*way, own_name(self.own, caller) if self.own else self.name)
        return way[: len(path)] == path or (self.deep and self.is_above(path)) or self.matches(path, caller)

    def matches(self, path: Names, caller: Caller) -> bool:
        """Return True if the glob matches a path for this caller. path: its names, from the root down."""
        size = len(self.directory)
        if not self.is_above(path):
            return False
        if self.own:
            return len(path) > size and path[size] == own_name(self.own, caller)
        if len(path) <= size or (not self.deep and len(path) != size + 1):
            return False
        if self.whole:
            return path[-1] == self.name
        return not self.name or path[-1].endswith("." + self.name)


class Proposed(NamedTuple):
    """A rule to propose. weight: its number of requests. ids: some of them. uids: empty for all users. limit:
    its conditions."""

    app: str
    use: Use
    patterns: tuple[Pattern, ...]
    ops: Op
    weight: int
    ids: tuple[str, ...]
    uids: tuple[int, ...] = ()
    limit: Limit = Limit()

    def is_for(self, caller: Caller) -> bool:
        """Return True if the rule is about a caller."""
        return self.app == caller[0] and (not self.uids or caller[1] in self.uids)

    def allows(self, path: Names, ops: Op, caller: Caller) -> bool:
        """Return True if the rule allows one of these operations (`see` on directories above, too)."""
        if not self.ops & ops or not self.is_for(caller):
            return False
        matches = Pattern.shows if ops & Op.SEE else Pattern.matches
        return any(matches(pattern, path, caller) for pattern in self.patterns)


def may_allow(rules: Iterable[Proposed], recorded: Recorded, path: bytes) -> bool:
    """Return True if proposed rules allow all operations that a recorded request surely needed."""
    demand = demand_of(recorded.operation, recorded.syscall)
    needed = Op.SEE if demand is None else functools.reduce(operator.and_, demand.ops)
    names = names_as_text(path)
    return all(
        any(rule.allows(names, op, (rule.app, recorded.uid)) for rule in rules) for op in Op if op & needed
    )


def own_name(own: str, caller: Caller) -> str:
    """Return the name that ``{app}`` or ``{uid}`` stands for."""
    return str(caller[1]) if own == "{uid}" else caller[0]


def escaped(name: str) -> str:
    """Return a name with a backslash before each character that has a special meaning in a glob."""
    return _SPECIAL.sub(r"\\\1", name)


def proposals(evidence: Evidence) -> list[Proposed]:
    """Return proposed rules that allow the requests of the evidence."""
    grouped: dict[tuple[str, Use], dict[Caller, dict[Place, Sample]]] = defaultdict(lambda: defaultdict(dict))
    for place, sample in evidence.places.items():
        grouped[place.app, place.use][place.app, place.uid][place] = sample
    shared: dict[tuple[str, Use], dict[tuple[Pattern, Op], dict[int, Sample]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for (app, use), callers in grouped.items():
        for caller, places in callers.items():
            for pattern, sample in _effective(caller, places, evidence):
                only_seen = use is Use.READ and sample.ops == Op.SEE
                key = (app, Use.LOOK if only_seen else use)
                mine = shared[key][pattern, sample.ops]
                _add(mine, caller[1], sample)
    found: list[Proposed] = []
    for (app, use), patterns in sorted(shared.items(), key=lambda item: (item[0][0], item[0][1].value)):
        found += _rules(app, use, patterns, evidence)
    return _without_covered(found)


def _effective(
    caller: Caller, places: dict[Place, Sample], evidence: Evidence
) -> Iterator[tuple[Pattern, Sample]]:
    refusals = evidence.refused.get(caller, Refusals())
    for pattern, sample in {} if refusals.too_many else _patterns(caller, places, evidence).items():
        left = sample.ops & ~_refused(pattern, caller, refusals)
        if left:
            yield pattern, Sample(left, sample.count, sample.names, sample.ids)


def _refused(pattern: Pattern, caller: Caller, refusals: Refusals) -> Op:
    if pattern.whole:
        return refusals.of((*pattern.directory, pattern.name) if pattern.name else ())
    above = (*pattern.directory, own_name(pattern.own, caller)) if pattern.own else pattern.directory
    return Op.ALL if refusals.hides(above) else Op(0)


def _contradicted(pattern: Pattern, caller: Caller, evidence: Evidence, ops: Op) -> bool:
    """Return True if too many refused paths match a glob, or the policy at the end allows less."""
    if (caller[0], pattern.glob) in evidence.too_wide:
        return True
    refusals = evidence.refused.get(caller, Refusals())
    matched = (ops & refused and pattern.matches(path, caller) for path, refused in refusals.paths.items())
    return sum(map(bool, matched)) >= _CONTRADICTED


def _rules(
    app: str, use: Use, patterns: dict[tuple[Pattern, Op], dict[int, Sample]], evidence: Evidence
) -> Iterator[Proposed]:
    together: dict[tuple[Names, Op, tuple[int, ...], Limit], list[tuple[Pattern, Sample]]] = defaultdict(list)
    for (pattern, ops), by_uid in sorted(patterns.items(), key=lambda item: item[0]):
        is_limited = pattern.whole and (app, pattern.glob) in evidence.too_wide
        uids = () if by_uid.keys() == evidence.users[app] and not is_limited else tuple(sorted(by_uid))
        merged: dict[None, Sample] = {}
        for _, part in sorted(by_uid.items()):
            _add(merged, None, part)
        sample = merged[None]
        if is_limited and evidence.bound is not None:
            for (some, limit), users in _limits(evidence.bound, app, use, pattern, ops, uids).items():
                together[pattern.directory, some, tuple(users), limit].append((pattern, sample))
        elif pattern.whole:
            together[pattern.directory, ops, uids, _limit(use)].append((pattern, sample))
        else:
            yield Proposed(app, use, (pattern,), ops, sample.count, tuple(sample.ids), uids, _limit(use))
    for (_, ops, uids, limit), members in together.items():
        ids = dict.fromkeys(id_ for _, sample in members for id_ in sample.ids)
        weight = sum(sample.count for _, sample in members)
        paths = tuple(pattern for pattern, _ in members)
        yield Proposed(app, use, paths, ops, weight, (*ids,)[:IDS], uids, limit)


def _limit(use: Use) -> Limit:
    return Limit(_OWN) if use is Use.OWN else Limit()


def _limits(
    bound: Bound, app: str, use: Use, pattern: Pattern, ops: Op, uids: Iterable[int]
) -> dict[tuple[Op, Limit], list[int]]:
    path = "/" + "/".join((*pattern.directory, pattern.name))
    found: dict[tuple[Op, Limit], list[int]] = defaultdict(list)
    for uid in uids:
        for limit, some in bound.limits(app, uid, path.encode(), ops).items():
            if use is Use.OWN:
                when = limit.when or _OWN
                if when.owners is not None and not when.owners & {SELF, app}:
                    continue
                limit = limit._replace(when=replace(when, owners=_OWN.owners))
            found[some, limit].append(uid)
    return found


def _patterns(caller: Caller, places: dict[Place, Sample], evidence: Evidence) -> dict[Pattern, Sample]:
    found: dict[Pattern, Sample] = {}
    for place, sample in places.items():
        for pattern, part in _of_place(caller, place, sample, evidence):
            _add(found, pattern, part)
    return _across(found, caller, evidence)


def _of_place(
    caller: Caller, place: Place, sample: Sample, evidence: Evidence
) -> Iterator[tuple[Pattern, Sample]]:
    for own in ("{uid}", "{app}"):
        name = own_name(own, caller)
        if name in place.directory:
            mine = Pattern(place.directory[: place.directory.index(name)], "", own=own)
            if (caller[0], mine.glob) not in evidence.too_wide:
                yield mine, sample
                return
    wide = Pattern(place.directory, place.extension)
    if (
        len(sample.names) >= ALIKE
        and not place.by_name
        and not _contradicted(wide, caller, evidence, sample.ops)
    ):
        yield wide, sample
        return
    for number, name in enumerate(sorted(sample.names)):
        part = Sample(sample.ops, 0 if number else sample.count, {name}, sample.ids)
        own_folder = Pattern(place.directory, "", own="{uid}")
        narrow = (caller[0], own_folder.glob) in evidence.too_wide
        if place.use in {Use.LIST, Use.LOOK} and name == str(caller[1]) and not narrow:
            yield own_folder, part
        else:
            yield Pattern(place.directory, name, whole=True), part


def _across(found: dict[Pattern, Sample], caller: Caller, evidence: Evidence) -> dict[Pattern, Sample]:
    depth = max((len(pattern.directory) for pattern in found), default=0)
    for size in range(depth - 1, 0, -1):
        families: dict[tuple[Names, str], list[Pattern]] = defaultdict(list)
        for pattern in found:
            if not (pattern.whole or pattern.own) and pattern.name and len(pattern.directory) > size:
                families[pattern.directory[:size], pattern.name].append(pattern)
        for (directory, name), members in families.items():
            wide = Pattern(directory, name, deep=True)
            ops = functools.reduce(operator.or_, (found[member].ops for member in members))
            if len(members) >= ALIKE and not _contradicted(wide, caller, evidence, ops):
                for member in members:
                    _add(found, wide, found.pop(member))
    return _joined(found, caller)


def _joined(found: dict[Pattern, Sample], caller: Caller) -> dict[Pattern, Sample]:
    """Replace whole paths by a glob that matches them and allows at least as much."""
    wide = [pattern for pattern in found if not (pattern.whole or pattern.own)]
    for pattern in [pattern for pattern in found if pattern.whole]:
        path = (*pattern.directory, pattern.name)
        for other in wide:
            if other.matches(path, caller) and found[pattern].ops & ~found[other].ops == 0:
                _add(found, other, found.pop(pattern))
                break
    return found


def _add(found: dict[_Key, Sample], key: _Key, part: Sample) -> None:
    sample = found.setdefault(key, Sample())
    sample.ops |= part.ops
    sample.count += part.count
    sample.names |= part.names
    sample.ids = list(dict.fromkeys([*sample.ids, *part.ids]))[:IDS]


def _without_covered(rules: list[Proposed]) -> list[Proposed]:
    """Return the rules, without rules for a look at a directory that other rules of the app show anyway."""
    kept = []
    for rule in rules:
        others = [
            (pattern, one.use)
            for one in rules
            if one.app == rule.app and one.use is not Use.LIST and (one.use, rule.use) != (Use.LOOK, Use.LOOK)
            if not one.uids or (rule.uids and set(rule.uids) <= set(one.uids))
            for pattern in one.patterns
        ]
        looks = rule.use in {Use.LIST, Use.LOOK}
        left = tuple(pattern for pattern in rule.patterns if not (looks and _is_shown(pattern, others)))
        if left:
            kept.append(rule._replace(patterns=left))
    return kept


def _is_shown(pattern: Pattern, others: Iterable[tuple[Pattern, Use]]) -> bool:
    """Return True for the root, or a directory on the way to paths that others show. Own paths were files."""
    path = (*pattern.directory, pattern.name) if pattern.whole else pattern.directory
    if pattern.whole and not pattern.name:
        return True
    for other, use in others:
        if other == pattern and use is not Use.OWN:
            return True
        if other.deep and path[: len(other.directory)] == other.directory:
            return True
        way = (*other.directory, *((other.name,) if other.whole and use is not Use.OWN else ()))
        if pattern.whole and way[: len(path)] == path:
            return True
    return False

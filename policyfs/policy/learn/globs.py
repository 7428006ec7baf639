"""Globs for the places of a trail: the least general globs that are short enough to read.

- A caller's own folder (a directory with the app's name): the whole folder.
- Three or more files of one directory with one extension: `/D/*.ext`; without an extension: `/D/*`, but never
  all names at the top.
- Three or more such directories below one directory: `/P/**/*.ext`; never below the root.
- Everything else: the path itself.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from policyfs.domain import Op
from policyfs.policy.learn.evidence import ALIKE, IDS, Evidence, Place, Sample, Use
from policyfs.policy.learn.refusals import Refusals

_SPECIAL: Final = re.compile(r"([*?\[\]{}\\])")

Names = tuple[str, ...]


class Pattern(NamedTuple):
    """A set of paths below a directory, for one glob.

    name: the extension of all names. whole: True if *name* is the last name of one path, not an extension.
    deep: True if the names are at any depth below the directory. own: True if the set is the app's own folder
    (a directory with the app's name).
    """

    directory: Names
    name: str
    deep: bool = False
    whole: bool = False
    own: bool = False

    @property
    def glob(self) -> str:
        """The set of paths as a glob of the policy language."""
        start = "".join("/" + escaped(name) for name in self.directory)
        if self.own:
            return f"{start}/{{app}}/***"
        if self.whole:
            return f"{start}/{escaped(self.name)}"
        return f"{start}{'/**' if self.deep else ''}/*{'.' + self.name if self.name else ''}"

    def is_above(self, path: Names) -> bool:
        """Return True if a path is the directory of the glob, or lies in it."""
        return path[: len(self.directory)] == self.directory

    def matches(self, path: Names, app: str) -> bool:
        """Return True if the glob matches a path for this app. path: its names, from the root down."""
        size = len(self.directory)
        if not self.is_above(path):
            return False
        if self.own:
            return len(path) > size and path[size] == app
        if len(path) <= size or (not self.deep and len(path) != size + 1):
            return False
        if self.whole:
            return path[-1] == self.name
        return not self.name or path[-1].endswith("." + self.name)


class Proposed(NamedTuple):
    """A rule to propose. weight: the number of requests that need the rule. ids: the ids of some of these
    requests.
    """

    app: str
    use: Use
    patterns: tuple[Pattern, ...]
    ops: Op
    weight: int
    ids: tuple[str, ...]

    def allows(self, path: Names, ops: Op) -> bool:
        """Return True if the rule allows one of these operations on a path.

        A glob with ``**`` also allows `see` on every path below its directory.
        """
        if not self.ops & ops:
            return False
        below = bool(ops & Op.SEE)
        return any(
            pattern.matches(path, self.app) or (below and pattern.deep and pattern.is_above(path))
            for pattern in self.patterns
        )


def escaped(name: str) -> str:
    """Return a name with a backslash before each character that has a special meaning in a glob."""
    return _SPECIAL.sub(r"\\\1", name)


def proposals(evidence: Evidence) -> list[Proposed]:
    """Return proposed rules that allow the requests of the evidence."""
    found: list[Proposed] = []
    grouped: dict[tuple[str, Use], dict[Place, Sample]] = defaultdict(dict)
    for place, sample in evidence.places.items():
        grouped[place.app, place.use][place] = sample
    for (app, use), patterns in _effective(grouped, evidence):
        found += _rules(app, use, patterns)
    return _without_covered(found)


def _effective(
    grouped: dict[tuple[str, Use], dict[Place, Sample]], evidence: Evidence
) -> list[tuple[tuple[str, Use], dict[Pattern, Sample]]]:
    """Return the patterns (sets of paths) of each app and way of use, with the operations to allow.

    Operations that the proposal's deny rules refuse on all paths of a pattern are left out.
    """
    found: dict[tuple[str, Use], dict[Pattern, Sample]] = defaultdict(dict)
    for (app, use), places in grouped.items():
        refusals = evidence.refused.get(app, Refusals())
        for pattern, sample in {} if refusals.too_many else _patterns(app, places).items():
            left = sample.ops & ~_refused(pattern, app, refusals)
            only_seen = use is Use.READ and left == Op.SEE
            if left:
                part = Sample(left, sample.count, sample.names, sample.ids)
                _add(found[app, Use.LOOK if only_seen else use], pattern, part)
    return sorted(found.items(), key=lambda item: (item[0][0], item[0][1].value))


def _refused(pattern: Pattern, app: str, refusals: Refusals) -> Op:
    """Return the operations that the recorded policy refused on all paths of a pattern."""
    if pattern.whole:
        return refusals.of((*pattern.directory, pattern.name) if pattern.name else ())
    above = (*pattern.directory, app) if pattern.own else pattern.directory
    return Op.ALL if refusals.hides(above) else Op(0)


def _rules(app: str, use: Use, patterns: dict[Pattern, Sample]) -> Iterator[Proposed]:
    """Yield a rule for each pattern. Whole paths of one directory with the same operations become one rule.
    """
    together: dict[tuple[Names, Op], list[Pattern]] = defaultdict(list)
    for pattern, sample in sorted(patterns.items()):
        if pattern.whole:
            together[pattern.directory, sample.ops].append(pattern)
        else:
            yield Proposed(app, use, (pattern,), sample.ops, sample.count, tuple(sample.ids))
    for (_, ops), members in together.items():
        samples = [patterns[member] for member in members]
        ids = dict.fromkeys(id_ for sample in samples for id_ in sample.ids)
        yield Proposed(app, use, tuple(members), ops, sum(one.count for one in samples), (*ids,)[:IDS])


def _patterns(app: str, places: dict[Place, Sample]) -> dict[Pattern, Sample]:
    """Return patterns (sets of paths) that contain all the places, each with its requests."""
    found: dict[Pattern, Sample] = {}
    for place, sample in places.items():
        for pattern, part in _of_place(app, place, sample):
            _add(found, pattern, part)
    return _across(found)


def _of_place(app: str, place: Place, sample: Sample) -> Iterator[tuple[Pattern, Sample]]:
    if app in place.directory:
        yield Pattern(place.directory[: place.directory.index(app)], "", own=True), sample
    elif len(sample.names) >= ALIKE and not place.by_name:
        yield Pattern(place.directory, place.extension), sample
    else:
        for number, name in enumerate(sorted(sample.names)):
            count = 0 if number else sample.count
            yield Pattern(place.directory, name, whole=True), Sample(sample.ops, count, {name}, sample.ids)


def _across(found: dict[Pattern, Sample]) -> dict[Pattern, Sample]:
    """Replace equal patterns of several directories by one pattern for a directory above.

    The deepest directories come first.
    """
    depth = max((len(pattern.directory) for pattern in found), default=0)
    for size in range(depth - 1, 0, -1):
        families: dict[tuple[Names, str], list[Pattern]] = defaultdict(list)
        for pattern in found:
            if not (pattern.whole or pattern.own) and pattern.name and len(pattern.directory) > size:
                families[pattern.directory[:size], pattern.name].append(pattern)
        for (directory, name), members in families.items():
            if len(members) >= ALIKE:
                wide = Pattern(directory, name, deep=True)
                for member in members:
                    _add(found, wide, found.pop(member))
    return _joined(found)


def _joined(found: dict[Pattern, Sample]) -> dict[Pattern, Sample]:
    """Replace whole paths by a glob if the glob matches them and allows at least as much."""
    wide = [pattern for pattern in found if not (pattern.whole or pattern.own)]
    for pattern in [pattern for pattern in found if pattern.whole]:
        path = (*pattern.directory, pattern.name)
        for other in wide:
            if other.matches(path, "") and found[pattern].ops & ~found[other].ops == 0:
                _add(found, other, found.pop(pattern))
                break
    return found


def _add(found: dict[Pattern, Sample], pattern: Pattern, part: Sample) -> None:
    sample = found.setdefault(pattern, Sample())
    sample.ops |= part.ops
    sample.count += part.count
    sample.names |= part.names
    sample.ids = list(dict.fromkeys([*sample.ids, *part.ids]))[:IDS]


def _without_covered(rules: list[Proposed]) -> list[Proposed]:
    """Return the rules, without rules for listing a directory that other rules of the app show anyway."""
    kept = []
    for rule in rules:
        mine = [one for one in rules if one.app == rule.app and one.use is not Use.LIST]
        others = [(pattern, one.use) for one in mine for pattern in one.patterns]
        left = tuple(
            pattern for pattern in rule.patterns if rule.use is not Use.LIST or not _is_shown(pattern, others)
        )
        if left:
            kept.append(rule._replace(patterns=left))
    return kept


def _is_shown(pattern: Pattern, others: Iterable[tuple[Pattern, Use]]) -> bool:
    """Return True if a path is the root, or a directory on the way to paths that other rules allow.

    A rule for the app's own files does not count. Its path was a file when the app used it, so the rule does
    not show the path as a directory.
    """
    path = (*pattern.directory, pattern.name) if pattern.whole else pattern.directory
    if pattern.whole and not pattern.name:
        return True
    for other, use in others:
        if other.deep and path[: len(other.directory)] == other.directory:
            return True
        way = (*other.directory, *((other.name,) if other.whole and use is not Use.OWN else ()))
        if pattern.whole and way[: len(path)] == path:
            return True
    return False

"""The one decision on reading all files in a directory, where the engine has one for every name.

By it the bridge opens files for the first time without Python (docs/architecture/vectors.md)."""

from __future__ import annotations

from itertools import product
from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, Audit, Decision, Facts, FileType, Op, Principal
from policyfs.policy.decide import End, Engine, PathState
from policyfs.policy.globs.names import bytes_of

READ: Final = Op.SEE | Op.READ
_WRITE: Final = Op.SEE | Op.WRITE
_MAKE: Final = _WRITE | Op.CREATE
_MOST_ENDS: Final = 4
"""The limit of paths of which each is compared with each."""


class Changes(NamedTuple):
    """The decisions that allow a caller to make any file in a directory, to remove, rename and write each,
    and to set its attributes.

    moved: also to directories with the same *states* and *literals*. removed, moved, written: None if each
    name needs its own decision on that, or each file is counted (Engine.limits)."""

    made: Decision
    dated: Decision
    removed: Decision | None
    moved: Decision | None = None
    written: Decision | None = None


class RawNames(NamedTuple):
    """A decision that allows a caller to see and read the raw bytes of every file in a directory.

    changes: None if each name needs its own decision on changes. states: the path states of the names.
    literals: of these the names with a state of their own. excepted: names for which the engine may decide
    otherwise."""

    decision: Decision
    states: tuple[PathState, ...]
    literals: tuple[tuple[bytes, PathState], ...]
    excepted: tuple[bytes, ...]
    changes: Changes | None = None


def raw_names(engine: Engine, who: Principal, directory: PathState) -> RawNames | None:
    """Return the decision on reading that holds for all names in a directory, whatever their files are.

    None if there is none, or if it has an obligation, needs a fact, or must be on record first."""
    classes = engine.classes_in(directory)
    if classes is None:
        return None
    states = tuple(engine.step(directory, bytes_of(word)) for word in classes.words)
    decisions = {(_decision(engine, who, state), _changes(engine, who, state)) for state in states}
    if len({decision for decision, _ in decisions}) != 1:
        return None
    decision, changes = decisions.pop()
    if decision is None:
        return None
    changes = None if decisions else changes
    names = sorted(map(bytes_of, classes.literals))
    literals = tuple((name, engine.step(directory, name)) for name in names)
    alike = tuple(
        (name, state)
        for name, state in literals
        if _decision(engine, who, state) == decision and changes in {None, _changes(engine, who, state)}
    )
    excepted = tuple(name for name, state in literals if (name, state) not in alike)
    if changes is not None and changes.removed is not None:
        ends = (*states, *(state for _, state in alike))
        changes = changes._replace(moved=_moved(engine, who, tuple(dict.fromkeys(ends)), changes))
    return RawNames(decision, states, alike, excepted, changes)


def _moved(
    engine: Engine, who: Principal, states: tuple[PathState, ...], changes: Changes
) -> Decision | None:
    """Return the decision on renames of files between any of these paths, also of one over another. None if
    they differ, or if some caller has other rights, or another content requirement, at one path."""
    if len(states) > _MOST_ENDS:
        return None
    found: list[Decision] = []
    for old, new in product(states, states):
        if engine.needs_move(who, old, new, FileType.REGULAR) or engine.asks_more(old, new):
            return None
        source, target = (End(state, FileType.REGULAR, NO_FACTS) for state in (old, new))
        for replaced, same in product((None, target), (True, False)):
            found.append(engine.rename(who, source, target, replaced, False, same_directory=same))
    if not all(map(_is_plain, found)) or len({(*_ids(one), one.audit) for one in found}) != 1:
        return None
    return found[0] if found[0].audit == changes.made.audit else None


def _changes(engine: Engine, who: Principal, state: PathState) -> Changes | None:
    """Return the decisions on changes of a file if they depend on path and caller alone, and ask for nothing.
    (The caller owns a new file, whose kind is unknown.)"""
    needs = engine.needs(who, Op.SEE | Op.ATTR, state, FileType.REGULAR)
    if who.app is None or needs or engine.needs(who, Op.SEE | Op.DELETE, state, FileType.REGULAR):
        return None
    of_new = Facts(None, who.app)
    unread = engine.decide(who, _MAKE, state, FileType.REGULAR, of_new)
    made = engine.decide(who, _MAKE | Op.READ, state, FileType.REGULAR, of_new)
    dated = engine.decide(who, Op.SEE | Op.ATTR, state, FileType.REGULAR, NO_FACTS)
    removed = engine.decide(who, Op.SEE | Op.DELETE, state, FileType.REGULAR, NO_FACTS)
    decisions = unread, made, dated, removed
    if not all(map(_is_plain, decisions)) or _ids(unread) != _ids(made):
        return None
    if len({one.audit for one in decisions}) != 1:
        return None
    if engine.limited(who, state):
        return Changes(made, dated, None)
    written = _written(engine, who, state)
    alike = written is not None and written.audit == made.audit
    return Changes(made, dated, removed, written=written if alike else None)


def _written(engine: Engine, who: Principal, state: PathState) -> Decision | None:
    if engine.needs(who, _WRITE | Op.READ, state, FileType.REGULAR):
        return None
    unread = engine.decide(who, _WRITE, state, FileType.REGULAR, NO_FACTS)
    both = engine.decide(who, _WRITE | Op.READ, state, FileType.REGULAR, NO_FACTS)
    return both if _is_plain(unread) and _is_plain(both) and _ids(unread) == _ids(both) else None


def _ids(decision: Decision) -> list[tuple[str, str]]:
    return [(match.rule, match.effect) for match in decision.rules]


def _decision(engine: Engine, who: Principal, state: PathState) -> Decision | None:
    """Return the decision on reading a file if it depends on path and caller alone, and asks for nothing."""
    if engine.owner_matters_above(state) or engine.needs(who, READ, state, FileType.REGULAR):
        return None
    if not engine.view(who, state).raw:
        return None
    decision = engine.decide(who, READ, state, FileType.REGULAR, NO_FACTS)
    return decision if _is_plain(decision) else None


def _is_plain(decision: Decision) -> bool:
    monitored = decision.would_deny or decision.would_allow or decision.monitored_content
    checked = decision.redact or decision.content or decision.quarantine or decision.keep
    return decision.allowed and not (monitored or checked) and decision.audit is not Audit.REQUIRED

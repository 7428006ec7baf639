"""The one decision on reading all files in a directory, where the engine has one for every name.

By it the bridge opens files for the first time without Python (docs/architecture/vectors.md)."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, Audit, Decision, Facts, FileType, Op, Principal
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.globs.names import bytes_of

READ: Final = Op.SEE | Op.READ
_MAKE: Final = Op.SEE | Op.CREATE | Op.WRITE


class Changes(NamedTuple):
    """The decisions that allow a caller to make any file in a directory, and to date and remove each."""

    made: Decision
    dated: Decision
    removed: Decision


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
    return RawNames(decision, states, alike, excepted, changes)


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
    return Changes(made, dated, removed) if len({one.audit for one in decisions}) == 1 else None


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
    """Return True if a decision allows, asks for nothing, and need not be on record first."""
    monitored = decision.would_deny or decision.would_allow or decision.monitored_content
    checked = decision.redact or decision.content or decision.quarantine
    return decision.allowed and not (monitored or checked) and decision.audit is not Audit.REQUIRED

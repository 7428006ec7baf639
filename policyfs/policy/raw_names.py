"""The one decision on reading all files in a directory, where the engine has one for every name.

By it the bridge opens files for the first time without Python (docs/architecture/vectors.md)."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, Audit, Decision, FileType, Op, Principal
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.globs.names import bytes_of

READ: Final = Op.SEE | Op.READ


class RawNames(NamedTuple):
    """A decision that allows a caller to see and read the raw bytes of every file in a directory.

    states: the path states of the names. literals: of these the names with a state of their own. excepted:
    names for which the engine may decide otherwise."""

    decision: Decision
    states: tuple[PathState, ...]
    literals: tuple[tuple[bytes, PathState], ...]
    excepted: tuple[bytes, ...]


def raw_names(engine: Engine, who: Principal, directory: PathState) -> RawNames | None:
    """Return the decision on reading that holds for all names in a directory, whatever their files are.

    None if there is none, or if it has an obligation, needs a fact, or must be on record first."""
    classes = engine.classes_in(directory)
    if classes is None:
        return None
    states = tuple(engine.step(directory, bytes_of(word)) for word in classes.words)
    decisions = {_decision(engine, who, state) for state in states}
    decision = decisions.pop() if len(decisions) == 1 else None
    if decision is None:
        return None
    names = sorted(map(bytes_of, classes.literals))
    literals = tuple((name, engine.step(directory, name)) for name in names)
    alike = tuple(one for one in literals if _decision(engine, who, one[1]) == decision)
    excepted = tuple(name for name, state in literals if (name, state) not in alike)
    return RawNames(decision, states, alike, excepted)


def _decision(engine: Engine, who: Principal, state: PathState) -> Decision | None:
    """Return the decision on reading a file if it depends on path and caller alone, and asks for nothing."""
    if engine.owner_matters_above(state) or engine.needs(who, READ, state, FileType.REGULAR):
        return None
    if not engine.view(who, state).raw:
        return None
    decision = engine.decide(who, READ, state, FileType.REGULAR, NO_FACTS)
    plain = decision.allowed and not (decision.would_deny or decision.would_allow or decision.redact)
    return decision if plain and decision.audit is not Audit.REQUIRED else None

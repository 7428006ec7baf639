"""A text, for ``explain`` and ``status``: the answers that the kernel of a shared mount may keep."""

from __future__ import annotations

from typing import Final

from policyfs.domain import FileType
from policyfs.policy.decide import Engine
from policyfs.policy.rules.states import PathState

_NAMED: Final = 3


def kept_by_kernel(engine: Engine, state: PathState, ftype: FileType) -> str:
    """Return a text with the answers about a path that a shared mount's kernel may keep, and the reason."""
    differ = engine.distinctions
    if engine.monitor:
        return "asks the daemon each time: under --monitor apps and strangers are treated in different ways"
    below = differ.rules_below(state)
    if differ.sight(state):
        rules = _by(differ.rules_at(state) or below)
        return f"asks the daemon each time: not all callers see this path{rules}"
    if ftype is FileType.REGULAR and differ.node(state):
        why = f"not all callers have the same view{_by(differ.rules_at(state, views=True))}"
        return f"keeps the attributes, and asks the daemon for the name each time: {why}"
    if ftype is not FileType.DIRECTORY:
        return "keeps the name and the attributes: either all callers see this path, or none"
    if differ.below(state):
        return (
            f"keeps the name and the attributes, not the listing: not all callers see all names{_by(below)}"
        )
    return "keeps the name, the attributes and the listing: no rule distinguishes callers here or below"


def _by(rules: tuple[str, ...]) -> str:
    if not rules:
        return ""
    more = f" and {len(rules) - _NAMED} more" if len(rules) > _NAMED else ""
    return f" (rules: {', '.join(rules[:_NAMED])}{more})"

"""Causes of denials: a rule, no rule that allows, forbidden content, the mount, a missing resource (pure)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final, NamedTuple

from policyfs.trail.lines.event import DENY, STRANGER, Event

BY_RULE: Final = "rule"
BY_CONTENT: Final = "content"
UNALLOWED: Final = "no rule"
BY_MOUNT: Final = "mount"
BY_RESOURCE: Final = "resource"

_RESOURCES: Final = frozenset(
    {errno.EBUSY, errno.EIO, errno.ENOSPC, errno.EMFILE, errno.ENFILE, errno.ENOMEM}
)


def _not_known(_app: str | None, _uid: int) -> str:
    return ""


class RuleFact(NamedTuple):
    """Facts about one rule: its effect (``allow``, ``deny``, ``redact``, ``content``), its file and line.

    exempt: returns what an author must do so that the rule spares an app, or (None) a uid; "" if unknown."""

    effect: str
    place: str
    exempt: Callable[[str | None, int], str] = _not_known


Lookup = Callable[[str, str], RuleFact | None]
"""Returns the facts about a rule, by the digest of its policy and its id, or None."""


def nothing_known(_digest: str, _rule: str) -> RuleFact | None:
    """Return None. This is the Lookup for a trail without texts of policies."""
    return None


def cause_of(event: Event, lookup: Lookup = nothing_known) -> str:
    """Return the cause of a denied request, such as BY_RULE, or "" for other events."""
    if event.decision != DENY:
        return ""
    if event.errno in _RESOURCES:
        return BY_RESOURCE
    facts = [lookup(event.policy_digest, rule) for rule in event.rules]
    effects = {fact.effect for fact in facts if fact is not None}
    if "deny" in effects or ("redact" in effects and event.operation == "rename"):
        return BY_RULE  # a rename is refused if mv's copy would lack the hidden data (policy/moves/losses.py)
    if effects & {"redact", "content"} or (event.note and event.kind):
        return BY_CONTENT
    if not event.rules:  # the note of a denial without rules says why the mount refuses what the rules allow
        return BY_MOUNT if event.note else UNALLOWED
    return BY_RULE


def remedy_of(event: Event, lookup: Lookup = nothing_known) -> str:
    """Return a sentence what must change to allow a denied request; "" for other events."""
    cause = cause_of(event, lookup)
    rules = ", ".join(event.rules)
    places = [fact.place for rule in event.rules if (fact := lookup(event.policy_digest, rule)) is not None]
    where = f"{rules} ({', '.join(places)})" if places else rules
    who = f"app {event.app}" if event.app != STRANGER else f"uid {event.uid}"
    if cause == BY_RULE:
        return f"rule {where} denies the request{_exempt(event, lookup, who)}"
    if cause == UNALLOWED:
        return f"no rule allows the request: add an `allow` for {who}"
    if cause == BY_MOUNT:
        return f"the mount itself refuses the request, and an `allow` changes nothing: {event.note}"
    if cause == BY_CONTENT:
        kind = f"a file of kind {event.kind}" if event.kind else "this file"
        why = f": {event.note}" if event.note else ""
        needs = f"{f'rule {where}' if where else 'a rule'} requires content that {kind} cannot have{why}"
        return f"{needs}{_exempt(event, lookup, who)}"
    return "a resource was missing, not a permission" if cause else ""


def _exempt(event: Event, lookup: Lookup, who: str) -> str:
    """Return how the rules of an event would spare its caller; empty if their texts are unknown."""
    app = None if event.app == STRANGER else event.app
    facts = {rule: lookup(event.policy_digest, rule) for rule in event.rules}
    known = {rule: fact.exempt(app, event.uid) for rule, fact in facts.items() if fact is not None}
    told = [f"in {rule} {done}" if len(known) > 1 else done for rule, done in known.items() if done]
    return f"; to exempt {who}, {', and '.join(told)}" if told else ""


def grounds(event: Event, lookup: Lookup = nothing_known) -> list[str]:
    """Return the rules that decided an event as texts, with file and line if known; also `no rule allows the
    request` (not for folded events)."""
    words = []
    for rule in event.rules:
        fact = lookup(event.policy_digest, rule)
        words.append(rule if fact is None else f"{rule} ({fact.place})")
    if cause_of(event, lookup) == UNALLOWED and not event.folded:
        words.append("no rule allows the request")
    return words

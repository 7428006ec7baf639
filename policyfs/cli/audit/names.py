"""Checks of the names in a query, for `policyfs audit`.

Without these checks, a typing error would look like "no event".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from policyfs.cli.audit.policies import KeptPolicies, copies_of
from policyfs.journal.files.segments import Chain
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.trail.lines.event import OPERATIONS, STRANGER
from policyfs.trail.lines.table import shown
from policyfs.trail.query.expression import Value
from policyfs.trail.query.parser import QueryError, similar
from policyfs.trail.query.selection import Selection

_WORDS: Final = {"app": "app", "op": "operation", "rule": "rule"}

Names = dict[str, set[str]]


def check_names(trail: IndexedTrail, wanted: Selection) -> None:
    """Raise QueryError if a query has an app, an operation or a rule that is not known.

    The known names are the names in the policies that the trail keeps, and the names in its events. The error
    shows the place of the unknown name in the query, and similar names.
    """
    asked = [(_WORDS[field], name, value) for field, name, value in wanted.names()]
    if not trail.chains or not asked:
        return
    known: Names = {"app": {STRANGER}, "operation": set(OPERATIONS), "rule": set()}
    for found in (_of_policies(trail.chains), _of_events(trail)):
        for more in found:
            if not _unknown(asked, known):
                return
            for what, names in more.items():
                known[what] |= names
    for what, name, value in _unknown(asked, known):
        hint = similar(name, sorted(known[what]))
        message = f"no {what} {shown(name)!r} is on the trail or in a policy that the trail keeps; {hint}"
        raise QueryError(message, wanted.text, value.at)


def _unknown(asked: list[tuple[str, str, Value]], known: Names) -> list[tuple[str, str, Value]]:
    return [one for one in asked if one[1] not in known[one[0]]]


def _of_policies(chains: Sequence[Chain]) -> Iterator[Names]:
    from policyfs.policy.exceptions import ALWAYS, in_force

    kept = KeptPolicies(chains)
    for policy in filter(None, map(kept.policy, copies_of(chains))):
        rules = in_force(policy, ALWAYS).rules
        yield {"app": {app.name for app in policy.apps}, "rule": {rule.id for rule in rules}}


def _of_events(trail: IndexedTrail) -> Iterator[Names]:
    """Yield the names in the events of each trail file, which may be older than all kept policies."""
    for chain in trail.chains:
        for portion in trail.portions(chain):
            found: Names = {what: set() for what in _WORDS.values()}
            for event in portion.index.classes.values():
                found["app"].add(event.app)
                found["operation"].add(event.operation)
                found["rule"].update(event.rules, event.would_deny, event.would_allow)
            yield found

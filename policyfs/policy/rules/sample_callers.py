"""Sample callers: at some paths, every caller gets the same answers as one of the sample callers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.globs.names import Bind, uids_in
from policyfs.policy.globs.paths import Wild
from policyfs.policy.model import SELF, Rule
from policyfs.policy.rules.callers import Caller, CallerClass
from policyfs.policy.rules.states import PathState
from policyfs.policy.rules.table import Situated, Table

MAX_UIDS: Final = 128
"""Maximum number of uids that names in some paths could mean. With more, TooHardError is raised."""

_SAMPLES: Final = 3


def callers_at(table: Table, states: Iterable[PathState]) -> list[Caller]:
    """Return callers of whom one gets the same answers at these paths as any caller. Raise TooHardError."""
    situated: list[Situated] = []
    binds: set[Bind] = set()
    for state in states:
        situated += [*state.situated(table), *state.hides]
        binds |= state.requirements(table)
    uids = _uids_of(binds)
    numbers = sorted({one.rule for one in situated})
    rules = [(number, table.rules[number]) for number in numbers]
    named = _named_owners(rule for _, rule in rules) | _captured_apps(table, binds)
    # rules with the same ``who`` match the same callers
    asking = {rule.who: (number, rule) for number, rule in rules if rule.who is not None}.values()
    found: dict[tuple[object, ...], Caller] = {}
    for of in table.callers.everyone():
        fits = tuple(of.fits(number, rule) for number, rule in asking)
        # apps that are no owner in a rule, and no {app} in a path, differ only in their names
        name = of.app if of.app in named else of.app is not None
        own = _uids_in(table, of, uids) if of.app is not None else []
        for uid in own:
            found.setdefault((fits, name, uid), Caller(of, uid))
        other = table.callers.another(of.uid_class, uids)
        if other is not None or of.app is None:  # otherwise *uids* has all uids of the class
            found.setdefault((fits, name, None), Caller(of, other))
    return list(found.values())


def sample_uids(table: Table, states: Iterable[PathState], caller: Caller) -> tuple[int, ...]:
    """Return the uids that ``{uid}`` in globs can distinguish below these paths. Raise TooHardError."""
    found = _uids_of({bind for state in states for _, bind in state.position.bound})
    if table.uses_uid:
        if caller.uid is not None:
            found.add(caller.uid)
        for uid_class in table.callers.uid_classes():
            found.update(table.callers.samples(uid_class)[:_SAMPLES])
    return tuple(sorted(found))


def _named_owners(rules: Iterable[Rule]) -> set[str]:
    return {owner for rule in rules for block in rule.blocks for owner in block.owners or ()} - {SELF}


def _uids_of(binds: Iterable[Bind]) -> set[int]:
    """Return all uids that requirements of captures distinguish from others. Raise TooHardError."""
    found: set[int] = set()
    for bind in binds:
        if bind.uid is not None:
            found.add(bind.uid)
        for captured, text in bind.names:
            written = uids_in(text, MAX_UIDS) if Wild.UID in captured.tokens else set()
            if written is None:
                raise TooHardError
            found |= written
        if len(found) > MAX_UIDS:
            raise TooHardError
    return found


def _captured_apps(table: Table, binds: Iterable[Bind]) -> set[str | None]:
    found: set[str | None] = set()
    for bind in binds:
        if bind.app is not None:
            found.add(bind.app)
        for captured, text in bind.names:
            if Wild.APP in captured.tokens:
                found.update(captured.apps_in(text, table.automaton.apps))
    return found


def _uids_in(table: Table, of: CallerClass, uids: Iterable[int]) -> list[int]:
    return [uid for uid in sorted(uids) if table.callers.uid_class_of(uid) == of.uid_class]

"""Directories where a caller sees only some files: in a shared mount inotify reports all of them to it.

A hint for people: sample paths made of names from the rules are decided. No decision of a mount uses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, OWNER_NONE, Facts, FileType, Op, Principal
from policyfs.policy.callers import CallerClass
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.model import SELF, App, Block, Effect, Rule

_CAPTURED: Final = 3
"""Apps whose own directories are tried for one rule: others' differ by their names only, or by a rule about
them, and that rule is tried, too."""
_OTHER: Final = "some-other-name"
_ALTERNATIVES: Final = re.compile(r"\{([^{}]*)\}")
_WILD: Final = re.compile(r"[*?]+")


class MixedDirectory(NamedTuple):
    """A directory in which an app sees only some files, and the rule that was tried there."""

    rule: Rule
    app: str
    directory: str


def mixed_directories(engine: Engine) -> list[MixedDirectory]:
    """Find at most one directory for each rule that allows or denies ``see``, in the order of the rules."""
    # an app without uids has mounts of its own only
    apps = [(app, engine.principal(app.uids[0][0])) for app in engine.policy.apps if app.uids]
    asking = [(app, who, engine.caller(who).of) for app, who in apps]
    found = []
    for rule in engine.policy.rules:
        if rule.effect in {Effect.ALLOW, Effect.DENY} and rule.ops & Op.SEE and not rule.monitor:
            about = [one for one in asking if rule.who is None or one[2].within(rule.who)]
            mixed = next(_mixed_by(engine, rule, about), None)
            if mixed is not None:
                found.append(mixed)
    return found


def _mixed_by(
    engine: Engine, rule: Rule, about: Iterable[tuple[App, Principal, CallerClass]]
) -> Iterator[MixedDirectory]:
    """Yield such directories for the apps that the rule is about."""
    tried: set[tuple[object, ...]] = set()
    at: dict[str, _Place] = {}
    captured = 0
    for app, who, caller in about:
        for glob in rule.paths or ("/**",):
            if "{app}" in glob or "{uid}" in glob:
                captured += 1
                if captured > _CAPTURED:
                    return
                place = _Place.of(engine, *sample(glob, app))
            else:
                place = at.get(glob) or at.setdefault(glob, _Place.of(engine, *sample(glob, app)))
            if place.dull:
                continue
            key = (glob, place.directory, place.alike(caller))
            if key not in tried and _is_mixed(engine, who, rule, place):
                yield MixedDirectory(rule, app.name, place.directory or "/")
            tried.add(key)


class _Place(NamedTuple):
    """Two names in one directory: one from a glob, and another. rules: those that can match there.

    by_name: whether an app's own name counts, besides the rules that are about it. dull: no name and no fact
    makes a difference, for anyone.
    """

    directory: str
    states: tuple[PathState, PathState]
    rules: tuple[tuple[int, Rule], ...]
    by_name: bool
    dull: bool

    @classmethod
    def of(cls, engine: Engine, directory: str, name: str) -> _Place:
        table = engine.table
        first, second = (engine.state_of(f"{directory}/{each}".encode()) for each in (name, _OTHER))
        situated = {one.rule for state in (first, second) for one in (*state.situated(table), *state.hides)}
        rules = tuple((number, table.rules[number]) for number in sorted(situated))
        owners = {owner for _, rule in rules for block in _blocks(rule) for owner in block.owners or ()}
        captures = bool(first.requirements(table) or second.requirements(table))
        by_name = captures or not owners <= {SELF, OWNER_NONE}
        dull = first is second and not any(_blocks(rule) for _, rule in rules)
        return cls(directory, (first, second), rules, by_name, dull)

    def alike(self, caller: CallerClass) -> tuple[object, ...]:
        """Return a key that only callers share for whom the answers here are the same."""
        fits = tuple(caller.fits(number, rule) for number, rule in self.rules)
        return (caller.app if self.by_name else None, fits)


def sample(glob: str, app: App) -> tuple[str, str]:
    """Return a directory that the glob matches, and the name of a file in it."""
    text = glob.replace("{app}", app.name).replace("{uid}", str(app.uids[0][0] if app.uids else 0))
    while (chosen := _ALTERNATIVES.sub(lambda match: match[1].split(",")[0], text)) != text:
        text = chosen  # alternatives may hold others
    parts = text.strip("/").split("/")
    if parts[-1] in {"**", "***"}:
        parts[-1] = "*"
    parts = [_WILD.sub("x", part) for part in parts if part != "**"] or ["x"]
    return "".join(f"/{part}" for part in parts[:-1]), parts[-1]


def _is_mixed(engine: Engine, who: Principal, rule: Rule, place: _Place) -> bool:
    """True if the caller sees one file in the directory and does not see another."""
    first, second = (
        [live for live in engine.profile(who, state).lives if live.ops & Op.SEE] for state in place.states
    )
    if first == second and all(live.fixed is not None for live in first):
        return False  # no name and no fact makes a difference
    seen = {
        engine.decide(who, Op.SEE, state, FileType.REGULAR, facts)
        for state in place.states
        for facts in _facts(rule, who)
    }
    return len({answer.allowed and not answer.bare for answer in seen}) == 2


def _facts(rule: Rule, who: Principal) -> Iterator[Facts]:
    """Yield facts of files that the rule may tell apart."""
    yield Facts("application/octet-stream", OWNER_NONE)
    yield Facts("application/octet-stream", who.app)
    for block in _blocks(rule):
        kind = next(iter(sorted(block.kinds or ())), None)
        owner = next(iter(sorted(block.owners or ())), OWNER_NONE)
        named = who.app if owner == SELF else owner
        yield Facts(None if kind is None else kind.replace("*", "x"), named)
    if rule.when is None and not rule.unless:
        yield NO_FACTS


def _blocks(rule: Rule) -> tuple[Block, ...]:
    return rule.unless if rule.when is None else (*rule.unless, rule.when)

"""Directories where a caller sees only some files: in a shared mount inotify reports all of them to it.

A hint for people, found by trying names from the rules; no decision depends on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.domain import NO_FACTS, OWNER_NONE, Facts, FileType, Op, Principal
from policyfs.policy.decide import Engine
from policyfs.policy.model import SELF, App, Effect, Rule

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
    found = []
    for rule in engine.policy.rules:
        if rule.effect in {Effect.ALLOW, Effect.DENY} and rule.ops & Op.SEE and not rule.monitor:
            mixed = next(_mixed_by(engine, rule), None)
            if mixed is not None:
                found.append(mixed)
    return found


def _mixed_by(engine: Engine, rule: Rule) -> Iterator[MixedDirectory]:
    for app in engine.policy.apps:
        if not app.uids:
            continue  # it has mounts of its own only
        who = engine.principal(app.uids[0][0])
        for glob in rule.paths or ("/**",):
            directory, name = sample(glob, app)
            if _is_mixed(engine, who, rule, directory, name):
                yield MixedDirectory(rule, app.name, directory or "/")


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


def _is_mixed(engine: Engine, who: Principal, rule: Rule, directory: str, name: str) -> bool:
    """True if the caller sees one file in the directory and does not see another."""
    seen = {
        engine.decide(who, Op.SEE, engine.state_of(f"{directory}/{each}".encode()), FileType.REGULAR, facts)
        for each in (name, _OTHER)
        for facts in _facts(rule, who)
    }
    return len({answer.allowed and not answer.bare for answer in seen}) == 2


def _facts(rule: Rule, who: Principal) -> Iterator[Facts]:
    """Yield facts of files that the rule may tell apart."""
    yield Facts("application/octet-stream", OWNER_NONE)
    yield Facts("application/octet-stream", who.app)
    for block in (*rule.unless, *(() if rule.when is None else (rule.when,))):
        kind = next(iter(sorted(block.kinds or ())), None)
        owner = next(iter(sorted(block.owners or ())), OWNER_NONE)
        named = who.app if owner == SELF else owner
        yield Facts(None if kind is None else kind.replace("*", "x"), named)
    if rule.when is None and not rule.unless:
        yield NO_FACTS

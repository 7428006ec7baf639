"""Findings that `policy check` shows, too: on kinds, and from decisions on plain paths of rules' globs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.resources import files
from operator import attrgetter
from typing import Final

from policyfs.domain import FIXED_KINDS, KIND_EMPTY, NO_FACTS, OWNER_NONE, Facts, Op, banned, to_clean
from policyfs.formats import OTHER_NAMES, REDACTABLE_KINDS, WITHOUT_LOCATOR
from policyfs.policy.analysis.sides import Compiled, Side
from policyfs.policy.collector import paused
from policyfs.policy.decide import Engine
from policyfs.policy.errors import listed
from policyfs.policy.lint.findings import Finding, on_app, on_rule
from policyfs.policy.lint.modes import looks_like_backup, principal_of
from policyfs.policy.lint.places import Names, Places, plain_names, shown
from policyfs.policy.model import SELF, Effect, Modes, Policy, Rule
from policyfs.policy.rules.table import decides_sight

_CAPTURED: Final = 3
"""Maximum number of apps to try for a glob with ``{app}`` or ``{uid}``: their directories are alike."""
_OTHER: Final = "some-other-name"


def hints(engine: Engine) -> list[Finding]:
    """Return findings on directories in which an app sees only some files, on backups and on sync jobs."""
    with paused():
        return [*_hints(engine)]


def _hints(engine: Engine) -> Iterator[Finding]:
    places = Places(Compiled(engine))
    apps = engine.policy.apps
    sides = {app.name: Side(places.compiled, engine.caller(principal_of(engine, app))) for app in apps}
    shared = [sides[app.name] for app in apps if app.uids]  # an app without uids has only app mounts
    for rule in engine.policy.rules:
        if decides_sight(rule):
            yield from _mixed(places, rule, shared)
    for app in apps:
        if app.modes is Modes.POLICY and looks_like_backup(engine, app):
            yield on_app(
                "backup-of-modes",
                engine.policy,
                app,
                f"the app {app.name} has modes: policy, reads every file unchanged and writes nothing; if the"
                " app is a backup, the backup has wrong modes and owners",
                "remove modes: policy",
            )
    yield from unknown_kinds(engine.policy)
    yield from map(_overridden, filter(attrgetter("overridden"), engine.policy.rules))
    for rule in engine.policy.rules:
        if rule.effect is Effect.CONTENT and to_clean(banned((rule.content,))):
            yield from _cleaned(places, rule, sides.values())


def _overridden(rule: Rule) -> Finding:
    redacts = rule.effect is Effect.REDACT
    done, right = ("redacted", "read") if redacts else ("examined", "write")
    kinds = listed(rule.overridden)
    told = f"raw_types has no effect on {kinds}: policyfs can redact such files, they are {done}"
    todo = f"remove the entry; if an app may {right} them unchanged, exclude the app from the rule with who"
    return on_rule("raw-type-redacted", rule, told, todo)


def _mixed(places: Places, rule: Rule, sides: Sequence[Side]) -> Iterator[Finding]:
    about = [side for side in sides if rule.who is None or side.caller.of.within(rule.who)]
    for number, side in enumerate(about):
        for glob in rule.paths or ("/**",):
            if number >= _CAPTURED and ("{app}" in glob or "{uid}" in glob):
                continue
            names = plain_names(glob, side.caller)
            if names and _sees_some(places, names, side, rule):
                yield on_rule(
                    "hidden-beside-visible",
                    rule,
                    f"in {shown(names[:-1])} the app {side.caller.app} sees only some files; in a shared"
                    " mount, inotify on this directory shows the app the names of all files",
                    f"give the app its own mount (--app {side.caller.app})",
                )
                return


def _sees_some(places: Places, names: Names, side: Side, rule: Rule) -> bool:
    heres = [places.at(some, side) for some in (names, (*names[:-1], _OTHER))]
    facts = list(_facts(rule, side.caller.app))
    seen = {here.answer(Op.SEE, one).allowed for here in heres for one in facts}
    return len(seen) == 2 and not heres[0].hidden_by


def _facts(rule: Rule, app: str | None) -> Iterator[Facts]:
    yield Facts("application/octet-stream", OWNER_NONE)
    yield Facts("application/octet-stream", app)
    for block in rule.blocks:
        kind = min(block.kinds or (), default=None)
        owner = min(block.owners or (), default=OWNER_NONE)
        yield Facts(None if kind is None else kind.replace("*", "x"), app if owner == SELF else owner)
    if not rule.blocks:
        yield NO_FACTS


def _cleaned(places: Places, rule: Rule, sides: Iterable[Side]) -> Iterator[Finding]:
    for side in sides:
        for names in filter(None, (plain_names(glob, side.caller) for glob in rule.paths or ("/**",))):
            here = places.at(names, side)
            answer = here.answer(Op.READ | Op.WRITE, Facts("image/jpeg", side.caller.app))
            if answer.allowed and rule.content in answer.content and not here.hidden_by:
                yield on_rule(
                    "cleaned-for-reader",
                    rule,
                    f"the app {side.caller.app} reads its own files cleaned (at {shown(names)}); a sync job"
                    " would take the cleaned file for a change and overwrite the original",
                    "exclude the app from the rule, or remove the app's right to read there",
                )
                break


def line(finding: Finding) -> str:
    """Return a finding as one line of text."""
    subject = f"{finding.subject}: " if finding.subject.startswith(("rule ", "exception ")) else ""
    where = finding.where
    return f"{where.file}:{where.line}: warning: {subject}{finding.message}; {finding.todo} [{finding.id}]"


_CODED: Final = (
    "json msword octet-stream vnd.ms-excel vnd.ms-msi vnd.ms-office vnd.ms-outlook vnd.ms-powerpoint x-ndjson"
)
"""Kinds of application that stand in libmagic's code, and not in its database."""
_NEAR: Final = 0.8


@cache
def known_kinds() -> frozenset[str]:
    """Return the kinds that policyfs finds: its own, and libmagic's (libmagic_kinds.txt: those of 5.44)."""
    listed = files(__package__).joinpath("libmagic_kinds.txt").read_text("ascii").split()
    listed += [f"application/{name}" for name in _CODED.split()]
    own = {*REDACTABLE_KINDS, *WITHOUT_LOCATOR, *FIXED_KINDS.values(), KIND_EMPTY, "text/csv"}
    return frozenset(own.union(listed) - OTHER_NAMES.keys())


def unknown_kinds(policy: Policy) -> Iterator[Finding]:
    """Yield a finding for each rule and invariant with kinds that no file is known to have. It is no
    error: another libmagic may know the kind, and a policy must be valid with each."""
    known = known_kinds()
    types = {kind.partition("/")[0] for kind in known}
    for rule in (*policy.rules, *(one.rule for one in policy.invariants)):
        if unknown := sorted(kind for kind in _kinds_of(rule) if _is_unknown(kind, known, types)):
            told = f"no file is known to have the kind {' or '.join(unknown)}"
            near = [meant for kind in unknown if (meant := _near(kind, known, types))]
            todo = f"did you mean {', '.join(near)}? " if near else ""
            todo += "`policyfs inspect FILE` shows the kind of a file"
            yield on_rule("unknown-kind", rule, told, todo)


def _kinds_of(rule: Rule) -> frozenset[str]:
    named = {kind for block in rule.blocks for kind in block.kinds or ()}
    content = {kind for kind in rule.content if "/" in kind and " " not in kind}
    return rule.raw_types.union(named, content)


def _is_unknown(kind: str, known: frozenset[str], types: set[str]) -> bool:
    return kind.partition("/")[0] not in types if kind.endswith("/*") else kind not in known


def _near(kind: str, known: frozenset[str], types: set[str]) -> str:
    major, _, minor = kind.partition("/")
    near = difflib.get_close_matches(major, types, 1)
    if minor == "*":
        return f"{near[0]}/*" if near else ""
    close = difflib.get_close_matches(kind, sorted(known), 1, _NEAR)
    return OTHER_NAMES.get(kind) or (close[0] if close else "")

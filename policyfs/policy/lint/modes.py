"""The apps that see owners, groups and modes made from the policy, not the values in the store.

A backup must see the values in the store. Decisions on sample paths show if an app is probably one.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyfs.domain import NO_FACTS, FileType, Op, Principal
from policyfs.policy.decide import Engine
from policyfs.policy.lint.places import plain_names, shown
from policyfs.policy.model import App, Modes

_NAMES = ("/x", "/some-other-name/x", "/some-other-name/x/x")


def apps_with_modes(engine: Engine, *, by_mount: bool) -> frozenset[str | None]:
    """Return the apps that see owners, groups and modes made from the policy; None: strangers.

    by_mount: True if the mount's option --modes is ``policy``: then all but apps with `modes: store`, and
    apps without `modes` that look like a backup. Otherwise only apps with `modes: policy`.
    """
    named = {app.name for app in engine.policy.apps if app.modes is Modes.POLICY}
    if not by_mount:
        return frozenset(named)
    silent = (app for app in engine.policy.apps if app.modes is None)
    return frozenset({None, *named, *(app.name for app in silent if not looks_like_backup(engine, app))})


def looks_like_backup(engine: Engine, app: App) -> bool:
    """Return True if an app may read everything unredacted, and write nothing, on all sample paths."""
    who = principal_of(engine, app)
    return all(_only_read(engine, who, path) for path in _paths(engine, app))


def principal_of(engine: Engine, app: App) -> Principal:
    """Return the principal of an app, under its first uid if the policy gives the app uids."""
    return engine.principal(app.uids[0][0]) if app.uids else engine.app_principal(app.name, 0)


def _only_read(engine: Engine, who: Principal, path: str) -> bool:
    state = engine.state_of(path.encode())
    reading = engine.decide(who, Op.READ, state, FileType.REGULAR, NO_FACTS)
    changed = engine.possible(who, state, FileType.REGULAR) & Op.WRITE
    return reading.allowed and not reading.redact and not changed


def _paths(engine: Engine, app: App) -> Iterator[str]:
    yield from _NAMES
    caller = engine.caller(principal_of(engine, app))
    for rule in engine.policy.rules:
        for glob in rule.paths or ():
            yield shown(plain_names(glob, caller) or ())

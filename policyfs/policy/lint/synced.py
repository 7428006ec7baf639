"""Search for apps that read back cleaned versions of files that they have written.

For a sync job, such a version looks like a change. The search is a hint for people. It uses decisions on
sample paths, made from the rules' globs. No decision of a mount depends on it.
"""

from __future__ import annotations

from typing import NamedTuple

from policyfs.domain import Facts, FileType, Op, banned, to_clean
from policyfs.policy.decide import Engine
from policyfs.policy.lint.mixed import sample
from policyfs.policy.model import App, Effect, Rule


class CleanedForReader(NamedTuple):
    """A rule with ``clean``, and an app that both reads and writes files at this path."""

    rule: Rule
    app: str
    path: str


def cleaned_for_readers(engine: Engine) -> list[CleanedForReader]:
    """Return, for each rule with ``clean``, every app that both reads and writes at a path of the rule."""
    found = []
    for rule in engine.policy.rules:
        if rule.effect is Effect.CONTENT and to_clean(banned((rule.content,))):
            for app in engine.policy.apps:
                paths = (_path(engine, rule, app, glob) for glob in rule.paths or ("/**",))
                path = next(filter(None, paths), "")
                if path:
                    found.append(CleanedForReader(rule, app.name, path))
    return found


def _path(engine: Engine, rule: Rule, app: App, glob: str) -> str:
    """Return a sample path that the glob matches, or "".

    The path is returned if the app may read and write there, and if the rule applies to these writes.
    """
    uid = app.uids[0][0] if app.uids else 0
    who = engine.principal(uid) if app.uids else engine.app_principal(app.name, uid)
    directory, file = sample(glob, app)
    path = f"{directory}/{file}"
    facts = Facts("image/jpeg", app.name)
    answer = engine.decide(who, Op.READ | Op.WRITE, engine.state_of(path.encode()), FileType.REGULAR, facts)
    return path if answer.allowed and rule.content in answer.content else ""

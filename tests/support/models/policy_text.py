"""Frozen policies as text, so that a daemon can read what a strategy has drawn."""

from __future__ import annotations

import json
from typing import Any

from policyfs.domain import Op
from policyfs.policy.model import Block, Effect, Policy, Rule, Who
from policyfs.policy.text.values import OPERATIONS

_ERRNOS = {2: "ENOENT", 13: "EACCES", 1: "EPERM", 30: "EROFS"}


def text_of(policy: Policy, **of_apps: Any) -> str:
    """The policy as JSON, which is YAML, without what it requires of contents. of_apps: keys of each app."""
    apps = {
        app.name: {"uid": _uids(app.uids), "grants": sorted(app.grants), **of_apps} for app in policy.apps
    }
    rules = [_rule(rule) for rule in policy.rules if rule.effect is not Effect.CONTENT]
    head = {"apiVersion": "policyfs/v1", "kind": "Policy"}
    return json.dumps({**head, "apps": apps, "rules": rules}, indent=1)


def _rule(rule: Rule) -> dict[str, Any]:
    ops = "all" if rule.ops == Op.ALL else [w for w, op in OPERATIONS.items() if op in rule.ops]
    code = None if rule.errno is None else _ERRNOS[rule.errno]
    effects = {Effect.ALLOW: {"allow": ops}, Effect.DENY: {"deny": ops, "errno": code}}
    what = effects.get(rule.effect, {"require": {"redact": sorted(rule.redact)}})
    return _said(
        {
            "id": rule.id,
            **what,
            "who": _who(rule.who),
            "paths": rule.paths,
            "ignore_case": rule.ignore_case or None,
            "when": _block(rule.when),
            "unless": [_block(block) for block in rule.unless] or None,
            "raw_types": sorted(rule.raw_types - {"image/*"}) or None,
            "mode": "monitor" if rule.monitor else None,
        }
    )


def _who(who: Who | None) -> dict[str, Any] | None:
    if who is None:
        return None
    uids = None if who.uids is None else _uids(who.uids)
    return _said({"app": _words(who.apps), "grant": _words(who.grants), "uid": uids, "not": _who(who.not_)})


def _block(block: Block | None) -> dict[str, Any] | None:
    if block is None:
        return None
    return _said({"type": _words(block.kinds), "owner": _words(block.owners), "path": block.paths})


def _words(words: frozenset[str] | None) -> list[str] | None:
    return None if words is None else sorted(words)


def _uids(ranges: tuple[tuple[int, int], ...]) -> list[str | int]:
    return [first if first == last else f"{first}-{last}" for first, last in ranges]


def _said(keys: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in keys.items() if value is not None}

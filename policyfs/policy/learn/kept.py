"""The text of apps and rules that a proposal takes over from the policy in force at the end of a trail."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping

from policyfs.domain import DENY_UNKNOWN, Op, banned, to_clean
from policyfs.policy.layout.quoting import name_text
from policyfs.policy.model import App, Block, Effect, Rule, UidRange, Who


def app_text(app: App) -> str:
    """Return the declaration of an app, for the block ``apps``."""
    fields = {
        "uid": spans(app.uids),
        "gid": list(app.gids),
        "grants": sorted(app.grants),
        "modes": app.modes and app.modes.value,
        "description": app.description,
    }
    return f"  {name_text(app.name)}: {json.dumps(_short(fields), ensure_ascii=False)}"


def rule_text(rule: Rule) -> str:
    """Return a rule, for the block ``rules``."""
    words = banned((rule.content,)) or rule.redact
    fields: dict[str, object] = {"id": rule.id, **_effect(rule, words)}
    raw = {kind for kind in rule.content if "/" in kind} if words and rule.content else rule.raw_types
    more = {
        "who": rule.who and _who(rule.who),
        "paths": rule.paths,
        "ignore_case": rule.ignore_case,
        "when": rule.when and block_fields(rule.when),
        "unless": [block_fields(block) for block in rule.unless],
        "errno": rule.errno and errno.errorcode[rule.errno],
        "raw_types": sorted(raw),
        "on_unknown": "deny" if DENY_UNKNOWN in words else "",
        "on_refused": "quarantine" if rule.quarantine else "",
        "audit": "" if rule.audit is None else rule.audit.name.lower(),
        "mode": "monitor" if rule.monitor else "",
        "description": rule.description,
    }
    return f"  - {json.dumps(fields | _short(more), ensure_ascii=False)}"


def _effect(rule: Rule, words: frozenset[str]) -> dict[str, object]:
    if rule.effect in (Effect.ALLOW, Effect.DENY):
        names = [str(op.name).lower() for op in Op if op & rule.ops]
        return {rule.effect.value: ["all"] if rule.ops == Op.ALL else names}
    if rule.effect is Effect.REDACT:
        return {"require": {"redact": sorted(words - {DENY_UNKNOWN})}}
    if to_clean(words):
        return {"require": {"clean": sorted(to_clean(words))}}
    no = sorted(words - {DENY_UNKNOWN})
    return {"require": {"no": no} if no else {"content": sorted(rule.content)}}


def _who(who: Who) -> dict[str, object]:
    fields = {
        "app": sorted(who.apps or ()),
        "grant": sorted(who.grants or ()),
        "uid": spans(who.uids or ()),
        "not": who.not_ and _who(who.not_),
    }
    return _short(fields)


def block_fields(block: Block) -> dict[str, object]:
    """Return the keys and values of a ``when`` or ``unless`` block."""
    kinds, owners = sorted(block.kinds or ()), sorted(block.owners or ())
    return _short({"type": kinds, "owner": owners, "path": block.paths})


def spans(uids: Iterable[UidRange]) -> list[int | str]:
    """Return ranges of uids as a policy writes them."""
    return [first if first == last else f"{first}-{last}" for first, last in uids]


def _short(fields: Mapping[str, object]) -> dict[str, object]:
    """Return the fields with a value. A list of one value becomes this value."""
    return {
        key: value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
        for key, value in fields.items()
        if value
    }

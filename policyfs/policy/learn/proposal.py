"""The text of a proposed policy. Comments in the text show the requests on which the policy is based."""

from __future__ import annotations

import errno
import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from policyfs.domain import DENY_UNKNOWN, Audit, Op, banned, to_clean
from policyfs.policy.analysis.diff import Block, Note
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.analysis.outcomes import Aspect
from policyfs.policy.errors import words_of
from policyfs.policy.globs.paths import MAX_NAME
from policyfs.policy.layout.quoting import flow, name_text
from policyfs.policy.learn.evidence import Evidence, Use
from policyfs.policy.learn.globs import Proposed, escaped
from policyfs.policy.learn.guards import APP_GLOB, OWN_GLOB, PRIVATE_GLOBS
from policyfs.policy.learn.refusals import UNPRINTABLE
from policyfs.policy.lint.lint import lint
from policyfs.policy.model import App, Effect, Rule, UidRange, Who
from policyfs.policy.model import Block as RuleBlock
from policyfs.policy.text.parse import SourceText
from policyfs.policy.text.values import merged

_ID: Final = re.compile(r"^  - id: (\S+)$", re.MULTILINE)
_MEANT: Final = {
    "see-by-fact": "the rule is about files that the app made itself",
    "case-of-extension": "the trail has only this case",
    "hidden-beside-visible": "the proposal shows only files that the app used",
    "deny-leaves-top": "files whose names begin with a dot are ordinary files",
    "own-directory": "the directory exists already",
    "one-level": "the trail has nothing deeper",
    "app-without-allow": "the trail has no request of the app that the proposal allows",
    "monitored": "the comment above tells why the rule is here",
    "derived-copies": (
        "the trail has such reads; if the app must not see the originals, remove this rule, too"
    ),
    "no-effect": "the rule also stands for later changes of this policy",
    "create-and-write": "the trail has no other changes of these files",
    "overwrite": "the trail has such writes",
    "unseen": "the trail has no listing of these paths",
    "spelling": "the trail has only this form of the name",
    "hidden-from-sync": "the app did not use these files",
    "not-searched": "the trail has too many places to check all",
}
"""Findings of `policy lint` that are intended in a proposal, with the reasons."""


def silenced(text: str) -> str:
    """Return the text of a proposal, with comments that silence the intended findings of `policy lint`."""
    source = SourceText("proposal", text.encode())
    meant: dict[int, dict[str, str]] = defaultdict(dict)
    for finding in lint(load_policy([source]), [source], at_ns=0).findings:
        if finding.id in _MEANT:
            meant[finding.where.line][finding.id] = _MEANT[finding.id]
    lines = []
    for number, line in enumerate(text.splitlines(), 1):
        indent = line[: len(line) - len(line.lstrip())]
        lines += [f"{indent}# lint: ignore {name} because {why}" for name, why in meant[number].items()]
        lines.append(line)
    return "\n".join(lines) + "\n"


def text_of(rules: Sequence[Proposed], evidence: Evidence, words: Iterable[str]) -> str:
    """Return the text of a proposed policy. words: data to redact for everyone beside ``location``."""
    lines = [
        "# A proposal, learnt from a trail. Read each rule before you use the policy: a trail shows what",
        "# apps did, not what is right. The numbers are ids for `policyfs audit show`.",
        *_contradictions(evidence),
        *_raw_readers(evidence),
        *_kept_back(evidence),
        "apiVersion: policyfs/v1",
        "kind: Policy",
        "metadata:",
        "  name: learned",
        "",
        "apps:",
        *_apps(rules, evidence),
        *_defaults(evidence),
        "",
        "rules:",
    ]
    parts = [_rule(number, rule) for number, rule in _numbered(rules)]
    parts += [deny_text(_REFUSED, *conflict) for conflict in _conflicts(rules, evidence)]
    parts.append(_private(rules))
    if evidence.bound is None or not evidence.bound.redacts:
        parts.append(_redaction(rules, words))
    parts += _kept(evidence, set(_ID.findall("\n".join(line for part in parts for line in part))))
    return "\n".join(lines) + "\n" + "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _contradictions(evidence: Evidence) -> Iterator[str]:
    if evidence.contradictions:
        yield "#"
        yield "# WARNING: only its deny rules refuse these requests, which the trail shows refused."
        yield "# Perhaps its rules are too wide for other paths, too:"
    for (app, uid, operation), count in evidence.contradictions.most_common():
        times = "once" if count == 1 else f"{count:,} times"
        yield f"# - {app} (uid {uid}) {operation}, {times} ({evidence.contradicting[app, uid, operation]})"
    for (app, uid), refusals in sorted(evidence.refused.items()):
        if refusals.too_many:
            yield "#"
            yield f"# WARNING: no rule is proposed for {app} (uid {uid}): too many of its paths were refused."


def globs_of(rules: Sequence[Proposed], wider: Iterable[Block | Note]) -> set[tuple[str, str]]:
    """Return the globs of proposed rules that make access wider, with their apps."""
    blocks = (one for one in wider if isinstance(one, Block) and one.aspect is Aspect.ACCESS)
    ids = {name for block in blocks for _, name in block.rules}
    return {
        (rule.app, pattern.glob)
        for number, rule in _numbered(rules)
        if f"{rule.app}.{rule.use.value}{number}" in ids
        for pattern in rule.patterns
    }


NOT_COMPARED: Final = (
    "the proposal is not compared with the policy in force at the end of the trail: there are several"
    " such policies, or too many different paths"
)


def with_warnings(text: str, wider: Sequence[Block | Note] | None) -> str:
    """Return the text with comments on what is wider than at the end (None: not known)."""
    if wider is None:
        return f"# WARNING: {NOT_COMPARED}\n{text}"
    if not wider:
        return text
    lines = [
        "# WARNING: compared with the policy in force at the end of the trail, the proposal allows more,",
        "# removes less data, or requires less of the content:",
    ]
    for one in wider:
        if isinstance(one, Note):
            lines.append(f"# - {one.text}")
            continue
        for op, change, request in one.examples:
            path = json.dumps(request.path.decode("utf-8", "backslashreplace"))
            told = f"{change.before} before, {change.after} now"
            lines.append(f"# - {', '.join(one.who)} {words_of(op)} {path}: {told}")
    return "\n".join(lines) + "\n" + text


def _raw_readers(evidence: Evidence) -> Iterator[str]:
    if evidence.raw_readers and (evidence.bound is None or not evidence.bound.redacts):
        apps = ", ".join(sorted(evidence.raw_readers))
        yield "#"
        yield (
            "# These apps have read files unchanged so far, and would now read the files without places:"
            f" {apps}."
        )


def _kept_back(evidence: Evidence) -> Iterator[str]:
    if evidence.kept_back:
        yield "#"
        yield "# Requests that are kept back (not in the policy). A person must decide whether to allow them:"
    for (guard, app, operation), count in sorted(
        evidence.kept_back.items(), key=lambda item: (-item[1], item[0][0].name, item[0][1:])
    ):
        times = "once" if count == 1 else f"{count:,} times"
        example = evidence.examples[guard, app, operation]
        yield f"# - {app} {operation}, {times} ({example}): {guard.value}"


def _apps(rules: Sequence[Proposed], evidence: Evidence) -> Iterator[str]:
    if evidence.bound is not None:
        yield from map(app_text, evidence.bound.policy.apps)
        return
    uids: dict[str, list[UidRange]] = defaultdict(list)
    for uid, app in sorted(evidence.uids.items()):
        uids[app].append((uid, uid))
    unknown = "the trail shows this app only in app mounts, so its uid is not known"
    for app in sorted({rule.app for rule in rules}):
        own = merged(uids[app])
        yield app_text(App(app, own, (), frozenset(), "" if own else unknown))


def _defaults(evidence: Evidence) -> list[str]:
    if evidence.bound is None:
        return []
    policy, lines = evidence.bound.policy, []
    if policy.audit_allowed is not Audit.BEST_EFFORT:
        lines.append(f"  audit: {policy.audit_allowed.name.lower()}")
    if policy.audit_denied is not Audit.REQUIRED:
        lines.append(f"  audit_denied: {policy.audit_denied.name.lower()}")
    return ["", "defaults:", *lines] if lines else []


def _kept(evidence: Evidence, taken: set[str]) -> Iterator[list[str]]:
    """Yield the rules of the policy at the end that deny or require, under ids that are not taken.

    Allow rules that raise the level of record get `mode: monitor`: they allow nothing, but keep the level.
    """
    if evidence.bound is None:
        return
    rules = evidence.bound.policy.rules
    levels = (rule.audit for rule in rules if rule.effect is not Effect.ALLOW and rule.audit is not None)
    lowest = min((evidence.bound.policy.audit_allowed, *levels))
    for rule in rules:
        told = "  # The policy in force at the end of the trail has this rule."
        if rule.effect is Effect.ALLOW:
            if rule.audit_or(lowest) <= lowest:
                continue
            told = "  # Allows nothing (mode: monitor), but keeps the level of record of what others allow."
        while rule.id in taken:
            rule = replace(rule, id=f"{rule.id}.kept")
        taken.add(rule.id)
        yield [told, rule_text(replace(rule, monitor=rule.monitor or rule.effect is Effect.ALLOW))]


def _numbered(rules: Sequence[Proposed]) -> Iterator[tuple[str, Proposed]]:
    totals: dict[tuple[str, Use], int] = defaultdict(int)
    for rule in rules:
        totals[rule.app, rule.use] += 1
    seen: dict[tuple[str, Use], int] = defaultdict(int)
    for rule in rules:
        key = (rule.app, rule.use)
        seen[key] += 1
        yield f".{seen[key]}" if totals[key] > 1 else "", rule


def _rule(number: str, rule: Proposed) -> list[str]:
    times = "1 request" if rule.weight == 1 else f"{rule.weight:,} requests"
    lines = [f"  # {f'{times}, such' if rule.weight else 'Such'} as {', '.join(rule.ids)}"]
    globs = [_quoted(pattern.glob) for pattern in rule.patterns]
    lines += [
        f"  - id: {rule.app}.{rule.use.value}{number}",
        f"    allow: [{words_of(rule.ops)}]",
        f"    who: {_who(rule.app, rule.uids)}",
        f"    paths: {globs[0]}" if len(globs) == 1 else "\n".join(["    paths:", *map(_item, globs)]),
    ]
    if rule.limit.when is not None:
        lines.append(f"    when: {flow(block_fields(rule.limit.when))}")
    if rule.limit.unless:
        lines.append(f"    unless: {flow([*map(block_fields, rule.limit.unless)])}")
    return lines


def _who(app: str, uids: Sequence[int]) -> str:
    listed = f", uid: {json.dumps(spans(merged((uid, uid) for uid in uids)))}" if uids else ""
    return f"{{app: {name_text(app)}{listed}}}"


def _item(text: str) -> str:
    return f"      - {text}"


def _conflicts(
    rules: Sequence[Proposed], evidence: Evidence
) -> Iterator[tuple[str, str, tuple[int, ...], Op, list[str]]]:
    """Yield refused paths that a proposed rule would allow: id of a deny, app, uids, operations."""
    by_app: dict[str, dict[tuple[tuple[int, ...], Op], list[str]]] = defaultdict(lambda: defaultdict(list))
    for app in sorted({rule.app for rule in rules}):
        found: dict[tuple[tuple[str, ...], Op], list[int]] = defaultdict(list)
        for caller in ((app, uid) for uid in sorted(evidence.users[app])):
            refusals = evidence.refused.get(caller)
            for path, ops in {} if refusals is None else refusals.paths.items():
                if any(rule.allows(path, ops, caller) for rule in rules):
                    found[path, ops].append(caller[1])
        for (path, ops), uids in sorted(found.items()):
            users = () if set(uids) == evidence.users[app] else tuple(uids)
            by_app[app][users, ops].append("/" + "/".join(map(_glob_of, path)))
    for app, by_users in by_app.items():
        for number, ((users, ops), paths) in enumerate(by_users.items(), 1):
            yield f"{app}.denied.{number}", app, users, ops, paths


def _glob_of(name: str) -> str:
    """Return a glob that matches a name, and perhaps others: a name may be too long, or not printable."""
    glob = escaped(name[:MAX_NAME]).replace(UNPRINTABLE, "?")
    return glob if len(name) <= MAX_NAME else f"{glob}*"


_REFUSED: Final = "The trail shows such requests refused, or the policy at its end refuses them."


def deny_text(
    comment: str, id_: str, app: str, uids: Sequence[int], ops: Op, paths: Sequence[str]
) -> list[str]:
    """Return the lines of a deny rule, for the block ``rules``, below a comment."""
    return [
        f"  # {comment}",
        f"  - id: {id_}",
        f"    deny: [{words_of(ops)}]",
        f"    who: {_who(app, uids)}",
        "    paths:",
        *(_item(_quoted(path)) for path in paths),
    ]


def _private(rules: Sequence[Proposed]) -> list[str]:
    if not rules:
        return []
    return [
        "  # A proposal never allows these paths, even if the trail has such requests.",
        "  - id: private",
        "    deny: [all]",
        "    paths:",
        *(_item(_quoted(glob)) for glob in (*PRIVATE_GLOBS, APP_GLOB)),
        f"    unless: {{path: {_quoted(OWN_GLOB)}}}",
    ]


def _redaction(rules: Sequence[Proposed], words: Iterable[str]) -> list[str]:
    if not any(rule.ops & Op.READ for rule in rules):
        return []
    return [
        "  # If an app needs places, exempt the app from this rule, for example by a grant.",
        "  - id: no-places",
        f"    require: {{redact: [{', '.join(sorted({'location', *words}))}]}}",
        "    unless: {owner: self}",
        "    audit: required",
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def app_text(app: App) -> str:
    """Return the declaration of an app, for the block ``apps``."""
    fields = {
        "uid": spans(app.uids),
        "gid": list(app.gids),
        "grants": sorted(app.grants),
        "modes": app.modes and app.modes.value,
        "moves": "free" if app.moves_freely else None,
        "description": app.description,
    }
    return f"  {name_text(app.name)}: {flow(_short(fields))}"


def rule_text(rule: Rule) -> str:
    """Return a rule, for the block ``rules``."""
    words = banned((rule.content,)) or rule.redact
    fields: dict[str, object] = {"id": rule.id, **_effect(rule, words)}
    raw = {kind for kind in rule.content if "/" in kind} if words and rule.content else rule.raw_types
    more = {
        "who": rule.who and _who_fields(rule.who),
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
    lines = "\n    ".join(f"{key}: {flow(value)}" for key, value in (fields | _short(more)).items())
    return f"  - {lines}"


def _effect(rule: Rule, words: frozenset[str]) -> dict[str, object]:
    if rule.effect in (Effect.ALLOW, Effect.DENY):
        names = [str(op.name).lower() for op in Op if op & rule.ops]
        return {rule.effect.value: ["all"] if rule.ops == Op.ALL else names}
    if rule.limit is not None:
        return {"limit": {"changes": rule.limit.changes, "within": rule.limit.within}}
    if rule.keep is not None:
        unkept = {} if rule.keep.strict else {"on_unkept": "record"}
        return {"require": {"keep": rule.keep.age}, **unkept}
    if rule.effect is Effect.REDACT:
        return {"require": {"redact": sorted(words - {DENY_UNKNOWN})}}
    if to_clean(words):
        return {"require": {"clean": sorted(to_clean(words))}}
    no = sorted(words - {DENY_UNKNOWN})
    return {"require": {"no": no} if no else {"content": sorted(rule.content)}}


def _who_fields(who: Who) -> dict[str, object]:
    fields = {
        "app": sorted(who.apps or ()),
        "grant": sorted(who.grants or ()),
        "uid": spans(who.uids or ()),
        "not": who.not_ and _who_fields(who.not_),
    }
    return _short(fields)


def block_fields(block: RuleBlock) -> dict[str, object]:
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

"""The text of a proposed policy. Comments in the text show the requests on which the policy is based."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from policyfs.domain import Op
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.layout.canonical import canonical
from policyfs.policy.layout.quoting import name_text
from policyfs.policy.learn.evidence import Evidence, Use
from policyfs.policy.learn.globs import Proposed, escaped
from policyfs.policy.learn.guards import APP_GLOB, OWN_GLOB, PRIVATE_GLOBS
from policyfs.policy.learn.refusals import UNPRINTABLE
from policyfs.policy.lint.lint import lint
from policyfs.policy.parse import SourceText

_ORDER = (Op.SEE, Op.READ, Op.WRITE, Op.CREATE, Op.DELETE, Op.ATTR)


_MEANT: Final = {
    "see-by-fact": "the rule is about files that the app made itself",
    "case-of-extension": "the trail has only this case",
    "hidden-beside-visible": "the proposal shows only files that the app used",
    "deny-leaves-top": "files whose names begin with a dot are ordinary files",
    "own-directory": "the directory exists already",
    "one-level": "the trail has nothing deeper",
    "backup-redacted": "no proposal shows places; a backup needs places, so give the backup a grant",
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
    """Return the text of a proposal, with comments for the intended findings of `policy lint`.

    `policy lint` does not report a finding with such a comment.
    """
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
    return canonical("\n".join(lines))


def text_of(rules: Sequence[Proposed], evidence: Evidence, words: Iterable[str]) -> str:
    """Return the text of a proposed policy.

    words: the words of data that the policy redacts for everyone, in addition to ``location``.
    """
    lines = [
        "# A proposal, learnt from a trail. Read each rule before you use the policy: a trail shows what",
        "# apps did, not what is right. The numbers are ids for `policyfs audit show`.",
        *_raw_readers(evidence),
        *_kept_back(evidence),
        "apiVersion: policyfs/v1",
        "kind: Policy",
        "metadata:",
        "  name: learned",
        "apps:",
        *_apps(rules, evidence),
        "rules:",
    ]
    parts = [_rule(number, rule) for number, rule in _numbered(rules)]
    parts += [_refused(app, paths) for app, paths in _conflicts(rules, evidence)]
    parts += [_private(rules), _redaction(rules, words)]
    return "\n".join(lines) + "\n" + "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _raw_readers(evidence: Evidence) -> Iterator[str]:
    if evidence.raw_readers:
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
    uids: dict[str, list[int]] = defaultdict(list)
    for uid, app in sorted(evidence.uids.items()):
        uids[app].append(uid)
    for app in sorted({rule.app for rule in rules}):
        yield f"  {name_text(app)}:"
        if uids[app]:
            spans = [str(a) if a == b else f'"{a}-{b}"' for a, b in _spans(uids[app])]
            listed = ", ".join(spans)
            yield f"    uid: {listed if len(spans) == 1 else f'[{listed}]'}"
        else:
            yield "    description: the trail shows this app only in app mounts, so its uid is not known"


def _spans(numbers: Sequence[int]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


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
    lines = [f"  # {times}, such as {', '.join(rule.ids)}"]
    globs = [_quoted(pattern.glob) for pattern in rule.patterns]
    lines += [
        f"  - id: {rule.app}.{rule.use.value}{number}",
        f"    allow: [{_words(rule.ops)}]",
        f"    who: {{app: {name_text(rule.app)}}}",
        f"    paths: {globs[0]}" if len(globs) == 1 else "\n".join(["    paths:", *map(_item, globs)]),
    ]
    if rule.use is Use.OWN:
        lines.append("    when: {owner: self}")
    return lines


def _item(text: str) -> str:
    return f"      - {text}"


def _words(ops: Op) -> str:
    return ", ".join((op.name or "").lower() for op in _ORDER if op & ops)


def _conflicts(rules: Sequence[Proposed], evidence: Evidence) -> Iterator[tuple[str, dict[Op, list[str]]]]:
    """Yield each app with paths that the recorded policy denied to it, but a proposed glob would allow."""
    for app, refusals in sorted(evidence.refused.items()):
        mine = [rule for rule in rules if rule.app == app]
        found: dict[Op, list[str]] = defaultdict(list)
        for path, ops in sorted(refusals.paths.items()):
            if any(rule.allows(path, ops) for rule in mine):
                found[ops].append("/" + "/".join(map(_glob_of, path)))
        if found:
            yield app, found


def _glob_of(name: str) -> str:
    return escaped(name).replace(UNPRINTABLE, "?")


def _refused(app: str, found: dict[Op, list[str]]) -> list[str]:
    lines: list[str] = []
    for number, (ops, paths) in enumerate(found.items(), 1):
        lines += [] if number == 1 else [""]
        lines += [
            "  # A rule of the recorded policy denies these requests.",
            f"  - id: {app}.denied.{number}",
            f"    deny: [{_words(ops)}]",
            f"    who: {{app: {name_text(app)}}}",
            "    paths:",
            *(_item(_quoted(path)) for path in paths),
        ]
    return lines


def _private(rules: Sequence[Proposed]) -> list[str]:
    if not rules:
        return []
    return [
        "  # A proposal never allows these paths, even if the trail has such requests.",
        "  - id: private",
        "    deny: [all]",
        "    paths:",
        *(_item(_quoted(glob)) for glob in (*PRIVATE_GLOBS, APP_GLOB)),
        "    unless:",
        f"      path: {_quoted(OWN_GLOB)}",
    ]


def _redaction(rules: Sequence[Proposed], words: Iterable[str]) -> list[str]:
    if not any(rule.ops & Op.READ for rule in rules):
        return []
    return [
        "  # If an app needs places, exempt the app from this rule, for example by a grant.",
        "  - id: no-places",
        f"    require: {{redact: [{', '.join(sorted({'location', *words}))}]}}",
        "    unless: {owner: self}",
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)

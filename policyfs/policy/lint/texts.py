"""Findings that need only the text of one rule (and the uids of the apps that it names)."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from policyfs.domain import FIXED_KINDS, OWNER_NONE, Audit, Op
from policyfs.policy.lint.findings import Finding, on_app, on_rule
from policyfs.policy.model import App, Effect, Policy, Rule, UidRange, Who

_FIRST_USER: Final = 1000
"""The first uid of a person; those below are of services (login.defs(5), UID_MIN)."""
_EXTENSION: Final = re.compile(r"[*?}a-zA-Z0-9]\.(\{[^{}]*\}|[A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*)$")
_VARIABLE: Final = re.compile(r"\$\{?(?:app|uid|user)\b\}?|%[uU]\b|<(?:app|uid|user)>", re.IGNORECASE)
_SPACE: Final = re.compile(r"(?<!\\)\s(?:/|$)|/\s")


def texts(policy: Policy) -> Iterator[Finding]:
    """Yield the findings on each rule alone, and on apps with uids of other callers."""
    uids = {app.name: app.uids for app in policy.apps}
    for rule in policy.rules:
        for check in _CHECKS:
            yield from check(rule)
        yield from _app_and_uid(rule, uids)
    for app in policy.apps:
        yield from _uids(policy, app)
    if policy.audit_denied is Audit.OFF and policy.rules:
        told = "audit_denied: off keeps no record of what was refused, so nobody sees an app that tries"
        todo = "write audit_denied: best_effort, or remove it"
        yield Finding("denials-unrecorded", policy.rules[0].where, "defaults", told, todo)


def _uids(policy: Policy, app: App) -> Iterator[Finding]:
    if any(first == 0 for first, _ in app.uids):
        told = "uid 0 is root, whom no policy restricts: root reaches the store without the mount"
        yield on_app("root-app", policy, app, told, "run the program as a user of its own")
    for first, last in app.uids:
        if first < _FIRST_USER <= last:
            told = (
                f"the uids {_shown((first, last))} are those of services and of people: each of them is this"
                " app in a shared mount"
            )
            yield on_app("broad-uids", policy, app, told, "name the uid of the program alone")


def _app_and_uid(rule: Rule, known: Mapping[str, tuple[UidRange, ...]]) -> Iterator[Finding]:
    who = rule.who
    while who is not None:
        apps, uids = who.apps or frozenset(), who.uids
        own = [span for app in apps & known.keys() for span in known[app]]
        if uids and apps and apps <= known.keys() and not _meet(own, uids):
            have = "has" if len(apps) == 1 else "have"
            yield on_rule(
                "app-and-uid",
                rule,
                f"app and uid must both match, but {' and '.join(sorted(apps))} {have} no uid of"
                f" {', '.join(map(_shown, uids))}: on a shared mount no caller matches",
                "keep only app or only uid; for a rule about either, make two rules",
            )
        who = who.not_


def _meet(some: Iterable[UidRange], others: Sequence[UidRange]) -> bool:
    return any(first <= end and start <= last for first, last in some for start, end in others)


def _shown(uids: UidRange) -> str:
    return str(uids[0]) if uids[0] == uids[1] else f"{uids[0]}-{uids[1]}"


def _strangers(rule: Rule) -> Iterator[Finding]:
    if rule.effect is Effect.ALLOW and not rule.monitor and _admits_strangers(rule.who):
        yield on_rule(
            "strangers",
            rule,
            "this allow is for strangers, too: for every user that is not an app of the policy",
            "add who: {app: any}; if strangers are meant, write app: [any, stranger]",
        )


def _admits_strangers(who: Who | None) -> bool:
    if who is None:
        return True
    if who.apps is not None or who.grants is not None:
        return False
    return who.uids is None  # a list of uids names strangers on purpose


def _not_with_keys(rule: Rule) -> Iterator[Finding]:
    inner = rule.who.not_ if rule.who is not None else None
    if inner is not None and sum(key is not None for key in (inner.apps, inner.grants, inner.uids)) > 1:
        yield on_rule(
            "not-of-several",
            rule,
            '"not" with several keys excludes only the callers that match all these keys',
            "to exclude the callers that match any of these keys, make a rule for each key",
        )


def _about_all(rule: Rule) -> Iterator[Finding]:
    conditions = (rule.who, rule.paths, rule.when)
    if rule.effect in (Effect.ALLOW, Effect.DENY) and all(one is None for one in conditions):
        yield on_rule(
            "about-all",
            rule,
            f"this {rule.effect.value} has no who, paths and when, so the rule is about everyone and"
            " everything",
            'add who and paths; if all is meant, write paths: "/***"',
        )


def _type_on_create(rule: Rule) -> Iterator[Finding]:
    kinds = rule.when.kinds if rule.when is not None else None
    if rule.effect is Effect.ALLOW and rule.ops & Op.CREATE and kinds and kinds - set(FIXED_KINDS.values()):
        yield on_rule(
            "type-on-create",
            rule,
            "a file that is being created has no kind yet, so this allow never lets an app create a file",
            "allow create without type, and add a rule with require: {content: [kinds]}",
        )


def _owner_none(rule: Rule) -> Iterator[Finding]:
    if rule.effect is Effect.REDACT and any(block.owners == frozenset({OWNER_NONE}) for block in rule.unless):
        yield on_rule(
            "redaction-spares-library",
            rule,
            "unless: {owner: none} exempts all files that no app created, in most libraries all files",
            "remove this condition; to let apps read their own files unchanged, write unless: {owner: self}",
        )


def _case(rule: Rule) -> Iterator[Finding]:
    if rule.ignore_case:
        return
    globs = rule.paths or ()
    for glob in globs:
        found = _EXTENSION.search(glob)
        if found is not None and not _has_both_cases(found[1]) and not _has_other_case(glob, found, globs):
            other = found[1].strip("{}").split(",")[0].swapcase()
            yield on_rule(
                "case-of-extension",
                rule,
                f"{glob} does not match the same extension in other letters, such as .{other}",
                "add ignore_case: true; to match the kind of the file, use when: {type: ...}",
            )
            return


def _has_other_case(glob: str, extension: re.Match[str], globs: Iterable[str]) -> bool:
    before, after = glob[: extension.start(1)], extension[1]
    return any(
        other != glob and other.startswith(before) and other[len(before) :].lower() == after.lower()
        for other in globs
    )


def _has_both_cases(extension: str) -> bool:
    words = extension.strip("{}").split(",")
    return any(word != word.lower() for word in words) and any(word == word.lower() for word in words)


def _below_only(rule: Rule) -> Iterator[Finding]:
    if rule.effect is not Effect.DENY or not rule.ops & Op.SEE or rule.monitor:
        return
    globs = rule.paths or ()
    for glob in globs:
        top = glob.removesuffix("/**")
        if top not in (glob, "") and top not in globs and f"{top}/***" not in globs:
            yield on_rule(
                "deny-leaves-top",
                rule,
                f"{glob} hides the files below {top}, but the name {top} itself stays visible",
                f'write "{top}/***", or add the glob "{top}"',
            )
            return


def _costs(rule: Rule) -> Iterator[Finding]:
    if rule.effect in (Effect.REDACT, Effect.CONTENT) and rule.when is not None and rule.when.kinds:
        what = "read from copies" if rule.effect is Effect.REDACT else "written through the daemon"
        yield on_rule(
            "type-costs-passthrough",
            rule,
            f"all files at these paths are {what}, also files of other kinds: the kind of a file may change",
            "remove the type, which saves nothing; or make paths narrower: other files keep passthrough",
        )


def _spelling(rule: Rule) -> Iterator[Finding]:
    globs = rule.paths or ()
    spared = [glob for block in rule.unless for glob in block.paths or ()]
    for glob in (*globs, *spared):
        variable, space = _VARIABLE.search(glob), _SPACE.search(glob)
        if variable is not None:
            word = "uid" if "u" in variable[0].lower() else "app"
            told = f"{glob} has the text {variable[0]}, which stands only for itself"
            yield on_rule("spelling", rule, told, f"did you mean {{{word}}}?")
        elif space is not None:
            told = f"in {glob} a name begins or ends with a space"
            yield on_rule("spelling", rule, told, "remove the space, or quote it by a backslash")
        else:
            other = other_form(glob)
            if not other or other in globs or (glob in globs and rule.effect is Effect.ALLOW):
                continue
            told = f"{glob} does not match the same name in the other Unicode form, which some systems write"
            yield on_rule("spelling", rule, told, f"add the glob {json.dumps(other)}")
        return


def other_form(text: str) -> str:
    """Return a text in its other Unicode form (composed or decomposed), or "" if it has no other form."""
    for form in ("NFD", "NFC"):
        if (other := unicodedata.normalize(form, text)) != text:
            return other
    return ""


def _monitored(rule: Rule) -> Iterator[Finding]:
    if rule.monitor:
        yield on_rule(
            "monitored",
            rule,
            "this rule is only recorded, and changes no answer (mode: monitor)",
            "when you have read the records, remove mode: monitor",
        )


_CHECKS: Final[tuple[Callable[[Rule], Iterator[Finding]], ...]] = (
    _strangers,
    _not_with_keys,
    _about_all,
    _type_on_create,
    _owner_none,
    _case,
    _below_only,
    _costs,
    _spelling,
    _monitored,
)

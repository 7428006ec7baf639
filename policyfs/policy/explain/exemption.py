"""The change of a rule that spares one caller, as a text that an author can write into the policy."""

from __future__ import annotations

from dataclasses import replace

from policyfs.policy.model import ANY, Rule, UidRange, Who

_NOBODY = Who(None, None, None, None)


def exemption(rule: Rule, app: str | None, uid: int) -> str:
    """Return what an author must do so that a rule spares an app, or (None) a stranger's uid."""
    who = rule.who
    named = frozenset[str]() if who is None else who.apps or frozenset()
    if who is not None and app in named and ANY not in named:
        left = named - {app}
        return f"write who: {who_text(replace(who, apps=left))}" if left else "remove the rule"
    caller = replace(_NOBODY, uids=((uid, uid),)) if app is None else replace(_NOBODY, apps=frozenset({app}))
    excluded = None if who is None else who.not_
    if excluded is not None and (merged := _either(excluded, caller)) is None:
        if app is not None and excluded.grants and excluded == replace(_NOBODY, grants=excluded.grants):
            return f"give the app {app} the grant {min(excluded.grants)}"
        return "make two rules of it, each with one of the keys of its not"
    return f"write who: {who_text(replace(who or _NOBODY, not_=caller if excluded is None else merged))}"


def _either(some: Who, caller: Who) -> Who | None:
    """Return the callers that match one of two; None if one `who` cannot say it."""
    if some == replace(_NOBODY, apps=some.apps) and some.apps and caller.apps:
        return replace(some, apps=some.apps | caller.apps)
    if some == replace(_NOBODY, uids=some.uids) and some.uids and caller.uids:
        return replace(some, uids=(*some.uids, *caller.uids))
    return None


def who_text(who: Who) -> str:
    """Return a `who` as YAML."""
    parts = []
    for key, names in (("app", who.apps), ("grant", who.grants)):
        if names is not None:
            parts.append(f"{key}: {_list(sorted(names))}")
    if who.uids is not None:
        parts.append(f"uid: {_list([_span(one) for one in who.uids])}")
    if who.not_ is not None:
        parts.append(f"not: {who_text(who.not_)}")
    return f"{{{', '.join(parts)}}}"


def _list(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"[{', '.join(words)}]"


def _span(one: UidRange) -> str:
    first, last = one
    return str(first) if first == last else f'"{first}-{last}"'

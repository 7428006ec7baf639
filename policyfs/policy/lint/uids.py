"""Findings on rules that name apps together with uids of other callers."""

from __future__ import annotations

from collections.abc import Iterator

from policyfs.policy.lint.findings import Finding, on_rule
from policyfs.policy.model import ANY, STRANGER, Policy, Rule, UidRange, Who


def uids(policy: Policy) -> Iterator[Finding]:
    """Yield a finding for each rule that names apps and uids, if none of the uids belongs to one of these
    apps.
    """
    known = {app.name: app.uids for app in policy.apps}
    for rule in policy.rules:
        for who in _blocks(rule.who):
            apps = (who.apps or frozenset()) - {ANY, STRANGER}
            if who.uids is None or not apps or apps != who.apps:
                continue
            if any(_meet(known[app], who.uids) for app in apps):
                continue
            yield _finding(rule, sorted(apps), who.uids)


def _blocks(who: Who | None) -> Iterator[Who]:
    while who is not None:
        yield who
        who = who.not_


def _meet(some: tuple[UidRange, ...], others: tuple[UidRange, ...]) -> bool:
    return any(first <= end and start <= last for first, last in some for start, end in others)


def _finding(rule: Rule, apps: list[str], named: tuple[UidRange, ...]) -> Finding:
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in named)
    have = "has" if len(apps) == 1 else "have"
    return on_rule(
        "app-and-uid",
        rule,
        f"app and uid must both match, but {' and '.join(apps)} {have} no uid of {shown}:"
        " on a shared mount no caller matches",
        "keep only app or only uid; for a rule about either, make two rules",
    )

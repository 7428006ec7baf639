"""Findings on content kinds that no file has, in every place of a policy where a kind may stand.

They are findings, and not errors: another libmagic may know a kind, and a policy must be valid with each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Final

from policyfs.domain import FIXED_KINDS, KIND_EMPTY
from policyfs.formats import OTHER_NAMES, REDACTABLE_KINDS, WITHOUT_LOCATOR
from policyfs.policy.lint.findings import Finding, on_rule
from policyfs.policy.model import Policy, Rule

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
    """Yield a finding for each rule and invariant with kinds that no file is known to have."""
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

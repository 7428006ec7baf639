"""The meaning of policy files, which a conversion to the standard layout must not change."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from policyfs.policy.analysis.accepted import KIND as ACCEPTED
from policyfs.policy.analysis.accepted import parse_accepted
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.cases.document import KIND as TESTS
from policyfs.policy.cases.document import read_cases
from policyfs.policy.model import Policy, Where
from policyfs.policy.text.parse import SourceText, parse_policy

_NOWHERE = Where("", 1, 1)


def other_kind(text: SourceText) -> str:
    """Return the kind of a file if it is not a policy (such as ``PolicyTests``), or "" for a policy."""
    found = re.search(rb"^kind:\s*['\"]?(\w+)", text.text, re.MULTILINE)
    kind = found[1].decode() if found is not None else ""
    return kind if kind in {TESTS, ACCEPTED} else ""


def meaning(sources: Sequence[SourceText], *, prove: bool) -> object:
    """Return the meaning of files to compare. prove: True for invariants, too. Raise PolicyErrors."""
    found: list[object] = []
    for source in sources:
        kind = other_kind(source)
        if kind == TESTS:
            found.append(read_cases(source))
        elif kind == ACCEPTED:
            found.append(parse_accepted(source))
    policies = [source for source in sources if not other_kind(source)]
    if policies:
        policy = load_policy(policies).policy if prove else parse_policy(policies)
        found.append(_without_places(policy))
    return found


def _without_places(policy: Policy) -> Policy:
    invariants = tuple(
        replace(one, rule=replace(one.rule, where=_NOWHERE), line="", width=0) for one in policy.invariants
    )
    rules = tuple(replace(rule, where=_NOWHERE) for rule in policy.rules)
    exceptions = tuple(replace(one, rule=replace(one.rule, where=_NOWHERE)) for one in policy.exceptions)
    return replace(policy, digest="", rules=rules, invariants=invariants, exceptions=exceptions)

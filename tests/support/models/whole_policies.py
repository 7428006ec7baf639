"""Policies for tests of their analysis, from a few lines of YAML."""

from __future__ import annotations

import textwrap

from policyfs.policy.analysis.sides import Compiled
from policyfs.policy.decide import compile_policy
from policyfs.policy.model import Policy
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.models.policies import APPS, HEAD


def policy_of(rules: str, *, apps: str = APPS, name: str = "test.yaml") -> Policy:
    """The policy with these rules."""
    text = HEAD + apps + "rules:\n" + textwrap.indent(textwrap.dedent(rules), "  ")
    return parse_policy([SourceText(name, text.encode())])


def compiled(rules: str, *, apps: str = APPS) -> Compiled:
    """The same, compiled for analysis."""
    return Compiled(compile_policy(policy_of(rules, apps=apps)))

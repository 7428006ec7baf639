"""`policyfs audit`: the policies that a trail keeps, found by digest, and their rules, found by id."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from policyfs.errors import PolicyfsError
from policyfs.journal.files.policy_texts import kept_digests, read_policy
from policyfs.journal.files.segments import Chain
from policyfs.trail.text.cause import RuleFact

if TYPE_CHECKING:
    from policyfs.policy.model import Policy, Rule


def copies_of(chains: Sequence[Chain]) -> dict[str, list[Path]]:
    """Return the trail directories with a copy of each policy's text, by the digest of the policy."""
    copies: dict[str, list[Path]] = {}
    for chain in chains:
        for digest in kept_digests(chain.directory):
            copies.setdefault(digest, []).append(chain.directory)
    return copies


class KeptPolicies:
    """The policies that a trail keeps as texts. A policy is read when it is first needed."""

    def __init__(self, chains: Sequence[Chain]) -> None:
        self._copies = copies_of(chains)
        self._texts: dict[str, list[tuple[str, bytes]]] = {}
        """Digest -> the files of the policy: pairs of name and text."""
        self._policies: dict[str, Policy | None] = {}
        self._rules: dict[tuple[str, str], Rule] = {}

    def policy(self, digest: str) -> Policy | None:
        """Return the policy with this digest; None if no chain keeps an unchanged copy of its text."""
        if digest not in self._policies:
            self._policies[digest] = policy = self._read(digest)
            if policy is not None:
                from policyfs.policy.exceptions import ALWAYS, in_force

                self._rules.update({(digest, rule.id): rule for rule in in_force(policy, ALWAYS).rules})
        return self._policies[digest]

    def _read(self, digest: str) -> Policy | None:
        copies = self._copies.get(digest, ())
        if not copies:
            return None
        from policyfs.policy.text.parse import SourceText, digest_of, parse_policy

        for directory in copies:
            try:
                files = [(Path(name).name, text) for name, text in read_policy(directory, digest)]
                if digest_of(text for _, text in files) == digest:
                    policy = parse_policy([SourceText(name, text) for name, text in files])
                    self._texts[digest] = files
                    return policy
            except (OSError, PolicyfsError):
                continue
        return None

    def rule(self, digest: str, rule_id: str) -> Rule | None:
        """Return the rule of this id in the policy with this digest; None if either is unknown."""
        return None if self.policy(digest) is None else self._rules.get((digest, rule_id))

    def fact(self, digest: str, rule_id: str) -> RuleFact | None:
        """Return a rule's effect (such as ``deny``) and place (file:line in the policy); None if unknown."""
        rule = self.rule(digest, rule_id)
        if rule is None:
            return None
        from policyfs.policy.explain.exemption import exemption  # only now: a search needs no policy

        return RuleFact(rule.effect.value, f"{rule.where.file}:{rule.where.line}", partial(exemption, rule))

    def source(self, digest: str, rule_id: str) -> list[str]:
        """Return the lines of a rule in its policy's text, or [] if the policy or the rule is unknown."""
        rule = self.rule(digest, rule_id)
        if rule is None:
            return []
        for name, text in self._texts[digest]:
            if name == rule.where.file:
                return _item(text.decode("utf-8", "backslashreplace").splitlines(), rule.where.line - 1)
        return []


_MOST_LINES = 20


def _item(lines: list[str], first: int) -> list[str]:
    """Return the lines of the YAML list item that contains the line *first* (counted from 0)."""
    begin = first
    while begin > 0 and not lines[begin].lstrip().startswith("-"):
        begin -= 1
    indent = len(lines[begin]) - len(lines[begin].lstrip())
    end = begin + 1
    while end < len(lines) and end - begin < _MOST_LINES:
        text = lines[end]
        if text.strip() and len(text) - len(text.lstrip()) <= indent:
            break
        end += 1
    return [line for line in lines[begin:end] if line.strip()]

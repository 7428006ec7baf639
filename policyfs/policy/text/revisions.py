"""Parser for the successive texts of one policy. From a new text it parses only the changed rules.

The text of a file is divided where an item of ``rules`` begins. If the text above ``rules`` is unchanged, a
rule with a known text has the same meaning as before. All other rules are parsed in a document of their own.
If it is not certain that the result is right, or if the text has an error, the whole text is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from policyfs.formats import REDACTABLE_KINDS
from policyfs.policy.collector import paused
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.model import Policy, Rule, Where
from policyfs.policy.text.parse import SourceText, digest_of, parsed

_RULES: Final = re.compile(r"^rules:[ ]*(?:#[^\n]*)?\n", re.MULTILINE)
_COMMENT: Final = re.compile("[ ]*(?:#.*)?")


class _Cut(NamedTuple):
    """The parts of a file's text: all text above the first rule, and each rule with the number of its first
    line.
    """

    head: str
    rules: list[tuple[int, str]]


class _Known(NamedTuple):
    """The record of a file that was parsed: the text above its rules, and each rule by its text."""

    head: str
    rules: dict[str, Rule]


class Revisions:
    """The parser of a mount's policy. It remembers the rules of the last text that it has parsed."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self.rules_parsed = 0
        """The number of rules that had to be parsed for the last text."""

    def parse(self, sources: Sequence[SourceText]) -> Policy:
        """Parse the files of a policy. The result and the errors are those of parse_policy."""
        with paused():
            cuts = {name: _cut(text) for name, text in sources}
            policy = self._revised(sources, cuts)
            if policy is None:
                policy, plain = parsed(sources, redactable=REDACTABLE_KINDS)
                self.rules_parsed = len(policy.rules)
            else:
                plain = True
            self._known = _learnt(cuts, policy) if plain and len(cuts) == len(sources) else {}
        return policy

    def _revised(self, sources: Sequence[SourceText], cuts: dict[str, _Cut | None]) -> Policy | None:
        """Return the policy, with only the new rules parsed. Return None if that is not possible.

        cuts: the parts of each file's text; None if the text could not be divided.
        """
        if not self._known or len(cuts) != len(sources) or cuts.keys() != self._known.keys():
            return None
        reduced: list[SourceText] = []
        new: dict[str, list[tuple[int, int]]] = {}
        for name, cut in sorted(cuts.items()):
            known = self._known[name]
            if cut is None or cut.head != known.head:
                return None
            line = cut.head.count("\n") + 1
            picked = [(number, text) for number, text in cut.rules if text not in known.rules]
            picked = picked or cut.rules[:1]  # a document without any rule would have another meaning
            new[name] = []
            for number, text in picked:
                new[name].append((line, number))
                line += text.count("\n")
            reduced.append(SourceText(name, (cut.head + "".join(text for _, text in picked)).encode()))
        try:
            part, plain = parsed(reduced, redactable=REDACTABLE_KINDS)
        except PolicyErrors:
            return None  # then the whole text is parsed, so that errors name their places in it
        self.rules_parsed = len(part.rules)
        return self._merged(part, cuts, new, digest_of(source.text for source in sources)) if plain else None

    def _merged(
        self, part: Policy, cuts: dict[str, _Cut | None], new: dict[str, list[tuple[int, int]]], digest: str
    ) -> Policy | None:
        """Return the policy that consists of remembered and new rules. part: a policy of the new rules.

        new: for each file, pairs of the line of a new rule in *part* and its line in the file.
        """
        parsed_at = {(rule.where.file, rule.where.line): rule for rule in part.rules}
        fresh = {
            (name, number): parsed_at.get((name, line))
            for name, lines in new.items()
            for line, number in lines
        }
        if len(parsed_at) != len(fresh) or len(part.rules) != len(fresh) or None in fresh.values():
            return None  # a rule does not begin or end where the text was divided
        rules: list[Rule] = []
        for name, cut in sorted(cuts.items()):
            known = self._known[name].rules
            for number, text in cut.rules if cut is not None else ():
                rule = fresh.get((name, number)) or known[text]
                if rule.where.line != number:
                    rule = replace(rule, where=Where(name, number, rule.where.column))
                rules.append(rule)
        if len({rule.id for rule in rules}) != len(rules):
            return None
        return replace(part, rules=tuple(rules), digest=digest)


def _learnt(cuts: dict[str, _Cut | None], policy: Policy) -> dict[str, _Known]:
    """Return the rules of each file of a valid policy, by their texts.

    Return an empty dictionary if the texts were divided at wrong places.
    """
    found: dict[str, _Known] = {}
    begins = [(rule.where.file, rule.where.line) for rule in policy.rules]
    sound = [(name, cut) for name, cut in sorted(cuts.items()) if cut is not None]
    if begins != [(name, line) for name, cut in sound for line, _ in cut.rules] or len(sound) != len(cuts):
        return {}
    rules = iter(policy.rules)
    for name, cut in sound:
        found[name] = _Known(cut.head, {text: next(rules) for _, text in cut.rules})
    return found


def _cut(text: bytes) -> _Cut | None:
    """Divide a file's text into its rules.

    Return None if the text is not UTF-8, contains a carriage return, or does not end in a line feed. Return
    None also if ``rules`` is not the file's last key, or if not every item begins a line with a dash.
    INVARIANT: each further line of a rule is indented more than the rule's dash, or blank, or a comment. So
    the next dash ends everything that began in the rule, except quotes and brackets. If a quote or bracket
    does not end in the rule, the rule cannot be parsed alone.
    """
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return None
    begin = _RULES.search(decoded)
    if begin is None or "\r" in decoded or not decoded.endswith("\n"):
        return None
    lines = decoded[begin.end() :].split("\n")[:-1]
    first = next((n for n, line in enumerate(lines) if not _COMMENT.fullmatch(line)), len(lines))
    if first == len(lines) or not lines[first].lstrip(" ").startswith("- "):
        return None
    indent = len(lines[first]) - len(lines[first].lstrip(" "))
    dash, deeper = " " * indent + "- ", " " * (indent + 1)
    head = decoded[: begin.end()] + "".join(f"{line}\n" for line in lines[:first])
    number = head.count("\n")
    rules: list[tuple[int, list[str]]] = []
    for line in lines[first:]:
        number += 1
        if line.startswith(dash):
            rules.append((number, []))
        elif not line.startswith(deeper) and not _COMMENT.fullmatch(line):
            return None
        rules[-1][1].append(line)
    return _Cut(head, [(number, "\n".join(own) + "\n") for number, own in rules])

"""A changed text gives the policy, or the errors, that it gives when it is parsed as a whole."""

from __future__ import annotations

import random
from pathlib import Path

from policyfs.policy.errors import PolicyErrors
from policyfs.policy.model import Policy
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.policy.text.revisions import Revisions
from tests.bench.big_policy import big_policy
from tests.support.machine.counts import count

CHECKOUT = Path(__file__).resolve().parents[2]
SHIPPED = sorted((CHECKOUT / "policies").glob("*.yaml"))
TEXTS = [big_policy(25).decode(), *(path.read_text("utf-8") for path in SHIPPED)]
PIECES = (
    "\n", "\n\n", " ", "  ", "- ", "  - ", "  - id: more\n    allow: [see]\n", ": ", " #", "# no\n", '"', '"',
    "'", "'", "[", "]", "{", "}", ",", "|\n", ">-\n", "|+\n", "&a ", "*a", "a", "x y", "\t", "---\n", "...\n",
    "\r\n", "0", "rules:\n", "\nrules:\n", "\napps:\n  z: {uid: 7}\n", "%", "é",
)  # fmt: skip


def changed(chance: random.Random, text: str) -> str:
    """The text with some changes: pieces put in, cut out, lines moved, whole rules moved or doubled."""
    for _ in range(chance.choice([0, 1, 1, 1, 2, 3])):
        at = chance.randint(0, len(text))
        lines = text.splitlines(keepends=True)
        match chance.randrange(8):
            case 0 | 1 | 2:
                text = text[:at] + chance.choice(PIECES) + text[at:]
            case 3:
                text = text[:at] + text[at + chance.randint(1, 8) :]
            case 4:
                line = lines.pop(chance.randrange(len(lines)))
                lines.insert(chance.randint(0, len(lines)), line)
                text = "".join(lines)
            case 5:
                number = chance.randrange(len(lines))
                lines[number] = " " * chance.randint(0, 7) + lines[number].lstrip()
                text = "".join(lines)
            case _:
                begins = [n for n, line in enumerate(lines) if line.startswith("  - id:")] + [len(lines)]
                if len(begins) > 2:
                    first = chance.randrange(len(begins) - 1)
                    rule = lines[begins[first] : begins[first + 1]]
                    if chance.random() < 0.7:
                        del lines[begins[first] : begins[first + 1]]
                    if chance.random() < 0.7:
                        to = begins[chance.randrange(first + 1)]
                        lines[to:to] = rule
                    text = "".join(lines)
    return text


def outcome(parse, text: str) -> Policy | str:
    try:
        return parse([SourceText("x.yaml", text.encode())])
    except PolicyErrors as errors:
        return str(errors)


def test_a_change_gives_what_the_whole_text_gives():
    chance = random.Random(29)
    in_part = 0
    for _ in range(count(40, 4000)):
        text = chance.choice(TEXTS)
        revisions = Revisions()
        outcome(revisions.parse, text)
        for _ in range(12):
            new = changed(chance, text)
            revisions.rules_parsed = -1
            expected = outcome(parse_policy, new)
            assert outcome(revisions.parse, new) == expected, new
            if isinstance(expected, Policy):
                text = new
                in_part += 0 <= revisions.rules_parsed < len(expected.rules)
    assert in_part > 100

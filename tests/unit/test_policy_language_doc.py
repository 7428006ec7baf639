"""docs/policy-language.md is true: every policy on it compiles, every answer is given."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from policyfs.domain import NO_FACTS, FileType, Op
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.text.document import ExceptionDoc, FileDoc, InvariantDoc, RuleDoc
from policyfs.policy.text.parse import SourceText
from policyfs.policy.text.values import RESERVED
from tests.support.models.asking import Row, check, engine_of, rows

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "policy-language.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\S[^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
HEADER = "apiVersion: policyfs/v1\nkind: Policy\n"


class Block(NamedTuple):
    """A fenced block, its kind, and the text from it to the next block."""

    line: int
    info: str
    text: str
    after: str


def blocks() -> list[Block]:
    found = list(BLOCK.finditer(PAGE))
    ends = [match.start() for match in found[1:]] + [len(PAGE)]
    return [
        Block(PAGE[: match.start()].count("\n") + 1, match[1], match[2], PAGE[match.end() : end])
        for match, end in zip(found, ends, strict=True)
    ]


APPS = re.search(r"^apps:\n(?:  .*\n)+", PAGE, re.MULTILINE)[0]


def completed(text: str) -> str:
    """An example with what the page says is left out of it."""
    apps = "" if re.search("^apps:", text, re.MULTILINE) else APPS
    return text if text.startswith("apiVersion") else HEADER + apps + text


def split() -> tuple[list[Block], list[tuple[Block, Block]]]:
    """The policies that compile, and those that do not with the words that refuse them."""
    sound, refused = [], []
    for block, following in pairwise([*blocks(), Block(0, "", "", "")]):
        if block.info == "yaml" and following.info == "text":
            refused.append((block, following))
        elif block.info == "yaml":
            sound.append(block)
    return sound, refused


def cases() -> list[tuple[str, int, Row]]:
    out = []
    for block in split()[0]:
        table = re.search(r"(?:^\|.*\n)+", block.after, re.MULTILINE)
        out.extend((completed(block.text), block.line, row) for row in rows(table[0] if table else ""))
    return out


@pytest.mark.parametrize(
    ("text", "row"), [pytest.param(t, r, id=f"line{n}-{r.app}-{r.request}-{r.file}") for t, n, r in cases()]
)
def test_answer(text, row):
    check(engine_of(text), row)


def test_every_example_has_answers():
    examples = split()[0]
    assert len(examples) >= 17
    assert len(cases()) >= 120
    for block in examples:
        assert re.match(r"\s*\| app \| request \| file \| answer \|", block.after), f"line {block.line}"


REFUSED = split()[1]


@pytest.mark.parametrize(("refused", "words"), REFUSED, ids=[f"line{refused.line}" for refused, _ in REFUSED])
def test_refused_example_says_just_that(refused, words):
    with pytest.raises(PolicyErrors) as caught:
        load_policy([SourceText("policy.yaml", completed(refused.text).encode())])
    assert words.text.strip() == "\n\n".join(map(str, caught.value.errors))


def test_the_invariants_of_examples_hold():
    for block in split()[0]:
        load_policy([SourceText("policy.yaml", completed(block.text).encode())])


def globs() -> list[tuple[str, str, bool]]:
    table = re.search(r"\| glob \| matches .*?\n\n", PAGE, re.DOTALL)[0]
    out = []
    for line in table.splitlines()[2:]:
        if line.startswith("|"):
            glob, yes, no = (re.findall(r"`([^`]+)`", cell) for cell in line.strip("|").split("|"))
            out.extend((glob[0], path, True) for path in yes)
            out.extend((glob[0], path, False) for path in no)
    return out


@pytest.mark.parametrize(("glob", "path", "matches"), globs())
def test_glob(glob, path, matches):
    engine = engine_of(completed(f"rules: [{{id: r, allow: [see], paths: '{glob}'}}]\n"))
    who = engine.principal(10010)
    answer = engine.decide(who, Op.SEE, engine.state_of(path.encode()), FileType.DIRECTORY, NO_FACTS)
    assert (answer.allowed and not answer.bare) == matches


def test_there_are_globs():
    assert len(globs()) >= 40


def test_every_key_is_on_the_page():
    for model in (FileDoc, RuleDoc, ExceptionDoc, InvariantDoc):
        for name, field in model.model_fields.items():
            assert f"`{field.alias or name}" in PAGE, name
    for word in RESERVED:
        assert f"`{word}`" in PAGE

"""The matrix as text: letters, colours, width."""

from __future__ import annotations

from policyfs.cli.policy.matrix_text import colour_of, sign, signs, text_of
from policyfs.domain import Op
from policyfs.policy.analysis.matrix import OPS, Answer, Cell, Matrix, Row

READS = {op: Cell(Answer.ALWAYS if op in (Op.SEE, Op.READ) else Answer.NEVER) for op in OPS}


def test_a_letter_for_each_answer() -> None:
    assert signs(READS) == "sr----"
    assert signs(None) == "      "
    assert sign(Op.READ, Cell(Answer.ALWAYS, ("location",))) == "R"
    assert sign(Op.WRITE, Cell(Answer.ALWAYS, (), True)) == "W"
    assert sign(Op.READ, Cell(Answer.OWN, ("location",))) == "o"
    assert len({colour_of(Cell(answer)) for answer in (Answer.ALWAYS, Answer.NEVER, Answer.PART)}) == 3


def test_colours_take_no_room() -> None:
    found = Matrix(("a", "b"), (Row(("/x/**",), {"a": READS}),))
    plain, painted = (text_of(found, None, colours=colours) for colours in (False, True))
    assert "\x1b[32ms\x1b[0m" in painted
    bare = painted
    for code in ("32", "33", "35", "2"):
        bare = bare.replace(f"\x1b[{code}m", "")
    assert [line.rstrip() for line in bare.replace("\x1b[0m", "").splitlines()] == plain.splitlines()


def test_a_glob_of_a_policy_does_no_harm() -> None:
    found = Matrix(("a",), (Row(("/\x1b[31m",), {"a": READS}),))
    assert "\x1b" not in text_of(found, None, colours=False)

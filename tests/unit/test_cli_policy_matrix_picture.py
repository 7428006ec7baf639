"""The matrix as a picture; test_cli_policy_matrix.py has a golden one."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from policyfs.cli.policy.matrix_picture import svg
from policyfs.domain import Op
from policyfs.policy.analysis.matrix import OPS, Answer, Cell, Matrix, Row


def test_every_box_says_what_it_shows_and_nothing_does_harm() -> None:
    cells = {op: Cell(Answer.NEVER) for op in OPS} | {Op.READ: Cell(Answer.ALWAYS, ("location",))}
    cells[Op.WRITE] = Cell(Answer.PART, (), True)
    picture = svg(Matrix(("<a>",), (Row(("/<b>/**",), {"<a>": cells}), Row((), {}))), "it's & that")
    root = ET.fromstring(picture)
    titles = [one.text for one in root.iter("{http://www.w3.org/2000/svg}title")]
    assert "<a> at /<b>/**: read always, without location" in titles
    assert "<a> at /<b>/**: write at some of the paths, checked" in titles
    assert len(titles) == 1 + len(OPS)

"""The tables of docs/found.md: every test that they name is there."""

from __future__ import annotations

import re

from tests.support.machine.documents import CHECKOUT
from tests.unit.test_docs_faults import names_in


def test_every_named_test_is_there() -> None:
    page = (CHECKOUT / "docs/found.md").read_text("utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page)
    assert len(named) > 20
    assert [pair for pair in named if pair[1] not in names_in(CHECKOUT / pair[0])] == []

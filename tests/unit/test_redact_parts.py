"""Tables of the documentation are made from those that the locators go by."""

from __future__ import annotations

import os
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import policyfs.redact
from policyfs.redact.parts import as_markdown, kinds_as_markdown, parts

DOCS = Path(__file__).parents[2] / "docs"
BEGIN = "<!-- made from the code: POLICYFS_UPDATE_GOLDEN=1 pytest tests/unit/test_redact_parts.py -->\n"
TABLES = {"redaction.md": kinds_as_markdown, "redaction-parts.md": as_markdown}


@pytest.mark.parametrize("name", TABLES)
def test_the_page_is_what_the_code_says(name: str) -> None:
    page, table = DOCS / name, TABLES[name]()
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    shown, end, after = rest.partition("\n\n") if name == "redaction.md" else (rest, "", "")
    shown += end[:1]
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        page.write_text(before + BEGIN + table + end[1:] + after, "utf-8")
        pytest.fail("the page was written: read it, then run without updating")
    assert shown == table


def test_no_table_is_forgotten() -> None:
    modules = [
        import_module(m.name) for m in pkgutil.walk_packages(policyfs.redact.__path__, "policyfs.redact.")
    ]
    found = {part for module in modules for part in getattr(module, "PARTS", ())}
    assert found == set(parts())


def test_each_part_is_said_once() -> None:
    said = [(part.kinds, part.where, part.holds) for part in parts()]
    assert len(said) == len(set(said))

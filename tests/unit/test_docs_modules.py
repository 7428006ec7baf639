"""docs/modules.md and docs/decisions/README.md are what the code and the decisions say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).parents[2]
DECISIONS = CHECKOUT / "docs/decisions"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("modules_page", CHECKOUT / "packaging/docs/modules.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_code_says(generator: ModuleType) -> None:
    assert generator.page() == generator.PAGE.read_text(encoding="utf-8"), "make docs"


def test_rooms_import_each_other_in_one_direction(generator: ModuleType) -> None:
    """Annotations included; the import contract says the same of what runs."""
    known = generator.modules()
    for package in ("", "fs", "redact", "daemon"):
        below: dict[str, set[str]] = {}
        for above, under in generator.arrows(known, package):
            below.setdefault(above, set()).add(under)
        left = set(below)
        while left:
            ends = {room for room in left if not below[room] & left}
            assert ends, f"a circle in {package or 'policyfs'}: {sorted(left)}"
            left -= ends


def test_a_picture_leaves_out_what_follows(generator: ModuleType) -> None:
    said = generator.picture([("a", "b"), ("a", "c"), ("b", "c")])
    assert re.findall(r"(\w) --> (\w)", said) == [("a", "b"), ("b", "c")]


def test_every_decision_has_a_number_a_date_a_status_and_a_row(generator: ModuleType) -> None:
    index = generator.DECISIONS.read_text(encoding="utf-8")
    assert generator.decisions(index) == index, "make docs"
    files = sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")
    bare = {int(one) for one in re.findall(r"\b(\d+): ", index.partition("Without a page")[2])}
    numbers = {int(path.name[:4]) for path in files}
    assert not numbers & bare
    assert numbers | bare == set(range(1, len(files) + len(bare) + 1))
    for path in files:
        text = path.read_text(encoding="utf-8")
        title, _, status, *_ = text.split("\n")
        assert title.startswith(f"# {path.name[:4]}: ")
        ended = r"(?:given up for|merged into) \d{4}"
        assert re.match(rf"Status: (in force|{ended}), since (\d{{4}}-\d\d-\d\d)\.", status), path
        assert f"[{path.name[:4]}]({path.name}) | {title[8:]}" in index

"""Tests of the budgets of the project's size."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from policyfs.cli.main import build_parser
from tests.budget.__main__ import held, shown
from tests.budget.measure import circles, code_lines, commands, options, words

TEXT = """\
# words
words = 1010
"options of mount" = 3  # --idmap, for containers
"""


def test_what_has_shrunk_lowers_its_budget_and_keeps_its_reason() -> None:
    text, wrong = held(TEXT, {"words": 801, "options of mount": 2})
    assert (text, wrong) == (TEXT.replace("1010", "900").replace("= 3", "= 2"), [])


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({"words": 1011, "options of mount": 3}, "words: 1,011 where 1,010 are budgeted"),
        ({"words": 1010, "options of mount": 3, "commands": 4}, "commands: 4, and no budget"),
        ({"words": 1010}, "options of mount is no longer there: remove its line"),
    ],
)
def test_what_is_over_or_without_a_budget_is_named(found: dict[str, int], wrong: str) -> None:
    assert held(TEXT, found) == (TEXT, [wrong])


def test_all_figures_are_shown_and_what_the_tests_took(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.seconds-check").write_text("87\n")
    said = shown({"words": 1011}, tmp_path).splitlines()
    assert [line.split(None, 1) for line in said] == [
        ["1,011", "words"], ["87", "seconds of make check"], ["-", "seconds of make test"],
    ]  # fmt: skip


def test_lines_of_code_are_those_with_a_token() -> None:
    assert code_lines('"""One\ntwo."""\n\n# three\nfour = [\n    5,  # five\n    # six\n]\n') == 5


def test_generated_tables_are_no_words_of_a_person() -> None:
    table = "<!-- made by `make docs` from x -->\n\n| a | b |\n|---|---|\n| c | d |\n"
    assert words(f"# Title\n\n{table}\none two\n\n| three | four |\n") == (9, len(table.split()))
    assert words("<!-- figures: begin -->\none\n<!-- figures: end -->\ntwo\n") == (1, 9)
    assert words("# Rooms\n\nMade from the code by `make docs`: all\n\n## More\n") == (0, 12)


def test_commands_and_options_are_counted_without_help() -> None:
    parser = argparse.ArgumentParser()
    below = parser.add_subparsers()
    below.add_parser("mount").add_argument("--app")
    below.add_parser("policy").add_subparsers().add_parser("check")
    assert [(name, options(made)) for name, made in commands(parser)] == [("mount", 1), ("policy check", 0)]
    assert "audit search" in dict(commands(build_parser()))


def test_a_circle_is_found_through_imports_within_functions(tmp_path: Path) -> None:
    package = tmp_path / "toy"
    package.mkdir()
    (package / "a.py").write_text("from toy.b import x\n")
    (package / "b.py").write_text("def f():\n    import toy.a\n")
    (package / "c.py").write_text("import toy.a\n")
    assert circles(package) == 2

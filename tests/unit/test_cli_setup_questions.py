"""Questions; test_cli_setup_command.py has a whole conversation."""

from __future__ import annotations

import io

import pytest

from policyfs.cli.setup.questions import Questions
from policyfs.errors import UsageError


def test_answers() -> None:
    asked = io.StringIO()
    questions = Questions(asked, io.StringIO(" b \n\n"))
    assert [questions.ask("One", "a"), questions.ask("Two\x1b", "c")] == ["b", "c"]
    assert asked.getvalue() == "One (a): Two\\x1b (c): "
    with pytest.raises(UsageError, match="the input ended before the last answer"):
        questions.ask("Three")

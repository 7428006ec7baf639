"""Questions; test_cli_policy_init_command.py has a whole conversation."""

from __future__ import annotations

import io

import pytest

from policyfs.cli.policy.init.questions import Questions
from policyfs.cli.policy.init.survey import Directory
from policyfs.cli.policy.init.wishes import Level
from policyfs.errors import UsageError


def ask(*answers: str):
    asked = io.StringIO()
    return Questions(asked, io.StringIO("".join(f"{one}\n" for one in answers))).wishes(
        [Directory("DCIM"), Directory("Docs")]
    ), asked.getvalue()


def test_empty_answers_are_the_safest() -> None:
    [wish], _ = ask("a=1", "", "", "", "")
    assert wish.shares == {"DCIM": Level.READ, "Docs": Level.READ}
    assert not wish.places


def test_an_app_without_a_user() -> None:
    [wish], said = ask("no-such-user", "nor-this", "", "everything", "")
    assert wish.uid is None
    assert wish.whole
    assert "no user 'nor-this'" in said


def test_a_name_that_is_there_is_asked_again() -> None:
    wishes, said = ask("a=1", "edit", "DCIM", "a=2", "b=2", "everything", "")
    assert [wish.name for wish in wishes] == ["a", "b"]
    assert "there is already an app a" in said


def test_the_end_of_the_answers() -> None:
    with pytest.raises(UsageError, match="the input ended before the last answer"):
        ask("a=1")

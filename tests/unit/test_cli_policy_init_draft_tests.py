"""The text of the tests of a first policy; test_cli_policy_init_command.py runs whole ones."""

from __future__ import annotations

import re

import pytest

from policyfs.cli.policy.init.draft import Draft
from policyfs.cli.policy.init.draft_tests import cases_text
from policyfs.cli.policy.init.survey import Directory
from policyfs.cli.policy.init.wishes import Level, Wish


@pytest.mark.parametrize(
    "names", [["a b", "a-b", "Фото", "дом!"], ["my fotos", "my-fotos-0", "my-fotos", "my-fotos-0-1"]]
)
def test_each_test_has_a_name_of_its_own(names: list[str]) -> None:
    wish = Wish("app", 1, shares=dict.fromkeys(names, Level.ADD))
    text = cases_text(Draft("home", "home.yaml", "/srv", [wish], [Directory(name) for name in names]))
    found = re.findall(r"- id: (\S+)", text)
    assert len(set(found)) == len(found) == 4 * 4 + 2
    assert '"/not-shared/a-file"' in text


def test_a_shared_directory_is_not_elsewhere() -> None:
    wish = Wish("app", 1, shares={"not-shared": Level.READ})
    text = cases_text(Draft("home", "home.yaml", "/srv", [wish], [Directory("not-shared")]))
    hidden = text[text.index("id: app-sees-nothing-else") :]
    assert 'path: "/not-shared-here/a-file"' in hidden

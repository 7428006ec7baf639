"""The text of a first policy; test_cli_policy_init_command.py has whole ones."""

from __future__ import annotations

from collections import Counter

from policyfs.cli.policy.init.draft import Draft, glob_of, policy_text
from policyfs.cli.policy.init.draft_tests import cases_text
from policyfs.cli.policy.init.survey import Directory
from policyfs.cli.policy.init.wishes import Level, Wish
from policyfs.domain import Facts, FileType, Op
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.text.parse import SourceText


def draft(*wishes: Wish) -> Draft:
    there = [
        Directory("DCIM", kinds=Counter({"image/png": 1}), examples={"image/png": "/DCIM/a.png"}),
        Directory("Docs", kinds=Counter({"text/plain": 1}), examples={"text/plain": "/Docs/a.txt"}),
    ]
    return Draft("home", "home.yaml", "/srv", wishes, there)


def test_names_are_globs_that_match_them_alone() -> None:
    assert glob_of("a*b{c}?[d]\\") == "/a\\*b\\{c\\}\\?\\[d\\]\\\\/***"


def test_rights_are_on_the_directory_itself_too() -> None:
    """rsync -a sets the times of the directory that it copies to; restic reads the attributes of the root."""
    text = policy_text(draft(Wish("a", 1, shares={"DCIM": Level.EDIT}), Wish("b", 2, whole=True)))
    engine = load_policy([SourceText("home.yaml", text.encode())])
    for uid, path, op in ((1, b"/DCIM", Op.ATTR), (1, b"/DCIM/a", Op.ATTR), (2, b"/", Op.READ)):
        state = engine.state_of(path)
        one = engine.decide(engine.principal(uid), op, state, FileType.DIRECTORY, Facts(None, "none"))
        assert one.allowed


def test_kinds_that_cannot_be_cleaned_are_named() -> None:
    assert "text/plain, such as /Docs/a.txt" in policy_text(draft(Wish("a", 1, shares={"Docs": Level.READ})))
    assert "text/plain" not in policy_text(draft(Wish("a", 1, shares={"DCIM": Level.READ})))


def test_the_name_of_an_app_stays_text() -> None:
    for name in ("1000", "null", "true"):
        made = draft(Wish(name, 1, shares={"DCIM": Level.EDIT}))
        engine = load_policy([SourceText("home.yaml", policy_text(made).encode())])
        assert [app.name for app in engine.policy.apps] == [name]
        assert f'app: "{name}"\n' in cases_text(made)


def test_nobody_deletes_where_all_only_read() -> None:
    assert "nobody-deletes" in policy_text(draft(Wish("a", 1, shares={"DCIM": Level.READ})))
    text = policy_text(draft(Wish("a", 1, shares={"DCIM": Level.EDIT})))
    assert "only: [delete], who: {app: [a]}" in text
    assert "{id: no-places, require" in text  # as a comment, for apps to come

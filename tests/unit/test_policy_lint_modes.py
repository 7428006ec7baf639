"""Who is shown modes by the policy: by choice of policy or mount, and what looks like a backup never."""

from __future__ import annotations

import pytest

from policyfs.domain import FileType, Op
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.lint.modes import apps_with_modes, looks_like_backup
from policyfs.policy.model import Modes
from tests.support.models.policies import FAMILY, Asked, engine_of

SHARES = """\
apps:
  share: {uid: 10010, modes: policy}
  plain: {uid: 10011, modes: store}
  other: {uid: 10012}
  backup: {uid: 10013}
  archive: {uid: 10014, modes: policy}
rules:
  - {id: files, allow: [all], who: {app: [share, plain, other]}, paths: "/Files/***"}
  - {id: backups, allow: [see, read], who: {app: [backup, archive]}}
"""


def test_an_app_of_the_policy_says_which_modes_it_is_shown() -> None:
    found = {app.name: app.modes for app in engine_of(SHARES).policy.apps}
    assert found["share"] is Modes.POLICY
    assert found["plain"] is Modes.STORE
    assert found["other"] is None


def test_nobody_is_shown_modes_by_the_policy_unless_somebody_says_so() -> None:
    assert apps_with_modes(engine_of(FAMILY), by_mount=False) == frozenset()


def test_a_mount_shows_them_to_all_but_backups_and_those_of_which_the_policy_says_otherwise() -> None:
    engine = engine_of(SHARES)
    assert apps_with_modes(engine, by_mount=False) == {"share", "archive"}
    assert apps_with_modes(engine, by_mount=True) == {None, "share", "other", "archive"}


def test_a_backup_reads_everything_as_it_is_and_writes_nothing() -> None:
    engine = engine_of(FAMILY)
    assert {app.name for app in engine.policy.apps if looks_like_backup(engine, app)} == {"backup"}


def test_another_word_is_an_error_that_names_both() -> None:
    with pytest.raises(PolicyErrors, match="modes"):
        engine_of(SHARES.replace("modes: store", "modes: native"))


@pytest.mark.parametrize(
    ("rules", "possible"),
    [
        ('{id: a, allow: [see, read], paths: "/**"}', Op.READ),
        ('{id: a, allow: [see, read, write], paths: "/**", when: {owner: self}}', Op.READ | Op.WRITE),
        ('{id: a, allow: [see], paths: "/**"}', Op(0)),
        ('{id: a, allow: [read], paths: "/**"}', Op(0)),
        ('{id: a, allow: [see, attr], paths: "/**"}', Op.ATTR),
    ],
    ids=["path", "owner", "see", "unseen", "attributes"],
)
def test_what_some_facts_would_allow_is_possible(rules: str, possible: Op) -> None:
    asked = Asked(f"- {rules}")
    state = asked.engine.state_of(b"/a")
    assert asked.engine.possible(asked.who("camera"), state, FileType.REGULAR) == possible


def test_what_one_kind_allows_and_another_denies_is_possible() -> None:
    asked = Asked("""\
        - {id: a, allow: [see, read, write], paths: "/**"}
        - {id: b, deny: [write], paths: "/**", when: {type: image/*}}
        - {id: c, deny: [read], paths: "/**", unless: {type: image/png}}
        """)
    state = asked.engine.state_of(b"/a")
    assert asked.engine.possible(asked.who("camera"), state, FileType.REGULAR) == Op.READ | Op.WRITE

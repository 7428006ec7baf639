"""Findings that policy check prints, too."""

from __future__ import annotations

from policyfs.policy.lint.hints import hints, line
from tests.support.models.policies import APPS, engine_of


def lines(rules: str, apps: str = APPS) -> list[str]:
    return [line(finding) for finding in hints(engine_of(rules, apps=apps))]


def test_nothing_to_say():
    assert lines("- {id: look, allow: [see, read], who: {app: any}, paths: '/DCIM/**'}") == []


def test_files_beside_others():
    (said,) = lines("- {id: look, allow: [see], who: {app: maps}, paths: '/DCIM/**', when: {owner: self}}")
    assert "warning: rule look: in /DCIM the app maps sees only some files; " in said
    assert said.endswith("give the app its own mount (--app maps) [hidden-beside-visible]")


def test_a_backup_that_is_shown_other_modes():
    apps = "apps:\n  backup: {uid: 5, modes: policy}\n"
    (said,) = lines("- {id: all, allow: [see, read], who: {app: backup}, paths: '/**'}", apps)
    assert said.startswith("test.yaml:5: warning: the app backup has modes: policy, ")
    assert said.endswith("[backup-of-modes]")


def test_what_is_read_back_cleaned():
    rules = """
        - {id: all, allow: [all], who: {app: camera}, paths: '/**'}
        - {id: clean, require: {clean: location}, paths: '/**'}
        """
    (said,) = lines(rules)
    assert "warning: rule clean: the app camera reads its own files cleaned (at /x)" in said

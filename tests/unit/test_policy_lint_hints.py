"""Findings that policy check prints, too."""

from __future__ import annotations

import pytest

from policyfs.policy.lint.hints import hints, line
from tests.support.models.policies import APPS, engine_of


def lines(rules: str, apps: str = APPS) -> list[str]:
    return [line(finding) for finding in hints(engine_of(rules, apps=apps))]


def test_a_backup_that_is_shown_other_modes():
    apps = "apps:\n  backup: {uid: 5, modes: policy}\n"
    (said,) = lines("- {id: all, allow: [see, read], who: {app: backup}, paths: '/**'}", apps)
    assert said.startswith("test.yaml:5: warning: the app backup has modes: policy, ")
    assert said.endswith("[backup-of-modes]")


ALL = "- {id: all, allow: [see], paths: '/a/***'}\n"


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ("- {id: all, allow: [see], paths: '/a/**'}", ""),
        (
            "- {id: some, allow: [see], paths: '/a/*.jpg', who: {app: camera}}",
            "rule some: in /a the app camera",
        ),
        (
            "- {id: own, allow: [see], who: {app: camera}, when: {owner: self}}",
            "rule own: in / the app camera",
        ),
        (
            "- {id: kind, allow: [see], who: {app: maps}, when: {type: image/*}}",
            "rule kind: in / the app maps",
        ),
        ("- {id: read, allow: [read], paths: '/a/*.jpg'}", ""),
        (
            ALL + "- {id: no, deny: [see], paths: '/a/*.key', who: {app: camera}}",
            "rule no: in /a the app camera",
        ),
        (ALL + "- {id: no, deny: [see], paths: '/a/*.key', mode: monitor}", ""),
    ],
)
def test_directories_in_which_an_app_sees_only_some_files(rules, found):
    said = lines(rules)
    assert len(said) == bool(found)
    for one in said:
        assert f"warning: {found} sees only some files; " in one
        assert one.endswith(" [hidden-beside-visible]")


def test_globs_with_the_name_of_an_app_do_not_end_the_search_of_other_globs() -> None:
    """A glob with {app} is tried for three apps only, the other globs of the rule for all apps."""
    apps = "".join(f"  app{number}: {{uid: {10_100 + number}}}\n" for number in range(6))
    rules = """\
        - {id: all, allow: [see], paths: '/a/***', who: {app: [app0, app1, app2, app3]}}
        - {id: some, allow: [see], paths: ['/own/{app}/***', '/a/*.jpg']}
        """
    (said,) = lines(rules, "apps:\n" + apps)
    assert "rule some: in /a the app app4" in said


BOTH = "- {id: all, allow: [all], who: {app: [maps, camera]}}"
CLEAN = "- {id: clean, require: {clean: [location]}, paths: '/DCIM/**'%s}\n"


@pytest.mark.parametrize(
    ("rules", "apps"),
    [
        (CLEAN % "" + "- {id: all, allow: [all], who: {app: camera}}", ["camera"]),
        (CLEAN % "" + BOTH, ["camera", "maps"]),
        (CLEAN % "" + "- {id: in, allow: [see, write, create]}", []),
        (CLEAN % "" + "- {id: out, allow: [see, read]}", []),
        (CLEAN % "" + "- {id: all, allow: [all], paths: '/Music/**'}", []),
        (CLEAN % "" + BOTH + "\n- {id: no, deny: [see], paths: /DCIM}", []),
        (CLEAN % ", who: {app: maps}" + BOTH, ["maps"]),
        ("- {id: kind, require: {content: [image/*]}}\n- {id: all, allow: [all]}", []),
    ],
)
def test_apps_that_read_back_what_was_cleaned(rules, apps):
    said = [
        one
        for one in lines(rules)
        if one.endswith("remove the app's right to read there [cleaned-for-reader]")
    ]
    assert len(said) == len(apps)
    for app, one in zip(apps, said, strict=True):
        assert f"warning: rule clean: the app {app} reads its own files cleaned (at /DCIM/x)" in one


def test_a_kind_in_raw_types_that_is_redacted_all_the_same() -> None:
    (said,) = lines("- {id: places, require: {redact: location}, raw_types: [text/csv, image/svg+xml]}")
    assert said == (
        "test.yaml:9: warning: rule places: raw_types has no effect on image/svg+xml: policyfs can redact"
        " such files, they are redacted; remove the entry; if an app may read them unchanged, exclude the app"
        " from the rule with who [raw-type-redacted]"
    )
    (said,) = lines("- {id: share, require: {no: location}, raw_types: application/x-subrip}")
    assert "they are examined; remove the entry; if an app may write them unchanged" in said

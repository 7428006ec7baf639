"""Findings that policy check prints, too."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from policyfs.cli.main import main
from policyfs.formats import OTHER_NAMES
from policyfs.policy.lint import hints as module
from policyfs.policy.lint.hints import hints, known_kinds, line, unknown_kinds
from policyfs.policy.text.values import _MISNAMED
from tests.support.models.policies import APPS, engine_of
from tests.support.models.whole_policies import policy_of


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
    (said,) = lines("- {id: places, require: {redact: location}, raw_types: [text/csv, image/gif]}")
    assert said == (
        "test.yaml:9: warning: rule places: raw_types has no effect on image/gif: policyfs can redact"
        " such files, they are redacted; remove the entry; if an app may read them unchanged, exclude the app"
        " from the rule with who [raw-type-redacted]"
    )
    (said,) = lines("- {id: share, require: {no: location}, raw_types: application/x-subrip}")
    assert "they are examined; remove the entry; if an app may write them unchanged" in said


ROOT = Path(__file__).parents[2]
TABLE = Path(module.__file__).with_name("libmagic_kinds.txt")
TYPES = "application|audio|chemical|font|image|message|model|multipart|rinex|text|video|x-epoc"
WRONG = ("image/x-nosuchkind", "application/x-sqlite3", "text/plian", "picture/*")


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize(
    "rule",
    [
        "require: {{redact: location}}, raw_types: [text/csv, {}]",
        "require: {{no: location}}, raw_types: [{}]",
        "require: {{clean: location}}, raw_types: [{}]",
        "require: {{content: [image/*, {}]}}",
        "deny: [read], when: {{type: {}}}",
        "deny: [read], unless: [{{owner: self}}, {{type: [{}]}}]",
    ],
)
def test_a_kind_of_no_file_is_found_in_each_key(rule: str, kind: str) -> None:
    if kind.endswith("*") and "raw_types" in rule:
        kind = "picture/png"
    for of_file in (False, True):
        text = rule.format("application/x-tar" if of_file else kind)
        found = list(unknown_kinds(policy_of(f"- {{id: r, {text}, paths: /a}}")))
        assert [one.id for one in found] == ["unknown-kind"] * (not of_file)
        assert all(kind in one.message for one in found)


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        *(pair for pair in OTHER_NAMES.items() if pair[0] not in _MISNAMED and pair[0].count("/") == 1),
        ("text/plian", "text/plain"),
        ("images/*", "image/*"),
        ("aplication/zip", "application/zip"),
        ("video/x-matrsoka", "video/x-matroska"),
    ],
)
def test_the_kind_that_was_meant(kind: str, meant: str) -> None:
    found = list(unknown_kinds(policy_of(f"- {{id: r, deny: [read], paths: /a, when: {{type: {kind}}}}}")))
    assert f"did you mean {meant}?" in found[0].todo


def test_check_warns_and_lint_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "apiVersion: policyfs/v1\nkind: Policy\napps: {a: {uid: 7}}\nsets: {some: [text/plian]}\nrules:\n"
    text += "  - {id: look, allow: [see], who: {app: any}, paths: '/**'}\n"
    text += "  - {id: hide, deny: [read], paths: '/a/**', when: {type: '@some'}}\n"
    text += "invariants:\n  - {id: one, never: [write], who: {app: any}, when: {type: image/x-nosuchkind}}\n"
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    assert main(["policy", "check", str(path)]) == 0, "another libmagic may know the kind"
    told = capsys.readouterr().err
    assert told.count("unknown-kind") == 2
    assert "did you mean text/plain?" in told
    assert main(["policy", "lint", str(path)]) == 1
    assert "unknown-kind" in capsys.readouterr().out


def test_the_table_has_the_kinds_of_libmagic_s_database() -> None:
    said = subprocess.run(["file", "--version"], capture_output=True, text=True, check=True).stdout
    version, of = said.splitlines()[:2]
    databases = of.removeprefix("magic file from ").split(":")
    data = b"".join(path.read_bytes() for name in databases if (path := Path(f"{name}.mgc")).is_file())
    name = rb"\0(?=((?:%s)/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]*)\0)" % TYPES.encode()
    there = {match[1].decode().lower() for match in re.finditer(name, data)}
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        TABLE.write_text("".join(f"{kind}\n" for kind in sorted({*TABLE.read_text().split(), *there})))
        pytest.fail("the table was written: read it, then run without updating")
    assert {"image/png", "text/x-script.python"} <= there
    if version == "file-5.44":
        assert there <= {*TABLE.read_text().split()}


PAGES = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", *ROOT.glob("policies/*.yaml")]
OTHERS = {"image/jpg"}
"""Kinds that a page shows as mistakes."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_and_policies_name_only_kinds_of_files(page: Path) -> None:
    kind = re.compile(rf"(?<![\w/.-])(?:{TYPES}|inode)/(?:\*|[a-z0-9][a-z0-9.+-]*[a-z0-9])(?![\w/])")
    named = {match[0] for match in kind.finditer(page.read_text("utf-8"))}
    types = {one.partition("/")[0] for one in known_kinds()}
    assert {one for one in named if one.removesuffix("/*") not in types} - known_kinds() - OTHERS == set()

"""Kinds that no file has: in each key of a policy, in the documentation and in the shipped policies."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from policyfs.cli.main import main
from policyfs.formats import OTHER_NAMES
from policyfs.policy.lint import kinds
from policyfs.policy.lint.kinds import known_kinds, unknown_kinds
from policyfs.policy.text.values import _MISNAMED
from tests.support.models.whole_policies import policy_of

ROOT = Path(__file__).parents[2]
TABLE = Path(kinds.__file__).with_name("libmagic_kinds.txt")
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

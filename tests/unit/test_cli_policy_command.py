"""policy check and policy explain, as commands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policyfs.policy.explain.explain import REQUESTS
from tests.support.mount.daemons import Said, policyfs

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: small}
apps:
  camera: {uid: 10010}
  gallery: {uid: [10011, "10100-10109"]}
  cloud: {description: lives in a container}
rules:
  - id: look
    allow: [see, read]
    who: {app: any}
    paths: ["/DCIM/**"]
  - id: own
    allow: [all]
    who: {app: camera}
    paths: ["/DCIM/**"]
    when: {owner: self}
  - id: no-place
    require: {redact: [location]}
    unless: {owner: self}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(POLICY)
    return path


def explain(policy: Path, *arguments: str) -> dict:
    said = policyfs("policy", "explain", policy, "--json", *arguments)
    assert said.returncode == 0, said
    return json.loads(said.stdout)


def refused(*arguments: str | Path) -> Said:
    said = policyfs(*arguments)
    assert said.stdout == ""
    return said


def test_without_a_command_all_of_them_are_shown() -> None:
    said = refused()
    assert said.returncode == 2
    for command in ("mount", "umount", "status", "reload", "policy", "audit", "doctor"):
        assert f"    {command} " in said.stderr


# ---------------------------------------------------------------- check


def test_a_sound_policy_is_summed_up(policy: Path) -> None:
    said = policyfs("policy", "check", policy)
    assert said.returncode == 0
    assert f"{policy}: fine; 3 apps, 3 rules (2 allow, 0 deny, 1 require), digest " in said.stdout


MIXED = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: mixed}
apps: {app: {uid: 10001}}
rules:
  - {id: see, allow: [see, read], who: {app: app}, paths: "/DCIM/**"%s}
%s"""


@pytest.mark.parametrize(
    ("when", "deny", "rule"),
    [
        ("", "", None),
        ("", '  - {id: none, deny: [all], who: {app: app}, paths: "/Private/***"}\n', None),
        ("", '  - {id: raws, deny: [see], who: {app: app}, paths: "/DCIM/*.{dng,nef}"}\n', "raws"),
        (", when: {owner: self}", "", "see"),
        (", when: {type: image/jpeg}", "", "see"),
    ],
    ids=["all", "a whole directory", "by name", "by owner", "by kind"],
)
def test_files_hidden_beside_visible_ones_are_a_warning(tmp_path: Path, when: str, deny: str, rule) -> None:
    """What it says is shown by tests/attack/test_seen_beside.py."""
    policy = tmp_path / "p.yaml"
    policy.write_text(MIXED % (when, deny))
    said = policyfs("policy", "check", policy)
    assert said.returncode == 0, said
    if rule is None:
        assert said.stderr == ""
    else:
        line = 6 if rule == "see" else 7
        assert said.stderr.startswith(f"{policy}:{line}: warning: rule {rule}: in /DCIM the app app ")
        assert "shared mount" in said.stderr


def test_check_obeys_the_comments_that_silence_findings(tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    comment = "  # lint: ignore hidden-beside-visible because the names are no secret\n"
    text = (MIXED % (", when: {owner: self}", "")).replace("  - {id: see", f"{comment}  - {{id: see")
    policy.write_text(text)
    said = policyfs("policy", "check", policy)
    assert (said.returncode, said.stderr) == (0, "")
    policy.write_text(text.replace("hidden-beside-visible", "about-all"))
    said = policyfs("policy", "check", policy)
    assert said.stderr.count("warning") == 1, "only lint reports comments that silence nothing"
    assert "[hidden-beside-visible]" in said.stderr


def test_an_app_that_reads_what_it_wrote_cleaned_is_a_warning(tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    text = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: cleaned}
apps: {sync: {uid: 10001}, camera: {uid: 10002}}
rules:
  - {id: sync, allow: [see, read, write, create], who: {app: sync}, paths: "/Share/**"}
  - {id: camera, allow: [see, write, create], who: {app: camera}, paths: "/Share/**"}
  - {id: clean, require: {clean: [location]}, paths: "/Share/**"%s}
"""
    policy.write_text(text % "")
    said = policyfs("policy", "check", policy)
    assert said.returncode == 0, said
    assert said.stderr.startswith(
        f"{policy}:8: warning: rule clean: the app sync reads its own files cleaned (at /Share/x)"
    )
    assert len(said.stderr.splitlines()) == 1
    policy.write_text(text % ", who: {app: camera}")
    assert policyfs("policy", "check", policy).stderr == ""


def test_a_directory_is_one_policy(tmp_path: Path) -> None:
    head, rules = POLICY.split("rules:\n")
    (tmp_path / "apps.yaml").write_text(head)
    (tmp_path / "rules.yaml").write_text("apiVersion: policyfs/v1\nkind: Policy\nrules:\n" + rules)
    (tmp_path / "notes.txt").write_text("no policy")
    said = policyfs("policy", "check", tmp_path)
    assert said.returncode == 0, said
    assert "3 apps, 3 rules" in said.stdout


def test_every_error_of_every_policy_is_said_and_the_exit_code_is_3(policy: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(POLICY.replace("app: any", "app: galery").replace("id: own", "id: look"))
    said = policyfs("policy", "check", policy, bad)
    assert said.returncode == 3
    assert f"{policy}: fine" in said.stdout
    assert "galery" in said.stdout
    assert f"{bad}:13:" in said.stdout
    assert "help:" in said.stdout


@pytest.mark.parametrize("name", ["absent.yaml", "empty"])
def test_a_policy_that_is_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    said = policyfs("policy", "check", tmp_path / name)
    assert said.returncode == 3, said
    assert f"cannot read the policy {tmp_path / name}: " in said.stderr


def test_a_policy_that_is_not_there_hides_no_other(policy: Path, tmp_path: Path) -> None:
    said = policyfs("policy", "check", tmp_path / "absent.yaml", policy)
    assert said.returncode == 3
    assert "absent.yaml" in said.stderr
    assert f"{policy}: fine" in said.stdout


# ---------------------------------------------------------------- explain


def test_the_answer_names_rules_view_and_io(policy: Path) -> None:
    got = explain(policy, "--app", "gallery", "--kind", "image/jpeg", "--owner", "none", "/DCIM/a.jpg")
    assert got["allowed"]
    assert got["redact"] == ["location"]
    assert got["view"] == "redacted(location)"
    assert {row["id"]: row["verdict"] for row in got["rules"]} == {
        "look": "matches",
        "own": "no",
        "no-place": "matches",
    }
    assert got["audit"] == "required"


def test_people_get_text(policy: Path) -> None:
    said = policyfs("policy", "explain", policy, "--app", "gallery", "--op", "write", "/DCIM/a.jpg")
    assert said.returncode == 0
    assert said.stdout.startswith("gallery may not write /DCIM/a.jpg (EACCES): no rule allows write")
    assert "\nwrite /DCIM/a.jpg by gallery: denied (EACCES)\n" in said.stdout


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["/DCIM/a.jpg"], "only if policyfs can clean this kind of file"),
        (["/DCIM/a.jpg", "--kind", "image/jpeg"], None),
        (["/DCIM", "--op", "see"], "ask again with --directory"),
        (["/DCIM", "--op", "see", "--directory"], None),
        (["/Music", "--op", "see"], None),
    ],
)
def test_what_the_question_leaves_open_is_said(policy: Path, arguments: list[str], hint: str | None) -> None:
    said = policyfs("policy", "explain", policy, "--app", "gallery", *arguments)
    assert said.returncode == 0
    last = said.stdout.splitlines()[-1]
    assert hint in last if hint is not None else last.startswith("  audit:")


@pytest.mark.parametrize(
    ("owner", "redact"), [("self", []), ("camera", []), ("gallery", ["location"]), ("none", ["location"])]
)
def test_owners(policy: Path, owner: str, redact: list[str]) -> None:
    got = explain(policy, "--app", "camera", "--kind", "image/jpeg", "--owner", owner, "/DCIM/a.jpg")
    assert got["redact"] == redact


@pytest.mark.parametrize(
    ("arguments", "who"),
    [
        (["--uid", "10105"], "gallery"),
        (["--uid", "4"], "stranger"),
        (["--app", "cloud"], "cloud"),
        (["--app", "cloud", "--uid", "7"], "cloud"),
    ],
)
def test_who_asks(policy: Path, arguments: list[str], who: str) -> None:
    assert explain(policy, *arguments, "/DCIM/a.jpg")["who"] == who


def test_directories(policy: Path) -> None:
    got = explain(policy, "--app", "gallery", "--op", "list", "--directory", "/DCIM")
    assert (got["allowed"], got["bare"], got["view"]) == (True, True, None)
    got = explain(policy, "--uid", "4", "--op", "list", "--directory", "/DCIM")
    assert (got["allowed"], got["errno"]) == (False, "ENOENT")


@pytest.mark.mount
@pytest.mark.usefixtures("forked_launchers")
def test_the_content_of_a_file_is_sniffed(policy: Path, media: dict[str, Path], tmp_path: Path) -> None:
    arguments = ("--app", "gallery", "--owner", "none", "/DCIM/a.jpg")
    got = explain(policy, "--content", str(media["photo_with_place.jpg"]), *arguments)
    assert got["open_denied"] is None
    (tmp_path / "words.txt").write_text("these are words\n" * 20)
    got = explain(policy, "--content", str(tmp_path / "words.txt"), *arguments)
    assert got["open_denied"].startswith("policyfs cannot clean files of the kind text/plain (")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["/DCIM/a.jpg"], "name the caller"),
        (["--app", "galery", "/DCIM/a.jpg"], "its apps are camera, cloud, gallery"),
        (["--app", "gallery", "DCIM/a.jpg"], "from the root of the mount"),
        (["--app", "gallery", "--op", "eat", "/DCIM/a.jpg"], "eat"),
        (["--app", "gallery", "--owner", "nobody", "/DCIM/a.jpg"], "nobody"),
    ],
)
def test_usage_errors(policy: Path, arguments: list[str], complaint: str) -> None:
    said = refused("policy", "explain", policy, *arguments)
    assert said.returncode == 2
    assert complaint in said.stderr


@pytest.mark.parametrize("request_name", sorted(REQUESTS))
def test_every_request_can_be_explained(policy: Path, request_name: str) -> None:
    assert explain(policy, "--app", "camera", "--op", request_name, "/DCIM/a.jpg")["request"] == request_name

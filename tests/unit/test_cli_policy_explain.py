"""`policyfs policy explain`: moves, --all, --pid. tests/unit/test_cli_policy_command.py has the rest."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
from pathlib import Path

import pytest

from policyfs.cli.main import main
from policyfs.cli.policy.explain import add_caller, caller_of, check_caller
from policyfs.errors import UsageError
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.golden import assert_golden
from tests.support.mount.daemons import policyfs

FAMILY = CHECKOUT / "policies/family-photos.yaml"
GALLERY = 10011
GOLDEN = CHECKOUT / "tests/unit/policy_explanations"
OWN = ("--owner", "self")
JPEG = ("--kind", "image/jpeg", "--owner", "none")

QUESTIONS = {
    "denied": ("/DCIM/a.jpg", "--app", "gallery", "--op", "write", *JPEG),
    "redacted": ("/DCIM/a.jpg", "--app", "gallery", *JPEG),
    "hidden": ("/Android/data/maps/a", "--app", "gallery", "--op", "stat", *JPEG),
    "all": ("/DCIM/a.jpg", "--uid", "65533", "--all", *JPEG),
    "rename": ("/DCIM/a.jpg", "--app", "camera", "--op", "rename", "--to", "/Music/a.jpg", *OWN),
    "link": ("/DCIM/a.jpg", "--app", "maps", "--op", "link", "--to", "/DCIM/b.jpg", *JPEG),
    "cannot-clean": ("/DCIM/a.bin", "--app", "gallery", "--kind", "application/zip", "--owner", "none"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_answer(name: str) -> None:
    said = policyfs("policy", "explain", FAMILY, *QUESTIONS[name])
    assert said.returncode == 0, said
    assert_golden(GOLDEN / f"{name}.txt", said.stdout.replace(str(FAMILY), "family-photos.yaml"))


def test_a_move_as_json() -> None:
    found = json.loads(policyfs("policy", "explain", FAMILY, *QUESTIONS["rename"], "--json").stdout)
    assert (found["path"], found["to"], found["allowed"], found["errno"]) == (
        "/DCIM/a.jpg", "/Music/a.jpg", False, "ENOENT",
    )  # fmt: skip
    assert [end["request"] for end in found["ends"]] == ["delete", "create"]
    assert found["ends"][1]["nearest"]["id"]
    assert found["cause"].startswith("the new path needs create")


MADE = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
  gallery: {uid: 10011}
rules:
  - {id: own, allow: [all], who: {app: camera}, paths: "/**", when: {owner: self}}
  - {id: folders, allow: [see, create], who: {app: gallery}, paths: "/**", when: {type: inode/directory}}
  - {id: links, allow: [see, create], who: {app: gallery}, paths: "/L/**", when: {type: inode/symlink}}
"""


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (("camera", "/a", "create"), True),
        (("camera", "/a", "mkdir"), True),
        (("camera", "/a", "create", "--owner", "gallery"), False),
        (("camera", "/a", "write"), False),
        (("gallery", "/a", "mkdir"), True),
        (("gallery", "/a", "symlink"), False),
        (("gallery", "/L/a", "symlink"), True),
        (("gallery", "/L/a", "mknod"), False),
    ],
)
def test_a_request_that_makes_a_file_gives_it_a_type_and_an_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], allowed: bool
) -> None:
    (tmp_path / "p.yaml").write_text(MADE)
    app, path, op, *more = words
    command = ("explain", str(tmp_path / "p.yaml"), path, "--app", app, "--op", op, "--json", *more)
    assert main(["policy", *command]) == 0
    assert json.loads(capsys.readouterr().out)["allowed"] is allowed


def test_the_user_of_a_process() -> None:
    with subprocess.Popen(["sleep", "30"], user=GALLERY, group=GALLERY) as process:
        try:
            said = policyfs("policy", "explain", FAMILY, "/DCIM/a.jpg", "--pid", str(process.pid), "--json")
        finally:
            process.kill()
    assert json.loads(said.stdout)["who"] == "gallery"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("/a", "--app", "gallery", "--op", "rename"), "a rename has two paths: add --to PATH"),
        (("/a", "--app", "gallery", "--op", "link", "--to", "b"), "write the path from the root"),
        (("/a", "--app", "gallery", "--to", "/b"), "--to is for rename and link: add --op rename"),
        (("/a", "--app", "gallery", "--op", "fly"), "no request is named 'fly'"),
    ],
)
def test_questions_that_cannot_be(options: tuple[str, ...], message: str) -> None:
    said = policyfs("policy", "explain", FAMILY, *options)
    assert said.returncode == 2
    assert message in said.stderr


def test_a_path_of_this_machine_is_told_from_one_in_the_mount(tmp_path: Path) -> None:
    """Newcomers write the path of the file in their store, and were told that no rule matches."""
    photo = tmp_path / "DCIM/a.jpg"
    photo.parent.mkdir()
    hint = f"a path begins at the root of the mount: with the store {tmp_path}, ask for /DCIM/a.jpg"
    for exists in (False, True):
        said = policyfs("policy", "explain", FAMILY, str(photo), "--app", "gallery")
        assert (hint in said.stdout) is exists, said
        photo.touch()
    said = policyfs("policy", "explain", FAMILY, "/etc/hostname", "--app", "gallery")
    assert "begins at" not in said.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
@pytest.mark.parametrize(("name", "colour"), [("denied", "31"), ("redacted", "32"), ("cannot-clean", "31")])
def test_the_first_line_has_a_colour_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, name: str, colour: str, variable: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with contextlib.redirect_stdout(out):
        assert main(["policy", "explain", str(FAMILY), *QUESTIONS[name]]) == 0
    first, rest = out.getvalue().split("\n", 1)
    assert (first.startswith(f"\x1b[{colour}m") and first.endswith("\x1b[0m")) == coloured
    assert "\x1b" not in rest


TEXT = b"""\
apiVersion: policyfs/v1
kind: Policy
apps: {camera: {uid: [7, 9]}, cloud: {}}
rules: [{id: own, allow: [see], who: {app: any}, paths: "/{uid}/**"}]
"""


@pytest.fixture
def engine() -> Engine:
    return compile_policy(parse_policy([SourceText("p.yaml", TEXT)]))


def caller(engine: Engine, *words: str):
    parser = argparse.ArgumentParser()
    add_caller(parser)
    args = parser.parse_args(words)
    check_caller(args)
    return caller_of(engine, args)


def test_an_app_has_its_first_uid(engine: Engine) -> None:
    assert caller(engine, "--app", "camera").uid == 7
    assert caller(engine, "--app", "camera", "--uid", "9").uid == 9
    assert caller(engine, "--app", "cloud").app == "cloud"
    assert caller(engine, "--uid", "9").app == "camera"
    assert caller(engine, "--uid", "8").app is None


@pytest.mark.parametrize("words", [(), ("--app", "galery")])
def test_nobody_and_an_unknown_app(engine: Engine, words: tuple[str, ...]) -> None:
    said = r"name the caller|the policy has no app 'galery'; its apps are camera, cloud"
    with pytest.raises(UsageError, match=said):
        caller(engine, *words)

"""policy fmt, as a command."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.cli import main
from policyfs.errors import EXIT_REFUSED
from tests.support.mount.daemons import policyfs

ODD = """\
kind: Policy
apiVersion: policyfs/v1  # first
apps: {a: {uid: 7}}
rules:
- {paths: ["/x/**"], id: read, allow: [see, read]}   # all of it
"""
EVEN = """\
apiVersion: policyfs/v1  # first
kind: Policy

apps:
  a: {uid: 7}

rules:
  # all of it
  - id: read
    allow: [see, read]
    paths: ["/x/**"]
"""
MORE = "kind: Policy\napiVersion: policyfs/v1\nsets: {s: [image/jpeg]}\nrules: []\n"
TESTS = """\
kind: PolicyTests
apiVersion: policyfs/v1
tests: [{id: t, app: a, operation: read, path: /x/y, expect: {decision: allow}}]
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "odd.yaml"
    path.write_text(ODD)
    return path


def test_it_writes_in_place_with_mode_and_owner(odd: Path):
    odd.chmod(0o640)
    os.chown(odd, 4711, 4712)
    (odd.parent / "link.yaml").symlink_to("odd.yaml")
    said = policyfs("policy", "fmt", "link.yaml")
    assert (said.returncode, said.stdout) == (0, "link.yaml: written in canonical form\n")
    stat = odd.stat()
    assert (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid) == (0o640, 4711, 4712)
    assert (odd.parent / "link.yaml").is_symlink()
    assert sorted(path.name for path in odd.parent.iterdir()) == ["link.yaml", "odd.yaml"]
    assert odd.read_text() == EVEN
    again = policyfs("policy", "fmt", "odd.yaml")
    assert (again.returncode, again.stdout) == (0, "")
    assert odd.stat().st_ino == stat.st_ino


def test_check_and_stdout_write_nothing(odd: Path):
    said = policyfs("policy", "fmt", "--check", "odd.yaml")
    assert said.returncode == 1
    assert said.stdout.startswith("--- odd.yaml\n+++ odd.yaml (canonical)\n@@ ")
    assert "+apiVersion: policyfs/v1  # first\n kind: Policy\n" in said.stdout
    shown = policyfs("policy", "fmt", "--stdout", "odd.yaml")
    assert shown.returncode == 0
    assert odd.read_text() == ODD
    odd.write_text(shown.stdout)
    assert policyfs("policy", "fmt", "--check", "odd.yaml").returncode == 0


def test_a_directory_with_tests(odd: Path):
    place = odd.parent / "p"
    place.mkdir()
    odd.rename(place / "a.yaml")
    (place / "b.yaml").write_text(MORE)
    (place / "a.test.yaml").write_text(TESTS)
    said = policyfs("policy", "fmt", "p")
    assert said.stdout.count("written in canonical form") == 3
    assert policyfs("policy", "test", "p").returncode == 0
    assert policyfs("policy", "fmt", "--stdout", "p").returncode == 2


def test_what_has_errors_stays_as_it_is(odd: Path):
    odd.write_text(ODD.replace("allow", "alow"))
    said = policyfs("policy", "fmt", "odd.yaml", "absent.yaml")
    assert said.returncode == 3
    assert 'unknown key "alow"' in said.stdout
    assert "cannot read the policy absent.yaml" in said.stderr
    assert "alow" in odd.read_text()
    assert policyfs("policy", "fmt", "--check", "--stdout", "odd.yaml").returncode == 2


def test_a_file_that_changes_meanwhile_stays(
    odd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    real = os.fsync

    def meanwhile(fd: int) -> None:
        real(fd)
        odd.write_text(MORE)

    monkeypatch.setattr(os, "fsync", meanwhile)
    (odd.parent / "link.yaml").symlink_to("odd.yaml")
    assert main.main(["policy", "fmt", "link.yaml"]) == EXIT_REFUSED
    said = capsys.readouterr()
    told = f"another program changed {odd} meanwhile, so this command did not write the file: try again"
    assert told in said.err
    assert said.out == ""
    assert odd.read_text() == MORE
    assert sorted(os.listdir(odd.parent)) == ["link.yaml", "odd.yaml"]


def test_a_file_that_cannot_be_written_is_told(
    odd: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "rename", full)
    (odd.parent / "link.yaml").symlink_to("odd.yaml")
    assert main.main(["policy", "fmt", "link.yaml"]) == EXIT_REFUSED
    said = capsys.readouterr()
    assert f"cannot write {odd}: No space left on device" in said.err
    assert said.out == ""
    assert odd.read_text() == ODD
    assert sorted(os.listdir(odd.parent)) == ["link.yaml", "odd.yaml"]


def test_tests_that_cannot_be_read_are_told(odd: Path):
    place = odd.parent / "p"
    place.mkdir()
    odd.rename(place / "a.yaml")
    (place / "a.test.yaml").mkdir()
    said = policyfs("policy", "fmt", "p")
    assert (said.returncode, said.stdout) == (3, "")
    assert said.stderr == "policyfs: cannot read the tests p/a.test.yaml: Is a directory\n"
    assert (place / "a.yaml").read_text() == ODD

"""`policyfs policy apply` up to the daemon's answer: what is checked, refused, written, and put back."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli import main
from policyfs.cli.policy import apply as policy_apply
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, EXIT_POLICY, EXIT_POLICY_TESTS, EXIT_REFUSED, EXIT_USAGE
from policyfs.policy.text.parse import digest_of
from tests.support.models.applied_policies import HEAD, NARROW, TESTS, WIDE
from tests.support.mount.control_sockets import ControlSocket


class Mounted:
    """A mount of NARROW: its policy's file, its trail with the text in force, and its daemon's socket."""

    def __init__(self, place: Path) -> None:
        self.path = place / "mnt"
        self.path.mkdir()
        self.own = place / "own.yaml"
        self.own.write_text(NARROW)
        self.digest = digest_of([NARROW.encode()])
        self.kept = place / "trail/0123/policies" / self.digest
        self.kept.mkdir(parents=True)
        (self.kept / "own.yaml").write_text(NARROW)
        self.status: dict[str, Any] = {
            "policy": {"name": "applied", "digest": self.digest, "generation": 5, "file": str(self.own)},
            "trail": {"directory": str(place / "trail/0123")},
        }
        self.answer: dict[str, Any] = {"digest": "ab" * 32, "generation": 6, "stale_handles": None}
        self.socket = ControlSocket(
            control.socket_path(str(self.path)), status=lambda _: self.status, reload=lambda _: self.answer
        )

    @property
    def expected(self) -> list[str]:
        """The digests that the daemon was told to load."""
        return [one["expected"] for one in self.socket.asked if one["command"] == "reload"]


@pytest.fixture
def mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounted]:
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "run"))
    made = Mounted(tmp_path)
    with made.socket:
        yield made


@pytest.fixture
def apply(mount: Mounted, capsys: pytest.CaptureFixture[str]):
    def run(*words: object) -> tuple[int, str]:
        code = main.main(["policy", "apply", str(mount.path), *map(str, words)])
        out, err = capsys.readouterr()
        return code, out + err

    return run


STAYS = "nothing is changed: policy %s, generation 5, stays in force"


# -- the mount's own file ------------------------------------------------------------------------------


def test_what_allows_no_more_is_loaded_as_it_was_checked(mount: Mounted, apply) -> None:
    mount.own.write_text(HEAD)
    code, said = apply()
    assert code == EXIT_OK
    assert mount.expected == [digest_of([HEAD.encode()])]
    assert [one["live"] for one in mount.socket.asked if one["command"] == "reload"] == [mount.digest]
    assert "there are no tests beside the policy" in said
    assert f"{mount.path}: policy abababababababab in force, generation 6" in said
    assert "refused" not in said


def test_what_allows_more_is_refused_unless_that_is_meant(mount: Mounted, apply, tmp_path: Path) -> None:
    mount.own.write_text(WIDE)
    code, said = apply()
    assert (code, mount.expected) == (EXIT_REFUSED, [])
    assert "refused: 1 change allows more than before" in said
    assert STAYS % mount.digest[:16] in said
    code, said = apply("--json")
    found = json.loads(said)
    assert (code, found["applied"], found["digest"]) == (EXIT_REFUSED, False, digest_of([WIDE.encode()]))
    assert found["live"] == mount.status["policy"]
    (change,) = found["difference"]["changes"]
    (tmp_path / "accepted.yaml").write_text(
        "apiVersion: policyfs/v1\nkind: AcceptedChanges\naccepted:\n"
        f"  - {{change: {change['change']}, because: it is meant}}\n"
    )
    for words in (("--allow-widening",), ("--ack", tmp_path / "accepted.yaml")):
        assert apply(*words)[0] == EXIT_OK
    assert mount.expected == [digest_of([WIDE.encode()])] * 2


def test_a_dry_run_says_what_would_be(mount: Mounted, apply) -> None:
    mount.own.write_text(HEAD)
    code, said = apply("--dry-run")
    assert (code, mount.expected) == (EXIT_OK, [])
    assert f"policy {digest_of([HEAD.encode()])[:16]} would be put in force" in said
    found = json.loads(apply("--dry-run", "--json")[1])
    assert (found["dry_run"], found["applied"], found["refused"], found["told"]) == (True, False, None, [])


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        (HEAD + "  - {id: some, alow: [see]}\n", EXIT_POLICY, "did you mean"),
        (
            NARROW + 'invariants:\n  - {id: no, never: [see], who: {app: two}, paths: "/Documents/**"}\n',
            EXIT_POLICY, 'invariant "no" does not hold',
        ),
        (WIDE, EXIT_POLICY_TESTS, "1 of the policy's tests failed"),
    ],
)  # fmt: skip
def test_what_is_not_sound_is_not_loaded(mount: Mounted, apply, text: str, code: int, told: str) -> None:
    mount.own.write_text(text)
    mount.own.with_name("own.test.yaml").write_text(TESTS)
    found, said = apply("--allow-widening")
    assert (found, mount.expected) == (code, [])
    assert told in said
    assert STAYS % mount.digest[:16] in said


def test_tests_beside_the_policy_that_hold_are_told(mount: Mounted, apply) -> None:
    mount.own.with_name("own.test.yaml").write_text(TESTS)
    code, said = apply()
    assert code == EXIT_OK
    assert "there are no tests beside the policy" not in said
    assert json.loads(apply("--json")[1])["tests"]


@pytest.mark.parametrize("lost", ["missing", "changed"])
def test_without_the_text_in_force_nothing_is_known_of_the_difference(
    mount: Mounted, apply, lost: str
) -> None:
    kept = mount.kept / "own.yaml"
    kept.write_text(WIDE) if lost == "changed" else kept.unlink()
    mount.kept.rmdir() if lost == "missing" else None
    code, said = apply()
    assert (code, mount.expected) == (EXIT_REFUSED, [])
    assert f"the text of the policy in force is not in {mount.kept}" in said
    assert apply("--allow-widening")[0] == EXIT_OK


def test_a_daemon_that_names_no_file_is_of_another_version(mount: Mounted, apply) -> None:
    mount.status["policy"]["file"] = ""
    code, said = apply()
    assert (code, mount.expected) == (EXIT_REFUSED, [])
    assert "has another version" in said


def test_a_refusal_of_the_daemon_has_its_exit_code(mount: Mounted, apply) -> None:
    mount.answer = {"error": "the text has changed", "exit_code": EXIT_POLICY}
    code, said = apply()
    assert code == EXIT_POLICY
    assert "refused: the text has changed" in said


# -- another file --------------------------------------------------------------------------------------


def test_another_file_takes_the_place_of_the_mounts_own(mount: Mounted, apply, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(HEAD)
    mount.own.rename(tmp_path / "real.yaml")
    mount.own.symlink_to("real.yaml")
    os.chown(tmp_path / "real.yaml", 5, 6)
    (tmp_path / "real.yaml").chmod(0o640)
    code, said = apply(tmp_path / "new.yaml")
    assert code == EXIT_OK
    assert f"{mount.own} has the text of {tmp_path}/new.yaml now" in said
    found = (tmp_path / "real.yaml").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (5, 6, 0o640)
    assert mount.own.is_symlink()
    assert mount.own.read_text() == HEAD
    assert sorted(one.name for one in tmp_path.iterdir() if one.suffix == ".yaml") == [
        "new.yaml", "own.yaml", "real.yaml",
    ]  # fmt: skip


def test_a_file_that_the_daemon_refuses_is_put_back(mount: Mounted, apply, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(HEAD)
    mount.answer = {"error": "no room"}
    code, said = apply(tmp_path / "new.yaml")
    assert (code, mount.own.read_text()) == (EXIT_REFUSED, NARROW)
    assert STAYS % mount.digest[:16] in said
    assert "has the text of" not in said


def test_a_refusal_names_the_policy_that_came_into_force_meanwhile(mount: Mounted, apply) -> None:
    mount.own.write_text(HEAD)

    def refuse(_: object) -> dict[str, Any]:
        mount.status["policy"] |= {"digest": "cd" * 32, "generation": 6}
        return {"error": "another policy came into force after the check; try again"}

    mount.socket.answers["reload"] = refuse
    code, said = apply()
    assert code == EXIT_REFUSED
    assert f"nothing is changed: policy {'cd' * 8}, generation 6, stays in force" in said


def test_a_file_that_the_daemon_refuses_is_removed_if_there_was_none(
    mount: Mounted, apply, tmp_path: Path
) -> None:
    (tmp_path / "new.yaml").write_text(HEAD)
    mount.answer = {"error": "no room"}
    mount.own.unlink()
    code, _ = apply(tmp_path / "new.yaml")
    assert code == EXIT_REFUSED
    assert not mount.own.exists()


def test_a_symlink_to_an_absent_file_stays_after_a_refusal(mount: Mounted, apply, tmp_path: Path) -> None:
    """The next mount reads the policy by this name."""
    (tmp_path / "new.yaml").write_text(HEAD)
    (tmp_path / "shared").mkdir()
    mount.answer = {"error": "no room"}
    mount.own.unlink()
    mount.own.symlink_to(tmp_path / "shared/real.yaml")
    assert apply(tmp_path / "new.yaml")[0] == EXIT_REFUSED
    assert mount.own.is_symlink()
    assert os.listdir(tmp_path / "shared") == []


def test_a_file_that_cannot_be_removed_after_a_refusal_is_told(
    mount: Mounted, apply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "new.yaml").write_text(HEAD)
    mount.own.unlink()

    def refuse(_: object) -> dict[str, Any]:
        monkeypatch.setattr(os, "unlink", fail)
        return {"error": "no room"}

    mount.socket.answers["reload"] = refuse
    code, said = apply(tmp_path / "new.yaml")
    monkeypatch.undo()
    assert code == EXIT_REFUSED
    assert f"no room; cannot remove {mount.own}: in {tmp_path}: Read-only file system" in said


def test_a_user_who_exchanges_the_directory_of_the_policy_gets_no_file_elsewhere(
    mount: Mounted, apply, tmp_path: Path
) -> None:
    """While the daemon loads it, by a link to a directory in which only root may write."""
    (mine := tmp_path / "mine").mkdir()
    (victim := tmp_path / "victim").mkdir()
    mount.own = mount.own.rename(mine / "own.yaml")
    for path in (mine, mount.own, tmp_path):
        os.chown(path, 10010, 10010)
    mount.status["policy"]["file"] = str(mount.own)
    (tmp_path / "new.yaml").write_text(HEAD)

    def exchanged(_: object) -> dict[str, Any]:
        mine.rename(tmp_path / "moved")
        mine.symlink_to(victim)
        return {"error": "no room"}

    mount.socket.answers["reload"] = exchanged
    code, said = apply(tmp_path / "new.yaml")
    assert code == EXIT_REFUSED, said
    assert os.listdir(victim) == []


def test_nothing_is_written_before_everything_is_checked(mount: Mounted, apply, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(WIDE)
    for words in ((), ("--dry-run", "--allow-widening")):
        apply(tmp_path / "new.yaml", *words)
        assert (mount.own.read_text(), mount.expected) == (NARROW, [])


def test_a_file_that_changes_after_its_check_is_not_written(
    mount: Mounted, apply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = policy_apply.compared

    def meanwhile(*arguments: object):
        (tmp_path / "new.yaml").write_text(WIDE)
        return real(*arguments)

    (tmp_path / "new.yaml").write_text(HEAD)
    monkeypatch.setattr(policy_apply, "compared", meanwhile)
    code, said = apply(tmp_path / "new.yaml")
    assert (code, mount.own.read_text(), mount.expected) == (EXIT_REFUSED, NARROW, [])
    assert "was changed after the check" in said


def test_the_mounts_own_file_by_another_name_is_its_own(mount: Mounted, apply, tmp_path: Path) -> None:
    (tmp_path / "link.yaml").symlink_to("own.yaml")
    code, said = apply(tmp_path / "link.yaml")
    assert (code, "has the text of" in said) == (EXIT_OK, False)


def test_a_directory_of_policies_is_not_replaced(mount: Mounted, apply, tmp_path: Path) -> None:
    (tmp_path / "many").mkdir()
    (tmp_path / "many/a.yaml").write_text(HEAD)
    code, said = apply(tmp_path / "many")
    assert (code, "both are single files" in said) == (EXIT_USAGE, True)
    mount.status["policy"]["file"] = str(tmp_path / "many")
    assert apply(tmp_path / "own.yaml")[0] == EXIT_USAGE
    assert apply()[0] == EXIT_OK, "as it is now"


def test_a_place_that_cannot_be_written_is_told(mount: Mounted, apply, tmp_path: Path) -> None:
    (tmp_path / "new.yaml").write_text(HEAD)
    mount.status["policy"]["file"] = "/proc/none/own.yaml"
    code, said = apply(tmp_path / "new.yaml")
    assert (code, mount.expected) == (EXIT_REFUSED, [])
    assert "cannot replace /proc/none/own.yaml" in said


@pytest.mark.parametrize("fails", ["fchmod", "rename"])
def test_a_replacement_that_fails_leaves_no_file_behind(
    mount: Mounted, apply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "new.yaml").write_text(HEAD)
    before = sorted(os.listdir(tmp_path))
    monkeypatch.setattr(policy_apply.os, fails, full)
    code, said = apply(tmp_path / "new.yaml")
    monkeypatch.undo()
    assert (code, mount.own.read_text()) == (EXIT_REFUSED, NARROW)
    assert f"cannot replace {mount.own}: in {tmp_path}: No space left on device" in said
    assert sorted(os.listdir(tmp_path)) == before


# -- mounts that were unmounted, and late answers ------------------------------------------------------


def test_an_unmounted_mount_that_refuses_undoes_nothing(mount: Mounted, apply, tmp_path: Path) -> None:
    """It may have been made with another policy file, whose text is not the text that was checked."""
    (tmp_path / "new.yaml").write_text(HEAD)
    path = control.leaving_path(str(mount.path), 7)
    refusal = {"error": "the policy's files were changed"}
    with ControlSocket(path, status=mount.status, reload=refusal) as left:
        code, said = apply(tmp_path / "new.yaml")
    assert code == EXIT_REFUSED
    assert mount.own.read_text() == HEAD, "the mount has this policy in force"
    assert "live" not in left.asked[-1], "it may have another policy in force than the mount"
    assert "keeps its old policy: the policy's files were changed" in said
    assert "in force, generation 6" in said
    assert "nothing is changed" not in said


def test_no_unmounted_mount_gets_what_the_mount_refuses(mount: Mounted, apply) -> None:
    mount.own.write_text(HEAD)
    mount.answer = {"error": "no room"}
    with ControlSocket(control.leaving_path(str(mount.path), 7), reload=mount.answer) as left:
        assert apply()[0] == EXIT_REFUSED
        assert "reload" not in left.commands


def test_a_late_daemon_may_have_loaded_the_new_text(
    mount: Mounted, apply, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new.yaml").write_text(HEAD)
    monkeypatch.setattr(control, "RELOAD_S", 0.05)
    answered = threading.Event()
    mount.socket.answers["reload"] = lambda _: {"late": answered.wait(10)}
    try:
        code, said = apply(tmp_path / "new.yaml")
    finally:
        answered.set()
    assert code == EXIT_REFUSED
    assert mount.own.read_text() == HEAD, "the daemon may load this text later"
    assert "may answer later" in said
    assert "nothing is changed" not in said

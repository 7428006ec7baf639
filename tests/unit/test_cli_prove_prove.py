"""`policyfs prove`: its exit codes, its words, and the record of the result. tests/mount has real mounts."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli import main
from policyfs.cli.prove import prove
from policyfs.cli.prove.prover import NotProvedError, WrongAnswerError
from policyfs.daemon.control import control
from policyfs.kernel import mount_api
from tests.support.models.policies import engine_of

RULES = 'apps: {camera: {uid: 10010}}\nrules: [{id: all, allow: [see], paths: "/**"}]\n'


class Daemon:
    """Answers the control socket's commands, and notes the records."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.policies = ["ab"]
        self.fails = False

    def ask(self, _: Path, command: str, _timeout_s: float = 0.0, **more: Any) -> dict[str, object]:
        if command == "proof":
            if self.fails:
                raise control.NoDaemonError("gone")
            self.records.append(more["proof"])
            return {}
        digest = self.policies.pop(0) if len(self.policies) > 1 else self.policies[0]
        return {
            "app": None, "admits": {}, "posix": False, "read_only": False, "store": "/store",
            "connection": 42, "policy": {"digest": digest},
        }  # fmt: skip


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Daemon:
    made = Daemon()
    monkeypatch.setattr(control, "ask", made.ask)
    monkeypatch.setattr(mount_api, "device_minor", lambda _: 42)
    monkeypatch.setattr(prove, "engine_of", lambda _: engine_of(RULES))
    monkeypatch.setattr(prove, "sources_of", lambda _: [])
    monkeypatch.setattr(prove, "prove_in_memory", lambda *_: Counter({"hiding": 2}))
    monkeypatch.setattr(prove.Prover, "prove_live", lambda *_: Counter({"hiding": 1, "denial": 1}))
    return made


def run(place: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str, str]:
    before = os.listdir("/proc/self/fd")
    code = main.main(["prove", *options, str(place)])
    assert os.listdir("/proc/self/fd") == before
    return (code, *capsys.readouterr())


def test_what_was_tested_is_told_and_on_record(daemon: Daemon, tmp_path: Path, capsys) -> None:
    assert run(tmp_path, capsys) == (0, f"{tmp_path}: proved: hiding 3, denial 1\n", "")
    [record] = daemon.records
    assert (record["result"], record["canaries"]) == ("held", {"hiding": 3, "denial": 1})
    assert (record["callers"], record["callers_left_out"]) == (["camera", "stranger"], 0)
    code, out, _ = run(tmp_path, capsys, "--json")
    assert (code, json.loads(out)) == (0, daemon.records[1])


def test_apps_that_were_left_out_are_told(daemon: Daemon, tmp_path: Path, capsys, monkeypatch) -> None:
    apps = "".join(f"a{number}: {{uid: {5000 + number}}}, " for number in range(13))
    monkeypatch.setattr(prove, "engine_of", lambda _: engine_of(RULES.replace("camera: {uid: 10010}", apps)))
    assert "; 1 more apps were not tested" in run(tmp_path, capsys)[1]


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (WrongAnswerError("canary hiding"), 1, "canary hiding"),
        (NotProvedError("killed"), 2, "not proved: killed"),
        (control.ControlError("refused"), 2, "not proved: refused"),
    ],
)
def test_a_result_that_is_not_good(
    daemon: Daemon, tmp_path: Path, capsys, monkeypatch, error: Exception, code: int, text: str
) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(prove, "prove_in_memory", fails)
    assert run(tmp_path, capsys) == (code, f"{tmp_path}: {text}\n", "")
    assert (daemon.records[0]["result"], daemon.records[0]["reason"]) == ("failed", text)
    daemon.fails = True
    assert run(tmp_path, capsys)[0] == code


def test_a_policy_that_changes_meanwhile_proves_nothing(
    daemon: Daemon, tmp_path: Path, capsys, monkeypatch
) -> None:
    """Also if an answer was wrong: it may have been right by the other policy."""
    daemon.policies = ["ab", "cd"]
    assert run(tmp_path, capsys)[:2] == (
        2, f"{tmp_path}: not proved: the policy in force has changed meanwhile; run this command again\n",
    )  # fmt: skip
    daemon.policies = ["ab", "cd"]
    monkeypatch.setattr(prove.Prover, "prove_live", lambda *_: (_ for _ in ()).throw(WrongAnswerError("x")))
    assert run(tmp_path, capsys)[0] == 2


def test_another_mount_at_the_place_is_not_tested(
    daemon: Daemon, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(mount_api, "device_minor", lambda _: 43)
    assert run(tmp_path, capsys)[:2] == (2, f"{tmp_path}: not proved: another mount covers {tmp_path}\n")


def test_a_result_that_is_not_on_record_counts_for_nothing(daemon: Daemon, tmp_path: Path, capsys) -> None:
    daemon.fails = True
    code, out, err = run(tmp_path, capsys)
    assert (code, out) == (2, "")
    assert "the result was not recorded: gone" in err


def test_a_place_that_cannot_be_reached_is_not_proved(daemon: Daemon, tmp_path: Path, capsys) -> None:
    code, out, _ = run(tmp_path / "none/below", capsys)
    assert (code, "not proved: " in out) == (2, True)
    (tmp_path / "file").touch()
    assert "not proved: cannot open " in run(tmp_path / "file", capsys)[1]


def test_a_test_without_requests_proves_nothing(daemon: Daemon, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(prove, "prove_in_memory", lambda *_: Counter())
    monkeypatch.setattr(prove.Prover, "prove_live", lambda *_: Counter())
    assert run(tmp_path, capsys)[:2] == (
        2, f"{tmp_path}: not proved: the policy has no answer that could be tested\n",
    )  # fmt: skip


def test_only_root_can_prove(daemon: Daemon, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run(tmp_path, capsys)[:2] == (
        2, f"{tmp_path}: not proved: a proof needs root; run this command with sudo\n",
    )  # fmt: skip

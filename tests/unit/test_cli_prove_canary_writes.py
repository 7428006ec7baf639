"""Requests that write in directories of the store: where they go, what is wrong, and what is left."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.prove import canary_writes
from policyfs.cli.prove.canary_requests import NoAnswerError
from policyfs.cli.prove.canary_writes import prove_writes
from policyfs.cli.prove.prover import NotProvedError, Prover, WrongAnswerError
from tests.support.models.policies import engine_of

RULES = """\
apps: {camera: {uid: 10010}}
rules:
- {id: all, allow: [see, read], who: {app: camera}, paths: "/***"}
- {id: new, allow: [create, write], who: {app: camera}, paths: "/DCIM/**"}
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A directory that stands for the store and for the mountpoint: every request reaches the store."""
    (tmp_path / "DCIM").mkdir()
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def mount_fd(store: Path) -> Iterator[int]:
    fd = os.open(store, os.O_PATH)
    yield fd
    os.close(fd)


def prover_of(store: Path, rules: str = RULES, **status: Any) -> Prover:
    plain = {"app": "camera", "posix": False, "read_only": False, "store": str(store), "admits": {}}
    return Prover(plain | status, engine_of(rules))


def answers(monkeypatch: pytest.MonkeyPatch, *codes: tuple[int, int]) -> list[str]:
    """Give these answers; returns the paths that were asked for."""
    left, asked = list(codes), []

    def answer(_: object, work: Any) -> tuple[int, int]:
        asked.append(work.args[1].decode().rpartition("-")[0])
        return left.pop(0)

    monkeypatch.setattr(canary_writes, "in_process", answer)
    return asked


def test_one_directory_allows_and_one_denies(store: Path, monkeypatch) -> None:
    asked = answers(monkeypatch, (0, errno.EACCES), (errno.EACCES, errno.EPERM))
    assert prove_writes(prover_of(store), 0) == {"creation": 2, "attribute": 2}
    assert asked == ["DCIM/policyfs-prove", "policyfs-prove"]
    assert sorted(store.rglob("*")) == [store / "DCIM"]


def test_a_directory_that_is_seen_comes_before_a_hidden_one(store: Path, monkeypatch) -> None:
    (store / "DCIM/closed").mkdir()
    rules = RULES.replace('"/***"}', '["/DCIM/***"]}').replace('"/DCIM/**"}', '"/DCIM/open/**"}')
    asked = answers(monkeypatch, (errno.EACCES, errno.EACCES))
    prove_writes(prover_of(store, rules), 0)
    assert asked == ["DCIM/policyfs-prove"]


@pytest.mark.parametrize(
    ("codes", "wrong"),
    [
        ((errno.EACCES, 13), "create /DCIM/policyfs-prove-.* was EACCES, but the policy allows the request"),
        ((0, 0), "set an extended attribute of /DCIM/.*/old: the mount allowed the request"),
    ],
)
def test_what_differs_from_the_policy_is_wrong(store: Path, monkeypatch, codes: tuple, wrong: str) -> None:
    answers(monkeypatch, codes)
    with pytest.raises(WrongAnswerError, match=wrong):
        prove_writes(prover_of(store), 0)
    assert sorted(store.rglob("*")) == [store / "DCIM"]


def test_real_requests_are_compared(store: Path, mount_fd: int) -> None:
    """The store itself refuses nothing."""
    with pytest.raises(WrongAnswerError, match="set an extended attribute of"):
        prove_writes(prover_of(store), mount_fd)
    free = 'apps: {camera: {uid: 10010}}\nrules:\n- {id: a, allow: [all], who: {app: any}, paths: "/**"}\n'
    assert prove_writes(prover_of(store, free), mount_fd) == {"creation": 1, "attribute": 1}
    with pytest.raises(WrongAnswerError, match="the mount allowed the request"):
        prove_writes(prover_of(store, free, read_only=True), mount_fd)
    assert sorted(store.rglob("*")) == [store / "DCIM"]


def test_other_errors_tell_nothing(store: Path, monkeypatch) -> None:
    answers(monkeypatch, (errno.ENOSPC, 13))
    with pytest.raises(NotProvedError, match="ENOSPC"):
        prove_writes(prover_of(store), 0)
    answers(monkeypatch, (errno.EACCES, 13), (13, 13))
    assert prove_writes(prover_of(store, posix=True), 0) == {"creation": 2, "attribute": 2}

    def silent(*_: object) -> None:
        raise NoAnswerError("nobody answers")

    monkeypatch.setattr(canary_writes, "in_process", silent)
    with pytest.raises(NotProvedError, match="in the mount, nobody answers"):
        prove_writes(prover_of(store), 0)
    assert sorted(store.rglob("*")) == [store / "DCIM"]


def test_a_directory_that_cannot_be_made_or_removed_is_named(store: Path, monkeypatch) -> None:
    def fills(_: object, work: Any) -> tuple[int, int]:
        (store / os.fsdecode(work.args[1]) / "below").mkdir()
        return 0, 13

    monkeypatch.setattr(canary_writes, "in_process", fills)
    with pytest.raises(NotProvedError, match=rf"cannot make and remove {store}/DCIM/policyfs-prove-"):
        prove_writes(prover_of(store), 0)


def test_nothing_is_tried_where_a_kind_or_an_owner_decides(store: Path, monkeypatch) -> None:
    asked = answers(monkeypatch, (13, 13))
    owned = RULES + '- {id: own, deny: [create, attr], paths: "/**", unless: {owner: self}}\n'
    owned += '- {id: kinds, deny: [write], paths: "/**", when: {type: "text/*"}}\n'
    assert prove_writes(prover_of(store, owned), 0) == {"creation": 1, "attribute": 1}
    assert asked == ["policyfs-prove"], "there all is denied, whatever the owner is"

"""The prover: callers, and right and wrong answers. Nothing is mounted: the answers are made up."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.prove import prover
from policyfs.cli.prove.canary_requests import Answer, Identity, NoAnswerError
from policyfs.cli.prove.prover import Caller, NotProvedError, Prover, WrongAnswerError
from policyfs.domain import Op
from policyfs.policy.analysis.canaries import Canary, Nest, Sort
from tests.support.models.policies import engine_of

APPS = """\
apps:
  camera: {uid: 10010, gid: 5}
  bare: {}
  many: {uid: ["2000-2009"]}
rules:
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
"""


def made(rules: str = APPS, *, uid: int | None = None, gids: tuple[int, ...] = (), **status: Any) -> Prover:
    plain = {"app": None, "posix": False, "read_only": False, "store": "/store"}
    return Prover(plain | {"admits": {"uid": uid, "gids": list(gids)}} | status, engine_of(rules))


# -- callers -------------------------------------------------------------------------------------------


def callers(**options: Any) -> list[tuple[str, Identity]]:
    return [(one.label, one.identity) for one in made(**options).callers]


def test_each_app_with_a_uid_and_a_stranger_ask_a_shared_mount() -> None:
    assert callers() == [
        ("camera", Identity(10010, 5)), ("many", Identity(2000, 2000)), ("stranger", Identity(65534, 65534)),
    ]  # fmt: skip


def test_an_app_mount_is_asked_by_whom_it_admits() -> None:
    """Where the kernel itself compares, all ids must be the admitted ones."""
    assert callers(app="camera", uid=7, gids=(8, 9)) == [("camera", Identity(7, 8))]
    assert callers(app="camera", uid=7, gids=(8,)) == [("camera", Identity(7, 8, is_whole=True))]
    assert callers(app="camera", uid=0, gids=(0,)) == [("camera", Identity(0, 0, is_whole=True))]
    assert callers(app="many") == [("many", Identity(2000, 2000))]
    assert callers(app="bare") == [("bare", Identity(65534, 65534))]


def test_of_many_apps_some_ask_and_the_others_are_counted() -> None:
    apps = "apps:\n" + "".join(f"  a{number}: {{uid: {5000 + number}}}\n" for number in range(15))
    apps += "  nobody: {uid: [65534, 4242]}\n"
    asked = made(apps + 'rules:\n- {id: a, allow: [see], paths: "/**"}\n')
    assert (len(asked.callers), asked.left_out) == (prover.MOST_CALLERS + 1, 4)
    assert asked.callers[-1].identity.uid == 1000, "65534 and 4242 are an app's"


@pytest.mark.parametrize("read_only", [True, False])
def test_a_mount_that_nobody_writes_is_asked_for_no_changes(read_only: bool) -> None:
    asked = made(APPS.replace("allow: [all]", "allow: [see, read]"), read_only=read_only)
    canaries = asked._canaries(Nest(asked.engine), asked.callers[0])
    changes = [one for one in canaries if one.op in {Op.WRITE, Op.DELETE}]
    assert canaries
    assert bool(changes) != read_only


# -- answers -------------------------------------------------------------------------------------------

CALLER = Caller("camera", Identity(10010, 5))
DENIED = Canary(Sort.DENIAL, b"/a\x1b", Op.READ, errno=13, rules=("no", "never"))
OPENED = Canary(Sort.PASSTHROUGH, b"/raw", Op.READ)
CLEANED = Canary(Sort.REDACTION, b"/a.jpg", Op.READ, words=frozenset({"location"}))


class Scene:
    """A mount that gives these answers, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Answer, **status: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, bytes]] = []
        self.prover = made(**status)
        monkeypatch.setattr(prover, "ask", self.ask)

    def ask(self, fd: int, identity: Identity, canaries: list[Canary], *, reads: bool) -> list[Answer]:
        assert fd == 9
        self.asked += [(identity.uid, one.path) for one in canaries]
        return [self.answers.pop(0) for _ in canaries]

    def compare(self, *canaries: Canary, reads: bool = False) -> Counter[str]:
        return self.prover._compared(9, CALLER, canaries, reads=reads)


def test_answers_are_counted_by_sort(monkeypatch) -> None:
    scene = Scene(monkeypatch, Answer(13), Answer(13), Answer(0))
    assert scene.compare(DENIED, DENIED, OPENED) == {"denial": 2, "passthrough": 1}
    assert scene.asked == [(10010, b"/a\x1b")] * 2 + [(10010, b"/raw")]


def test_a_wrong_answer_names_place_caller_path_and_rules(monkeypatch) -> None:
    with pytest.raises(WrongAnswerError) as error:
        Scene(monkeypatch, Answer(0)).compare(DENIED)
    said = str(error.value)
    assert said.startswith("canary denial: in the mount, camera (uid 10010), read /a")
    assert said.endswith("the mount allowed the request, but the policy denies it (rules: no, never)")
    assert "\x1b" not in said


def test_an_error_that_no_policy_answers_tells_nothing(monkeypatch) -> None:
    for canary in (DENIED, OPENED):
        with pytest.raises(NotProvedError, match=r"in the mount, .* failed with EMFILE") as error:
            Scene(monkeypatch, Answer(24)).compare(canary)
        assert error.value.exit_code == 2


def test_a_redacted_file_is_tried_again_on_a_busy_machine(monkeypatch) -> None:
    scene = Scene(monkeypatch, Answer(5), Answer(5), Answer(0))
    assert scene.compare(CLEANED) == {"redaction": 1}
    scene = Scene(monkeypatch, *[Answer(5)] * 9)
    with pytest.raises(NotProvedError, match=r"canary redaction: .* EIO"):
        scene.compare(CLEANED)
    assert len(scene.asked) == 3


def test_a_file_that_is_replaced_meanwhile_is_no_fault(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "raw").touch()
    here = OPENED._replace(inode=os.stat(tmp_path / "raw").st_ino)
    scene = Scene(monkeypatch, *[Answer(0, 5)] * 9, store=str(tmp_path))
    with pytest.raises(WrongAnswerError, match="another file of the store"):
        scene.compare(here)
    assert len(scene.asked) == 3
    assert scene.compare(here._replace(inode=here.inode + 1)) == {"passthrough": 1}
    assert len(scene.asked) == 4


def test_no_answer_at_all_is_told_with_its_place(monkeypatch) -> None:
    scene = Scene(monkeypatch)

    def silent(*_: object, **__: object) -> None:
        raise NoAnswerError("nobody answers")

    monkeypatch.setattr(prover, "ask", silent)
    with pytest.raises(NotProvedError, match="in a store in memory, nobody answers"):
        scene.compare(DENIED, reads=True)


@pytest.mark.parametrize(("admitted", "other"), [(7, 65534), (65534, 4242)])
def test_an_app_mount_keeps_others_out(monkeypatch, admitted: int, other: int) -> None:
    scene = Scene(monkeypatch, Answer(13), Answer(0), app="camera", uid=admitted, gids=(8,))
    monkeypatch.setattr(prover, "known_files", lambda *_: [])
    assert scene.prover.prove_live(9) == {}
    assert scene.asked == [(other, b"/")]
    with pytest.raises(WrongAnswerError, match="the mount admits this user"):
        scene.prover.prove_live(9)
    scene = Scene(monkeypatch)
    assert scene.prover.prove_live(9) == {}
    assert scene.asked == [], "everybody is admitted"


def test_reads_of_whole_files_must_not_reach_the_daemon(monkeypatch, tmp_path: Path) -> None:
    def ask(_: int, __: Identity, canaries: list[Canary], *, reads: bool) -> list[Answer]:
        return [Answer(one.errno, data=prover.photo(), listed=False) for one in canaries]

    monkeypatch.setattr(prover, "ask", ask)
    counts = iter([1, 1, 3, 4])
    store_fd = os.open(tmp_path, os.O_PATH)
    one_app = APPS.replace("  bare: {}\n", "").replace('  many: {uid: ["2000-2009"]}\n', "")
    try:
        for expected in (contextlib.nullcontext(), pytest.raises(WrongAnswerError, match="asked the daemon")):
            with expected:
                made(one_app).prove_planted(
                    9, store_fd, lambda: {"passthrough": {"enabled": True}, "fuse": {"READ": next(counts)}}
                )
            for file in tmp_path.iterdir():
                file.unlink()
    finally:
        os.close(store_fd)

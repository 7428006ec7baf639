"""The prover beside its daemon: callers, wrong answers, messages, and its end. No mount is proved."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli import prover
from policyfs.cli.canary_requests import Answer, Identity, NoAnswerError
from policyfs.cli.prover import Caller, UnprovedError, proving
from policyfs.daemon.options import MountOptions
from policyfs.daemon.policies import Loader
from policyfs.daemon.proof_messages import decoded, encoded
from policyfs.domain import Op
from policyfs.journal.retention import Retention
from policyfs.kernel import session
from policyfs.kernel.session import MountError
from policyfs.policy.analysis.canaries import Canary, Nest, Sort
from tests.support.models.policies import engine_of

LOADER = Loader(list, lambda _: pytest.fail("nothing is compiled"))
OPTIONS = MountOptions(
    store="/store", mountpoint="/mnt", app=None, any_uid=False, user_id=None, group_ids=(),
    trail=Path("/trail"), posix=False, read_only=False, passthrough=True, copy_bytes=1, cache_bytes=1,
    segment_bytes=1, keep=Retention(), proof=True,
)  # fmt: skip
APPS = """\
apps:
  camera: {uid: 10010, gid: 5}
  bare: {}
  many: {uid: ["2000-2009"]}
rules:
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
"""


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


# -- beside the daemon -----------------------------------------------------------------------------------


def test_without_a_proof_there_is_no_prover() -> None:
    options = replace(OPTIONS, proof=False)
    with proving(options, LOADER) as (own, wait):
        assert own is options
        wait()


def test_a_mount_is_attached_once_its_proof_has_held(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(prover, "_proof", lambda *_: (77, {"callers": ["camera"]}))
    there = tmp_path / "there"
    monkeypatch.setattr(session, "attach_mount", lambda fd, path: there.write_text(f"{fd} {path}"))
    with proving(OPTIONS, LOADER) as (own, wait):
        assert own == replace(OPTIONS, proof_fd=own.proof_fd)
        assert own.proof_fd is not None
        with socket.socket(fileno=own.proof_fd) as daemon:
            result: Any = decoded(daemon.recv(1 << 16), "it")["result"]
            assert (result["result"], result["callers"]) == ("held", ["camera"])
            assert 0 <= result["took_ms"] < 10_000
            assert not there.exists()
            daemon.send(encoded({"attach": True}))
            assert decoded(daemon.recv(1 << 16), "it") == {"attached": True}
            wait()
            assert daemon.recv(1) == b"", "it has ended"
    assert there.read_text() == "77 /mnt"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UnprovedError("canary denial"),
         {"result": {"result": "failed", "reason": "the proof of the mount failed: canary denial"}}),
        (ValueError("no"), {"error": "the proof of the mount could not be made: ValueError('no')"}),
    ],
)  # fmt: skip
def test_a_proof_that_fails_is_told_and_ends(monkeypatch, error: Exception, told: dict) -> None:
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(prover, "_proof", fails)
    with proving(OPTIONS, LOADER) as (own, wait), socket.socket(fileno=own.proof_fd) as daemon:
        assert decoded(daemon.recv(1 << 16), "it") == told
        wait()


def test_a_prover_ends_with_the_start_that_needs_it(monkeypatch) -> None:
    monkeypatch.setattr(prover, "_proof", lambda *_: time.sleep(30))
    began = time.monotonic()
    with proving(OPTIONS, LOADER) as (own, _):
        daemon = socket.socket(fileno=own.proof_fd)
    assert daemon.recv(1) == b""
    daemon.close()
    assert time.monotonic() - began < 20


def test_a_mount_whose_daemon_has_gone_is_removed_again(monkeypatch) -> None:
    removed: list[tuple[str, bool]] = []
    monkeypatch.setattr(session, "attach_mount", lambda fd, path: None)
    monkeypatch.setattr(session, "unmount", lambda path, lazy: removed.append((path, lazy)))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        prover._attach(5, "/mnt", ours)
        assert removed == []
        theirs.close()
        prover._attach(5, "/mnt", ours)
    assert removed == [("/mnt", True)]


def test_a_mount_that_cannot_be_attached_is_told(monkeypatch) -> None:
    def fails(*_: object) -> None:
        raise MountError("no place")

    monkeypatch.setattr(session, "attach_mount", fails)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        prover._attach(5, "/mnt", ours)
        assert decoded(theirs.recv(1 << 16), "it") == {"error": "no place"}


# -- callers -------------------------------------------------------------------------------------------


def callers(**options: Any) -> list[tuple[str, int, int]]:
    found, _ = prover._callers(replace(OPTIONS, **options), engine_of(APPS))
    return [(one.label, one.identity.uid, one.identity.gid) for one in found]


def test_each_app_with_a_uid_and_a_stranger_ask_a_shared_mount() -> None:
    assert callers() == [("camera", 10010, 5), ("many", 2000, 2000), ("stranger", 65534, 65534)]


def test_an_app_mount_is_asked_by_whom_it_admits() -> None:
    assert callers(app="camera", user_id=7, group_ids=(8, 9)) == [("camera", 7, 8)]
    assert callers(app="camera", user_id=0, group_ids=()) == [("camera", 0, 0)]
    assert callers(app="many") == [("many", 2000, 2000)]
    assert callers(app="bare") == [("bare", 65534, 65534)]


def test_of_many_apps_some_ask_and_the_others_are_counted() -> None:
    apps = "apps:\n" + "".join(f"  a{number}: {{uid: {5000 + number}}}\n" for number in range(15))
    apps += "  nobody: {uid: [65534, 4242]}\n"
    engine = engine_of(apps + 'rules:\n- {id: a, allow: [see], paths: "/**"}\n')
    found, left_out = prover._callers(OPTIONS, engine)
    assert (len(found), left_out) == (prover.MOST_CALLERS + 1, 4)
    assert found[-1].identity.uid == 1000, "65534 and 4242 are an app's"


@pytest.mark.parametrize("read_only", [True, False])
def test_a_mount_that_nobody_writes_is_asked_for_no_changes(read_only: bool) -> None:
    engine = engine_of(APPS.replace("allow: [all]", "allow: [see, read]"))
    caller = Caller("camera", Identity(10010, 5))
    canaries = prover._canaries(Nest(engine), caller, replace(OPTIONS, read_only=read_only))
    changes = [one for one in canaries if one.op in {Op.WRITE, Op.DELETE}]
    assert canaries
    assert bool(changes) != read_only


# -- answers -------------------------------------------------------------------------------------------

CALLER = Caller("camera", Identity(10010, 5))
DENIED = Canary(Sort.DENIAL, b"/a\x1b", Op.READ, errno=13, rules=("no", "never"))
OPENED = Canary(Sort.PASSTHROUGH, b"/raw", Op.READ)
CLEANED = Canary(Sort.REDACTION, b"/a.jpg", Op.READ, words=frozenset({"location"}))


class Scene:
    """A mount that gives these answers, one after the other, and a daemon that counts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Answer, **options: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[int, bytes]] = []
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.mount = prover._Mount(self.ours, 9, replace(OPTIONS, **options), "in the mount")
        monkeypatch.setattr(prover, "ask", self.ask)

    def ask(self, fd: int, identity: Identity, canaries: list[Canary], *, reads: bool) -> list[Answer]:
        assert (fd, reads) == (9, False) or reads
        self.asked += [(identity.uid, one.path) for one in canaries]
        return [self.answers.pop(0) for _ in canaries]

    def prove(self, *canaries: Canary, opens: tuple[int, int] = (1, 2)) -> dict[str, int]:
        for count in opens:
            passed = {"enabled": True, "opens": count, "refused": {}}
            self.theirs.send(encoded({"passthrough": passed, "fuse": {"READ": 0}}))
        with self.ours, self.theirs:
            return self.mount.prove({CALLER: list(canaries)}, reads=False)


def test_answers_are_counted_by_sort(monkeypatch) -> None:
    scene = Scene(monkeypatch, Answer(13), Answer(13), Answer(0))
    assert scene.prove(DENIED, DENIED, OPENED) == {"denial": 2, "passthrough": 1}
    assert scene.asked == [(10010, b"/a\x1b")] * 2 + [(10010, b"/raw")]


def test_a_wrong_answer_names_place_caller_path_and_rules(monkeypatch) -> None:
    with pytest.raises(UnprovedError) as error:
        Scene(monkeypatch, Answer(0)).prove(DENIED)
    said = str(error.value)
    assert said.startswith("canary denial: in the mount, camera (uid 10010), read /a")
    assert said.endswith("the mount allowed the request, but the policy denies it (rules: no, never)")
    assert "\x1b" not in said


def test_an_open_that_is_not_passed_through_is_wrong(monkeypatch) -> None:
    with pytest.raises(
        UnprovedError, match=r"canary passthrough: .* read /raw: .* was opened without passthrough"
    ):
        Scene(monkeypatch, Answer(0)).prove(OPENED, opens=(1, 1))


def test_a_redacted_file_is_tried_again_on_a_busy_machine(monkeypatch) -> None:
    scene = Scene(monkeypatch, Answer(5), Answer(5), Answer(0))
    assert scene.prove(CLEANED) == {"redaction": 1}
    scene = Scene(monkeypatch, *[Answer(5)] * 9)
    with pytest.raises(UnprovedError, match="canary redaction"):
        scene.prove(CLEANED)
    assert len(scene.asked) == 3


def test_no_answer_at_all_is_told_with_its_place(monkeypatch) -> None:
    scene = Scene(monkeypatch)

    def silent(*_: object, **__: object) -> None:
        raise NoAnswerError("nobody answers")

    monkeypatch.setattr(prover, "ask", silent)
    with pytest.raises(UnprovedError, match="in the mount, nobody answers"):
        scene.prove(DENIED)


@pytest.mark.parametrize(("admitted", "other"), [(7, 65534), (65534, 4242)])
def test_an_app_mount_keeps_others_out(monkeypatch, admitted: int, other: int) -> None:
    scene = Scene(monkeypatch, Answer(13), Answer(0), user_id=admitted)
    with scene.ours, scene.theirs:
        scene.mount.keeps_out()
        assert scene.asked == [(other, b"/")]
        with pytest.raises(UnprovedError, match="the mount admits this user"):
            scene.mount.keeps_out()
    scene = Scene(monkeypatch)
    with scene.ours, scene.theirs:
        scene.mount.keeps_out()
        assert scene.asked == [], "everybody is admitted"


# -- messages ------------------------------------------------------------------------------------------


def test_messages_come_in_time_and_with_what_is_promised(monkeypatch) -> None:
    monkeypatch.setattr(prover, "_START_S", 0.02)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with pytest.raises(ValueError, match=r"did not answer within 0\.02 s"):
            prover._received(ours)
        theirs.send(encoded({"mounted": True}))
        with pytest.raises(ValueError, match="no descriptor of its mount"):
            prover._mounted(ours)
        null = os.open(os.devnull, os.O_RDONLY)
        socket.send_fds(theirs, [encoded({"mounted": True})], [null])
        got = prover._mounted(ours)
        assert os.path.sameopenfile(got, null)
        for fd in (got, null):
            os.close(fd)
        theirs.close()
        with pytest.raises(ValueError, match="the daemon has ended"):
            prover._received(ours)


@pytest.mark.parametrize(("log", "told"), [(b"first\nlast words\n", "last words"), (b"", "no descriptor")])
def test_a_failure_has_the_last_words_of_its_daemon(log: bytes, told: str) -> None:
    probe = object.__new__(prover._Probe)  # of all that it starts, this needs its log
    probe._log = os.memfd_create("log")
    os.write(probe._log, log)
    with pytest.raises(UnprovedError, match=f"did not serve its mount: {told}"), probe.explained():
        raise ValueError("no descriptor")
    os.close(probe._log)

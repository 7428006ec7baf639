"""The daemon's part in the proof of its mount: only a proof that held, on record, lets it be attached."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from policyfs.daemon import proof
from policyfs.daemon.proof import MutableSink, ProofError, prove
from policyfs.daemon.proof_messages import MOST_BYTES, Json, decoded, encoded
from policyfs.domain import Audit
from tests.support.mount.file_system import Sink
from tests.support.mount.trail import an_event

HELD: Json = {"result": "held", "canaries": 3}


def proved(prover: Callable[[socket.socket], None], record: Callable[[Json], None] | None = None) -> Json:
    """Run a proof against this prover, which has the other end."""
    daemon, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    other.settimeout(20)
    mount = os.open("/", os.O_PATH)

    def run() -> None:
        with other:
            prover(other)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        return trio.run(
            prove, daemon.detach(), mount, lambda: {"requests": 5}, record or (lambda result: None)
        )
    finally:
        thread.join()
        os.close(mount)


def said(channel: socket.socket) -> Json:
    return decoded(channel.recv(MOST_BYTES), "the daemon")


def tell(channel: socket.socket, message: Json) -> None:
    channel.send(encoded(message))


def test_a_proof_that_held_is_on_record_before_the_mount_is_attached() -> None:
    order: list[object] = []

    def prover(channel: socket.socket) -> None:
        message, [fd], _, _ = socket.recv_fds(channel, MOST_BYTES, 1)
        assert decoded(message, "it") == {"mounted": True}
        assert os.fstat(fd).st_ino == os.stat("/").st_ino
        os.close(fd)
        tell(channel, {"ask": "counts"})
        assert said(channel) == {"requests": 5}
        tell(channel, {"result": HELD})
        order.append(said(channel))
        tell(channel, {"attached": True})

    assert proved(prover, order.append) == HELD
    assert order == [HELD, {"attach": True}]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"result": {"result": "failed", "reason": "seen"}}, "seen"),
        ({"result": {"result": "none"}}, "None"),
        ({"result": "held"}, "the process sent no result"),
        ({"attached": True}, "the process sent no result"),
        ({}, "the process sent no result"),
        ({"error": "no canary"}, "no canary"),
    ],
)
def test_nothing_else_lets_it_be_attached(message: Json, reason: str) -> None:
    answers: list[bytes] = []

    def prover(channel: socket.socket) -> None:
        channel.recv(MOST_BYTES)
        tell(channel, message)
        answers.append(channel.recv(MOST_BYTES))

    with pytest.raises(ProofError, match=reason):
        proved(prover)
    assert answers == [b""], "the daemon has closed its end, and said nothing"


def test_a_result_that_is_not_on_record_lets_nothing_be_attached() -> None:
    def record(result: Json) -> None:
        raise OSError("no room")

    def prover(channel: socket.socket) -> None:
        channel.recv(MOST_BYTES)
        tell(channel, {"result": HELD})
        assert channel.recv(MOST_BYTES) == b""

    with pytest.raises(ProofError, match="no room"):
        proved(prover, record)


@pytest.mark.parametrize(
    ("packet", "told"),
    [
        (None, "the prover has ended"),
        (b"", "the prover has ended"),
        (b"no json", "the prover sent bytes that are no message: Expecting value"),
        (b"[]", "the prover sent JSON that is no object"),
    ],
)
def test_a_prover_that_is_gone_or_says_nonsense_has_not_proved_it(packet: bytes | None, told: str) -> None:
    def prover(channel: socket.socket) -> None:
        if packet:
            channel.recv(MOST_BYTES)  # what is left unread when it closes is a reset for the daemon
            channel.send(packet)

    with pytest.raises(ProofError, match=f"the mount was not proved: {told}"):
        proved(prover)


def test_a_silent_prover_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "DEADLINE_S", 0.05)

    def prover(channel: socket.socket) -> None:
        channel.recv(MOST_BYTES)
        assert channel.recv(MOST_BYTES) == b""

    with pytest.raises(ProofError, match=r"within 0\.05 s"):
        proved(prover)


def test_a_result_that_is_on_record_too_late_lets_nothing_be_attached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proof, "DEADLINE_S", 0.3)
    answers: list[bytes] = []

    def prover(channel: socket.socket) -> None:
        channel.recv(MOST_BYTES)
        tell(channel, {"result": HELD})
        answers.append(channel.recv(MOST_BYTES))

    with pytest.raises(ProofError, match=r"within 0\.3 s"):
        proved(prover, lambda result: time.sleep(1.0))
    assert answers == [b""]


def test_a_muted_journal_takes_no_event() -> None:
    sink = Sink()
    mutable = MutableSink(sink, muted=True)
    for audit in (Audit.BEST_EFFORT, Audit.REQUIRED):
        assert mutable.admit(an_event(), audit) is None
    assert not sink.events
    mutable.unmute(after=lambda: None)
    assert mutable.admit(an_event(), Audit.BEST_EFFORT) is None
    ticket = mutable.admit(an_event(b"/b"), Audit.REQUIRED)
    assert ticket is not None
    mutable.commit([ticket])
    assert [event.path for event in sink.events] == [b"/DCIM/a.jpg", b"/b"]


def test_late_events_of_the_canaries_are_not_on_record() -> None:
    sink = Sink()
    muted = MutableSink(sink, muted=True)
    event: Any = SimpleNamespace(name="open")
    muted.unmute(after=lambda: muted.admit(event, Audit.BEST_EFFORT))
    assert sink.events == []
    muted.admit(event, Audit.BEST_EFFORT)
    assert sink.events == [event]

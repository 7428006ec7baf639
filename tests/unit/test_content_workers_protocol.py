"""Frames: what a side sends is what the other gets, and nothing that is no frame gets through."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.content.workers import protocol
from policyfs.content.workers.protocol import Command, Reply, Status, WireError


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        yield ours, theirs


def request(command: int, payload: bytes = b"", size: int = 0, announced: int | None = None) -> bytes:
    return protocol.REQUEST.pack(7, command, len(payload) if announced is None else announced, size) + payload


def test_a_descriptor_arrives_with_its_request(pair, tmp_path):
    ours, theirs = pair
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        ours.sendmsg([request(Command.LOCATE, b"location", 3)], protocol.ancillary(file.fileno()))
    got = protocol.receive_request(theirs)
    try:
        assert (got.number, got.command, got.size, got.payload) == (7, Command.LOCATE, 3, b"location")
        assert os.pread(got.fd, 10, 0) == b"abc"
        assert not os.get_inheritable(got.fd)
    finally:
        os.close(got.fd)


def test_requests_follow_each_other(pair):
    ours, theirs = pair
    ours.sendall(request(Command.KIND_HEAD, b"one") + request(Command.KIND_HEAD, b""))
    assert protocol.receive_request(theirs).payload == b"one"
    assert protocol.receive_request(theirs).payload == b""
    ours.close()
    assert protocol.receive_request(theirs) is None


@pytest.mark.parametrize(
    "frame",
    [
        request(9, b""),
        request(Command.KIND_HEAD, announced=protocol.MAX_REQUEST_PAYLOAD + 1),
        request(Command.KIND_FD),  # without a descriptor
        request(Command.KIND_HEAD, b"abc")[:-1],
        b"\0",
    ],
)
def test_a_malformed_request_is_refused(pair, frame):
    ours, theirs = pair
    ours.sendall(frame)
    ours.shutdown(socket.SHUT_WR)
    with pytest.raises(WireError):
        protocol.receive_request(theirs)


def test_an_unexpected_descriptor_is_closed(pair):
    ours, theirs = pair
    before = set(os.listdir("/proc/self/fd"))
    ours.sendmsg([request(Command.KIND_HEAD, b"x")], protocol.ancillary(0))
    with pytest.raises(WireError):
        protocol.receive_request(theirs)
    assert set(os.listdir("/proc/self/fd")) == before


@given(st.integers(0, 2**64 - 1), st.sampled_from(Status), st.binary(max_size=50), st.booleans())
def test_replies_come_out_as_they_went_in(number, status, payload, retire):
    frame = protocol.pack_reply(number, status, payload, retire=retire)
    reply, size = protocol.parse_reply_header(frame[: protocol.REPLY.size])
    assert reply == Reply(number, status, retire, b"")
    assert frame[protocol.REPLY.size :] == payload
    assert size == len(payload)


@given(st.binary(min_size=protocol.REPLY.size, max_size=protocol.REPLY.size))
def test_any_reply_header_is_understood_or_refused(header):
    try:
        _, size = protocol.parse_reply_header(header, 1000)
    except WireError:
        return
    assert size <= 1000


@given(st.binary(max_size=2000))
def test_a_reason_is_short_and_harmless(payload):
    reason = Reply(0, Status.FAILED, False, payload).reason
    assert len(reason) <= protocol.MAX_REASON
    assert reason.isascii()
    assert reason.isprintable()

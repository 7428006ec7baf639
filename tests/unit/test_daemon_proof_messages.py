"""Messages between a daemon and the process that proves its mount."""

from __future__ import annotations

import pytest

from policyfs.daemon.proof_messages import decoded, encoded


def test_a_message_survives():
    message: dict[str, object] = {"result": {"canaries": {"denial": 3}, "reason": "/a\udcff"}}
    assert decoded(encoded(message), "it") == message


@pytest.mark.parametrize(
    ("packet", "error", "told"),
    [
        (b"", ValueError, "the daemon has ended"),
        (b'{"result": "cut o', ValueError, "the daemon sent bytes that are no message: Unterminated"),
        (b"\xff", ValueError, "the daemon sent bytes that are no message: .*decode"),
        (b"[" * 100_000, ValueError, "the daemon sent bytes that are no message: .*recursion"),
        (b"[1]", TypeError, "the daemon sent JSON that is no object"),
    ],
)
def test_what_is_no_message_is_refused(packet: bytes, error: type[Exception], told: str):
    with pytest.raises(error, match=told):
        decoded(packet, "the daemon")

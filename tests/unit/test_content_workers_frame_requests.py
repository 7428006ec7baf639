"""Tests of the payload of requests to look at frames of a film."""

from __future__ import annotations

from array import array

import pytest

from policyfs.content.workers import frame_requests
from policyfs.content.workers.frame_requests import FrameRequest
from policyfs.content.workers.protocol import WireError
from policyfs.redact.core.frame_table import FrameForm, FrameTable

FORM = FrameForm("H.264", 4)
WORDS = frozenset({"location", "time"})


def table(*frames: tuple[int, int]) -> FrameTable:
    return FrameTable(
        array("Q", [start for start, _ in frames]), array("Q", [end for _, end in frames]),
        array("H", [0] * len(frames)), (FORM,),
    )  # fmt: skip


def test_a_request_is_read_as_it_was_packed() -> None:
    request = FrameRequest("video/mp4", WORDS, table((5, 9), (9, 20)))
    assert FrameRequest.unpack(request.pack()) == request


@pytest.mark.parametrize(
    "payload", [b"", b"no kind\nlocation\0", b"video/mp4\nlocation\0" + b"\1\0\0\0\0", b"\xff\0\0"]
)
def test_a_malformed_request_is_an_error_of_the_wire(payload: bytes) -> None:
    with pytest.raises(WireError):
        FrameRequest.unpack(payload)


def test_more_frames_than_a_request_can_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_requests, "MAX_REQUEST_PAYLOAD", 100)
    with pytest.raises(ValueError, match="9 frames"):
        FrameRequest("video/mp4", WORDS, table(*((at, at + 1) for at in range(9)))).pack()

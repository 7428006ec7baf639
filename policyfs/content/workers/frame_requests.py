"""Requests to look at frames of a film, and their payload."""

from __future__ import annotations

from typing import NamedTuple

from policyfs.content.kinds import is_kind
from policyfs.content.workers.protocol import MAX_REQUEST_PAYLOAD, WireError
from policyfs.redact.core.frame_table import FrameTable


class FrameRequest(NamedTuple):
    """A request to look at some frames of a file of this kind, and to hide the words *what* in them."""

    kind: str
    what: frozenset[str]
    frames: FrameTable

    def pack(self) -> bytes:
        """Return the payload of the request. Raises ValueError for more frames than one request can have."""
        head = "\n".join((self.kind, *sorted(self.what))).encode("ascii")
        payload = head + b"\0" + self.frames.pack()
        if len(payload) > MAX_REQUEST_PAYLOAD:
            raise ValueError(f"{len(self.frames)} frames in one request")
        return payload

    @classmethod
    def unpack(cls, payload: bytes) -> FrameRequest:
        """Return the request that has this payload. Raises WireError."""
        head, _, table = payload.partition(b"\0")
        kind, *words = head.decode("ascii", "replace").split("\n")
        if not is_kind(kind):
            raise WireError("the kind of a film is no kind")
        try:
            return cls(kind, frozenset(words), FrameTable.unpack(table))
        except ValueError as error:
            raise WireError(str(error)) from error

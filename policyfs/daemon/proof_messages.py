"""Messages between a daemon and the process that proves its mount: JSON objects, one in each packet."""

from __future__ import annotations

import json
from typing import Final

Json = dict[str, object]

MOST_BYTES: Final = 1 << 17
"""The longest message in bytes. A longer message arrives cut, and is refused: it is no JSON then."""


def encoded(message: Json) -> bytes:
    """Return the bytes of the packet that has this message."""
    return json.dumps(message).encode()


def decoded(packet: bytes, sender: str) -> Json:
    """Return the message in a packet. sender: a noun for the texts of errors.

    Raises ValueError or TypeError if the packet has no message.
    """
    if not packet:
        raise ValueError(f"{sender} has ended")
    try:
        found = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{sender} sent bytes that are no message: {error}") from error
    if not isinstance(found, dict):
        raise TypeError(f"{sender} sent JSON that is no object")
    return found

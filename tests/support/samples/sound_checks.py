"""Checks on what is read of redacted sound and AVI."""

from __future__ import annotations

import base64
import re
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from tests.support.samples import jpegs, sounds
from tests.support.samples.sounds import CASES, CITY, PLACE, PLAIN

LATITUDES: Final = (jpegs.pack("MM", *jpegs.LATITUDE), jpegs.pack("II", *jpegs.LATITUDE))
SOUND: Final = (
    b"\0sound", b"\xfcsound", b"\xff\xf8sound", sounds.flac_frame(), bytes(range(100)), b"picture!",
)  # fmt: skip


def redact(kind: str, data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """Return what is read; it is as long as before, and redacting it again finds nothing."""
    found = locate_in(kind, MemorySource(data), hide)
    out = apply(data, sorted(found.patches, key=lambda p: p.offset))
    assert not locate_in(kind, MemorySource(out), hide).patches
    assert len(out) == len(data)
    return out


def texts(data: bytes) -> bytes:
    """Return the bytes, with what is in base64 in them."""
    packed = re.findall(rb"[A-Za-z0-9+/]{400,}", data)
    return data + b"".join(base64.b64decode(found[: len(found) // 4 * 4]) for found in packed)


def place_in(data: bytes) -> bool:
    """True if one of the texts of places is in the bytes."""
    return CITY in data or sounds.LOCATION in data or b"47.80453" in data


def assert_places_go(case: str) -> None:
    """Check that no place of a case is left, and all of its sound is."""
    kind, make = CASES[case]
    data = make()
    out = texts(redact(kind, data))
    places = (CITY, PLACE, sounds.UTF16[2:], *LATITUDES)
    for text in places:
        assert text not in out
    if "deflated" not in case and "padding bytes" not in case:
        assert any(text in texts(data) for text in places)
    for mark in SOUND:
        assert out.count(mark) >= data.count(mark)


def assert_the_rest_stays(name: str) -> None:
    """Check that a plain file stays under a word it has nothing for, and that people go under theirs."""
    kind, data = PLAIN[name]
    assert redact(kind, data) == data
    for hide in (Tells.PEOPLE, UNKNOWN):
        out = redact(kind, data, hide)
        assert b"Quince" not in out
        assert b"TITLE=a" not in out


def assert_refused(kind: str, data: bytes) -> None:
    """Check that bytes are refused as a file of a kind, and not by a bug."""
    plan = locate(kind, frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert not plan.reason.startswith("internal")

"""Checks on what is read of redacted files of planted films."""

from __future__ import annotations

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.registry import locate_in

_PLACES = tuple(text.encode(code) for text in ("47.804", "13.042") for code in ("ascii", "utf-16-le"))


def redact(kind: str, data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """Return what is read; it is as long as before, and redacting it again finds nothing."""
    found = locate_in(kind, MemorySource(data), hide)
    out = apply(data, in_order(found.patches, len(data)))
    assert len(found.notes) > 0 or not found.patches
    assert not locate_in(kind, MemorySource(out), hide).patches
    assert len(out) == len(data)
    return out


def assert_place_goes(kind: str, data: bytes) -> None:
    """Check that no place is left, in ASCII or UTF-16."""
    out = redact(kind, data)
    assert out != data
    assert not [text for text in _PLACES if text in out]


def assert_stays(kind: str, data: bytes) -> None:
    """Check that nothing of a file without a place is changed."""
    assert redact(kind, data) == data

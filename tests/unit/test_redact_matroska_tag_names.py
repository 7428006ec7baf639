"""What tags of Matroska tell, by their names."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.matroska.tag_names import TAG_TELLS, tag_tells


@pytest.mark.parametrize(
    ("name", "tells"),
    [
        (b"ENCODER", Tells.DEVICE),
        (b"encoder\0\0", Tells.DEVICE),
        (b" Encoder Settings ", Tells.DEVICE),
        (b"ENCODER-eng", Tells.DEVICE),
        (b"COM.APPLE.QUICKTIME.LOCATION.ISO6709", Tells.LOCATION),
        (b"ENCODED-BY", Tells.DEVICE | Tells.PEOPLE),
        (b"handler_name", Tells.DEVICE | Tells.PEOPLE),
        (b"BITSPS", Tells.OTHER),
        (b"LANGUAGE", NOTHING),
        (b"ENCODER-EN", UNKNOWN),
        (b"ENCODER-EN1", UNKNOWN),
        (b"OWN", UNKNOWN),
        (b"OWN-ENG", UNKNOWN),
        (b"-ENG", UNKNOWN),
        (b"", UNKNOWN),
        (b"\xff\xfe", UNKNOWN),
    ],
)
def test_names(name, tells):
    assert tag_tells(name) == tells


def test_names_are_listed_in_capitals():
    assert all(name == name.upper() for name in TAG_TELLS)

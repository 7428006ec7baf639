"""Names of metadata in movies: places are places under every spelling, unknown names are unknown."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.isobmff.udta_names import ITEMS, TEXT_ATOMS, USER_DATA, free_form_tells, key_tells

LOCATION, DEVICE, TIME, PEOPLE, OTHER = Tells


@pytest.mark.parametrize(
    ("name", "tells"),
    [
        (b"com.apple.quicktime.make", DEVICE),
        (b"com.apple.quicktime.location.ISO6709", LOCATION),
        (b"com.android.capture.fps", OTHER),
        (b"MAKE\0", DEVICE),
        (b" title ", PEOPLE),
        (b"com.apple.quicktime.title", PEOPLE),
        (b"com.apple.com.apple.make", UNKNOWN),  # one prefix only
        (b"location", LOCATION),
        (b"location.whatever", LOCATION),
        (b"location.date", LOCATION | TIME),
        (b"locationtime", LOCATION | TIME),
        (b"detected-face", PEOPLE),
        (b"detected-face.bounds", PEOPLE),
        (b"detected-face.bounds.x", PEOPLE),
        (b"detected-face.place", UNKNOWN),
        (b"detected-face.gps-x", UNKNOWN),
        (b"still-image-transform.x", OTHER),
        (b"title.x", UNKNOWN),  # no stem
        (b"video-orientation", NOTHING),
        (b"unheard-of", UNKNOWN),
        (b"", UNKNOWN),
        (b"\xff\xfe", UNKNOWN),
    ],
)
def test_keys_of_quicktime(name: bytes, tells: Tells) -> None:
    assert key_tells(name) == tells


@pytest.mark.parametrize(
    ("name", "tells"),
    [
        (b"iTunNORM", OTHER), (b"iTunNORM\0", OTHER), (b"LABEL", PEOPLE), (b"originaldate", TIME),
        (b"encoder", DEVICE), (b"where", UNKNOWN), (b"", UNKNOWN), (b"iTunNORM2", UNKNOWN),
    ],
)  # fmt: skip
def test_free_form_items(name: bytes, tells: Tells) -> None:
    assert free_form_tells(name) == tells


def test_where_a_drone_flies_is_a_place_as_in_its_photos() -> None:
    for name in (b"xsp", b"ysp", b"zsp", b"fyw", b"gyw"):
        assert TEXT_ATOMS[b"\xa9" + name] & LOCATION
    for name in (b"fpt", b"frl", b"gpt", b"grl"):
        assert TEXT_ATOMS[b"\xa9" + name] == OTHER


def test_types_of_places_in_every_table() -> None:
    for table in (TEXT_ATOMS, ITEMS):
        assert table[b"\xa9xyz"] == LOCATION
    assert USER_DATA[b"loci"] == LOCATION
    assert all(len(name) == 4 for table in (TEXT_ATOMS, USER_DATA, ITEMS) for name in table)
    assert all(name[:1] == b"\xa9" for name in TEXT_ATOMS)


def test_only_a_cover_tells_nothing_by_itself() -> None:
    told = {**TEXT_ATOMS, **USER_DATA, **ITEMS}
    assert {name for name, tells in told.items() if tells == NOTHING} == {b"covr"}
    assert UNKNOWN not in told.values(), "what tells anything need not be in a table"


def test_types_in_two_tables_tell_the_same_at_least_of_places_and_people() -> None:
    for name in TEXT_ATOMS.keys() & ITEMS.keys():
        assert TEXT_ATOMS[name] & (LOCATION | TIME) == ITEMS[name] & (LOCATION | TIME), name

"""The table of known tags: each place is one, each pointer leads on, and nothing is known twice."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.exif import tags
from policyfs.redact.exif.rules import How
from policyfs.redact.exif.tags import EXIF, EXIF_TABLE, GPS, IMAGE, INTEROP, MPF_TABLE, NAMES


def test_every_tag_of_gps_tells_the_place() -> None:
    gps = EXIF_TABLE.rules[GPS]
    assert set(gps) == set(range(0x20))
    assert all(Tells.LOCATION in rule.tells for rule in gps.values())
    assert {tag for tag, rule in gps.items() if Tells.TIME in rule.tells} == {0x07, 0x1D}


@pytest.mark.parametrize(
    ("tag", "role"), [(tags.GPS_IFD, GPS), (tags.EXIF_IFD, EXIF), (tags.INTEROP_IFD, INTEROP)]
)
def test_pointers_lead_to_the_directory_of_their_role(tag: int, role: str) -> None:
    for table in (IMAGE, EXIF):
        rule = EXIF_TABLE.rules[table][tag]
        assert (rule.how, rule.role) == (How.DIRECTORY, role)
    assert role in EXIF_TABLE.rules


@pytest.mark.parametrize(
    ("tag", "how"),
    [(tags.XMP, How.XMP), (tags.IPTC, How.IIM), (tags.PHOTOSHOP, How.IRB)],
)
def test_nested_blocks_have_their_own_cleaners(tag: int, how: How) -> None:
    for role in (IMAGE, EXIF):
        assert EXIF_TABLE.rules[role][tag].how is how


@pytest.mark.parametrize(
    ("tag", "tells"),
    [
        (0x010F, Tells.DEVICE),  # Make
        (0x0110, Tells.DEVICE),  # Model
        (0x0132, Tells.TIME),  # ModifyDate
        (0x9003, Tells.TIME),  # DateTimeOriginal
        (0x9286, Tells.PEOPLE),  # UserComment
        (0xA430, Tells.DEVICE | Tells.PEOPLE),  # OwnerName
        (0xA431, Tells.DEVICE),  # SerialNumber
        (0x0112, NOTHING),  # Orientation
        (0x829A, Tells.OTHER),  # ExposureTime
    ],
)
def test_known_tags_are_known_in_both_directories(tag: int, tells: Tells) -> None:
    assert EXIF_TABLE.rules[IMAGE][tag].tells == EXIF_TABLE.rules[EXIF][tag].tells == tells


def test_private_tags_are_not_known() -> None:
    for role in (IMAGE, EXIF, INTEROP, GPS):
        assert not {0xC001, 0xFDFF, 0xFFFF} & EXIF_TABLE.rules[role].keys()


def test_every_known_tag_has_a_name_and_every_name_a_tag() -> None:
    for role, table in EXIF_TABLE.rules.items():
        assert table.keys() - NAMES[role].keys() == set(), role
        assert all(NAMES[role].values())


def test_a_picture_list_keeps_what_readers_need_to_find_the_pictures() -> None:
    known = MPF_TABLE.rules[IMAGE]
    assert known[tags.MPF_ENTRIES].tells == NOTHING
    assert known[0xB003].tells == Tells.DEVICE
    assert tags.MAKER_NOTE not in known
    assert all(rule.tells != UNKNOWN for rule in known.values())

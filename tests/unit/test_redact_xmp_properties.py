"""What XMP properties tell, by namespace and name."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.xmp.properties import digest_tells, is_known, speaks_of_place, tells

EXIF = "http://ns.adobe.com/exif/1.0/"
DC = "http://purl.org/dc/elements/1.1/"
CAMERA_RAW = "http://ns.adobe.com/camera-raw-settings/1.0/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"


@pytest.mark.parametrize(
    ("name", "speaks"),
    [
        ("City", True),
        ("LocationCreated", True),
        ("GPSLatitude", True),
        ("CountryCode", True),
        ("geoTag", True),
        ("NativeDigest", True),
        ("VenueName", True),
        ("homeTOWN", True),
        ("SubjectLocation", False),
        ("Capacity", False),
        ("Velocity", False),
        ("Title", False),
        ("Latent", False),
        ("", False),
    ],
)
def test_names_that_speak_of_a_place(name, speaks):
    assert speaks_of_place(name) is speaks


DIGEST = "0123456789abcdefABCDEF0123456789"


@pytest.mark.parametrize(
    ("name", "value", "placed"),
    [
        ("NativeDigest", f"256,257;{DIGEST}", False),
        ("NativeDigest", f" 64;{DIGEST} ", False),
        ("NativeDigest", f"63;{DIGEST}", True),
        ("NativeDigest", f"256,34853;{DIGEST}", True),
        ("NativeDigest", f"256;{DIGEST[:-1]}", True),
        ("NativeDigest", DIGEST, True),
        ("NativeDigest", "", True),
        ("LegacyIPTCDigest", f"256,257;{DIGEST}", True),
    ],
)
def test_digests(name, value, placed):
    assert bool(digest_tells(name, value) & Tells.LOCATION) is placed


@pytest.mark.parametrize(
    ("namespace", "name", "told"),
    [
        (None, "about", NOTHING),
        (None, "City", UNKNOWN),
        ("http://own.example/", "Anything", UNKNOWN),
        (PHOTOSHOP, "LegacyIPTCDigest", UNKNOWN),
        (EXIF, "MakerNote", UNKNOWN),
    ],
)
def test_properties(namespace, name, told):
    assert tells(namespace, name) == told


@pytest.mark.parametrize(
    ("namespace", "name", "part"),
    [
        (EXIF, "GPSLatitude", Tells.LOCATION),
        (EXIF, "DateTimeOriginal", Tells.TIME),
        (PHOTOSHOP, "City", Tells.LOCATION),
        (DC, "title", Tells.PEOPLE),
        (CAMERA_RAW, "LensSerialNumber", Tells.DEVICE),
        (CAMERA_RAW, "OwnGUID", Tells.DEVICE),
        (CAMERA_RAW, "HostName", Tells.DEVICE),
        (CAMERA_RAW, "serial", Tells.DEVICE),
        (CAMERA_RAW, "OwnModel", Tells.DEVICE),
        (CAMERA_RAW, "OwnDate", Tells.TIME),
        (CAMERA_RAW, "OwnerEmail", Tells.PEOPLE),
    ],
)
def test_what_a_property_tells_at_least(namespace, name, part):
    assert part in tells(namespace, name)


@pytest.mark.parametrize(
    "name", ["UprightGuidedDependentDigest", "Exposure2012", "Dateline0", "ModelRestriction"]
)
def test_edits_are_no_more_than_edits(name):
    assert tells(CAMERA_RAW, name) == Tells.OTHER


def test_known_namespaces():
    assert is_known(EXIF)
    assert not is_known("http://own.example/")

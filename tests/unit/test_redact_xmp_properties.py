"""What XMP properties tell, by namespace and name."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.xmp.properties import is_known, speaks_of_place, tells, tells_by_value

EXIF = "http://ns.adobe.com/exif/1.0/"
DC = "http://purl.org/dc/elements/1.1/"
CAMERA_RAW = "http://ns.adobe.com/camera-raw-settings/1.0/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
MANAGED = "http://ns.adobe.com/xap/1.0/mm/"
DYNAMIC = "http://ns.adobe.com/xmp/1.0/DynamicMedia/"
CORE = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/"
EXTENSION = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
PLUS = "http://ns.useplus.org/ldf/xmp/1.0/"
MICROSOFT = "http://ns.microsoft.com/photo/1.2/t/Region#"
PLACE_OF_A_PERSON = Tells.LOCATION | Tells.PEOPLE


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
    assert bool(tells_by_value(name, value) & Tells.LOCATION) is placed


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
        (CAMERA_RAW, "ContactInfo", Tells.PEOPLE),
        (CAMERA_RAW, "OwnGUID", Tells.DEVICE),
        (CAMERA_RAW, "HostName", Tells.DEVICE),
        (CAMERA_RAW, "serial", Tells.DEVICE),
        (CAMERA_RAW, "OwnModel", Tells.DEVICE),
        (CAMERA_RAW, "OwnDate", Tells.TIME),
        (CAMERA_RAW, "OwnerEmail", Tells.PEOPLE),
        (CAMERA_RAW, "CorrectionName", Tells.PEOPLE),
        (CAMERA_RAW, "MaskName", Tells.PEOPLE),
        (CAMERA_RAW, "Description", Tells.PEOPLE),
        (CAMERA_RAW, "NegativeCachePath", Tells.PEOPLE),
        (MANAGED, "PreservedFileName", Tells.DEVICE | Tells.PEOPLE),
        (DYNAMIC, "tapeName", Tells.DEVICE | Tells.PEOPLE),
        (DYNAMIC, "altTapeName", Tells.DEVICE | Tells.PEOPLE),
        (DYNAMIC, "absPeakAudioFilePath", Tells.PEOPLE),
        (DYNAMIC, "relativePeakAudioFilePath", Tells.PEOPLE),
        (DYNAMIC, "shotDay", Tells.TIME),
    ],
)
def test_what_a_property_tells_at_least(namespace, name, part):
    assert part in tells(namespace, name)


@pytest.mark.parametrize(
    "name", ["UprightGuidedDependentDigest", "Exposure2012", "Dateline0", "ModelRestriction"]
)
def test_edits_are_no_more_than_edits(name):
    assert tells(CAMERA_RAW, name) == Tells.OTHER


@pytest.mark.parametrize(
    ("namespace", "name", "told"),
    [
        *(
            (CORE, f"CiAdr{part}", PLACE_OF_A_PERSON)
            for part in ("City", "Ctry", "Extadr", "Pcode", "Region")
        ),
        (PLUS, "LicensorCity", PLACE_OF_A_PERSON),
        (PLUS, "LicensorStreetAddress", PLACE_OF_A_PERSON),
        (EXTENSION, "PersonAddress", PLACE_OF_A_PERSON),
        (MICROSOFT, "PersonAddress", PLACE_OF_A_PERSON),
        (MICROSOFT, "personaddress", PLACE_OF_A_PERSON),
        (EXTENSION, "Address", PLACE_OF_A_PERSON),
        (CORE, "ModelCity", UNKNOWN),
        (CORE, "\u540dCity", UNKNOWN),
        (CAMERA_RAW, "OwnerCountry", PLACE_OF_A_PERSON | Tells.OTHER),
        (CAMERA_RAW, "GPSDateStamp", Tells.LOCATION | Tells.TIME),
        (EXIF, "TimeZone", Tells.LOCATION | Tells.TIME),
    ],
)
def test_the_place_of_a_person_is_not_only_a_place(namespace, name, told):
    assert tells(namespace, name) == told


@pytest.mark.parametrize("namespace", [EXIF, CORE, EXTENSION, MICROSOFT, PHOTOSHOP, PLUS])
@pytest.mark.parametrize(
    "name",
    ["City", "CityName", "CountryCode", "CountryName", "GPSAreaInformation", "GPSImgDirection",
     "GPSLatitude", "GPSLatitudeRef", "GPSProcessingMethod", "Location", "LocationCreated", "LocationId",
     "LocationShown", "ProvinceState", "State", "Sublocation", "WorldRegion", "AbsoluteAltitude",
     "gpslatitude", "shotLocation"],
)  # fmt: skip
def test_the_place_of_a_photo_is_only_a_place(namespace, name):
    assert tells(namespace, name) == Tells.LOCATION


def test_known_namespaces():
    assert is_known(EXIF)
    assert not is_known("http://own.example/")

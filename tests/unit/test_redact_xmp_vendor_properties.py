"""Namespaces of makers: a place is one whatever it is called, and optics are numbers only."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.xmp.properties import is_known, speaks_of_place, tells
from policyfs.redact.xmp.vendor_properties import DEPTH_MAP, OPTICS, ORIGINAL, REST, VENDORS, named

DJI = "http://www.dji.com/drone-dji/1.0/"


def test_rows_name_properties_and_the_default_is_for_all_others() -> None:
    made = named(REST, (Tells.TIME, "a b"), (NOTHING, "c"))
    assert dict(made.names) == {"a": Tells.TIME, "b": Tells.TIME, "c": NOTHING}
    assert made.default == REST
    assert Tells.LOCATION not in REST


@pytest.mark.parametrize("uri", VENDORS)
def test_every_namespace_is_known_to_the_look_up(uri: str) -> None:
    assert is_known(uri)
    for name, told in VENDORS[uri].names.items():
        assert tells(uri, name) & told == told, name


def test_a_name_that_speaks_of_a_place_tells_one_in_every_namespace() -> None:
    named_so = [(uri, name) for uri in VENDORS for name in VENDORS[uri].names if speaks_of_place(name)]
    assert all(Tells.LOCATION in tells(uri, name) for uri, name in named_so)
    for uri in VENDORS:
        for name in ("GPSLatitude", "City", "Location"):
            assert Tells.LOCATION in tells(uri, name), (uri, name)


@pytest.mark.parametrize(
    ("uri", "name", "told"),
    [
        (DJI, "CalibratedFocalLength", Tells.OTHER),
        (DJI, "AbsoluteAltitude", Tells.LOCATION),
        (DJI, "SelfData", UNKNOWN),
        ("http://ns.google.com/photos/1.0/camera/", "MotionPhoto", NOTHING),
        ("http://ns.google.com/photos/1.0/camera/", "what", UNKNOWN),
        (DEPTH_MAP, "Manufacturer", Tells.DEVICE),
        (ORIGINAL, "Data", Tells.OTHER),
        ("http://ns.microsoft.com/photo/1.2/t/Region#", "PersonDisplayName", Tells.PEOPLE),
        ("http://ns.microsoft.com/photo/1.2/t/Region#", "what", Tells.PEOPLE),
        ("http://www.gimp.org/xmp/", "TimeStamp", Tells.TIME),
        ("http://darktable.sf.net/", "params", Tells.DEVICE | Tells.PEOPLE | Tells.OTHER),
        ("http://darktable.sf.net/", "multi_name", Tells.PEOPLE | Tells.OTHER),
        ("http://darktable.sf.net/", "operation", Tells.OTHER),
        ("http://purl.org/dc/terms/", "created", Tells.TIME),
        ("http://ns.adobe.com/pdfx/1.3/", "what", UNKNOWN),
    ],
)
def test_properties_of_makers(uri: str, name: str, told: Tells) -> None:
    assert tells(uri, name) == told


def test_optics_are_the_properties_of_cameras_of_drones_that_are_no_words() -> None:
    assert (DJI, "DewarpHMatrix") in OPTICS
    assert all(tells(uri, name) == Tells.OTHER for uri, name in OPTICS)
    assert not any(speaks_of_place(name) for _, name in OPTICS)
    assert {uri for uri, _ in OPTICS} == {
        DJI, "http://pix4d.com/camera/1.0", "http://pix4d.com/camera/1.0/"
    }  # fmt: skip


def test_a_namespace_of_a_person_s_own_names_keeps_nothing_unlisted() -> None:
    """Where names are free, any of them may hold a place."""
    for uri in ("http://ns.adobe.com/pdfx/1.3/", "http://purl.org/dc/terms/", "http://ns.adobe.com/DICOM/"):
        assert VENDORS[uri].default == UNKNOWN

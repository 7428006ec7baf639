"""Digests of metadata in XMP: they stay, made anew, where they are digests of what the picture holds."""

from __future__ import annotations

import hashlib
from functools import partial

import pytest

from tests.support.samples import jpegs
from tests.support.samples.jpegs import (
    LATITUDE,
    LONGITUDE,
    exif,
    exif_segment,
    pack,
    plain,
    segment,
    with_segments,
)
from tests.support.samples.redacted import redacted

TAGS = "36864,36867,2,4"
FIRST = "271,272,305"


def digest(*values: bytes) -> str:
    return hashlib.md5(b"".join(values)).hexdigest().upper()


DATE = b"2024:05:17 11:22:33\0"
PLACE = (pack("II", *LATITUDE), pack("II", *LONGITUDE))
WITH_PLACE, WITHOUT = digest(DATE, *PLACE), digest(DATE)


def packet(said: str, *, element: bool = False, name: str = "exif:NativeDigest") -> bytes:
    uri = {"exif": "http://ns.adobe.com/exif/1.0/", "tiff": "http://ns.adobe.com/tiff/1.0/"}.get(
        name.partition(":")[0], "http://ns.adobe.com/photoshop/1.0/"
    )
    attribute = "" if element else f'{name}="{said}"'
    inside = f"<{name}>{said}</{name}>" if element else ""
    return (
        jpegs.XMP_HEADER
        + (
            '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about="" xmlns:{name.partition(":")[0]}="{uri}" {attribute}>{inside}'
            "</rdf:Description></rdf:RDF></x:xmpmeta>"
        ).encode()
    )


def photo(said: str, *, place: bool = True, element: bool = False, name: str = "exif:NativeDigest") -> bytes:
    xmp = segment(jpegs.APP1, packet(said, element=element, name=name))
    return with_segments(plain(), exif_segment(exif(place=place)), xmp)


read = partial(redacted, "image/jpeg")


@pytest.mark.parametrize("element", [True, False])
def test_a_digest_of_what_is_there_stays(element):
    same = photo(f"{TAGS};{WITHOUT}", place=False, element=element)
    assert read(same) == same
    out = read(photo(f"{TAGS};{WITH_PLACE}", element=element))
    assert f"{TAGS};{WITHOUT}".encode() in out
    assert WITH_PLACE.encode() not in out


@pytest.mark.parametrize("place", [True, False])
@pytest.mark.parametrize("said", [WITH_PLACE[::-1], digest(*PLACE), digest(DATE, PLACE[0])])
def test_a_digest_of_something_else_goes(place, said):
    assert said.encode() not in read(photo(f"{TAGS};{said}", place=place))


def test_a_digest_of_a_place_that_is_gone_confirms_no_guess():
    assert WITH_PLACE.encode() not in read(photo(f"{TAGS};{WITH_PLACE}", place=False))


def test_under_other_words_it_follows_what_goes():
    first = digest(b"Testmaker\0", b"Modell 7\0")
    data = photo(f"{FIRST};{first}", place=False, name="tiff:NativeDigest")
    assert read(data) == data
    assert f"{FIRST};{digest()}".encode() in read(data, "device")
    assert first.encode() not in read(data, "device")


def test_the_digest_of_iptc_records_follows_them():
    def file(records: bytes, said: str) -> bytes:
        xmp = segment(jpegs.APP1, packet(said, name="photoshop:LegacyIPTCDigest"))
        irb = segment(jpegs.APP13, b"Photoshop 3.0\0" + jpegs.resource(0x0404, records))
        return with_segments(plain(), irb, xmp)

    kept, told = jpegs.record(2, 80, b"Rosa"), jpegs.iptc_place()
    assert read(file(kept, digest(kept))) == file(kept, digest(kept))
    out = read(file(told, digest(told)))
    assert digest(told).encode() not in out
    assert out.count(b"LegacyIPTCDigest=") == 1
    for wrong in (digest(told), digest(b"")):
        assert wrong.encode() not in read(file(kept, wrong))

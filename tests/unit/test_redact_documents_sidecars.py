"""Sidecars: XMP and Takeout's JSON stay what they are, without what is to be hidden."""

from __future__ import annotations

import json

import pytest

from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from tests.support.samples import jpegs

XMP = "application/rdf+xml"
JSON = "application/x-location+json"
PHOTO = {
    "title": "IMG_1.jpg",
    "description": "Röschen beißt in eine Quitte",
    "imageViews": "3",
    "photoTakenTime": {"timestamp": "1626", "formatted": "Jul 1"},
    "geoData": {"latitude": 47.80453, "longitude": 13.04229, "altitude": 0.0},
    "geoDataExif": {"latitude": 47.80453},
    "people": [{"name": "Rosa"}],
    "url": "https://photos.example/1",
    "googlePhotosOrigin": {"mobileUpload": {"deviceFolder": {"localFolderName": "Zirbelstadt"}}},
}


def run(kind: str, data: bytes, *words: str) -> bytes:
    """The file as a reader gets it; redacting that again finds nothing."""
    hide = hidden_by(words or ("location",))
    found = locate_in(kind, MemorySource(data), hide)
    out = apply(data, in_order(found.patches, len(data)))
    assert not locate_in(kind, MemorySource(out), hide).patches
    assert bool(found.notes) == bool(found.patches)
    return out


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    ("word", "gone"),
    [
        ("location", {"geoData", "geoDataExif"}),
        ("time", {"photoTakenTime"}),
        ("people", {"description", "people", "url"}),
        ("device", {"url"}),
        ("all-metadata", PHOTO.keys() - {"title"}),
    ],
)
def test_members_go_by_name(word, gone, indent):
    data = json.dumps(PHOTO, indent=indent, ensure_ascii=False).encode()
    out = run(JSON, data, word)
    assert len(out) == len(data)
    assert json.loads(out) == {k: v for k, v in PHOTO.items() if k not in {*gone, "googlePhotosOrigin"}}


@pytest.mark.parametrize(
    "member",
    [
        {"other": 1},
        {"description": "at 47.80453, 13.04229"},
        {"description": [{"a": {"latitude": 4}}]},
        {"people": [{"gps": "x"}]},
        {"title": "47.80453, 13.04229.jpg"},
        {"": "Zirbelstadt"},
    ],
)
def test_what_may_tell_a_place_goes(member):
    text = json.dumps({"imageViews": "3"} | member)
    assert json.loads(run(JSON, text.encode())) == {"imageViews": "3"}


@pytest.mark.parametrize(
    ("word", "member"),
    [
        ("time", {"description": "taken on 2024-05-17 at 11:22:33"}),
        ("time", {"description": "17 May 2024"}),
        ("time", {"people": [{"name": "Rosa, 2024-05-17 11:22"}]}),
        ("time", {"sharedAlbumComments": [{"text": "fine", "creationTime": {"timestamp": "1626"}}]}),
        ("time", {"url": "https://photos.example/20240517_112233"}),
        ("device", {"description": "Processed with Quill"}),
        ("device", {"description": "SONY DSC"}),
        ("device", {"sharedAlbumComments": [{"text": "serial number: 12345"}]}),
    ],
)
def test_what_may_tell_a_time_or_a_device_goes(word, member):
    kept = {"title": "IMG_20240517_112233.jpg", "favorited": True}
    assert json.loads(run(JSON, json.dumps(kept | member).encode(), word)) == kept
    ordinary = kept | {"description": "a quince", "people": [{"name": "Rosa"}]}
    assert json.loads(run(JSON, json.dumps(ordinary).encode(), word)) == ordinary
    data = json.dumps(kept | member).encode()
    assert run(JSON, data, "location") == data


@pytest.mark.parametrize("word", ["people", "location", "all-metadata"])
def test_a_member_inside_another_counts_by_its_name(word):
    inside = {"timestamp": "1", "people": [{"name": "Rosa"}], "geoData": "x"}
    member = {"imageViews": "3", "creationTime": inside}
    out = json.loads(run(JSON, json.dumps({"title": "a.jpg"} | member).encode(), word))
    assert out == {"title": "a.jpg"} | ({} if word == "all-metadata" else {"imageViews": "3"})


@pytest.mark.parametrize("indent", [None, 0, 2, "\t"])
def test_a_pair_of_numbers_in_lines_of_any_width(indent):
    member = {"people": [{"name": "Rosa", "at": [{"deep": [47.804, 13.042]}]}]}
    text = json.dumps({"title": "a.jpg"} | member, indent=indent)
    assert json.loads(run(JSON, text.encode())) == {"title": "a.jpg"}
    other = text.replace("47.804", "4").encode()
    assert run(JSON, other) == other


def test_escaped_digits():
    value = "".join(f"\\u{ord(char):04x}" for char in "47.80453, 13.04229")
    assert json.loads(run(JSON, b'{"title": "a", "description": "%s"}' % value.encode())) == {"title": "a"}


def test_escaped_dates():
    value = "".join(f"\\u{ord(char):04x}" for char in "2024-05-17 11:22:33")
    data = b'{"title": "a", "description": "%s"}' % value.encode()
    assert json.loads(run(JSON, data, "time")) == {"title": "a"}


def test_a_member_that_comes_twice():
    twice = b'"people": [{"lat": 47.8, "x": 1}], "people": [{"name": {"y": 1, "latitude": 4, "y": 2}}]'
    data = b"{" + twice + b', "title": ""}'
    assert json.loads(run(JSON, data)) == {"title": ""}


def test_arrays_of_objects():
    data = json.dumps([PHOTO, {"SourceFile": "a", "GPSLatitude": 4}, {}]).encode()
    first, second, third = json.loads(run(JSON, data))
    assert first["title"] == "IMG_1.jpg"
    assert "geoData" not in first
    assert second == third == {}


@pytest.mark.parametrize(
    "data",
    [
        *(b"{", b'{"geoData": }', b'{"a": 1} {"geoData": 2}', b'["geoData"]', b'{"geoData": 1,}', b"[{},]"),
        *(b'{"a" 1}', b'{"a": ' + b"[" * 100_000, b"\xff\xfe{\0}\0", b'{"a": "\x01"}', b'{"a": "\\x"}'),
        b"{}" + b" " * (1 << 20),
    ],
)
def test_what_is_no_sidecar_is_refused(data):
    plan = locate(JSON, frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert not plan.reason.startswith("internal")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_xmp(encoding):
    packet = jpegs.xmp_packet(
        "<photoshop:City>Zirbelstadt</photoshop:City><dc:title>Quince</dc:title>", encoding=encoding
    )
    out = run(XMP, packet)
    assert len(out) == len(packet)
    assert "Zirbelstadt".encode(encoding) not in out
    assert "Quince".encode(encoding) in out


@pytest.mark.parametrize(
    "before",
    [
        "<!-- a licence of a photo, by <a@example.org> -->\n".replace("photo", "photo " * 200),
        "<!-- one --><!-- two -->",
        "<?adobe-xap-filters esc='CR'?>",
        "<?xml version='1.0'?>\n<!-- a - b -- c -->",
    ],
)
def test_xmp_behind_a_comment(before):
    parts = "<photoshop:City>Zirbelstadt</photoshop:City><dc:title>Quince</dc:title>"
    packet = before.encode() + jpegs.xmp_packet(parts)
    out = run(XMP, packet)
    assert b"Zirbelstadt" not in out
    assert b"Quince" in out
    hidden = packet.replace(b"<!--", b"<!-- 47.80453, 13.04229", 1)
    assert b"47.80453" not in run(XMP, hidden)


def test_xmp_that_is_not_understood_is_emptied():
    packet = jpegs.xmp_packet("<photoshop:City>Zirbelstadt").replace(b"</photoshop:City>", b"")
    out = run(XMP, packet)
    assert b"Zirbelstadt" not in out
    assert b"xmpmeta" in out


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><metadata><x:xmpmeta/></metadata></svg>',
        b"<html>" + jpegs.xmp_packet(""),
        b"<!-- x --><html>" + b"<!-- x -->" * 9999 + jpegs.xmp_packet(""),
        b"",
    ],
)
def test_other_xml_with_xmp_in_it_is_refused(data):
    plan = locate(XMP, frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE


def test_a_large_file_is_refused():
    data = jpegs.xmp_packet("") + b" " * (5 << 20)
    assert locate(XMP, frozenset({"location"}), MemorySource(data)).outcome is Outcome.REFUSE


@pytest.mark.parametrize("data", [b"<rdf:RDF a=x?>", "<rdf:RDF a=x?>".encode("utf-16")])
def test_a_broken_packet_too_short_for_an_empty_one_reads_blank(data):
    out = run(XMP, data, "location")
    assert out.strip() == b""


@pytest.mark.parametrize("title", ["quince " * 15_000, "a \\n quince " * 9_000])
def test_members_are_searched_as_far_as_the_budget_allows(title):
    data = b"[" + b",".join([b'{"title": "%s"}' % title.encode()] * 6) + b"]"
    stay = 1 if "\\" in title else 3
    assert [len(photo) for photo in json.loads(run(JSON, data, "location"))] == [1] * stay + [0] * (6 - stay)
    assert run(JSON, data, "people") == data

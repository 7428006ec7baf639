"""Matroska byte by byte: where a place may hide, and what has to stay."""

from __future__ import annotations

import zlib

import pytest

from policyfs.domain import DENY_UNKNOWN
from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.matroska.codec_private import clean_comments
from policyfs.redact.matroska.ebml import void
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from tests.support.samples import jpegs
from tests.support.samples import matroskas as mk
from tests.support.samples.inners import PLACES, Plain
from tests.support.samples.matroskas import PICTURES, PLACE, block, cluster, el, film, group, number

KIND = "video/x-matroska"
MEDIA = cluster(block(1, PICTURES))
LIVE = cluster(block(1, PICTURES), size=mk.UNKNOWN_SIZE)
SUBTITLES = mk.VIDEO + mk.track(2, 17, b"S_TEXT/UTF8")
SCRIPTS = mk.VIDEO + mk.track(2, 17, b"S_TEXT/ASS")
METADATA = mk.VIDEO + mk.track(2, 33, b"D_SOMETHING")
PACKED = mk.VIDEO + mk.track(2, 17, b"S_TEXT/UTF8", el(0x6D80, el(0x6240, el(0x5034))))
CRC = el(0xBF, b"abcd")
LYING = block(1, PICTURES, size=b"\x2f\xff\xff")
ATTACHED = (el(0x466E, b"a.bin"), el(0x4660, b"text/plain"), number(0x46AE, 5))

HIDING = {
    "a tag": film(MEDIA, mk.tags(mk.simple_tag(b"LOCATION", PLACE))),
    "a tag of another name": film(MEDIA, mk.tags(mk.simple_tag(b"WHATEVER", PLACE))),
    "a tag before the clusters": film(mk.tags(mk.simple_tag(b"LOCATION", PLACE)), MEDIA),
    "a tag in a tag": film(MEDIA, mk.tags(mk.simple_tag(b"ARTIST", b"me", mk.simple_tag(b"GEO", PLACE)))),
    "a comment": film(MEDIA, mk.tags(mk.simple_tag(b"COMMENT", PLACE))),
    "a binary tag": film(MEDIA, mk.tags(el(0x67C8, el(0x45A3, b"COMMENT"), el(0x4485, PLACE)))),
    "second Tags": film(MEDIA, mk.tags(mk.simple_tag(b"TITLE", b"x")), mk.tags(mk.simple_tag(b"XYZ", PLACE))),
    "the title": film(mk.info(el(0x7BA9, PLACE)), MEDIA),
    "behind a title's end": film(mk.info(el(0x7BA9, b"title\0" + b"W" * 9 + PLACE)), MEDIA),
    "an unknown element": film(el(0x4FFF, PLACE), MEDIA),
    "an unknown element in Info": film(mk.info(el(0x4FFF, PLACE)), MEDIA),
    "a number that is none": film(mk.info(el(0x2AD7B1, PLACE)), MEDIA),
    "Void": film(el(0xEC, PLACE), MEDIA),
    "Void in Info": film(mk.info(el(0xEC, PLACE)), MEDIA),
    "Void in a cluster": film(cluster(el(0xEC, PLACE), block(1, PICTURES))),
    "a checksum that is none": film(mk.info(el(0xBF, PLACE)), MEDIA),
    "between elements": film(b"\0\0" + PLACE, MEDIA),
    "behind the last element": film(MEDIA, b"\0" + PLACE),
    "behind the segment": film(MEDIA, tail=PLACE),
    "another file behind": film(MEDIA, tail=b"\xff\xd8\xff\xe1" + PLACE),
    "Void behind the segment": film(MEDIA, tail=el(0xEC, PLACE)),
    "a tag in a cluster": film(cluster(block(1, PICTURES), mk.tags(mk.simple_tag(b"LOCATION", PLACE)))),
    "a tag behind a live cluster": film(
        cluster(block(1, PICTURES), size=mk.UNKNOWN_SIZE),
        mk.tags(mk.simple_tag(b"LOCATION", PLACE)),
        size=mk.UNKNOWN_SIZE,
    ),
    "a tag behind a block that lies": film(
        cluster(el(0xA3, b"\x81\0\0\0", size=b"\x4f\xff"), size=mk.UNKNOWN_SIZE),
        mk.tags(mk.simple_tag(b"LOCATION", PLACE)),
        size=mk.UNKNOWN_SIZE,
    ),
    "a tag between a block that lies and another film": film(
        cluster(LYING, size=mk.UNKNOWN_SIZE),
        mk.tags(mk.simple_tag(b"LOCATION", PLACE)),
        size=mk.UNKNOWN_SIZE,
        tail=film(MEDIA, tracks=SUBTITLES, size=mk.UNKNOWN_SIZE),
    ),
    "a tag behind a block that lies and ends like the start of Tracks": film(
        cluster(LYING, mk.ident_bytes(mk.TRACKS), size=mk.UNKNOWN_SIZE),
        mk.tags(mk.simple_tag(b"LOCATION", PLACE)),
        MEDIA,
    ),
    "second Tracks between a block that lies and another film": film(
        cluster(LYING, size=mk.UNKNOWN_SIZE),
        el(mk.TRACKS, mk.track(1, 1, b"V_VP8", el(0x55B0, PLACE))),
        size=mk.UNKNOWN_SIZE,
        tail=film(MEDIA, tracks=SUBTITLES, size=mk.UNKNOWN_SIZE),
    ),
    "a tag behind a cluster that lies": film(
        cluster(block(1, PICTURES), size=b"\x08\0\0\0\1"), mk.tags(mk.simple_tag(b"LOCATION", PLACE))
    ),
    "an id that the segment's end cuts": film(MEDIA, b"\x1f\x43\xb6", tail=b"\x75\x81\0" + PLACE),
    "a block that ends before its track": film(
        cluster(b"\xa3\x10\0\0\xf4"), tail=b"\x81\0\0\x80" + PLACE
    ),
    "a block of nothing": film(cluster(el(0xA3), el(0x81, PLACE), block(1, PICTURES))),
    "a tag that lies": film(MEDIA, el(mk.TAGS, PLACE, size=b"\x4f\xff")),
    "a tag inside one that lies": film(
        MEDIA, el(mk.TAGS, el(0x7373, el(0x67C8, el(0x45A3, b"COMMENT"), el(0x4487, PLACE, size=b"\xfe"))))
    ),
    "in the name of a track": film(MEDIA, tracks=mk.track(1, 1, b"V_VP8", el(0x536E, PLACE))),
    "in an unknown codec's settings": film(MEDIA, tracks=mk.track(1, 1, b"V_NEW", el(0x63A2, PLACE))),
    "in a codec's settings": film(MEDIA, tracks=mk.track(1, 1, b"V_VP8", el(0x63A2, PLACE))),
    "in a codec's name": film(MEDIA, tracks=mk.track(1, 1, b"47.80453, 13.04229")),
    "in second Tracks": film(el(mk.TRACKS, mk.track(1, 1, b"V_VP8", el(0x55B0, PLACE))), MEDIA),
    "subtitles": film(cluster(block(2, PLACE), block(1, PICTURES)), tracks=SUBTITLES),
    "subtitles in groups": film(cluster(group(2, PLACE, number(0x9B, 9))), MEDIA, tracks=SUBTITLES),
    "subtitles in lacing": film(cluster(block(2, b"\0" + PLACE, flags=2)), MEDIA, tracks=SUBTITLES),
    "script": film(cluster(group(2, b"0,0,Default,,0,0,0,," + PLACE)), MEDIA, tracks=SCRIPTS),
    "packed subtitles": film(cluster(block(2, zlib.compress(PLACE))), MEDIA, tracks=PACKED),
    "added to subtitles": film(
        cluster(group(2, PLACE, el(0x75A1, el(0xA6, el(0xA5, PLACE))))), MEDIA, tracks=SUBTITLES
    ),
    "added to pictures": film(
        cluster(group(1, PICTURES, el(0x75A1, el(0xA6, number(0xEE, 9), el(0xA5, PLACE)))))
    ),
    "in a group": film(cluster(group(1, PICTURES, el(0xA4, PLACE)))),
    "timed metadata": film(cluster(block(2, PLACE), block(1, PICTURES)), tracks=METADATA),
    "blocks of no track": film(cluster(block(7, PLACE), block(1, PICTURES))),
    "an attached file": film(el(mk.ATTACHMENTS, el(0x61A7, *ATTACHED, el(0x465C, PLACE))), MEDIA),
    "an attached file's description": film(
        el(mk.ATTACHMENTS, el(0x61A7, el(0x467E, PLACE), *ATTACHED, el(0x465C, b"\0\1\0\0"))), MEDIA
    ),
    "an attached photo": film(
        el(mk.ATTACHMENTS, el(0x61A7, el(0x466E, b"a.jpg"), el(0x4660, b"image/jpeg"), number(0x46AE, 5),
           el(0x465C, jpegs.with_segments(jpegs.plain(2, 16), jpegs.segment(jpegs.COM, PLACE))))), MEDIA),
    "a chapter": film(
        el(mk.CHAPTERS, el(0x45B9, el(0xB6, number(0x73C4, 1), el(0x80, el(0x85, PLACE))))), MEDIA
    ),
    "many levels of chapters": film(
        el(mk.CHAPTERS, el(0x45B9, el(0xB6, el(0xB6, el(0xB6, el(0xB6, el(0x5654, PLACE))))))), MEDIA
    ),
    "an index": film(MEDIA, el(mk.CUES, el(0xBB, number(0xB3, 0), el(0xB7, el(0xF7, PLACE))))),
}  # fmt: skip


def run(data: bytes, *words: str) -> bytes:
    """The file as a reader gets it; redacting that again finds nothing."""
    what = hidden_by(words or ("location",))
    found = locate_in(KIND, MemorySource(data), what)
    out = apply(data, in_order(found.patches, len(data)))
    again = locate_in(KIND, MemorySource(out), what)
    assert not again.patches, again
    assert bool(found.notes) == bool(found.patches)
    return out


@pytest.mark.parametrize("case", HIDING)
def test_places_are_gone(case):
    data = HIDING[case]
    out = run(data)
    assert len(out) == len(data)
    assert PLACE not in out
    assert zlib.compress(PLACE) not in out
    if "lies" not in case and case != "in a codec's name":
        assert out.count(PICTURES) == data.count(PICTURES)


def test_what_was_not_asked_for_stays():
    kept = (
        mk.tags(mk.simple_tag(b"ARTIST", b"Rosa"), mk.simple_tag(b"DATE", b"2021")),
        mk.info(el(0x7BA9, b"title"), el(0x4461, bytes(8))),
        el(mk.CHAPTERS, el(0x45B9, el(0xB6, number(0x73C4, 1), el(0x80, el(0x85, b"Cake"))))),
    )
    data = film(*kept, cluster(block(1, PICTURES), block(2, b"Hello.")), tracks=SUBTITLES)
    assert run(data, "location") == data
    out = run(data, "time")
    assert b"Rosa" in out
    assert b"title" in out
    assert b"2021" not in out
    out = run(data, "people")
    assert b"2021" in out
    assert not any(word in out for word in (b"Rosa", b"title", b"Cake", b"Hello"))
    assert b"muxer" not in run(data, "device")
    assert b"Rosa" in run(data, "device")


def test_a_second_content_of_an_attached_file_goes():
    font = (el(0x466E, b"a.ttf"), el(0x4660, b"font/ttf"), el(0x465C, mk.font(b"a font")))
    for second in (PLACE, mk.font(b"another font")):
        out = run(film(el(mk.ATTACHMENTS, el(0x61A7, *font, el(0x465C, second))), MEDIA))
        assert mk.font(b"a font") in out
        assert second not in out


def test_what_something_is_judged_by_is_told_once():
    """Some readers take the last of two, others the first."""
    two = mk.track(1, 1, b"V_VP8", number(0x83, 17), el(0x86, b"S_TEXT/UTF8"), number(0xD7, 2))
    named = mk.tags(mk.simple_tag(b"ARTIST", b"Rosa", el(0x45A3, b"LOCATION")))
    out = run(film(MEDIA, named, tracks=two))
    assert b"S_TEXT" not in out
    assert b"LOCATION" not in out
    assert el(0x86, b"V_VP8") + void(3) + void(13) + void(3) in out
    assert b"Rosa" in out


def test_commas_of_a_script_stay_whatever_its_number():
    data = film(cluster(group(2, b"1234567,0,Default,,0,0,0,,Hello.")), MEDIA, tracks=SCRIPTS)
    assert b" " * 7 + b",0," + b" " * 7 + b",,0,0,0,," + b" " * 6 in run(data, "people")


def test_a_checksum_over_what_changed_is_void():
    tags = el(
        mk.TAGS, CRC, el(0x7373, el(0x63C0), mk.simple_tag(b"XYZ", PLACE), mk.simple_tag(b"ARTIST", b"a"))
    )
    whole = film(tags, el(mk.CLUSTER, CRC, block(2, PLACE)), head=CRC, tracks=SUBTITLES)
    out = run(whole)
    assert whole.count(CRC) == 3
    assert CRC not in out
    assert out.count(void(6)) == 3


def test_checksums_of_what_is_as_it_was_stay():
    data = film(el(mk.TAGS, CRC, el(0x7373, el(0x63C0), mk.simple_tag(b"ARTIST", b"a"))), MEDIA, head=CRC)
    assert run(data) == data


@pytest.mark.parametrize("index", ["a seek head", "an index of clusters"])
def test_an_entry_that_leads_into_a_block_goes(index):
    """Players would show the element there."""
    inner = mk.tags(mk.simple_tag(b"CITY", b"Quincebury"))
    media = cluster(block(1, b"pixels" + inner))

    def file(at: int) -> bytes:
        position = at.to_bytes(3)
        seek = el(mk.SEEK_HEAD, el(0x4DBB, el(0x53AB, mk.ident_bytes(mk.TAGS)), el(0x53AC, position)))
        cues = el(mk.CUES, el(0xBB, number(0xB3, 0), el(0xB7, number(0xF7, 1), el(0xF1, position))))
        return film(seek if index == "a seek head" else cues, media)

    start = file(0).index(mk.info())
    for target, stays in ((inner, False), (media, True)):
        data = file(file(0).index(target) - start)
        out = run(data)
        assert (out == data) is stays
        assert media in out


def test_seek_entries_of_what_is_gone_go():
    tags = mk.tags(mk.simple_tag(b"XYZ", PLACE))
    seek = el(mk.SEEK_HEAD, el(0x4DBB, el(0x53AB, mk.ident_bytes(mk.TAGS)), el(0x53AC, b"\0\0")))
    before = len(film(head=seek)) - len(mk.header()) - 5 - (len(film(head=seek)) < 140) * -3
    inside = len(seek) + len(mk.info()) + len(el(mk.TRACKS, mk.VIDEO))
    seek = seek.replace(b"\x53\xac\x82\0\0", b"\x53\xac\x82" + inside.to_bytes(2))
    assert before
    out = run(film(tags, MEDIA, head=seek))
    assert b"\x53\xac" not in out
    assert b"\x53\xac" in run(film(mk.tags(mk.simple_tag(b"ARTIST", b"a")), MEDIA, head=seek))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (mk.header(), "there is no segment"),
        (mk.header(b"other") + el(mk.SEGMENT), "another type"),
        (mk.header() + el(mk.SEGMENT, mk.info()), "no tracks"),
        (mk.header() + el(mk.SEGMENT, MEDIA), "before its tracks"),
        (mk.header() + el(mk.SEGMENT, MEDIA) + el(mk.TRACKS, mk.VIDEO), "before its tracks"),
        (mk.header() + el(mk.SEGMENT, LIVE, el(mk.TRACKS, mk.VIDEO)), "before its tracks"),
    ],
)
def test_what_is_no_film_is_refused(data, reason):
    plan = locate(KIND, frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert reason in plan.reason


def test_a_broken_structure_is_refused_where_the_rule_says_so():
    broken = film(b"\0\0junk", MEDIA)
    what = frozenset({"location", DENY_UNKNOWN})
    assert locate(KIND, what, MemorySource(broken)).outcome is Outcome.REFUSE
    assert locate(KIND, what, MemorySource(HIDING["a tag"])).outcome is Outcome.PATCH


def test_large_clusters_are_not_read():
    """Blocks of a film with sound and pictures only: their headers at most."""

    class Counting(MemorySource):
        read_bytes = 0

        def read(self, offset: int, size: int, /) -> bytes:
            Counting.read_bytes += size
            return super().read(offset, size)

    data = film(
        *(cluster(block(1, bytes(100_000))) for _ in range(100)), mk.tags(mk.simple_tag(b"XYZ", PLACE))
    )
    assert locate_in(KIND, Counting(data), hidden_by(["location"])).patches
    assert Counting.read_bytes < 50_000


def test_clusters_may_come_before_the_tracks():
    tracks = el(mk.TRACKS, SUBTITLES)
    place = mk.tags(mk.simple_tag(b"LOCATION", PLACE))
    texts = cluster(block(2, PLACE))
    for between in (b"", place, el(0xEC, PLACE), MEDIA):
        made = mk.header() + el(mk.SEGMENT, mk.info(), MEDIA, texts, between, tracks)
        out = run(made)
        assert PLACE not in out
        assert PICTURES in out
        assert tracks in out
    harmless = mk.header() + el(mk.SEGMENT, mk.info(), MEDIA, tracks, MEDIA)
    assert run(harmless) == harmless
    hiding = el(mk.TRACKS, mk.VIDEO + el(0x4FFF, PLACE))
    assert PLACE not in run(mk.header() + el(mk.SEGMENT, mk.info(), MEDIA, hiding, hiding))


@pytest.mark.parametrize("size", [1, 2, 3, 9, 127, 128, 129, 130, 300])
def test_void(size):
    made = void(size)
    assert len(made) == size
    if size > 1:
        assert run(film(made, MEDIA)) == film(made, MEDIA)


def comments(*each: bytes, vendor: bytes = b"Xiph", tail: bytes = b"\1") -> bytes:
    def sized(text: bytes) -> bytes:
        return len(text).to_bytes(4, "little") + text

    return sized(vendor) + len(each).to_bytes(4, "little") + b"".join(map(sized, each)) + tail


def test_xiph_comments():
    data = comments(b"ARTIST=Rosa", b"LOCATION=Zirbelstadt", b"DATE=2021", b"OWN=thing")
    out = clean_comments(data, PLACES)
    assert len(out) == len(data)
    assert b"Rosa" in out
    assert b"2021" in out
    assert b"Zirbelstadt" not in out
    assert b"thing" not in out
    assert b"Xiph" not in clean_comments(data, Plain(hidden_by(["device"])))
    for broken in (data[:-9], data + PLACE, b"\xff" * 8 + PLACE, b"abc", comments(tail=b"")[:-1]):
        out = clean_comments(broken, PLACES)
        assert len(out) == len(broken)
        assert PLACE not in out

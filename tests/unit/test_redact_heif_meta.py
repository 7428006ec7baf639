"""Tables of items: a finding says what the removed part may have told."""

from __future__ import annotations

import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.support.samples.heifs import Thing, heif, nal, picture
from tests.support.samples.movies import box, loci

PLACE = b"47.80453, 13.04229"


def found(data: bytes, word: str) -> set[tuple[str, str]]:
    plan = locate("image/heic", frozenset({word}), MemorySource(data))
    assert plan.outcome is not Outcome.REFUSE, plan.reason
    out = apply(data, plan.patches)
    assert locate("image/heic", frozenset({word}), MemorySource(out)).outcome is Outcome.CLEAN
    return {(finding.tag, finding.what) for finding in plan.findings}


def named(name: bytes) -> bytes:
    return heif([Thing(1, b"hvc1", picture(), name=name, properties=(1, 2))])


@pytest.mark.parametrize(
    ("name", "word", "what"),
    [
        (b"Aunt Quince", "people", {"people"}),
        (b"Aunt Quince", "device", {"device"}),
        (b"Aunt Quince", "location", set()),
        (PLACE, "location", {"location"}),
        (PLACE, "all-metadata", {"device, people"}),
        (b"2021-05-06 07:08:09", "time", {"time"}),
    ],
)
def test_a_name_is_found_under_the_word_that_it_tells_of(name, word, what):
    assert {said for tag, said in found(named(name), word) if tag == "in iinf"} == what


def test_bytes_that_no_table_has_may_tell_anything():
    data = named(b"Aunt Quince")
    at = data.index(b"pitm")
    assert found(data, "time") == set()
    table = data[at - 4 : at + 10]
    junk = (len(table) + 6).to_bytes(4) + table[4:] + b"secret"
    meta = data.index(b"meta") - 4
    size = int.from_bytes(data[meta : meta + 4]) + 6
    grown = data[:meta] + size.to_bytes(4) + data[meta + 4 :].replace(table, junk, 1)
    moved = grown.replace(_offset(data), _offset(data, 6), 1)
    assert found(moved, "location") == {("in pitm", "location")}
    assert found(moved, "people") >= {("in pitm", "people")}


def _offset(data: bytes, more: int = 0) -> bytes:
    """The place of the picture as its table has it."""
    return (data.index(picture()) + more).to_bytes(4) + len(picture()).to_bytes(4)


def test_the_maker_of_a_handler_is_a_device():
    data = named(b"")
    maker = data.replace(b"pict" + bytes(12), b"pictappl" + bytes(8), 1)
    assert found(maker, "device") == {("in hdlr", "device")}
    assert found(maker, "location") == set()


def test_a_media_type_that_is_none_may_tell_anything():
    odd = Thing(2, b"mime", b"data", content=b"somewhere else")
    data = heif([Thing(1, b"hvc1", picture(), properties=(1, 2)), odd])
    assert ("in iinf", "time") in found(data, "time")


def test_tables_whose_handler_is_not_the_first_box_are_none():
    """ffmpeg takes the picture's bytes for a handler and for boxes behind it."""
    hidden = bytes(2) + box(b"hdlr", bytes(8), b"pict", bytes(12)) + box(b"udta", loci())
    data = heif([Thing(1, b"hvc1", nal(20, hidden), properties=(1, 2), where="idat")])
    at, first = data.index(b"idat") - 4, data.index(b"hdlr") - 4
    idat = data[at : at + int.from_bytes(data[at : at + 4])]
    moved = data[:first] + idat + data[first:at] + data[at + len(idat) :]
    assert locate("image/heic", frozenset({"location"}), MemorySource(data)).outcome is Outcome.CLEAN
    plan = locate("image/heic", frozenset({"location"}), MemorySource(moved))
    assert plan.reason.endswith("there is no picture in it")

"""SEI messages: one walk and one answer, whatever form the removed ones take."""

from __future__ import annotations

from random import Random

import pytest

from policyfs.redact.bitstreams import sei
from policyfs.redact.bitstreams.nal_units import AVC, HEVC
from policyfs.redact.bitstreams.sei import MDPM, mdpm_entries
from policyfs.redact.core import cleaners
from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells, hidden_by
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import locate
from tests.fuzz.richer import FILMS
from tests.support.samples import mpegs
from tests.support.samples.inners import Plain
from tests.support.samples.movies import CITY, PLACE
from tests.support.samples.mpegs import EXPOSED, GPS, mdpm
from tests.unit import test_redact_registry as registry

X265 = bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e")
CAPTIONS = b"\xb5\0\x31GA94\3\xc2\xff\xfcAB\xfcCD\xff"
RANGE = b"\xb5\0\x3c\0\1\4" + Random(2).randbytes(300)
WORDS = ("location", "device", "time", "people", "all-metadata")


def message(kind: int, payload: bytes) -> bytes:
    def number(value: int) -> bytes:
        return b"\xff" * (value // 255) + bytes((value % 255,))

    return number(kind) + number(len(payload)) + payload


def escaped(payload: bytes) -> bytes:
    """With emulation prevention bytes (H.264 section 7.4.1)."""
    out, zeros = bytearray(), 0
    for byte in payload:
        if zeros >= 2 and byte <= 3:
            out.append(3)
            zeros = 0
        out.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    return bytes(out)


def unit(*payloads: bytes) -> bytes:
    return b"\x4e\1" + escaped(b"".join(payloads)) + b"\x80"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (message(5, X265 + b"x265 options"), {"device", "all-metadata"}),
        (message(5, b"MISPmicrosectime" + bytes(12)), {"time", "all-metadata"}),
        (message(5, bytes(range(16)) + b"who knows"), set(WORDS)),
        (message(5, b"short"), set(WORDS)),
        (message(4, CAPTIONS), set()),
        (message(4, CAPTIONS + CITY), set(WORDS)),
        (message(4, b"\xb5\0\x31GA94\3"), set()),
        (message(4, b"\xb5\0\x31DTG1\x41\xf8"), set()),
        (message(4, b"\xb5\0\x31DTG1" + CITY), set(WORDS)),
        (message(4, b"\xb5\0\x31GA94\6\xc0\xf0\1\xf0\2"), set()),
        (message(4, b"\xb5\0\x31" + CITY), set(WORDS)),
        (message(4, RANGE), set()),
        (message(4, RANGE + PLACE), {"location", "all-metadata"}),
        (message(4, RANGE + PLACE.decode().encode("utf-16-be")), {"location", "all-metadata"}),
        (message(4, b"\xb5\0\x99"), set(WORDS)),
        (message(136, bytes(4)), {"time", "all-metadata"}),
        (message(137, bytes(24)), set()),
        (message(137, bytes(256)), set(WORDS)),
        (message(3, b"\xff" * 300), set()),
        (message(3, b"filler that is none"), set(WORDS)),
        (message(133, b"\0"), set(WORDS)),
        (message(300, b"\0"), set(WORDS)),
    ],
)
def test_what_goes_goes_from_pictures_and_movies_alike(word, said):
    for name in WORDS:
        inner = Plain(hidden_by([name]))
        for whole in (unit(word), unit(message(137, bytes(24)), word)):
            gone = name in said
            assert (sei.blanked(whole, HEVC.header, inner) is not None) == gone, name
            assert (sei.filled(whole, HEVC.header, inner) != whole) == gone, name


def test_a_message_that_is_cut_off_goes_from_a_picture():
    inner = Plain(hidden_by(["location"]))
    cut = b"\x4e\1" + message(137, bytes(24))[:-4]
    for odd in (cut, cut[:4] + b"\xff\xff", b"\x4e\1\5", b"\x4e\1\xff"):
        assert sei.filled(odd, HEVC.header, inner) != odd
        assert len(sei.filled(odd, HEVC.header, inner)) == len(odd)


def test_any_bytes_keep_their_size_and_are_done_in_one_go():
    rng = Random(7)
    for _ in range(3000):
        some = bytes(
            rng.choice((0, 0, 0, 1, 3, 4, 5, 5, 16, 136, 128, 255)) for _ in range(rng.randrange(60))
        )
        inner = Plain(hidden_by([rng.choice(WORDS)]))
        for header in (AVC.header, HEVC.header):
            whole = some[:header].ljust(header, b"\1") + some
            new = sei.filled(whole, header, inner)
            assert len(new) == len(whole)
            assert new[:header] == whole[:header]
            assert sei.filled(new, header, inner) == new
            blanked = sei.blanked(whole, header, inner)
            assert blanked is None or len(blanked.data) == len(whole)


def test_the_size_behind_an_emulation_prevention_byte_stays_though_it_is_that_of_a_blank():
    # A message of two bytes that goes, then one of type 0 and of 32 bytes.
    inner, whole = Plain(hidden_by(["time"])), b"\6\4\2A\0\0\3\x20" + b"\1" * 32 + b"\x80"
    blanked = sei.blanked(whole, AVC.header, inner)
    assert blanked is not None
    assert blanked.data == whole.replace(b"A", b" ")
    assert sei.blanked(blanked.data, AVC.header, inner) is None


def test_filler_is_a_chain_of_messages_of_nothing():
    inner = Plain(hidden_by(["all-metadata"]))
    for size in range(1, 1100):
        filler = sei.filler(size)
        assert len(filler) == size
        assert sei.filled(b"\x4e\1" + filler, HEVC.header, inner) == b"\x4e\1" + filler


def test_the_options_of_an_encoder_go_from_matroskas_settings():
    film = next(film for film in FILMS if b"x264 47." in film)
    plan = locate("video/x-matroska", frozenset({"device"}), MemorySource(film))
    out = apply(film, plan.patches)
    assert b"x264 47." not in out
    assert b"\x4e\1" + sei.filler(27) in out


def test_texts_are_searched_only_within_the_budget_also_those_that_are_known():
    inner = Plain(hidden_by(["location"]))
    said = unit(message(5, X265 + b"x265 options: " + b"threads=4 " * 1000))
    texts = [unit(message(5, X265 + b"x265 %d " % number + b"threads=4 " * 1000)) for number in range(60)]
    for each in ([said] * 60, texts):
        inner.budget.texts = cleaners.MAX_TEXTS_BYTES
        gone = [sei.blanked(text, HEVC.header, inner) is not None for text in each]
        assert gone == sorted(gone)
        assert 30 < gone.count(False) < 40
    assert len(inner.budget.told) < 50


def test_a_unit_with_emulation_prevention_costs_more_than_any_other():
    inner = Plain(hidden_by(["location"]))
    spent = []
    for payload in (bytes(20), b"\1" * 24):
        before, whole = inner.budget.searched, unit(message(137, payload))
        assert sei.blanked(whole, HEVC.header, inner) is None
        spent.append((before - inner.budget.searched) // len(whole))
    assert spent == [4, 1]


TIME = b"\x18\2\x20\x24\5"
CAMERA = b"\xe0\0\1\3\0"


def told(payload: bytes) -> list[Tells]:
    return [entry.tells for entry in mdpm_entries(MDPM + payload)]


def test_what_entries_tell():
    place = Tells.LOCATION | Tells.TIME
    assert told(b"\4" + TIME + EXPOSED + GPS[0] + CAMERA) == [Tells.TIME, Tells.OTHER, place, Tells.DEVICE]
    assert told(b"\1" + b" " * 5) == [NOTHING]
    assert told(b"\2" + b"\xf3home" + b"\xb0ab") == [UNKNOWN, UNKNOWN]
    assert told(b"\0at home") == [UNKNOWN]
    assert told(b"") == []
    assert told(b"\0\0\0") == []


def test_entries_go_one_by_one():
    unit = mdpm(TIME, EXPOSED, *GPS, CAMERA)[4:]
    for hide, kept, gone in (
        (Tells.LOCATION, (TIME, EXPOSED, CAMERA), GPS),
        (Tells.DEVICE, (TIME, EXPOSED, *GPS), (CAMERA,)),
        (Tells.TIME, (EXPOSED, CAMERA), (TIME, *GPS)),
    ):
        new = sei.blanked(unit, 1, registry.cleaners(hide))
        assert new is not None
        plain = new.data.replace(b"\0\0\3", b"\0\0")
        assert all(entry in plain for entry in kept)
        assert not [entry for entry in gone if entry in plain]
        assert sei.blanked(new.data, 1, registry.cleaners(hide)) is None


def test_a_text_among_entries_goes_with_all_of_them():
    new = sei.blanked(mdpm(TIME, b"\xe4" + mpegs.PLACE + b"ab")[4:], 1, registry.cleaners())
    assert new is not None
    assert mpegs.PLACE[:8] not in new.data
    assert TIME not in new.data

"""WAV: what goes from which chunk, and what stays as it was."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from tests.support.samples import jpegs, sounds
from tests.support.samples.sound_checks import assert_refused, redact
from tests.support.samples.sounds import CITY, PLACE, PLAIN, WAV


@pytest.mark.parametrize("data", [b"", PLAIN["WAV"][1][:14], sounds.wav().replace(b"data", b"dada")])
def test_what_is_no_such_file_is_refused(data):
    assert_refused(WAV, data)


@pytest.mark.parametrize("size", [0, 3, 12, 400])
def test_sound_without_a_length_ends_where_it_ended_before(size):
    """At a chunk that goes, too, and not at what another chunk holds behind it."""
    sound = sounds.wav()[:-104] + bytes(4) + bytes(range(100))
    kept = sounds.chunk(b"data", sounds.info(ICMT=PLACE))
    out = redact(WAV, sound + sounds.chunk(b"iXML", (CITY * 34)[:size]) + kept)
    assert out.startswith(sound)
    assert out.endswith(kept)
    assert CITY not in out


def test_a_chunk_too_short_for_its_time_leaves_the_next_one_alone():
    """When its peaks were measured stands behind the first 4 bytes of a PEAK chunk."""
    texts = sounds.info(ISBJ=b"Quince")
    for peak, measured in ((b"", b""), (b"\1\0\0\0", b"\x17\x05\x20\x26")):
        data = sounds.wav(sounds.chunk(b"PEAK", peak + measured) + texts)
        out = redact(WAV, data, Tells.TIME)
        assert texts in out
        assert sounds.chunk(b"PEAK" if peak else b"JUNK", peak + bytes(len(measured))) in out


@pytest.mark.parametrize("blank", [b"\0", b" "])
@pytest.mark.parametrize("size", [0, (1 << 20) - 30, 1 << 20, 3 << 20])
def test_a_place_behind_a_long_blank_field_goes(size, blank):
    data = sounds.wav(sounds.chunk(b"bext", bytes(602) + blank * size + PLACE))
    assert PLACE not in redact(WAV, data)


def test_a_long_blank_field_stays():
    data = sounds.wav(sounds.chunk(b"bext", bytes(602 + (1 << 20))))
    assert redact(WAV, data) == data


LATER = {
    "INF0": sounds.chunk(b"LIST", b"INF0" + sounds.chunk(b"IARL", CITY)),
    **{name: sounds.chunk(name.encode(), b"\1\0\0\0" + CITY) for name in ("IDIT", "guan", "DISP", "EXIF")},
    "XMP_": sounds.chunk(b"XMP_", jpegs.xmp_packet(f"<photoshop:City>{CITY.decode()}</photoshop:City>")),
    "ID32": sounds.chunk(b"ID32", sounds.id3(sounds.user(b"City", CITY))),
    "id32": sounds.chunk(b"id32", sounds.id3(sounds.user(b"City", CITY))),
}


@pytest.mark.parametrize("size", [0, 1 << 20, 0xFFFFFFFF])
@pytest.mark.parametrize("name", LATER)
def test_a_chunk_behind_sound_without_a_length_is_found(name, size):
    """A recorder that crashed leaves a length of zero. Readers then take silence for empty chunks."""
    for sound in (bytes(800), b"\1\0\2\0" * 300):
        head = sounds.wav(data=b"")[:-4] + size.to_bytes(4, "little") + sound
        out = redact(WAV, head + LATER[name])
        assert out.startswith(head)
        assert CITY not in out


def test_a_chunk_in_sound_without_a_length_that_readers_find_is_refused():
    """Within a chunk that is no metadata, behind silence."""
    within = sounds.chunk(b"LIST", b"abcd" + sounds.info(IARL=CITY))
    assert_refused(WAV, sounds.wav(data=b"") + bytes(800) + within)


@pytest.mark.parametrize("hide", [Tells.DEVICE, Tells.LOCATION])
def test_the_sampler_that_made_it_is_a_device(hide):
    numbers = b"\x41\0\0\1\x09\3\0\0" + bytes(range(28)).replace(b"\x1b", b"\0")
    head, loops = numbers[:8], numbers[8:28] + bytes(8)
    out = redact(WAV, sounds.wav(sounds.chunk(b"smpl", head + loops)), hide)
    assert sounds.chunk(b"smpl", (bytes(8) if hide is Tells.DEVICE else head) + loops) in out


SETTINGS = {
    "ADPCM": b"\2\0" + bytes(14) + b"\x20\0\xf4\3\7\0\0\1\0\0\0\2\0\xff\0\0\0\0\xc0\0\x40\0\xf0\0\0\0"
    b"\xcc\1\x30\xff\x88\1\x18\xff",
    "MP3": b"\x55\0" + bytes(14) + b"\x0c\0\1\0\2\0\0\0\xa1\1\1\0\x71\5",
    "extensible": b"\xfe\xff"
    + bytes(14)
    + b"\x16\0\x10\0\3\0\0\0\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_a_codec_stay_unless_they_are_a_text_with_a_place(name):
    def wav(settings):
        return sounds.wav().replace(sounds.wav()[12:36], sounds.chunk(b"fmt ", settings), 1)

    plain, place = SETTINGS[name], SETTINGS[name][:16] + b"\x14\0" + PLACE
    for hide in Tells:
        assert redact(WAV, wav(plain), hide) == wav(plain)
    assert redact(WAV, wav(place)) == wav(place[:16] + bytes(len(place) - 16))

"""Sound in a WAV or an AVI that is a file of its own: its tags go, its frames stay."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.cleaners import NotThisKindError
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from policyfs.redact.riff.sound import FILES
from policyfs.redact.tags.sound_streams import PLAIN
from tests.support.samples import sounds
from tests.support.samples.media import TOOL_DEADLINE_S, run
from tests.support.samples.sound_checks import assert_places_go, assert_the_rest_stays, redact
from tests.support.samples.sounds import AVI, CITY, PLACE, WAV, chunk

TAG = sounds.id3(sounds.user(b"LOCATION", CITY), sounds.words("TIT2", PLACE))
TAGS = {
    "ID3": TAG + sounds.sound(),
    "ID3 between": sounds.sound() + TAG + sounds.sound(),
    "ID3v1": sounds.sound() + sounds.old(PLACE),
    "APE": sounds.sound() + sounds.ape((b"Location", CITY), (b"Title", PLACE)),
    "Lyrics": sounds.sound() + sounds.lyrics(PLACE + CITY) + sounds.old(),
}
FLAC = sounds.flac((4, sounds.comments(b"LOCATION=" + CITY)))
OGG = sounds.vorbis(sounds.comments(b"LOCATION=" + CITY))


@pytest.mark.parametrize("case", sounds.CASES)
def test_places_go(case):
    assert_places_go(case)


@pytest.mark.parametrize("name", sounds.PLAIN)
def test_what_is_not_asked_for_stays(name):
    assert_the_rest_stays(name)


def wav(code: int, data: bytes, *, extensible: bool = False) -> bytes:
    """A WAV of sound in a format."""
    head = (0xFFFE if extensible else code).to_bytes(2, "little") + b"\1\0\x44\xac\0\0\x80\x3e\0\0\1\0\0\0"
    more = b"\x16\0\0\0\0\0\0\0" + code.to_bytes(2, "little") + bytes(14) if extensible else b"\0\0"
    body = b"WAVE" + chunk(b"fmt ", head + more) + chunk(b"data", data)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def avi(*parts: bytes, code: int = 0x55) -> bytes:
    """An AVI with one stream of pictures, and one of sound in these parts."""
    strf = code.to_bytes(2, "little") + bytes(16)
    more = chunk(b"LIST", b"strl" + chunk(b"strh", b"auds" + bytes(52)) + chunk(b"strf", strf))
    made = sounds.avi(movie=b"".join(chunk(b"01wb", part) for part in parts))
    at = made.index(b"LIST", made.index(b"hdrl"))
    behind = at + 8 + int.from_bytes(made[at + 4 : at + 8], "little")
    made = bytearray(made[:behind] + more + made[behind:])
    for size in (4, 16):
        made[size : size + 4] = (int.from_bytes(made[size : size + 4], "little") + len(more)).to_bytes(
            4, "little"
        )
    return bytes(made)


@pytest.mark.parametrize("name", TAGS)
@pytest.mark.parametrize("code", [0x50, 0x55, 0x1600, 0x1234])
def test_tags_in_a_wav_go(name, code):
    for extensible in (False, True):
        out = redact(WAV, wav(code, TAGS[name], extensible=extensible))
        assert PLACE not in out
        assert CITY not in out
        assert sounds.sound() in out


@pytest.mark.parametrize("name", TAGS)
def test_tags_in_the_sound_of_an_avi_go(name):
    data = avi(sounds.sound(1), TAGS[name][: len(TAGS[name])])
    out = redact(AVI, data)
    assert PLACE not in out
    assert CITY not in out
    assert out.count(sounds.sound(1)) == data.count(sounds.sound(1))


@pytest.mark.parametrize("cut", [2, 9, 14, 40])
def test_a_tag_in_two_chunks_of_an_avi_is_refused(cut):
    with pytest.raises(NotThisKindError, match="two chunks"):
        locate_in(AVI, MemorySource(avi(sounds.sound() + TAG[:cut], TAG[cut:])), Tells.LOCATION)


@pytest.mark.parametrize(("code", "data"), [(0xF1AC, FLAC), (0x674F, OGG), (0x6771, OGG)])
def test_other_files_in_a_wav_are_cleaned_like_files(code, data):
    assert CITY not in redact(WAV, wav(code, data))
    with pytest.raises(NotThisKindError, match="sound"):
        locate_in(WAV, MemorySource(wav(code, CITY * 30)), Tells.LOCATION)


@pytest.mark.parametrize("code", [1, 3, 2, 0x11, 0x31])
def test_plain_sound_is_left_alone(code):
    data = wav(code, sounds.sound() + b"ID3\3\0\0\0\0\0\x20" + bytes(range(32)))
    assert redact(WAV, data) == data


def test_each_code_has_one_meaning():
    assert not PLAIN & FILES.keys()


def decoded(path: Path) -> str:
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-map", "0:a", "-f", "s16le", "-"]
    done = subprocess.run(command, capture_output=True, timeout=TOOL_DEADLINE_S, check=True)
    assert len(done.stdout) > 10_000
    return hashlib.sha256(done.stdout).hexdigest()


@pytest.mark.parametrize("name", ["a.wav", "a.avi"])
def test_the_sound_of_a_real_file_is_the_same(tmp_path, name):
    path, out = tmp_path / name, tmp_path / f"out-{name}"
    picture = ["-f", "lavfi", "-i", "testsrc=d=1:s=32x32", "-c:v", "mpeg4"] if name == "a.avi" else []
    sound = ["-f", "lavfi", "-i", "sine=d=1", "-c:a", "libmp3lame"]
    run("ffmpeg", "-v", "error", *picture[:4], *sound[:4], *picture[4:], *sound[4:], str(path))
    data = path.read_bytes()
    assert redact(WAV if name == "a.wav" else AVI, data) == data
    if name == "a.wav":
        at = data.index(b"data") + 8
        tagged = data[: at - 4] + (len(data) - at + len(TAG)).to_bytes(4, "little") + TAG + data[at:]
        path.write_bytes(tagged)
        out.write_bytes(redact(WAV, tagged))
        assert CITY not in out.read_bytes()
        assert decoded(out) == decoded(path)


@pytest.mark.parametrize("code", [0x55, 0xFF, 0x92])
@pytest.mark.parametrize("stub", [b"id3 ", b"iXML", b"bextab", b"JUNK", b"Exif", b"C2PA", b"id3 iXML"])
@pytest.mark.parametrize("tag", [TAG, sounds.old(PLACE), sounds.lyrics(PLACE), b"Exif\0\0" + PLACE])
def test_zeros_in_cut_sound_make_neither_a_chunk_nor_a_tag(code: int, stub: bytes, tag: bytes) -> None:
    """Sound that is cut off ends where a chunk seems to begin: a second look would find another end."""
    for frames in sounds.sound(), b"":
        data = wav(code, frames + stub + tag + bytes(9))[:-1]
        plan = locate(WAV, frozenset({"location"}), MemorySource(data))
        if plan.outcome is Outcome.REFUSE:
            assert "a tag in its sound" in plan.reason
            continue
        out = apply(data, plan.patches)
        assert PLACE not in out
        again = locate(WAV, frozenset({"location"}), MemorySource(out))
        assert again.outcome is Outcome.CLEAN, (again.reason, again.findings)

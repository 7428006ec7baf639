"""What a named text tells: by its name, and by what it says."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import NOTHING, UNKNOWN, Tells
from policyfs.redact.core.cleaners import Budget
from policyfs.redact.core.free_text import MAX_TEXT_BYTES
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.core.tag_names import (
    NAMES,
    is_blank,
    is_language,
    plain_name,
    tells_of_name,
    tells_time,
    told,
    told_by_named,
)
from policyfs.redact.isobmff.udta_names import free_form_tells
from policyfs.redact.matroska.tag_names import tag_tells
from policyfs.redact.plan import locate
from tests.support.samples.media import run

L, D, T, P, O = Tells.LOCATION, Tells.DEVICE, Tells.TIME, Tells.PEOPLE, Tells.OTHER  # noqa: E741


@pytest.mark.parametrize(
    "name", ["Creation Time", "CREATION_TIME", " creation-time ", "creation.time", "(creation)/[time]"]
)
def test_names_are_compared_without_blanks_and_punctuation(name):
    assert plain_name(name) == "creationtime"
    assert tells_of_name(name) == T


def test_names_of_the_tables_are_written_as_they_are_looked_up():
    for names in NAMES.values():
        for name in names.split():
            assert plain_name(name) == name


@pytest.mark.parametrize(
    ("name", "tells"),
    [
        ("Location", L),
        ("GPSDestLatitude", L),
        ("exif:GPSInfo", L),
        ("exifGPS", L),
        ("Source", P | D),
        ("Software", D),
        ("date:create", T),
        ("icc:description", O),
        ("png:IHDR.width", O),
        ("date", T),
        ("icc", UNKNOWN),
        ("Thumb::MTime", T),
        ("Thumb::Image::Width", O),
        ("Thumb::URI", UNKNOWN),
        ("xmp:Title", P),
        ("replaygain_track_gain", O),
        ("MUSICBRAINZ_RELEASECOUNTRY", L),
        ("MusicBrainz Anything New", O),
        ("comment[1]", P),
        ("CHAPTER001NAME", P),
        ("prompt", P | D),
        ("location:name", L | P),
        ("place:title", L | P),
        ("Description (location)", L | P),
        ("comment location", L | P),
        ("commentCity", L | P),
        ("COMMENT_GPSPOSITION", L | P),
        ("lyricslatitude", L | P),
        ("Chapter (lat)", L | P),
        ("png:City", L),
        ("icc:Location", L),
        ("date:place", L),
        ("png:Title", P),
        ("icc:quince", UNKNOWN),
        ("date:quince", UNKNOWN),
        ("png:IHDR.bit-depth-orig", O),
        ("png:IHDR.width,height", O),
        ("png:IHDR.quince", UNKNOWN),
        ("comment translated", P),
        ("replaygain_track_peak", O),
        ("comment" + "s" * 993, P),
        ("comment" + "s" * 994, L | P),
        ("", UNKNOWN),
        (":", UNKNOWN),
        ("quince", UNKNOWN),
    ],
)
def test_names(name, tells):
    assert tells_of_name(name) == tells


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-17",
        "on 2024:05:17.",
        "1999/1/9",
        "20240517",
        "17.05.2024",
        "Created on: 05/17/2024.",
        "5-31-1999",
        "5 January 2024",
        "5. jan 2024",
        "May 17, 2024",
        "Fri May 17 11:22:33 2024",
    ],
)
def test_dates(text):
    assert tells_time(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-13-01",
        "2024-05-32",
        "13/17/2024",
        "05/32/2024",
        "105/17/2024",
        "1824-05-17",
        "120240517",
        "202405171",
        "Maybe 17 quinces",
        "2024-05",
    ],
)
def test_what_is_no_date(text):
    assert not tells_time(text)


def test_text_too_long_to_be_searched_may_hold_a_date():
    assert not tells_time("a" * (1 << 20))
    assert tells_time("a" * ((1 << 20) + 1))


@pytest.mark.parametrize(
    ("hide", "tells", "value", "expected"),
    [
        (L | T, P | T, b"quince", T),
        (L | T, P, b"quince", NOTHING),
        (L, P, b"47.80453, 13.04229", L),
        (L, P, "47.80453, 13.04229".encode("utf-16"), L),
        (T, P, b"47.80453, 13.04229", NOTHING),
        (T | L, NOTHING, b"Live, 17 May 2024", T),
        (D, NOTHING, b"Live, 17 May 2024", NOTHING),
        (D, NOTHING, b"made with ezgif", D),
        (L, UNKNOWN, b"", L),
        (L, NOTHING, b"", NOTHING),
    ],
)
def test_told(hide, tells, value, expected):
    assert told(hide, tells, value) & hide == expected


def test_a_text_too_long_tells_all_that_is_hidden():
    assert told(L | T, NOTHING, b"a" * MAX_TEXT_BYTES) == NOTHING
    assert told(L | T, NOTHING, b"a" * (MAX_TEXT_BYTES + 1)) == L | T
    assert told(L | T, NOTHING, bytes(4 * MAX_TEXT_BYTES)) == NOTHING
    assert told(L | T, NOTHING, bytes(4 * MAX_TEXT_BYTES + 1)) == L | T
    assert told_by_named(L, "title", bytes(4 * MAX_TEXT_BYTES + 1)) == L


def test_beyond_the_budget_for_texts_a_text_tells_all_that_is_hidden():
    budget = Budget(0, 0, texts=10)
    assert told(L, NOTHING, b"ten quince", budget) == NOTHING
    assert told(L, NOTHING, b"q", budget) == L
    assert told(L, NOTHING, b"", budget) == NOTHING
    assert told(L, L, b"known by its name", budget) == L


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("title", b"quince", NOTHING),
        ("title", b"<x:xmpmeta>", L),
        ("title", b'  {"a": 1}', L),
        ("title", b"a <?xpacket ?>", L),
        ("prompt", b'{"a": 1}', NOTHING),
        ("exif:ExposureTime", b"1/250", NOTHING),
        ("exif:ExposureTime", b"quince", L),
        ("exif:MakerNote", b"1, 2", L),
        ("exif:OwnSerial", b"12", L),
        ("exif:GPSLatitude", b"47/1, 48/1", L),
        ("exif:Lens", b"1, 2, 3, 4, 5, 6", NOTHING),
        ("exif:Lat", b"47.80453", L),
        ("exif:DestLon", b"13", L),
        ("exif:Flat", b"13", NOTHING),
        ("exif:Unheard", b"1, 2, 3, 4, 5, 6, 7", L),
        ("exif:Unheard", b"1, 2, 3, 4, 5, 6", NOTHING),
    ],
)
def test_told_by_a_named_text(name, value, expected):
    assert told_by_named(L, name, value) & L == expected


@pytest.mark.parametrize(
    ("data", "blank"), [(b"", True), (b" \0\t\r\n", True), (b" \0x", False), (b"\xa0", False)]
)
def test_blank(data, blank):
    assert is_blank(data) is blank


@pytest.mark.parametrize(
    "data", [b"de", b"ger", b"pt-BR", b"zh-Hans-CN", b"zh-yue-Hant-HK", b"es-419", b"de-1996"]
)
def test_a_language_tag(data):
    assert is_language(data)


@pytest.mark.parametrize(
    "data", [b"", b"d", b"Smith", b"John Smith", b"en-x-smith", b"en-smith", b"de\n", b"d\xe9"]
)
def test_no_language_tag(data):
    assert not is_language(data)


TAGGERS = (
    "LYRICISTSORT musicip_puid MUSICMAGICFINGERPRINT CDDB_Disc_ID iTunes_CDDB_IDs iTunes_CDDB_1 iTunNORM"
    " DIRECTORS iTunEXTC voice-memo-uuid DISCOGS_RELEASE_ID MusicBrainz_Album_Type Acoustid_Id MOVEMENTNUMBER"
    " SHOWMOVEMENT ORIGINALFILENAME CONTENTRATING ALBUMARTISTS ASIN BARCODE CATALOGNUMBER WORK STYLE"
    " MP3GAIN_MINMAX ACCURATERIPCRC CTDBTRACKCONFIDENCE LABELID ISWC ENERGYLEVEL RATING_MM PLAYCOUNT CDTOC"
    " RIPPING_TOOL RIP_DATE SOURCEID ORIGARTIST MIXARTIST INVOLVEDPEOPLE SONGTYPE SPOTIFY_ID IMDB"
    " SETSUBTITLE LICENCE TRANSCODED COVERARTMIME"
)


@pytest.mark.parametrize("name", TAGGERS.split())
def test_a_name_of_taggers_counts_in_all_containers(name):
    """They are in TXXX, free-form items, Vorbis comments, and tags of Matroska."""
    tells = tells_of_name(name)
    assert tells not in (UNKNOWN, NOTHING)
    assert not tells & L
    assert free_form_tells(name.encode()) == tells
    assert tag_tells(name.encode(), b"a quince") == tells
    for value in (b"<city>Linz</city>", b'{"x": "Linz"}'):
        assert tag_tells(name.encode(), value) == free_form_tells(name.encode(), value) == UNKNOWN
    assert not told_by_named(L, name, b"a quince")
    assert told_by_named(L, name, b"47.80453, 13.04229") == L


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "mka"])
def test_tags_that_ffmpeg_writes_stay_without_a_place(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    names = [name for name in TAGGERS.split() if "SORT" not in name]
    tags = [part for name in names for part in ("-metadata", f"{name}=a quince {name}")]
    sound = ("-f", "lavfi", "-i", "anullsrc=d=0.1")
    codec = {"mp3": "libmp3lame", "flac": "flac", "ogg": "libvorbis", "mka": "flac"}[suffix]
    run("ffmpeg", "-nostdin", "-v", "error", *sound, "-c:a", codec, *tags, str(path))
    data = path.read_bytes()
    kind = {"mp3": "audio/mpeg", "flac": "audio/flac", "ogg": "audio/ogg", "mka": "audio/x-matroska"}[suffix]
    out = apply(data, locate(kind, frozenset({"location"}), MemorySource(data)).patches)
    for name in names:
        assert f"a quince {name}".encode() in out, name


@pytest.mark.parametrize(
    "text", ["[Quince] Film - 01", "[1080p] a quince", "[live]", "[ untitled ]", "[2019] Album"]
)
def test_brackets_at_the_start_of_a_title_are_no_markup(text):
    """Programs and people begin titles so; only an array of JSON is markup."""
    assert not told_by_named(L, "title", text.encode())
    assert tag_tells(b"TITLE", text.encode()) == P


@pytest.mark.parametrize(
    "text", ['["Linz"]', "['Linz']", '[{"city": "Linz"}]', "[[1, 2]]", "[47, 13]", " [ 5 ] ", "{}"]
)
def test_arrays_of_json_are_markup_under_any_name(text):
    assert told_by_named(L, "title", text.encode())
    assert tag_tells(b"TITLE", text.encode()) == UNKNOWN

"""Locators by kind, and the cleaners that locators of other files use for embedded ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from policyfs.formats import REDACTABLE_KINDS, WITHOUT_LOCATOR
from policyfs.redact.core.categories import WORDS, Tells
from policyfs.redact.core.cleaners import MAX_NESTING, Budget, Found, NotThisKindError, budget_for
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.registry import LOCATORS, Treatment, _Cleaners, kind_rows, kind_table, locate_in
from tests.support.samples import jp2s, jpegs
from tests.support.samples.heifs import Layout, Thing, heif, picture
from tests.support.samples.movies import box as make_box

DOCS = Path(__file__).parents[2] / "docs"
BEGIN = "<!-- made by `make docs` from policyfs/formats.py -->\n"
EXIF = b"\0\0\0\0" + jpegs.exif("MM")
LATITUDE = jpegs.pack("MM", *jpegs.LATITUDE)
SECRET = b"47.804531, 13.042287"
PICTURE = Thing(1, b"hvc1", picture(), properties=(1, 2))
PHOTO = jpegs.photo_with(jpegs.exif("MM"))


def cleaners(hide: Tells = Tells.LOCATION, depth: int = MAX_NESTING) -> _Cleaners:
    return _Cleaners(hide, Budget(1000, 1 << 20), depth)


def test_kinds_with_a_locator_are_those_of_the_formats_and_no_kind_is_both() -> None:
    located = {row.kind for row in kind_rows() if row.treatment is Treatment.LOCATOR}
    assert located == LOCATORS.keys() == REDACTABLE_KINDS
    assert not located & WITHOUT_LOCATOR.keys()
    kinds = [row.kind for row in kind_rows()]
    assert len(kinds) == len(set(kinds)) == len(kind_table())
    assert all(kind_table()[kind].treatment is Treatment.REFUSED for kind in WITHOUT_LOCATOR)
    assert all(callable(locator) for locator in LOCATORS.values())


def test_a_kind_in_no_row_has_no_locator() -> None:
    for kind in ("image/x-unheard-of", "", "IMAGE/JPEG"):
        assert kind not in kind_table()
        with pytest.raises(KeyError):
            locate_in(kind, MemorySource(PHOTO), Tells.LOCATION)


def test_the_page_has_the_table_of_kinds() -> None:
    table = ["", "| kind | under `redact: [location]` | why |", "|---|---|---|"]
    table += [f"| `{row.kind}` | {row.treatment.value} | {row.why} |" for row in kind_rows()]
    page = DOCS / "redaction.md"
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    shown, _, after = rest.partition("\n\n")
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        page.write_text(before + begin + "\n".join(table) + "\n\n" + after, "utf-8")
        pytest.fail("the page was written: read it, then run without updating")
    assert shown.splitlines() == table


def test_the_page_of_parts_has_each_kind_once_with_words_of_a_policy() -> None:
    page = (DOCS / "redaction-parts.md").read_text("utf-8")
    kinds = re.findall(r"^## (.+)", page, re.MULTILINE)
    assert len(set(kinds)) == len(kinds) > 20
    words = {"no word", "by content", *WORDS, "all-metadata only"}
    found = re.findall(r"^- \*([^*]+)\*: ", page, re.MULTILINE)
    assert len(found) > len(kinds)
    assert {word for one in found for word in one.split(", ")} <= words


def test_a_file_of_another_kind_is_refused_where_it_stands_alone_and_unknown_within_another() -> None:
    with pytest.raises(NotThisKindError):
        locate_in("image/png", MemorySource(PHOTO), Tells.LOCATION)
    assert cleaners().file("image/png", MemorySource(PHOTO)) is None
    assert cleaners().file("image/x-unheard-of", MemorySource(PHOTO)) is None
    found = cleaners().file("image/jpeg", MemorySource(PHOTO))
    assert isinstance(found, Found)
    assert found.patches


def test_files_are_embedded_to_a_limited_depth() -> None:
    assert cleaners(depth=1).file("image/jpeg", MemorySource(PHOTO)) is not None
    assert cleaners(depth=0).file("image/jpeg", MemorySource(PHOTO)) is None
    assert cleaners(depth=0).jpeg(PHOTO) is None
    inside = jpegs.photo_with(_with_thumbnail(PHOTO))
    shallow, deep = cleaners(depth=1).jpeg(inside), cleaners(depth=2).jpeg(inside)
    assert shallow is not None
    assert deep is not None
    picture = PHOTO[-20:]
    assert shallow.data.count(picture) == 1, "a thumbnail that nobody has looked into goes"
    assert deep.data.count(picture) == 2
    assert LATITUDE not in shallow.data + deep.data


def _with_thumbnail(photo: bytes) -> bytes:
    entries = [jpegs.long("MM", 0x0201, 200), jpegs.long("MM", 0x0202, len(photo))]
    first = jpegs.ifd("MM", 8, [jpegs.text(0x010F, "Testmaker")], 100)
    return jpegs.tiff("MM", (8, first), (100, jpegs.ifd("MM", 100, entries)), (200, photo))


def test_all_embedded_files_share_one_budget() -> None:
    made = cleaners()
    before = made.budget.parts
    made.jpeg(PHOTO)
    first = before - made.budget.parts
    made.jpeg(PHOTO)
    assert 0 < first == before - first - made.budget.parts


def test_bytes_that_begin_like_no_picture_are_not_understood() -> None:
    assert cleaners().image(b"no picture" + PHOTO) is None
    assert cleaners().image(b"") is None
    cleaned = cleaners().image(PHOTO)
    assert cleaned is not None
    assert LATITUDE in PHOTO
    assert LATITUDE not in cleaned.data


@pytest.mark.parametrize(
    ("text", "hide", "goes"),
    [
        (b"a quince", Tells.LOCATION, False),
        (b"at " + SECRET, Tells.LOCATION, True),
        (b"at " + SECRET, Tells.TIME, False),
        (b"a quince", Tells.PEOPLE, True),
    ],
)
def test_free_text_goes_as_words_of_people_or_for_what_is_in_it(text: bytes, hide: Tells, goes: bool) -> None:
    assert cleaners(hide).text(text) is goes


def test_free_text_goes_unread_once_the_budget_for_texts_is_used_up() -> None:
    inner = cleaners(Tells.LOCATION)
    inner.budget.texts = 10
    assert [inner.text(b"a quince") for _ in range(2)] == [False, True]


def test_an_embedded_picture_is_told_by_its_first_bytes():
    """A cover in a song may be any of these."""
    exif = make_box(b"Exif", EXIF)
    uuid = make_box(b"uuid", b"JpgTiffExif->JP2" + EXIF[4:])
    pictures = [
        heif([PICTURE, Thing(2, b"Exif", EXIF)]),
        heif([PICTURE, Thing(2, b"Exif", EXIF)], Layout(brand=b"avif")),
        jp2s.jxl(exif),
        jp2s.jp2(uuid),
        jp2s.codestream(header=jp2s.comment(SECRET)),
    ]
    for data in pictures:
        inner = _Cleaners(Tells.LOCATION, budget_for(MemorySource(data)), 2)
        cleaned = inner.image(data)
        assert cleaned is not None
        assert LATITUDE not in cleaned.data
        assert SECRET not in cleaned.data
        assert len(cleaned.data) == len(data)

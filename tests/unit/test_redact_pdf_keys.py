"""Entries of a PDF's dictionaries: which go under which word, and what takes their place."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import UNKNOWN, Tells, hidden_by
from policyfs.redact.core.cleaners import Budget, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.pdf.keys import edit, silenced
from policyfs.redact.pdf.objects import Reader
from policyfs.redact.registry import locate_in
from tests.support.samples.pdfs import PLACE, object_stream, pdf

L, D, T, P = Tells.LOCATION, Tells.DEVICE, Tells.TIME, Tells.PEOPLE
SIGNATURE = b"<</Type/Sig/ByteRange[0 1]/Location(Zirbelstadt)/Name(Rosa)/Contents<30313233>/M(D:2024)>>"


def budget() -> Budget:
    return Budget(0, 0)


def edited(text: bytes, hide: Tells, **role: bool) -> bytes:
    out = edit(Reader(text).value(), hide, budget(), **role).applied(text)
    assert len(out) == len(text)
    assert edit(Reader(out).value(), hide, budget(), **role).applied(out) == out
    return out


@pytest.mark.parametrize(
    ("text", "hide", "gone"),
    [
        (b"<</Author(Rosa)/Producer(quill)>>", P, [b"Rosa", b"Author"]),
        (b"<</Author(Rosa)/Producer(quill)>>", D, [b"quill"]),
        (b"<</Author(Rosa)/Producer(quill)>>", L, []),
        (b"<</A#75thor(Rosa)>>", P, [b"Rosa"]),
        (b"<</A[<</B<</Contents(Rosa)>>>>]>>", P, [b"Rosa"]),
        (b"<</Contents[1 0 R]>>", UNKNOWN, []),
        (b"<</PieceInfo 9 0 R/B 8 0 R>>", L, [b"9 0 R"]),
        (b"<</GPTS[47.8 13.0]>>", L, [b"47.8"]),
        (b"<</GPTS[47.8 13.0]>>", T, []),
        (b"<</MyGPS[47.8 13.0]/B(stays)>>", L, [b"47.8", b"MyGPS"]),
        (
            b"<</Scan<</Lat 47.8/Lon 13.0/City(Zirbelstadt)/GeoLocation<</a 1>>>>>>",
            L,
            [b"47.8", b"Zirbel", b"Geo"],
        ),
        (b"<</Scan<</Latitude 47.8/country/Austria>>>>", L, [b"47.8", b"Austria"]),
        (b"<</Scan<</Latitude 47.8>>>>", T, []),
        (
            b"<</A<</PhotoLocation[47.8 13]/Place(Zirbel)/homeAddress(Zirbel)/Street 7>>>>",
            L,
            [b"47.8", b"Zirbel", b"7>"],
        ),
        (b"<</A<</Type/PROJCS/WKT(PROJCS[zone 33N])/EPSG 32633>>>>", L, [b"33N", b"32633"]),
        (b"<</Placement/Block/State/ON/Allocation 5/Placed 1/Locationless 2/Bounds[0 1]>>", L | D, []),
        (b"<</Type/Catalog/Pages 2 0 R/ACME 7>>", T, [b"ACME 7"]),
        (b"<</Type/Page/Parent 2 0 R/UserUnit 7>>", UNKNOWN, []),
        (b"<</Type/Page/A<</Own 7>>>>", P, [b"Own 7"]),
        (b"<</Subtype/Image/Own 7>>", P, []),
        (b"<</Subtype/Image/Own 7/Length 3>>", P, [b"Own 7"]),
        (b"<</PTEX.FileName(./Rosa.pdf)/PTEX.PageNumber 1/Subtype/Form/Length 3>>", P, [b"Rosa"]),
        (b"<</PTEX.FileName(./Rosa.pdf)/PTEX.PageNumber 1/Subtype/Form/Length 3>>", L, []),
        (b"<</Dests<</City[3 0 R/Fit]/GPS 4 0 R/country<</Type/X>>>>>>", L, []),
        (b"<</BaseState/ON/Capacity 1/Latent 2/Velocity 3/Coords[0 1]/Lang(de)>>", L, []),
        (b"<</A<</GEO[47.8 13.0]/Geo(Zirbel)/Geometry 7>>>>", L, [b"47.8", b"Zirbel"]),
        (b"<</ExData<</Type/ExData/Subtype/MarkupGeo/Spot 7>>>>", L, [b"Spot 7"]),
        (b"<</Lang(Rosa in Zirbelstadt)>>", P, [b"Rosa", b"Zirbel"]),
        (b"<</Lang<FEFF0052006F00730061>>>", P, [b"0052"]),
        (b"<</A<</Lang(de-AT)>>/B<</Lang(zh_Hans_CN)>>/C<</Lang()>>/D<</Lang<FEFF00640065>>>>>", P | L, []),
        (b"<</Type/Font/BaseFont/ABCDEF+Quill-2.0345,Bold/FontName/F47.80453>>", L, []),
        (b"<</M(D:20240517)>>", T, [b"D:2024"]),
        (b"<</M(not a date)>>", T, []),
        (b"<</Subtype/Popup/Rect[0 0 1 1]/M(Fri May 17 2024)>>", T, [b"May"]),
        (b"<</Subtype 7 0 R/Rect 8 0 R/M(last May)>>", T, [b"May"]),
        (b"<</Subtype/Popup/Rect[0 0 1 1]/M(May 17)>>", D | P, []),
        (b"<</Title(shot 2019:03:04 05:06:07)>>", T, [b"05:06"]),
        (b"<</Own(D:20190304050607)/B(2019)>>", T, [b"D:2019"]),
        (b"<</Title(shot 2019:03:04 05:06:07)/Registry(Adobe)>>", L | D, []),
        (b"<</M<FEFF0044003A0032003000320034>>>", T, [b"0032"]),
        (b"<</Subtype/Text/T(Rosa)>>", P, [b"Rosa"]),
        (b"<</Subtype/Text/RC 9 0 R>>", P, [b"RC", b"9 0 R"]),
        (b"<</Subtype/Text/RC 9 0 R>>", L | T, []),
        (b"<</Font<</RC 9 0 R>>>>", P, []),
        (b"<</Subtype/Popup/Parent 4 0 R/T(Rosa)>>", P, [b"Rosa"]),
        (b"<</Subtype/Text/Parent 4 0 R/T(Rosa)>>", P, [b"Rosa"]),
        (b"<</Subtype/FreeText/FT/x/Kids[]/T(Rosa)>>", P, [b"Rosa"]),
        (b"<</Subtype 7 0 R/T(Rosa)>>", P, [b"Rosa"]),
        (b"<</Subtype 7 0 R/FT/Tx/T(field)>>", P, []),
        (b"<</Subtype/Widget/FT/Tx/T(field)>>", P, []),
        (b"<</Subtype/Widget/Parent 3 0 R/T(field)>>", P, []),
        (b"<</T(field)>>", P, []),
        (b"<</Type/Font/Name(F1)>>", P, []),
        (b"<</EF<</F 1 0 R>>/UF(name.txt)/F(name.txt)>>", L, [b"name.txt", b"1 0 R"]),
        (b"<</UF(name.txt)>>", L, []),
        (b"(47.80453, 13.04229)", L, [b"47.8"]),
        (b"(47.80453, 13.04229)", T, []),
        (b"[(47.80453, 13.04229)(Quince)]", L, [b"47.8"]),
        (SIGNATURE, L, [b"Zirbel", b"30313233"]),
        (SIGNATURE, P, [b"Rosa", b"30313233"]),
    ],
)
def test_entries(text, hide, gone):
    out = edited(text, hide)
    for part in gone:
        assert part in text
        assert part not in out
    if not gone:
        assert out == text


@pytest.mark.parametrize(
    ("text", "hide", "stays"),
    [
        (b"<</Trapped/True>>", UNKNOWN, True),
        (b"<</Trapped(Unknown)/GTS_PDFXVersion(PDF/X-1:2001)/GTS_PDFXConformance(PDF/X-1a:2001)>>", P, True),
        (b"<</Trapped null/GTS_PDFXVersion(PDF/X-4)>>", L, True),
        (b"<</Trapped(Quincebury)>>", L, False),
        (b"<</Trapped/Rosa>>", P, False),
        (b"<</GTS_PDFXVersion(PDF/X-3 by Rosa)>>", P, False),
        (b"<</GTS_PDFXConformance 7 0 R>>", P, False),
        (b"<</Own 7 0 R>>", L, False),
        (b"<</Title 7 0 R>>", P, False),
        (b"<</Title/Rosa>>", P, False),
        (b"<</Author[(Rosa)]>>", P, False),
        (b"<</Author<</A(Rosa)>>>>", P, False),
        (b"<</CreationDate[(D:2024)]>>", T, False),
        (b"<</CreationDate/D:2024>>", T, False),
        (b"<</Producer[/Maker]>>", D, False),
        (b"<</Producer[/Maker]>>", P, True),
        (b"<</Producer null/Title null>>", D | P, True),
        (b"<</Title/47.80453,13.04229>>", L, False),
        (b"<</Keywords[/N47.80453/E13.04229]>>", L, False),
        (b"<</Keywords[(47.80453)(13.04229)]>>", L, False),
        (b"<</Keywords[(13 x)(47.80453)]>>", T, True),
        (b"<</Title/2019:03:04#2005:06:07>>", T, False),
        (b"<</Title/2019:03:04#2005:06:07>>", L, True),
        (b"<</Title 7 0 R>>", L, True),
        (b"<</Own/Name>>", T, False),
        (b"<</Inner<</Own/Name>>/Trapped/True>>", T, False),
    ],
)
def test_entries_of_document_information(text, hide, stays):
    assert (edited(text, hide, info=True) == text) is stays


def test_an_id_keeps_its_length_in_the_trailer_only():
    text = b"<</ID[<0102><0304>]/Size 3>>"
    assert edited(text, D, trailer=True) == b"<</ID[<0000><0000>]/Size 3>>"
    assert edited(text, D) == edited(text, L, trailer=True) == text
    assert edited(b"<</Info<</A 1>>/Size 3>>", L, trailer=True) == b"<</Info<<    >>/Size 3>>"


def test_a_title_of_an_outline_keeps_a_string_of_blanks():
    assert edited(b"<</Title(Rosa)/Parent 1 0 R>>", P) == b"<</Title(    )/Parent 1 0 R>>"
    assert edited(b"<</Title<526F7361>/Parent 1 0 R>>", P) == b"<</Title<00000000>/Parent 1 0 R>>"
    assert edited(b"<</Title(Rosa)>>", P) == b"<<            >>"


def test_references_of_what_stays_are_followed():
    edits = edit(Reader(b"<</A 1 0 R/B[2 0 R]/PieceInfo<</C 3 0 R>>/Metadata 4 0 R>>").value(), L, budget())
    assert edits.refs == {1, 2, 4}
    assert edits.metadata == {4}


ASIDE = {
    "a comment": (b"<</Subtype/Text/Contents 5 0 R>>", b"(Rosa was here)", "people"),
    "a rich text": (b"<</Subtype/Text/RC 5 0 R>>", b"(<p>Rosa</p>)", "people"),
    "an author": (b"<</Subtype/Text/T 5 0 R>>", b"(Rosa)", "people"),
    "a date": (b"<</Subtype/Text/M 5 0 R>>", b"(D:20240517)", "time"),
    "a signature's place": (b"<</Type/Sig/Location 5 0 R>>", b"(Zirbelstadt)", "location"),
}


@pytest.mark.parametrize("name", ASIDE)
@pytest.mark.parametrize("inside", [False, True])
def test_a_string_that_is_an_object_of_its_own_goes_as_in_its_place(name, inside):
    annotation, text, word = ASIDE[name]
    if inside:
        data = pdf({9: object_stream({5: text, 6: annotation}, room=40)}, page=b"/Annots[6 0 R]")
    else:
        data = pdf({5: text, 6: annotation}, page=b"/Annots[6 0 R]")
    found = locate_in("application/pdf", MemorySource(data), hidden_by([word]))
    out = apply(data, in_order(found.patches, len(data)))
    assert out != data
    assert inside or text not in out
    assert not locate_in("application/pdf", MemorySource(out), hidden_by([word])).patches
    other = hidden_by(["device"])
    assert not locate_in("application/pdf", MemorySource(data), other).patches


def test_what_a_place_refers_to_goes_only_if_it_is_plain():
    for value, goes in (
        (b"[47.8 13.0]", True),
        (b"[47.8 [13.0(a)]]", True),
        (b"<</A 47.8>>", True),
        (b"[3 0 R/Fit]", False),
        (b"<</A/Name>>", False),
        (b"<</A<</B 1>>>>", False),
        (b"[]", False),
        (b"47.8", False),
    ):
        edits = silenced(Reader(value).value(), L)
        out = edits.applied(value)
        assert (out.strip(b" []<>") == b"") == (goes or value == b"[]"), value
        assert bool(edits.taken) == goes
        assert not silenced(Reader(out).value(), L).taken
    assert not silenced(Reader(b"[47.8]").value(), P).taken


def test_an_object_that_is_no_string_stays_where_a_string_may_be():
    data = pdf({5: b"[1 2 3]", 6: b"<</Subtype/Text/Contents 5 0 R>>"}, page=b"/Annots[6 0 R]")
    assert not locate_in("application/pdf", MemorySource(data), P).patches
    assert PLACE not in data


@pytest.mark.parametrize(
    "value", [b"(%s)" % (b"1.2 " * 25), b"<%s>" % (b"31" * 100), b"[/%s(x)]" % (b"n" * 99)]
)
def test_strings_are_searched_as_far_as_the_budget_allows(value):
    def searched(hide: Tells, texts: int) -> None:
        node = Reader(b"<</Title%s>>" % value).value()
        edit(node, hide, Budget(0, 0, texts=texts), info=True)

    searched(L | T, 202)
    searched(P | D, 0)
    with pytest.raises(TooMuchError):
        searched(L, 99)


def test_bookmarks_in_plain_words_use_up_no_budget():
    """A book with 400 KiB of them was refused."""
    bookmarks = b"<</Title(%s)>>" % b" ".join([b"Chapter one of many"] * 30_000)
    edits = edit(Reader(bookmarks).value(), hidden_by(("location", "time")), budget())
    assert not edits.taken
    for text in (b"(47.80453, 13.04229)", b"(\\064\\067.80453, \\061\\063.04229)"):
        node = Reader(b"<</Title%s>>" % text).value()
        assert edit(node, hidden_by(("location",)), budget()).taken


@pytest.mark.parametrize("inside", [False, True])
def test_what_a_place_refers_to_is_judged_without_its_removed_entries(inside):
    """A second redaction would find it plain, and remove what the first has shown."""
    value = b"<</PieceInfo<</A 7 0 R>>/X[47.80453 13.04229]>>"
    objects = {9: object_stream({6: value}, room=40)} if inside else {6: value}
    data = pdf(objects | {5: b"<</Type/Sig/Location 6 0 R>>"}, page=b"/Annots[5 0 R]")
    found = locate_in("application/pdf", MemorySource(data), hidden_by(["location"]))
    out = apply(data, in_order(found.patches, len(data)))
    assert inside or b"47.80453" not in out
    assert not locate_in("application/pdf", MemorySource(out), hidden_by(["location"])).patches


@pytest.mark.parametrize("packed", [False, True])
def test_a_place_in_a_name_is_refused(packed: bool) -> None:
    """Other objects may refer to the name. In an object that goes it does no harm."""
    font = b"<</Type/Font/BaseFont/At47.80453,13.04229>>"
    some = {6: object_stream({5: font})} if packed else {5: font}
    assert b"13.04229" not in applied(pdf(some))
    with pytest.raises(NotThisKindError, match="name"):
        applied(pdf(some, page=b"/Resources<</Font<</A 5 0 R>>>>"))


def applied(data: bytes) -> bytes:
    found = locate_in("application/pdf", MemorySource(data), L)
    return apply(data, in_order(found.patches, len(data)))

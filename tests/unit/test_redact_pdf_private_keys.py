"""Private keys in the dictionaries that each document has; comments, and objects that nothing uses."""

from __future__ import annotations

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.pdf.objects import Reader
from policyfs.redact.pdf.private_keys import is_private, tells_nothing
from policyfs.redact.registry import locate_in
from tests.support.samples import pdfs
from tests.support.samples.media import HOME
from tests.support.samples.pdfs import PLACE, object_stream, packed, pdf, revised, stream
from tests.unit.test_redact_pdf_pdf import IMAGE, inflated, run, spelt

CITY = HOME.city.encode()
NUMBERS = PLACE.replace(b",", b"")


@pytest.mark.parametrize(
    ("text", "key", "private"),
    [
        (b"<</Type/Catalog>>", b"ACME", True),
        (b"<</Type/Catalog>>", b"Outlines", False),
        (b"<</Type/Page>>", b"Kids", True),
        (b"<</Type/Pages>>", b"Kids", False),
        (b"<</Type/Font>>", b"ACME", False),
        (b"<</Subtype/Image/Length 1>>", b"ACME", True),
        (b"<</Subtype/Image/Length 1>>", b"Width", False),
        (b"<</Subtype/Form/Length 1>>", b"BBox", False),
        (b"<</Subtype/Form/Length 1>>", b"Width", True),
        (b"<</Subtype/Form>>", b"ACME", False),
        (b"[1]", b"ACME", False),
        (b"<</Pages 2 0 R/ACME 1>>", b"ACME", True),
        (b"<</Pages 2 0 R/ACME 1>>", b"Outlines", False),
        (b"<</Pages 2 0 R/Dests 4 0 R/Templates 5 0 R/JavaScript 3 0 R>>", b"JavaScript", False),
        (b"<</Pages 2 0 R/Type/ACME>>", b"ACME", False),
        (b"<</Type 4 0 R/Kids[3 0 R]/Count 1>>", b"ACME", True),
        (b"<</Kids[3 0 R]/Count 1/MediaBox[0 0 9 9]>>", b"Contents", True),
        (b"<</Kids[3 0 R]/Count 1/MediaBox[0 0 9 9]>>", b"Rotate", False),
        (b"<</Kids[3 0 R]/Names[]>>", b"ACME", False),
        (b"<</Kids[3 0 R]/T(a)/FT/Tx>>", b"ACME", False),
        (b"<</MediaBox[0 0 9 9]>>", b"ACME", True),
        (b"<</MediaBox[0 0 9 9]>>", b"Contents", False),
        (b"<</Parent 2 0 R/Contents 4 0 R>>", b"ACME", True),
        (b"<</Parent 2 0 R/Resources<<>>>>", b"ACME", True),
        (b"<</Parent 2 0 R/Contents(a note)>>", b"ACME", False),
        (b"<</Parent 2 0 R/Subtype/Popup/Contents 4 0 R>>", b"ACME", False),
        (b"<</Parent 2 0 R/Title(a bookmark)/Count 2>>", b"ACME", False),
        (b"<</MediaBox[0 0 9 9]/Length 3>>", b"ACME", False),
    ],
)
def test_keys_by_their_dictionary(text, key, private):
    assert is_private(Reader(text).value(), key, trailer=False) is private


def test_trailers_and_tables_have_keys_of_their_own():
    node = Reader(b"<</Type/XRef/Length 1>>").value()
    assert is_private(node, b"ACME", trailer=True)
    assert not any(is_private(node, key, trailer=True) for key in (b"Type", b"W", b"Length", b"Root", b"ID"))


@pytest.mark.parametrize(
    ("entry", "stays"),
    [
        (b"/ProcSet[/PDF/Text/ImageB/ImageC/ImageI]", True),
        (b"/ProcSet[/PDF/Zirbelstadt]", False),
        (b"/ProcSet[/PDF(Zirbelstadt)]", False),
        (b"/ProcSet[/PDF/PDF/PDF/PDF/PDF/PDF]", False),
        (b"/ProcSet/Zirbelstadt", False),
        (b"/LastModified(D:20200101120000+01'00')", True),
        (b"/LastModified(D:2020 in Zirbelstadt)", False),
        (b"/pdftk_PageNum 12", True),
        (b"/pdftk_PageNum 47804531304229", False),
        (b"/pdftk_PageNum(12)", False),
        (b"/pdftk_PageNum 47.8", False),
        (b"/LastModified[47.80453 13.04229]", False),
    ],
)
def test_entries_that_old_programs_put_anywhere_stay(entry: bytes, stays: bool) -> None:
    picture = {6: stream(b"abcdef" * 2, IMAGE + entry)}
    for data in (pdf(catalog=entry), pdf(picture, page=b"/Resources<</XObject<</I 6 0 R>>>>")):
        assert (run(data) == data) is stays
        assert (entry in run(data)) is stays
    if b"D:" in entry:
        assert entry not in run(pdf(catalog=entry), "time")
    assert entry not in run(pdf(trailer=entry))


HIDING = {
    "a program's own entry of the catalog": pdf(catalog=b"/ACME<</X(%s)/Y[%s]>>" % (PLACE, NUMBERS)),
    "a program's own entry of a page": pdf(page=b"/ACME_Track[%s]" % NUMBERS),
    "a program's own entry of a page without a type": pdf(page=b"/ACME_Track[%s]" % NUMBERS).replace(
        b"/Type/Page/", b"          /"
    ),
    "a program's own entry of a catalog without a type": pdf(catalog=b"/ACME[%s]" % NUMBERS).replace(
        b"/Type/Catalog", b"             "
    ),
    "a program's own object": pdf({6: b"<</X[%s]>>" % NUMBERS}, page=b"/ACME 6 0 R"),
    "a program's own stream": pdf({6: packed(PLACE)}, catalog=b"/ACME 6 0 R"),
    "a program's own stream, in a trailer": pdf({6: packed(PLACE)}, trailer=b"/ACME 6 0 R"),
    "a program's own entry of a picture": pdf(
        {6: stream(b"abcdef" * 2, IMAGE + b"/ACME[%s]" % NUMBERS)}, page=b"/Resources<</XObject<</I 6 0 R>>>>"
    ),
    "a program's own entry of a form": pdf(
        {6: stream(b"", b"/Subtype/Form/BBox[0 0 1 1]/ACME[%s]" % NUMBERS)},
        page=b"/Resources<</XObject<</F 6 0 R>>>>",
    ),
    "a program's own entry in an object stream": pdf(
        {9: object_stream({5: b"<</Type/Page/Parent 2 0 R/ACME[%s]>>" % NUMBERS}, 40)}, page=b"/B[5 0 R]"
    ),
    "an old revision's own entry": revised(pdf(page=b"/ACME[%s]" % NUMBERS), {3: pdfs.PAGE % b""}),
    "numbers under the name of a place": pdf(
        {6: b"[%s]" % NUMBERS}, page=b"/Resources<</Properties<</M<</Type/OCG/PhotoLocation 6 0 R>>>>>>"
    ),
    "a list under the name of a place, in an object stream": pdf(
        {9: object_stream({6: b"<</X[%s]>>" % NUMBERS}, 40)},
        page=b"/Resources<</Properties<</M<</Type/OCG/GPS 6 0 R>>>>>>",
    ),
}


@pytest.mark.parametrize("case", HIDING)
def test_what_programs_add_is_gone(case):
    assert spelt(inflated(HIDING[case]))
    out = run(HIDING[case])
    assert not spelt(inflated(out))
    assert b"0 0 m 9 9 l S" in out


def read(data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """The file as an app reads it."""
    out = apply(data, in_order(locate_in("application/pdf", MemorySource(data), hide).patches, len(data)))
    assert not locate_in("application/pdf", MemorySource(out), hide).patches
    return out


@pytest.mark.parametrize("comment", [b"%QDF-1.0\n", b"% 12\n", b"%" + CITY + b"\n"])
def test_comments_go_between_and_in_objects(comment):
    assert read(pdf(gap=comment)) == pdf(gap=bytes(len(comment)))
    assert comment.strip() not in read(pdf(catalog=b"/Lang(en)\n" + comment))


NOTHING = (
    b"<<\n>>", b"[ /PDF /Text ]", b"<</Size 3>>", b"<</Kids[5 0 R]>>", b"[5 0 R 6 0 R null]", b"<</Names[]>>",
    b"<</Type/Page/Parent 2 0 R/Resources<<>>/Rotate 90>>", b"true", b"<</Names[] >>", b"/DeviceRGB",
    b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding/Name/Helv>>",
    b"<</P 16 0 R/S/P/Type/StructElem/K[ 0] /Pg 3 0 R>>", b"[/ICCBased 9 0 R]", b"<</Border[0 0 1]>>",
    b"<</Type/Outlines/Count 0>>",
)  # fmt: skip
SOMETHING = (
    b"<</Size 47/Count 13>>", b"[47 48 16]", b"47.80453", b"<</Size 47804531304229>>", b"(Hallstatt)",
    b"/Hallstatt", b"<</Hallstatt 5 0 R>>", b"[/Hallstatt]", b"<</Type/Hallstatt>>", b"<48616c6c>",
    b"<</A<</B[(x)]>>>>",
    b"<</P#61ge/Hallstatt>>", b"<</Size Hallstatt>>", b"<</Size -47>>", b"<</PieceInfo(x)>>",
    b"<</EF 5 0 R>>",
    b"<</BaseFont/ABCDEF+Hallstatt>>",
    b"<</Border[47 0 13]>>",
    b"<</S/GoTo/D(x)>>",
)  # fmt: skip


@pytest.mark.parametrize("text", NOTHING)
def test_unused_objects_without_data_stay(text):
    assert tells_nothing(Reader(text + b"\n").value())
    for data in (pdf({9: text}), pdf({8: object_stream({9: text})})):
        assert read(data) == data


@pytest.mark.parametrize("text", SOMETHING)
def test_other_unused_objects_go(text):
    assert not tells_nothing(Reader(text + b"\n").value())
    assert text not in read(pdf({9: text}))


def test_unused_objects_that_would_change_go():
    """An entry of theirs goes by its key."""
    for key in (b"VP", b"LGIDict", b"PieceInfo"):
        text = b"<</Type/Page/%s 4 0 R>>" % key
        assert text not in read(pdf({9: text}))


def test_a_stream_that_nothing_refers_to_goes():
    text = b"<</Length 7>>\nstream\n" + CITY[:7].ljust(7) + b"\nendstream"
    assert CITY[:7] not in read(pdf({9: text}))
    assert PLACE not in read(pdf({9: b"<</Length 0/Size(%s)>>" % PLACE}))

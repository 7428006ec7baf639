"""PDF object by object: where a place or a name may hide, what has to stay, what is refused."""

from __future__ import annotations

import base64
import re
import subprocess
import zlib
from contextlib import suppress

import pytest

from policyfs.redact.core.categories import hidden_by
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.pdf.objects import Reader, string_bytes
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import locate_in
from tests.support.samples import jp2s, jpegs, pdfs
from tests.support.samples.pdfs import PLACE, object_stream, packed, pdf, revised, stream

KIND = "application/pdf"
PACKET = jpegs.xmp_packet("<photoshop:City>47.80453, 13.04229</photoshop:City>") + b" " * 200
CLEAN = jpegs.xmp_packet("<dc:title>x</dc:title>")
PHOTO = jpegs.with_segments(jpegs.plain(2, 16), jpegs.segment(jpegs.COM, PLACE))
IMAGE = b"/Type/XObject/Subtype/Image/Width 2/Height 2/ColorSpace/DeviceRGB/BitsPerComponent 8"
UTF16 = b"<" + b"\xfe\xff".hex().encode() + PLACE.decode().encode("utf-16-be").hex().encode() + b">"
OCTAL = b"(" + b"".join(b"\\%03o" % c for c in PLACE) + b")"
XMP_PAGE = b"/Metadata 6 0 R"


def a85(data: bytes) -> bytes:
    return base64.a85encode(data, wrapcol=60) + b"~>"


HIDING = {
    "Info": pdf({5: b"<</Subject(%s)>>" % PLACE}, trailer=b"/Info 5 0 R"),
    "Info, a key of its own": pdf({5: b"<</Where(%s)/Else[(%s)]>>" % (PLACE, PLACE)}, trailer=b"/Info 5 0 R"),
    "Info in UTF-16": pdf({5: b"<</Subject%s>>" % UTF16}, trailer=b"/Info 5 0 R"),
    "Info in octal": pdf({5: b"<</Subject%s>>" % OCTAL}, trailer=b"/Info 5 0 R"),
    "Info with escaped keys": pdf({5: b"<</Sub#6Aect(%s)>>" % PLACE}, trailer=b"/Info 5 0 R"),
    "Info by reference": pdf({5: b"<</Where 6 0 R>>", 6: b"(%s)" % PLACE}, trailer=b"/Info 5 0 R"),
    "Info in the trailer": pdf(trailer=b"/Info<</Where(%s)>>" % PLACE),
    "a string with parentheses": pdf({5: b"<</Subject(a (b \\) c) %s)>>" % PLACE}, trailer=b"/Info 5 0 R"),
    "an old revision": revised(
        pdf({5: b"<</Where(%s)>>" % PLACE}, trailer=b"/Info 5 0 R"), {5: b"<</Title(new)>>"}, b"/Info 5 0 R"
    ),
    "an old revision's Info": revised(
        pdf({5: b"<</Where(%s)>>" % PLACE}, trailer=b"/Info 5 0 R"), {6: b"<</Title(n)>>"}, b"/Info 6 0 R"
    ),
    "an object that nothing refers to": pdf({5: b"<</A 6 0 R>>", 6: b"[%s]" % PLACE.replace(b",", b"")}),
    "a stream that nothing refers to": pdf({5: stream(PLACE)}),
    "XMP": pdf({6: stream(PACKET, b"/Type/Metadata/Subtype/XML")}, catalog=XMP_PAGE),
    "XMP, compressed": pdf({6: packed(PACKET, b"/Type/Metadata/Subtype/XML")}, catalog=XMP_PAGE),
    "XMP without a type": pdf({6: stream(PACKET)}, page=XMP_PAGE),
    "XMP, compressed, without a type": pdf({6: packed(PACKET)}, page=XMP_PAGE),
    "XMP, under another name": pdf({6: stream(PACKET)}, page=b"/Resources<</Other 6 0 R>>"),
    "what only an attached file refers to": pdf(
        {6: stream(b"x", b"/Type/EmbeddedFile/Params 7 0 R"), 7: b"<</A(%s)>>" % PLACE.replace(b",", b"")},
        page=b"/Resources<</Other 6 0 R>>",
    ),
    "XMP in an unusual filter": pdf(
        {6: stream(PLACE.hex().encode() + b">", b"/Type/Metadata/Filter/ASCIIHexDecode")}, page=XMP_PAGE
    ),
    "XMP with a length of its own": pdf(
        {6: stream(PACKET, b"/Type/Metadata", b"7 0 R"), 7: b"%d" % len(PACKET)}, page=XMP_PAGE
    ),
    "a JPEG": pdf({6: stream(PHOTO, IMAGE + b"/Filter/DCTDecode")}, page=b"/Resources<</X<</I 6 0 R>>>>"),
    "a JPEG, compressed": pdf(
        {6: stream(zlib.compress(PHOTO), IMAGE + b"/Filter[/FlateDecode/DCTDecode]")}, page=b"/Thumb 6 0 R"
    ),
    "a JPEG in ASCII85": pdf(
        {6: stream(a85(PHOTO) + b"\n", IMAGE + b"/Filter[/ASCII85Decode/DCTDecode]")}, page=b"/Thumb 6 0 R"
    ),
    "behind a JPEG in ASCII85": pdf(
        {6: stream(a85(jpegs.plain(2, 16)) + PLACE, IMAGE + b"/Filter[/A85/DCT]")}, page=b"/Thumb 6 0 R"
    ),
    "an attached file": pdf(
        {5: b"<</Type/Filespec/F(a)/EF<</F 6 0 R>>>>", 6: stream(PLACE, b"/Type/EmbeddedFile")},
        catalog=b"/Names<</EmbeddedFiles<</Names[(a)5 0 R]>>>>",
    ),
    "a file at a comment": pdf(
        {5: b"<</Type/Annot/Subtype/FileAttachment/FS<</F(%s)/EF<</F 6 0 R>>>>>>" % PLACE, 6: packed(PLACE)},
        page=b"/Annots[5 0 R]",
    ),
    "a comment": pdf({5: b"<</Subtype/Text/Contents(%s)>>" % PLACE}, page=b"/Annots[5 0 R]"),
    "a link": pdf(page=b"/Annots[<</A<</URI(https://maps.google.com/?q=%s)>>>>]" % PLACE),
    "private data": pdf({5: stream(PLACE)}, page=b"/PieceInfo<</App<</Private 5 0 R>>>>"),
    "a map": pdf(page=b"/VP[<</Measure<</Subtype/GEO/GPTS[47.80453, 13.04229]>>>>]".replace(b",", b"")),
    "a map of another kind": pdf(page=b"/LGIDict<</Registration[[(%s)]]>>" % PLACE),
    "a signature": pdf(
        {5: b"<</Type/Sig/ByteRange[0 1 2 3]/Contents<%s>>>" % PLACE.hex().encode()}, page=b"/Annots[5 0 R]"
    ),
    "an object stream": pdf({5: object_stream({6: b"<</Where(%s)>>" % PLACE})}, trailer=b"/Info 6 0 R"),
    "a string in an object stream": pdf({5: object_stream({6: b"(%s)" % PLACE})}, page=b"/Annots 6 0 R"),
    "unused in an object stream": pdf({5: object_stream({6: b"[/%s]" % PLACE.replace(b", ", b"-")})}),
    "behind an object stream": pdf(
        {5: stream(zlib.compress(b"6 0 (x)") + PLACE, b"/Type/ObjStm/N 1/First 4/Filter/FlateDecode")}
    ),
    "behind compressed XMP": pdf(
        {6: stream(zlib.compress(CLEAN) + PLACE, b"/Filter/FlateDecode")}, page=XMP_PAGE
    ),
    "a comment in an object": pdf({5: b"<</A 1 %% %s\n>>" % PLACE}, page=b"/Resources<</Other 5 0 R>>"),
    "a comment before a stream": pdf(
        {5: stream(b"x").replace(b">>", b">> %% %s" % PLACE)}, page=b"/Resources<</Other 5 0 R>>"
    ),
    "a comment between objects": pdf(gap=b"%% %s\n" % PLACE),
    "between objects": pdf(gap=PLACE + b"\n"),
    "before the table": pdf(gap=b"%%EOF " + PLACE + b"\n"),
    "behind the end": pdf(tail=PLACE),
    "an archive behind the end": pdf(tail=b"PK\3\4" + bytes(3) + PLACE),
    "before the start": pdf(head=PLACE + b"\n%PDF-1.7\n"),
    "in the second line": pdf(head=b"%PDF-1.7\n%" + PLACE + b"\n"),
    "in the first line": pdf(head=b"%PDF-1.7 " + PLACE + b"\n"),
}  # fmt: skip


def run(data: bytes, *words: str) -> bytes:
    """The file as a reader gets it; redacting that again finds nothing."""
    hide = hidden_by(words or ("location",))
    found = locate_in(KIND, MemorySource(data), hide)
    out = apply(data, in_order(found.patches, len(data)))
    again = locate_in(KIND, MemorySource(out), hide)
    assert not again.patches, again
    assert bool(found.notes) == bool(found.patches)
    assert len(out) == len(data)
    return out


def inflated(data: bytes) -> bytes:
    """The file with all that is compressed in it behind it."""
    more = []
    for found in re.finditer(rb"stream\n", data):
        machine = zlib.decompressobj()
        try:
            more.append(machine.decompress(data[found.end() :]))
        except zlib.error:
            end = data.find(b"~>", found.end())
            with suppress(ValueError):
                more.append(base64.a85decode(data[found.end() : max(end, 0)]))
    return b"\n".join([data, *more])


def spelt(data: bytes) -> list[bytes]:
    """The place in the ways in which it is written here that still stand in a file."""
    ways = [
        PLACE,
        PLACE.replace(b",", b""),
        PLACE.replace(b", ", b"-"),
        PLACE.hex().encode(),
        UTF16[5:-1],
        OCTAL,
    ]
    return [way for way in ways if way in data]


@pytest.mark.parametrize("case", HIDING)
def test_places_are_gone(case, tmp_path):
    assert spelt(inflated(HIDING[case]))
    out = run(HIDING[case])
    assert not spelt(inflated(out))
    assert b"0 0 m 9 9 l S" in out
    if "start" not in case:
        (tmp_path / "a.pdf").write_bytes(out)
        checked = subprocess.run(["qpdf", "--check", tmp_path / "a.pdf"], capture_output=True, check=False)
        before = subprocess.run(
            ["qpdf", "--check", "-"], input=HIDING[case], capture_output=True, check=False
        )
        assert checked.returncode in (0, before.returncode), checked.stderr


def test_entries_go_by_word():
    info = b"<</Title(quince)/Author(Rosa)/Producer(Maker)/CreationDate(D:20210723)/Trapped/False>>"
    data = pdf({5: info}, trailer=b"/Info 5 0 R/ID[<aabb><ccdd>]")
    assert run(data, "location") == data
    for word, gone in (
        ("people", {b"quince", b"Rosa"}),
        ("device", {b"Maker", b"aabb"}),
        ("time", {b"20210723"}),
        ("all-metadata", {b"quince", b"Rosa", b"Maker", b"aabb", b"20210723"}),
    ):
        out = run(data, word)
        assert {
            fact for fact in (b"quince", b"Rosa", b"Maker", b"aabb", b"20210723") if fact not in out
        } == gone
        assert b"/Trapped/False" in out


@pytest.mark.parametrize("text", [stream(b"<p>Rosa</p>"), packed(b"<p>Rosa</p>")])
def test_the_rich_text_of_a_comment_is_a_stream(text):
    data = pdf({5: text, 6: b"<</Subtype/Text/Rect[0 0 9 9]/RC 5 0 R>>"}, page=b"/Annots[6 0 R]")
    assert run(data) == data
    assert b"Rosa" in inflated(data)
    assert b"Rosa" not in inflated(run(data, "people"))


def test_information_goes_whole_whatever_else_it_looks_like():
    data = pdf({5: b"<</Title(quince)/Parent 1 0 R/ByteRange[0 1]>>"}, trailer=b"/Info 5 0 R")
    assert b"Title" not in run(data, "all-metadata")


def test_bookmarks_keep_their_shape_and_fields_their_names():
    bookmark = b"<</Title(Chapter one)/Parent 6 0 R/Dest[3 0 R/Fit]>>"
    field = b"<</Subtype/Widget/FT/Tx/T(family name)/V(x)>>"
    layer = b"<</Type/OCG/Name(streets)>>"
    used = b"/Outlines 6 0 R/AcroForm<</Fields[7 0 R]>>/OCProperties<</OCGs[8 0 R]>>"
    data = pdf({5: bookmark, 6: b"<</First 5 0 R>>", 7: field, 8: layer}, catalog=used)
    out = run(data, "people")
    assert b"/Title(           )" in out
    assert b"family name" in out
    assert b"streets" in out


def test_a_removed_object_does_not_join_the_next_word():
    text = b"6 1 7 5 (12)5"
    data = pdf({5: stream(text, b"/Type/ObjStm/N 2/First 7")}, page=b"/Rotate 7 0 R")
    assert b"6 1 7 5 ()  5" in run(data)


def test_pages_that_private_data_also_refer_to_stay():
    data = pdf(page=b"/PieceInfo<</App<</Private[3 0 R 4 0 R 5 0 R]>>>>", more={5: b"[/own (data)]"})
    out = run(data)
    assert b"/Type/Page/" in out
    assert b"own" not in out


def test_a_hint_may_have_many_digits():
    """int() refuses to read so many."""
    data = pdf({5: b"<</Linearized 1/H[%s 5]>>" % (b"9" * 5000)})
    assert run(data) == data


def test_hints_of_linearised_files_stay(tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf({5: b"<</Where(%s)>>" % PLACE}, trailer=b"/Info 5 0 R"))
    subprocess.run(["qpdf", "--linearize", tmp_path / "a.pdf", tmp_path / "b.pdf"], check=True)
    (tmp_path / "c.pdf").write_bytes(run((tmp_path / "b.pdf").read_bytes()))
    subprocess.run(["qpdf", "--check-linearization", tmp_path / "c.pdf"], check=True, capture_output=True)
    subprocess.run(["qpdf", "--check", tmp_path / "c.pdf"], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.7\n", "no trailer"),
        (b"PDF", "start like"),
        (b"%PDF-x" + bytes(1024) + pdf(), "start like"),
        (pdf(trailer=b"/Encrypt 9 0 R"), "encrypted"),
        (pdf({5: stream(b"12345", b"", b"2")}), "a wrong length"),
        (pdf({5: stream(b"12345", b"", b"6 0 R"), 6: b"99"}), "a wrong length"),
        (pdf({5: stream(b"x", b"/Where(x)")}, trailer=b"/Info 5 0 R"), "is a stream"),
        (pdf({5: b"[(x)]"}, trailer=b"/Info 5 0 R"), "not a dictionary"),
        (pdf({5: object_stream({6: b"1"}).replace(b"/N 1", b"/N 1/Subtype/Image")}), "unusual way"),
        (pdf({5: object_stream({6: b"[(x)]"})}, trailer=b"/Info 6 0 R"), "not a dictionary"),
        (pdf({5: stream(b"x", b"/Type/Page/ACME(x)")}, page=b"/B[5 0 R]"), "is a stream"),
        (pdf({5: packed(b"x", b"/Type/Catalog")}, trailer=b"/Root 5 0 R"), "is a stream"),
        (
            pdf({5: stream(b"12345", b"", b"6 0 R"), 6: b"5"}).replace(b"m\nendobj\n6 0", b"m\nendobjJ6 0"),
            "does not end",
        ),
        (pdf({5: b"<</A (b>>"}), "cut off"),
        (pdf({5: b"<</A ) >>"}), "malformed"),
        (pdf({5: b"[" * 100 + b"]" * 100}), "malformed"),
        (pdf({5: stream(b"no picture", b"/Filter/DCTDecode")}, page=b"/Resources<</X 5 0 R>>"), "picture"),
        (pdf({5: stream(a85(b"no"), b"/Filter[/A85/DCT]")}, page=b"/Resources<</X 5 0 R>>"), "picture"),
        (pdf({5: stream(b"x", b"/Filter[/A85/DCT]")}, page=b"/Resources<</X 5 0 R>>"), "picture"),
        (pdf({5: stream(a85(PHOTO), b"/Filter[/AHx/DCT]")}, page=b"/Resources<</X 5 0 R>>"), "picture"),
        (
            pdf({5: stream(b"!" * (5 << 20), b"/Filter[/A85/DCT]")}, page=b"/Thumb 5 0 R"),
            "it has too much compressed or encoded data",
        ),
        (pdf({5: stream(b"abc", b"/Type/ObjStm/N 1/First 4/Filter/LZWDecode")}), "unusual"),
        (pdf({5: stream(b"abc", b"/Type/ObjStm/N 1/First 4/Filter/FlateDecode")}), "decompressed"),
        (pdf({5: stream(b"6 0 ()", b"/Type/ObjStm/N 2/First 4")}), "object stream"),
        (pdf({5: stream(b"6" * 5000 + b" 0 ()", b"/Type/ObjStm/N 1/First 5003")}), "object stream"),
        (pdf({5: stream(b"6 0 7 0 ()", b"/Type/ObjStm/N 2/First 8")}), "overlap"),
        (pdf({5: object_stream({6: b"1 (x)", 7: b"2", 8: b"R"})}), "malformed"),
        (
            pdf({5: stream(b"6 0 (%s)" % PLACE, b"/Type/ObjStm/N 1/First 4"), 7: b"<</Metadata 5 0 R>>"}),
            "used as metadata and as a table",
        ),
        (
            pdf(
                {6: stream(b"61>", b"/Filter/ASCIIHexDecode/DecodeParms 7 0 R"), 7: b"<</Else(words)>>"},
                page=XMP_PAGE,
            ),
            "metadata in it",
        ),
    ],
)
def test_what_is_not_understood_is_refused(data, reason):
    plan = locate(KIND, frozenset({"location"}), MemorySource(data))
    assert plan.outcome is Outcome.REFUSE
    assert reason in plan.reason


HEADERS = [
    *(b"9 0 obj", b" % quince\n9 0 obj", b"9 % quince\n 0 obj", b"%" + b"q" * 999 + b"\r \n%\n9 0%\robj"),
    *(b"+9 0 obj", b"9" + b" " * 300 + b"0 obj", b"0" * 300 + b"9 0 obj", b" " * 5000 + b"9 0 obj"),
    *(b"9 0obj", b"9\x0b0 obj", b"9.0 0. obj", b"9%\n%" + b"q" * 9000 + b"\n0" + b" " * 70_000 + b"obj"),
]


@pytest.mark.parametrize("header", HEADERS)
def test_the_text_of_an_object_in_a_string_or_a_stream_is_refused(header):
    """Tables lead readers there, in any spelling that a reader accepts."""
    hidden = header + b"<</Where(Quincebury)>>endobj"
    for data in (
        pdf(catalog=b"/URI<</Base(" + hidden + b")>>"),
        pdf({5: stream(b"pixels" * 70_000 + b"\n" + hidden)}, page=b"/Resources<</X 5 0 R>>"),
    ):
        plan = locate(KIND, frozenset({"location"}), MemorySource(data))
        assert "the text of another object" in plan.reason


@pytest.mark.parametrize(
    "text",
    [
        *(
            b"9 0 objects",
            b"objobj obj.",
            b"\nobj",
            b"\n % quince\nobj",
            b"0 obj",
            b"9 R 0 obj",
            b"9 0 endobj",
        ),
        *(b"a trailer", b"trailer < <", b"trailer(<<)", b"xref\n0 1"),
    ],
)
def test_a_text_that_is_no_object_stays(text):
    words = b"/URI<</Base(" + text + b")>>"
    data = pdf(catalog=words, page=b"/Resources<</X 5 0 R>>", more={5: stream(text)})
    assert run(data) == data


@pytest.mark.parametrize("trailer", [b"trailer<<", b"trailer \n\0<<", b"trailer%" + b"q" * 9000 + b"\n <<"])
def test_the_text_of_a_trailer_in_a_string_or_a_stream_is_refused(trailer):
    """Readers look for ``startxref`` in the last 1,024 bytes of the file, also in a stream."""
    hidden = b"xref\n0 1\n" + trailer + b"/Info<</Where(Quincebury)>>>>"
    for data in (
        pdf(catalog=b"/URI<</Base(" + hidden + b")>>"),
        pdf({5: stream(b"pixels" * 70_000 + hidden)}, page=b"/Resources<</X 5 0 R>>"),
    ):
        plan = locate(KIND, frozenset({"location"}), MemorySource(data))
        assert "the text of a trailer" in plan.reason


def test_what_is_removed_may_have_the_text_of_an_object():
    """Such as an attached PDF."""
    inner = b"9 0 obj<</Where(%s)>>endobj trailer<<>>" % PLACE
    data = pdf({5: stream(inner, b"/Type/EmbeddedFile"), 6: stream(inner)}, page=b"/PieceInfo 6 0 R")
    assert PLACE not in run(data)


def test_each_information_of_a_trailer_counts():
    """Some readers show the first of two."""
    info = b"<</Title(a)/Own(Quincebury)>>"
    for trailer in (b"/Info 5 0 R/Info 6 0 R", b"/Info 6 0 R/Info 5 0 R"):
        out = run(pdf({5: info, 6: b"<</Title(b)>>"}, trailer=trailer))
        assert b"Quincebury" not in out
        assert b"/Title(a)" in out


@pytest.mark.parametrize("entries", [b"/W[1 2 1]/Size 9", b"/Type/XRef"])
def test_a_table_in_a_stream_is_a_trailer_without_its_type_too(entries):
    table = stream(bytes(4), entries + b"/Root 1 0 R/Info 5 0 R")
    data = pdf({5: b"<</Title(a)/Own(Quincebury)>>", 6: table}, page=b"/Resources<</A 5 0 R/B 6 0 R>>")
    assert b"Quincebury" not in run(data)


def test_an_information_in_the_trailer_itself_goes():
    for info in (b"<</Own(Quincebury)>>", b"[<</Own(Quincebury)>>]", b"(Quincebury)"):
        assert b"Quincebury" not in run(pdf(trailer=b"/Info" + info))


def test_an_information_in_the_trailer_itself_is_judged_by_its_entries():
    """MuPDF writes it so, even into the catalog."""
    info = b"/Info<</Producer(MuPDF 1.28.5)/Title(a quince)>>"
    for data in (pdf(trailer=info), pdf(catalog=info)):
        assert run(data) == data
        assert b"MuPDF" not in run(data, "device")
        assert b"a quince" in run(data, "device")
    for entry in (b"/Title(%s)" % PLACE, b"/Title/Rosa", b"/Own(Quincebury)", b"/Title[(Quincebury)]"):
        info = b"/Info<</Producer(MuPDF)%s>>" % entry
        assert entry not in run(pdf(trailer=info), "people", "location")
        assert entry not in run(pdf(catalog=info), "people", "location")
        assert entry not in run(pdf(page=info), "people", "location")


def test_a_stream_with_two_values_of_one_key_is_refused():
    twice = stream(b"6 0 (x)", b"/Type/ObjStm/Type/Foo/N 1/First 4")
    plan = locate(KIND, frozenset({"location"}), MemorySource(pdf({5: twice})))
    assert "two values of one key" in plan.reason
    same = pdf({5: stream(b"x", b"/Type/XObject/Type/XObject/A 1/A 2")}, page=b"/Resources<</X 5 0 R>>")
    assert run(same) == same


def test_an_unpacked_object_stream_is_patched_in_place():
    data = pdf(
        {5: stream(b"6 0 (%s)" % PLACE, b"/Type/ObjStm/N 1/First 4")}, page=b"/Resources<</Other 6 0 R>>"
    )
    assert b"6 0 (" + b" " * len(PLACE) + b")" in run(data)


def test_unused_objects_that_touch_others():
    text = b"6 0 7 2 12[(data)]"
    data = pdf({5: stream(text, b"/Type/ObjStm/N 2/First 8"), 8: b"/Direct"}, page=b"/Resources<</X 6 0 R>>")
    out = run(data.replace(b"obj\n/Direct", b"obj/Direct\n"))
    assert b"12()      " in out
    assert b"8 0 obj null" in out


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        (b"\n\n(ab)", b"\n\n[  ]"),
        (b"(abc)", b"[   ]"),
        (b"\n(ab)\t", b"\nnull\t"),
        (b"(abcdef)", b" null\0\0\0"),
    ],
)
def test_the_next_word_stays_a_word_behind_an_unused_object(text, becomes):
    """Here `endobj`, which would be read as one word with `null`."""
    word = b"x" * (len(text) - 2)
    data = pdf({8: word}).replace(b"obj\n" + word + b"\nendobj", b"obj" + text + b"endobj")
    assert b"8 0 obj" + becomes + b"endobj" in run(data)


def test_a_word_behind_an_unused_object_that_goes_itself_leaves_nothing_to_do_again():
    junk = b"(ab)junk"
    out = run(pdf({8: junk}))
    assert b"8 0 obj\n[  ]".ljust(len(b"8 0 obj\n") + len(junk), b"\0") in out


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"(a\\(b\\)c)", b"a(b)c"),
        (b"(\\101\\n\\\nx)", b"A\nx"),
        (b"<4 14>", b"A@"),
        (b"<>", b""),
        (b"(\\7)", b"\7"),
    ],
)
def test_strings(raw, says):
    assert string_bytes(raw) == says
    assert Reader(raw + b" ").value().text == raw


def test_a_picture_in_jpeg_2000_without_a_wrapper():
    codes = jp2s.codestream(jp2s.tile(b"tiles"), header=jp2s.comment(PLACE))
    out = run(pdf({5: stream(codes, b"/Filter/JPXDecode")}, page=b"/Resources<</X 5 0 R>>"))
    assert PLACE not in out
    assert b"tiles" in out


def test_pages_of_a_large_document_are_read_once():
    class Counting(MemorySource):
        read_bytes = 0

        def read(self, offset: int, size: int, /) -> bytes:
            Counting.read_bytes += size
            return super().read(offset, size)

    data = pdf(
        {5: stream(bytes(5_000_000)), 6: b"<</Where(x)>>"},
        page=b"/Resources<</X 5 0 R>>",
        trailer=b"/Info 6 0 R",
    )
    assert locate_in(KIND, Counting(data), hidden_by(["location"])).patches
    assert Counting.read_bytes < 5_300_000
    assert pdfs.PAGES in data


def test_a_signature_of_many_digits_is_no_malformed_object():
    """Its digits do not fit the window that objects are read by."""
    signed = b"<</Type/Sig/ByteRange[0 1 2 3]/Contents<%s>/Location(Quincebury)>>" % (b"3082" * 8000)
    data = pdf({5: signed}, page=b"/Resources<</V 5 0 R>>")
    out = run(data)
    assert b"/ByteRange[0 1 2 3]" in out
    assert b"3082" not in out
    assert b"Quincebury" not in out
    plain = pdf({5: b"<</Key<%s>>>" % (b"3082" * 8000)}, page=b"/Resources<</V 5 0 R>>")
    assert run(plain) == plain
    for broken in (b"<" + b"30" * 8000 + b"x>", b"<" + b"30" * 8000):
        assert locate(
            KIND, frozenset({"location"}), MemorySource(pdf({5: b"<</Key%s>>" % broken}))
        ).outcome is (Outcome.REFUSE)


def test_a_length_in_an_object_stream():
    def file(length: bytes) -> bytes:
        return pdf(
            {5: stream(b"12345", b"", b"7 0 R"), 6: object_stream({7: length, 8: b"(x)"})},
            page=b"/Resources<</A 5 0 R/B 8 0 R>>",
        )

    assert run(file(b"5")).count(b"endstream") == 3
    place = pdf(
        {5: stream(PACKET, b"/Type/Metadata", b"7 0 R"), 6: object_stream({7: b"%d" % len(PACKET)})},
        page=b"/Metadata 5 0 R",
    )
    assert b"47.80453" not in run(place)
    for wrong in (b"99", b"(5)", b"2"):
        plan = locate(KIND, frozenset({"location"}), MemorySource(file(wrong)))
        assert "a wrong length" in plan.reason
    own = pdf({6: object_stream({7: b"99"}).replace(b"/Length ", b"/Length 7 0 R/Was ")})
    assert locate(KIND, frozenset({"location"}), MemorySource(own)).outcome is Outcome.REFUSE


def test_what_editors_write_into_the_information():
    info = b"<</Copyright(Rosa)/Marked(True)/Comments(good)/WebStatement(x)/CreatorTool(Maker)>>"
    data = pdf({5: info}, trailer=b"/Info 5 0 R")
    assert run(data) == data
    assert b"Rosa" not in run(data, "people")
    assert b"Maker" not in run(data, "device")
    placed = pdf({5: info.replace(b"good", PLACE)}, trailer=b"/Info 5 0 R")
    assert b"47.80453" not in run(placed)

"""What programs leave between the objects of a PDF, and objects that nothing uses."""

from __future__ import annotations

import time

import pytest

from policyfs.redact.core.categories import Tells
from policyfs.redact.core.patches import MemorySource, apply, in_order
from policyfs.redact.pdf.objects import Reader
from policyfs.redact.pdf.remnants import MAX_BYTES, is_constant, tells_nothing
from policyfs.redact.registry import locate_in
from tests.support.samples.media import HOME
from tests.support.samples.pdfs import PLACE, object_stream, pdf

CITY = HOME.city.encode()
WORDS = b"47.80453, 13.04229"


def read(data: bytes, hide: Tells = Tells.LOCATION) -> bytes:
    """The file as an app reads it."""
    out = apply(data, in_order(locate_in("application/pdf", MemorySource(data), hide).patches, len(data)))
    assert not locate_in("application/pdf", MemorySource(out), hide).patches
    return out


COMMENTS = (
    b"%QDF-1.0\n\n%% Original object ID: 4 0\n",
    b"%% Page 1\n%% Contents for page 12\n",
    b"%QDF: ignore_newline\r\n",
    b"%% Object stream: object 7, index 0; original object ID: 12 0\n",
    b"%\x93\x8c\x8b\x9e ReportLab Generated PDF document http://www.reportlab.com\r\n",
    b"%\x93\x8c\x8b\x9e ReportLab Generated PDF document (opensource)\n",
    b"% ReportLab generated PDF document -- digest (http://www.reportlab.com)\n",
    b"% created by Pillow PDF driver\n",
    b"% Written by MuPDF 1.28.5\n\n",
    b"%iText-5.5.13\n",
    b"%iText-Core-8.0.2\n",
    b"%BeginExifToolUpdate\n",
    b"%EndExifToolUpdate 4711\n",
    b"%PCLm 1.0\n",
    b"%----\n%\n%%%\n",
    b"% 12\n",
    b"%%Invocation: gs -q -dBATCH -dNOPAUSE -dPDFA=2 -sDEVICE=pdfwrite -sOutputFile=? ?\n",
    (
        b"%%Invocation: path/gs -P- -dSAFER -dCompatibilityLevel=1.4 -q -P- -dNOPAUSE -dBATCH"
        b" -sDEVICE=pdfwrite -sstdout=? -sOutputFile=? -P- -dSAFER -dCompatibilityLevel=1.4 ?\n"
    ),
    (
        b"%%Invocation: gs -dPDFSETTINGS=/ebook -dDownsampleColorImages=true -dColorImageResolution=150"
        b" -r300x300 -dAutoRotatePages=/None -sColorConversionStrategy=RGB -dEmbedAllFonts=true ?\n"
    ),
)


@pytest.mark.parametrize("comment", COMMENTS)
def test_constant_comments_of_programs_stay_without_device(comment):
    data = pdf(gap=comment)
    assert read(data) == data
    assert comment not in read(data, Tells.DEVICE)
    for word in (CITY, WORDS):
        line = comment.rstrip(b"\r\n") + b" " + word + b"\n"
        assert word not in read(pdf(gap=line))
        assert word not in read(pdf(gap=comment + b"%" + word + b"\n"))


@pytest.mark.parametrize("comment", COMMENTS)
def test_constant_comments_in_objects_stay(comment):
    data = pdf(catalog=b"/Lang(en)\n" + comment)
    assert read(data) == data
    spoiled = pdf(catalog=b"/Lang(en)\n%" + CITY + b"\n" + comment)
    assert CITY not in read(spoiled)


def test_comments_are_read_up_to_a_bound():
    line = b"%% Page 1\n"
    assert is_constant(line * (MAX_BYTES // len(line)), Tells.LOCATION)
    assert not is_constant(line * (MAX_BYTES // len(line) + 1), Tells.LOCATION)
    assert CITY not in read(pdf(gap=line * 1000 + b"%" + CITY + b"\n"))


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


def test_long_rows_of_blanks_take_no_longer_than_other_bytes():
    begin = time.perf_counter()
    for text in (b"% 1" + b" " * 4000 + b"x", b"%\n \n" * 900 + b"x", b"%" * 4000 + b"x"):
        assert not is_constant(text, Tells.LOCATION)
    assert time.perf_counter() - begin < 0.2

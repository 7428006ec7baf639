"""Private entries of programs in the central dictionaries of a PDF (ISO 32000-2, annex E).

A program may add entries to any dictionary, and such an entry may hold anything. In the dictionaries that
each document has (the catalog, pages, pictures, trailers), each key that the standard does not name counts as
private. Readers ignore such keys.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from policyfs.redact.pdf.objects import Node, string_bytes


def _keys(names: str) -> frozenset[bytes]:
    return frozenset(names.encode().split())


_STREAM: Final = _keys("Length Filter DecodeParms F FFilter FDecodeParms DL")
_PTEX: Final = _keys("PTEX.FileName PTEX.PageNumber PTEX.InfoDict")
"""Keys that pdfTeX writes into each included figure. keys.py judges their values."""
_OF_TYPES: Final = MappingProxyType(
    {
        b"Catalog": _keys(
            "Type Version Extensions Pages PageLabels Names Dests ViewerPreferences PageLayout PageMode"
            " Outlines Threads OpenAction AA URI AcroForm Metadata StructTreeRoot MarkInfo Lang SpiderInfo"
            " OutputIntents PieceInfo OCProperties Perms Legal Requirements Collection NeedsRendering DSS AF"
            " DPartRoot"
        ),
        b"Pages": _keys("Type Parent Kids Count Resources MediaBox CropBox Rotate"),
        b"Page": _keys(
            "Type Parent LastModified Resources MediaBox CropBox BleedBox TrimBox ArtBox BoxColorInfo"
            " Contents Rotate Group Thumb B Dur Trans Annots AA Metadata PieceInfo StructParents ID PZ"
            " SeparationInfo Tabs TemplateInstantiated PresSteps UserUnit VP AF OutputIntents DPart LGIDict"
        ),
    }
)
_OF_STREAMS: Final = MappingProxyType(
    {
        b"Image": _PTEX
        | _STREAM
        | _keys(
            "Type Subtype Width Height ColorSpace BitsPerComponent Intent ImageMask Mask Decode Interpolate"
            " Alternates SMask SMaskInData Matte Name StructParent ID OPI Metadata OC AF Measure PtData W H"
            " BPC CS D DP I IM"
        ),
        b"Form": _PTEX
        | _STREAM
        | _keys(
            "Type Subtype FormType BBox Matrix Resources Group Ref Metadata PieceInfo LastModified"
            " StructParent StructParents OPI OC Name AF Measure PtData PS Subtype2 Level1"
        ),
    }
)
_NAMES: Final = _keys(
    "Dests AP JavaScript Pages Templates IDS URLS EmbeddedFiles AlternatePresentations Renditions"
)
"""Keys of the dictionary of name trees, which may have Pages like the catalog."""
_PROCEDURES: Final = _keys("PDF Text ImageB ImageC ImageI")
_MAX_PAGE_DIGITS: Final = 6
_DATE: Final = re.compile(rb"D:\d{4,14}(?:Z|[-+]\d\d'?(?:\d\d'?)?)?")
_TRAILER: Final = _STREAM | _keys("Size Prev Root Encrypt Info ID XRefStm Type Index W DocChecksum AuthCode")
_OTHERS: Final = _keys(
    "Font Type0 Type1 TrueType BaseFont Encoding WinAnsiEncoding MacRomanEncoding PDFDocEncoding"
    " Differences Helvetica Helvetica-Bold Courier Times-Roman Symbol ZapfDingbats Helv ZaDb ToUnicode"
    " FontDescriptor DescendantFonts XObject ExtGState Pattern Shading ProcSet Properties Transparency CS"
    " DeviceGray DeviceRGB DeviceCMYK ICCBased Outlines First Last Next Limits Nums Fields DR S K P Pg"
    " Obj MCID StructTreeRoot StructElem ParentTree ParentTreeNextKey RoleMap ClassMap IDTree Document"
    " Part Sect Span Figure Table Link Annot Widget Border Kid FT Tx Btn Ch Sig Ff OCG OCGs"
)
"""Names of fonts, colours, outlines, forms, structures and layers in the standard."""
STANDARD_KEYS: Final = frozenset().union(
    *_OF_TYPES.values(), *_OF_STREAMS.values(), _OF_TYPES, _OF_STREAMS, _NAMES, _PROCEDURES, _TRAILER, _OTHERS
)
"""Keys and names of the standard, without those of a program's own entries."""


def is_usual(key: bytes, value: Node) -> bool:
    """Return True if an entry is one that old programs put into any of these dictionaries: the constants of
    ProcSet (ISO 32000-2, 14.2), pdftk's page number, or the date LastModified or document information,
    which keys.py judges.
    """
    if key == b"ProcSet" and value.kind == "array" and len(value.items) <= len(_PROCEDURES):
        return all(item.kind == "name" and item.text in _PROCEDURES for item in value.items)
    if key == b"Info":
        return value.kind == "dict"
    if key == b"pdftk_PageNum":
        return value.kind == "word" and value.text.isdigit() and len(value.text) <= _MAX_PAGE_DIGITS
    dated = key == b"LastModified" and value.kind == "string"
    return dated and _DATE.fullmatch(string_bytes(value.text)) is not None


def is_document_part(node: Node) -> bool:
    """Return True if a dictionary is the catalog, a page or a node of the tree of pages. None of them may be
    the dictionary of a stream (ISO 32000-2, 7.7).
    """
    return node.kind == "dict" and node.name(b"Type") in _OF_TYPES


def is_private(node: Node, key: bytes, *, trailer: bool) -> bool:
    """Return True if an entry of a dictionary belongs to a program, and not to the standard.

    trailer: True if *node* is a trailer, or the dictionary of a cross-reference stream. Return False for
    dictionaries whose keys this module does not list.
    """
    if trailer:
        return key not in _TRAILER
    known = _OF_TYPES.get(node.name(b"Type") or _guessed(node))
    if known is None and node.get(b"Length") is not None:
        known = _OF_STREAMS.get(node.name(b"Subtype"))
    return known is not None and key not in known


def _guessed(node: Node) -> bytes:
    """Return the type of the catalog, a page or a node from its keys, as readers do; b"" for any other."""
    if any(node.get(key) is not None for key in (b"Length", b"Subtype", b"FT")):
        return b""
    pages = node.get(b"Pages")
    if pages is not None and pages.kind == "ref":
        return b"" if all(key in _NAMES for key, _, _ in node.members) else b"Catalog"
    if node.get(b"Kids") is not None:
        return b"Pages" if node.get(b"Count") is not None else b""
    contents = node.get(b"Contents")
    drawn = contents is not None and contents.kind in ("ref", "array")
    child = node.get(b"Parent") is not None and (drawn or node.get(b"Resources") is not None)
    return b"Page" if child or node.get(b"MediaBox") is not None else b""


_MAX_NUMBERS: Final = 1
_NUMBER: Final = re.compile(rb"\d{1,7}")
_WORDS: Final = (b"null", b"true", b"false", b"0")


def tells_nothing(node: Node) -> bool:
    """Return True if an object has no data of its own: only references, keys and names of the standard, and
    at most one whole number besides zeros.
    """
    waiting, numbers = [node], 0
    while waiting:
        here = waiting.pop()
        if here.kind == "dict":
            if any(key not in STANDARD_KEYS for key, _, _ in here.members):
                return False
            waiting += [value for _, _, value in here.members]
        elif here.kind == "word" and here.text not in _WORDS:
            numbers += 1
            if numbers > _MAX_NUMBERS or _NUMBER.fullmatch(here.text) is None:
                return False
        elif here.kind == "string" or (here.kind == "name" and here.text not in STANDARD_KEYS):
            return False
        waiting += here.items
    return True

"""PDF, GIF and JSON: objects, blocks and members."""

from __future__ import annotations

import re
import zlib
from json import dumps, loads
from random import Random

from policyfs.redact.pdf.keys import ANY, INFO, STRINGS
from tests.fuzz.mutators import text
from tests.fuzz.mutators.parts import MOST_BYTES, Mutator, Part, change, rearrange, some

_OBJECT = re.compile(rb"(?=\b\d{1,6} \d{1,3} obj\b)")
_NUMBERED = re.compile(rb"(\d{1,6}) (\d{1,3}) obj\b")
_STREAM = re.compile(rb"(.*?)\bstream\r?\n(.*?)\r?\n?endstream(.*)", re.DOTALL)
_LENGTH = re.compile(rb"/Length \d+(?! \d)")
_TABLE = re.compile(rb"xref\n.*", re.DOTALL)
_TOKEN = re.compile(
    rb"/[\w#]+|\((?:[^()\\]|\\.)*\)|<<|>>|<[0-9A-Fa-f\s]*>|[\[\]]|[^\s/<>()\[\]]+|\s+|.", re.DOTALL
)
_KEYS = tuple(b"/" + key for key in sorted({*ANY, *INFO, *STRINGS}))
_PDF_WORDS = (
    *(
        b"(a)",
        b"(47.80453, 13.04229)",
        b"<feff0061>",
        b"(D:20240517112233Z)",
        b"5 0 R",
        b"6 0 R",
        b"[5 0 R(a)]",
        b"null",
    ),
    *(
        b"<</A(b)>>",
        b"/Metadata",
        b"/Type/Metadata",
        b"/Filter/FlateDecode",
        b"/Filter[/FlateDecode]",
        b"/Length 3",
    ),
    *(
        b"%a\n",
        b"\\",
        b"(",
        b")",
        b"<<",
        b">>",
        b"[",
        b"]",
        b"endobj",
        b"stream\n",
        b"endstream",
        b"/",
        b"\r",
        b"(\\\n)",
    ),
    *(
        b"/DecodeParms<</Predictor 12/Columns 4>>",
        b"/Subtype/Image",
        b"/Filter/DCTDecode",
        b"/Type/ObjStm",
        b"/Prev 0",
    ),
    *(
        b"/Extends 5 0 R",
        b"/N 1/First 4",
        b"/F(a)",
        b"/URI(https://maps.google.com/?q=47.8,13.04)",
        b"/Type/XRef",
        b"true",
    ),
)


def pdf(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A document after accidents to its objects; its table of them is right where it was one."""
    pieces = _OBJECT.split(data)
    head, parts = pieces[0], [Part(b"", piece) for piece in pieces[1:400]]
    table = b""
    if parts and (found := _TABLE.search(parts[-1].body)):
        parts[-1].body, table = parts[-1].body[: found.start()], found[0]
    if not parts:
        return _tokens(data, rng)
    for _ in some(rng):
        change(parts, [b""], rng, lambda body, rng: _object(body, rng, inside))
        if table and rng.random() < 0.2:
            table = _tokens(table, rng)
    body = head + b"".join(part.body for part in parts)
    if not table or rng.random() < 0.05:
        return body + table
    trailer = table[table.find(b"trailer") :].partition(b"startxref")[0]
    places = {int(found[1]): found.start() for found in _NUMBERED.finditer(body)}
    lines = [b"%d 1\n%010d 00000 n \n" % place for place in sorted(places.items())]
    start = b"xref\n0 1\n0000000000 65535 f \n" + b"".join(lines)
    return body + start + trailer + b"startxref\n%d\n%%%%EOF\n" % len(body)


def _object(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """An object: its words, or what its stream holds."""
    found = _STREAM.fullmatch(data)
    if found is None:
        return _tokens(data, rng)
    head, body, tail = found.groups()
    if rng.random() < 0.4:
        head = _tokens(head, rng)
    elif b"FlateDecode" in head:
        try:
            plain = zlib.decompressobj().decompress(body, MOST_BYTES)
        except zlib.error:
            plain = b""
        packed = zlib.compress(
            _tokens(plain, rng) if b"ObjStm" in head else inside(plain, rng), rng.choice((0, 1, 9))
        )
        body = packed + bytes(rng.choice((0, 0, 20)))
    else:
        body = inside(body, rng)
    if rng.random() < 0.95:
        head = _LENGTH.sub(b"/Length %d" % len(body), head)
    return head + b"stream\n" + body + b"\nendstream" + tail


def _tokens(data: bytes, rng: Random) -> bytes:
    """Words of PDF after one accident."""
    tokens = _TOKEN.findall(data)
    if not tokens:
        return text.mutate(data, rng)
    at = rng.randrange(len(tokens))
    match rng.randint(0, 6):
        case 0:
            tokens.insert(at, rng.choice(_PDF_WORDS))
        case 1:
            tokens.insert(at, rng.choice(_KEYS) + rng.choice(_PDF_WORDS))
        case 2:
            tokens[at] = rng.choice((*_KEYS, *_PDF_WORDS))
        case 3 | 4 | 5:
            rearrange(tokens, at, rng)
        case _:
            tokens[at] = text.mutate(tokens[at], rng)
    return b"".join(tokens)


_GIF_NAMES = (
    *(
        b"!\xfe",
        b"!\xff\x0bXMP DataXMP",
        b"!\xff\x0bNETSCAPE2.0",
        b"!\xff\x0bICCRGBG1012",
        b"!\xff\x0bABCDEFGHabc",
    ),
    *(b"!\xf9", b"!\x01", b"!\x77", b";", b"!", b"!\xff\x05abcde", b"\0"),
)


def gif(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A GIF after accidents to its blocks."""
    parts: list[Part] = []
    start = at = _behind_table(data, 10, 13)
    while at < len(data) and data[at] != 0x3B and len(parts) < 200:
        if data[at] == 0x21:
            lead = 14 if data[at + 1 : at + 3] == b"\xff\x0b" else 2
        elif data[at] == 0x2C:
            lead = _behind_table(data, at + 9, at + 10) - at + 1
        else:
            lead = 1
        end = at + lead
        body = b""
        while lead > 1 and end < len(data) and data[end]:
            body += data[end + 1 : end + 1 + data[end]]
            end += 1 + data[end]
        parts.append(Part(data[at : at + lead], body))
        at = end + (1 if lead > 1 else 0)
    for _ in some(rng):
        change(parts, _GIF_NAMES, rng, inside)
    rest = text.mutate(data[at:], rng) if rng.random() < 0.15 else data[at:]
    return data[:start] + b"".join(_block(part, rng) for part in parts) + rest


def _behind_table(data: bytes, flags: int, start: int) -> int:
    """Where a colour table ends that the flags may tell of."""
    packed = data[flags] if flags < len(data) else 0
    return start + (3 << (packed & 7) + 1 if packed & 0x80 else 0)


def _block(part: Part, rng: Random) -> bytes:
    """Its introduction, and its content in pieces of as many bytes as there may be, or of fewer."""
    if len(part.name) < 2:
        return part.name
    if part.name[2:].endswith(b"XMP") and rng.random() < 0.7:
        return part.name + part.body + b"\1" + bytes(range(255, -1, -1)) + b"\0"  # not in pieces
    size = rng.choice((255, 255, 255, 60, 1, 7)) if len(part.body) < 2000 else 255
    pieces = [part.body[at : at + size] for at in range(0, len(part.body), size)]
    end = b"" if part.lie else b"\0"
    return part.name + b"".join(bytes([len(piece)]) + piece for piece in pieces) + end


_JSON = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]|[^\s"{}\[\]:,]+|\s+|"')
_JSON_WORDS = (
    *(b'"title":"a"', b'"people":[{"name":"R"}]', b'"\\u0067eoData"', b'"\\ud800"', b"1e9", b"\xff", b"null"),
    *(b"{}", b"[]", b"{", b"}", b"[", b"]", b",", b":", b'"', b"-0.5", b"\xef\xbb\xbf", b" ", b"\0", b"\\"),
)
_MEMBERS: dict[str, object] = {
    "title": "a",
    "description": "47.80453, 13.04229",
    "geoData": {"latitude": 47.8, "longitude": 13.04},
    "geoDataExif": {"latitude": 0.0},
    "people": [{"name": "R\u00f6"}],
    "photoTakenTime": {"timestamp": "1715938953", "formatted": "17.05.2024, 09:42:33 UTC"},
    "creationTime": {"timestamp": "1"},
    "url": "https://maps.google.com/?q=47.8,13.04",
    "googlePhotosOrigin": {"mobileUpload": {"deviceType": "ANDROID_PHONE"}},
    "appSource": {"androidPackageName": "a.b"},
    "imageViews": "9",
    "foo": [1, -2.5, None, True, "x", {"lat": 47.80453}],
    "": {},
}


def json(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """JSON after accidents to its members, and now and then to its words."""
    for _ in some(rng):
        try:
            value = loads(data)
            whole = isinstance(value, dict | list) and rng.random() < 0.7
            made = dumps(_member(value, rng), ensure_ascii=rng.random() < 0.5, indent=rng.choice((None, 1)))
        except (ValueError, RecursionError):
            whole, made = False, ""
        data = made.encode("utf-8", "replace") if whole else _words(data, rng, inside)
    return data


def _member(value: object, rng: Random) -> object:
    """A value with one member more, less, or another, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.7:
        key = rng.choice(list(value))
        return {**value, key: _member(value[key], rng)} if rng.random() < 0.8 else {**value, key: value}
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], _member(value[at], rng), *value[at + rng.randint(0, 1) :]]
    key = rng.choice(list(_MEMBERS))
    if isinstance(value, dict):
        return {key: _MEMBERS[key], **value}
    return rng.choice((_MEMBERS[key], {key: _MEMBERS[key]}, [_MEMBERS[key], value], key))


def _words(data: bytes, rng: Random, inside: Mutator) -> bytes:
    tokens = _JSON.findall(data) or [b"{}"]
    at = rng.randrange(len(tokens))
    match rng.randint(0, 5):
        case 0:
            tokens.insert(at, rng.choice(_JSON_WORDS))
        case 1 | 2 | 3:
            rearrange(tokens, at, rng)
        case _:
            tokens[at] = inside(tokens[at], rng)
    return b"".join(tokens)

"""XMP and other XML: tags, attributes, and the ways to write the same thing in others."""

from __future__ import annotations

import re
from random import Random

from tests.fuzz.mutators import text
from tests.fuzz.mutators.parts import MOST_BYTES, rearrange

_TOKEN = re.compile(rb"<[^<>]*>|[^<>]+|[<>]")
_ATTRIBUTE = re.compile(rb"[\w:]+\s*=\s*(?:\"[^\"]*\"|'[^']*')")
_SNIPPETS = (
    *(b"<photoshop:City>Zirbelstadt</photoshop:City>", b"<exif:GPSLatitude>47,48.27N</exif:GPSLatitude>"),
    *(b"<dc:title>47.80453, 13.04229</dc:title>", b"<xmp:CreateDate>2024-05-17</xmp:CreateDate>"),
    *(b"<dc:creator><rdf:Seq><rdf:li>Rosa</rdf:li></rdf:Seq></dc:creator>", b"<rdf:value>47.8</rdf:value>"),
    *(
        b"<!-- 47.80453, 13.04229 -->",
        b"<![CDATA[47.80453, 13.04229]]>",
        b"<?a b?>",
        b"<!DOCTYPE a>",
        b"&#x34;7",
        b"&lt;",
    ),
    *(
        b"<rdf:Description/>",
        b"<rdf:Description rdf:about=''>",
        b"</rdf:Description>",
        b"<rdf:Bag>",
        b"</rdf:Bag>",
    ),
    *(
        b"<rdf:li rdf:parseType='Resource'>",
        b"</rdf:li>",
        b"<a:b xmlns:a='c'/>",
        b"<?xpacket end='w'?>",
        b"text",
    ),
)
_ATTRIBUTES = (
    *(b'photoshop:City="Zirbelstadt"', b'xmlns:photoshop="a"', b'xmlns="http://ns.adobe.com/photoshop/1.0/"'),
    *(
        b'rdf:parseType="Resource"',
        b'rdf:parseType="Literal"',
        b'rdf:resource="47.8"',
        b'xml:lang="x-default"',
    ),
    *(
        b'exif:GPSLongitude="13,2.5E"',
        b'xmp:CreateDate="2024"',
        b'rdf:about="a"',
        b'xml:space="preserve"',
        b"a='\"'",
    ),
    *(
        b'xmlns:exif="http://ns.adobe.com/photoshop/1.0/"',
        b'dc:title="47.80453, 13.04229"',
        b'GImage:Data="/9j/"',
    ),
)
_ENCODINGS = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-8-sig")


def mutate(data: bytes, rng: Random) -> bytes:
    """Markup after one accident."""
    if rng.random() < 0.03:
        return data.decode("utf-8", "replace").encode(rng.choice(_ENCODINGS))
    tokens = _TOKEN.findall(data)
    if len(tokens) < 3 or len(data) > MOST_BYTES // 2 or rng.random() < 0.2:
        return text.mutate(data, rng)[:MOST_BYTES]
    at = rng.randrange(len(tokens))
    match rng.randint(0, 6):
        case 0:
            tokens.insert(at, rng.choice(_SNIPPETS))
        case 1 | 2 | 3:
            rearrange(tokens, at, rng)
        case 4:
            tokens[at] = text.mutate(tokens[at], rng)
        case _:
            tags = [n for n, token in enumerate(tokens) if token[:1] == b"<" and token[1:2].isalpha()]
            if tags:
                at = rng.choice(tags)
                tokens[at] = _change_tag(tokens[at], rng)
    return b"".join(tokens)


def _change_tag(tag: bytes, rng: Random) -> bytes:
    """A tag with one attribute more, less, or another."""
    found = list(_ATTRIBUTE.finditer(tag))
    new = b" " + rng.choice(_ATTRIBUTES)
    if not found or rng.random() < 0.5:
        end = len(tag) - (2 if tag.endswith(b"/>") else 1)
        return tag[:end] + new + tag[end:]
    one = rng.choice(found)
    return tag[: one.start()] + rng.choice((b"", new, one[0] + b" " + one[0])) + tag[one.end() :]

"""PSDs and PSBs put together byte by byte: resources, layers with blocks, and the merged picture."""

from __future__ import annotations

from tests.support.samples.jpegs import exif, iptc_place, plain, resource, xmp_packet
from tests.support.samples.media import HOME

KIND = "image/vnd.adobe.photoshop"
WIDTH, HEIGHT = 4, 2
PLACE = f"{HOME.latitude}, {HOME.longitude}"
RAW = b"\0\0" + bytes(range(10, 10 + WIDTH * HEIGHT))
PACKED = b"\0\1" + b"\0\2" * HEIGHT + (bytes([257 - WIDTH]) + b"\x80") * HEIGHT
ZIPPED = b"\0\2" + bytes.fromhex("789c636060606060600000000800 01".replace(" ", ""))


def sized(data: bytes, wide: int = 4) -> bytes:
    return len(data).to_bytes(wide) + data


def text(words: str) -> bytes:
    """Text with its length, as in Photoshop's blocks."""
    return len(words).to_bytes(4) + words.encode("utf-16-be")


def block(key: bytes, data: bytes, *, wide: int = 4, signature: bytes = b"8BIM") -> bytes:
    return signature + key + sized(data + bytes(-len(data) % 4), wide)


def rectangle(width: int = WIDTH, height: int = HEIGHT) -> bytes:
    return b"".join(number.to_bytes(4) for number in (0, 0, height, width))


def layer(
    *blocks: bytes, name: bytes = b"L1", masks: bytes = b"", ranges: bytes = b"", pixels: bytes = RAW,
    channels: tuple[int, ...] = (0, 1, 2), wide: int = 4,
) -> tuple[bytes, bytes]:  # fmt: skip
    """A layer's record, and its channels."""
    pascal = bytes([len(name)]) + name
    extra = sized(masks) + sized(ranges) + pascal + bytes(-len(pascal) % 4) + b"".join(blocks)
    heads = b"".join(number.to_bytes(2, signed=True) + len(pixels).to_bytes(wide) for number in channels)
    record = rectangle() + len(channels).to_bytes(2) + heads + b"8BIMnorm\xff\0\0\0" + sized(extra)
    return record, pixels * len(channels)


def info(*layers: tuple[bytes, bytes], behind: bytes = b"") -> bytes:
    """The records of layers, then their channels."""
    made = (-len(layers)).to_bytes(2, signed=True) + b"".join(one for one, _ in layers)
    made += b"".join(pixels for _, pixels in layers) + behind
    return made + bytes(len(made) % 2)


def psd(
    *layers: tuple[bytes, bytes], resources: bytes = b"", colours: bytes = b"", blocks: bytes = b"",
    mask: bytes = b"", merged: bytes = b"\0\0" + RAW[2:] * 3, behind: bytes = b"", wide: int = 4,
    between: bytes = b"", reserved: bytes = bytes(6),
) -> bytes:  # fmt: skip
    """An RGB picture. wide: 8 for a PSB."""
    head = b"8BPS" + (wide // 4).to_bytes(2) + reserved + b"\0\3" + HEIGHT.to_bytes(4) + WIDTH.to_bytes(4)
    section = b""
    if layers or blocks or mask:
        inside = info(*layers, behind=between) if layers else b""
        section = sized(inside, wide) + sized(mask) + blocks
    return head + b"\0\x08\0\3" + sized(colours) + sized(resources) + sized(section, wide) + merged + behind


def version(*, merged: int = 1, writer: str = "Testmaker") -> bytes:
    """The resource of the program's version."""
    return resource(0x0421, b"\0\0\0\1" + bytes([merged]) + text(writer) + text("Reader") + b"\0\0\0\1")


_WORDS = PLACE.encode()
_CITY = HOME.city.encode()
_XMP = xmp_packet(f"<photoshop:City>{HOME.city}</photoshop:City>")
_LINKED = b"liFD\0\0\0\7" + b"\x24" + b"0123-4567" * 4 + text("photo.jpg\0") + b"JPEG8BIM" + sized(_CITY, 8)
HIDING = {
    "EXIF": psd(resources=resource(0x0422, exif("MM"))),
    "XMP": psd(resources=resource(0x0424, _XMP)),
    "IPTC": psd(resources=resource(0x0404, iptc_place())),
    "thumbnail": psd(resources=resource(0x040C, bytes(28) + plain()[:2] + b"\xff\xfe\0\x1a" + _WORDS)),
    "unknown resource": psd(resources=resource(0x1234, _CITY) + version()),
    "caption": psd(resources=resource(0x03F0, bytes([len(PLACE)]) + PLACE.encode())),
    "name": psd(layer(name=PLACE.encode())),
    "Unicode name": psd(layer(block(b"luni", text(PLACE)))),
    "unknown block": psd(layer(block(b"zzzz", _CITY))),
    "unknown block, PSB": psd(layer(block(b"extn", bytes(4) + _CITY), wide=8), wide=8),
    "long block, PSB": psd(blocks=block(b"lnk2", sized(_LINKED, 8), wide=8), wide=8),
    "smart object": psd(layer(block(b"SoLd", _CITY)), blocks=block(b"lnk2", sized(_LINKED, 8))),
    "drawn text": psd(layer(block(b"TySh", b"\0\1" + bytes(48) + text(PLACE)))),
    "note": psd(layer(), blocks=block(b"Anno", b"\0\2\0\1" + _CITY)),
    "metadata": psd(layer(block(b"shmd", b"\0\0\0\1" + b"8BIMcust\0\0\0\0" + sized(PLACE.encode())))),
    "layers of 16 bits": psd(blocks=block(b"Lr16", info(layer(block(b"zzzz", _CITY))))),
    "block with a manifest": psd(layer(block(b"SoCo", b"\0\0\0\x40jumb" + _CITY))),
    "behind blocks": psd(layer(b"abcd" + _CITY)),
    "behind a name": psd(layer(block(b"luni", text("a"))), blocks=b"\1" + _CITY),
    "behind raw pixels": psd(layer(pixels=RAW + _CITY)),
    "behind packed pixels": psd(layer(pixels=PACKED + _CITY)),
    "between layers and mask": psd(layer(), between=_CITY),
    "behind the picture": psd(behind=_CITY),
    "behind a packed picture": psd(merged=b"\0\1" + b"\0\2" * 6 + b"\xfd\1" * 6, behind=_CITY),
    "reserved": psd(reserved=_CITY[:6]),
    "ranges": psd(layer(ranges=bytes(40) + _CITY)),
}
"""Files with a place in each part that does not have to stay."""
EVERYTHING = psd(
    layer(
        block(b"luni", text("a name")), block(b"lyid", b"\0\0\0\1"), block(b"zzzz", b"abcd"),
        masks=rectangle() + bytes(4), ranges=bytes(40),
    ),
    layer(block(b"SoCo", b"\0\0\0\x10abcd", signature=b"8B64"), pixels=PACKED, channels=(-1, 0, -2)),
    resources=b"".join(
        (version(), resource(0x03ED, bytes(16)), resource(0x0416, b"\0\1"), resource(0x0404, iptc_place()))
    ),
    blocks=block(b"Patt", bytes(12)) + block(b"cinf", b"\0\0\0\x10program"), mask=bytes(14),
)  # fmt: skip
SEEDS = (EVERYTHING, *HIDING.values())

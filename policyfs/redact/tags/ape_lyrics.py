"""Tags before and behind sound: ID3v1 (with TAG+), APEv1 and APEv2, Lyrics3, and ID3v2 at either end.

Sources: id3.org's descriptions; the APEv2 specification of hydrogenaud.io's wiki.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policyfs.redact.core.categories import UNKNOWN, Tells
from policyfs.redact.core.cleaners import Cleaned, NotThisKindError
from policyfs.redact.core.edits import MAX_BLOCK_BYTES, Edits
from policyfs.redact.core.patches import skip_zeros
from policyfs.redact.core.tag_names import told, told_by_named
from policyfs.redact.tags.id3 import HEAD_BYTES, clean_id3, tag_size

_OLD_BYTES: Final = 128
_MORE_BYTES: Final = 227
_P, _T = Tells.PEOPLE, Tells.TIME
_OLD_FIELDS: Final = ((3, 30, _P), (33, 30, _P), (63, 30, _P), (93, 4, _T), (97, 30, _P))
_MORE_FIELDS: Final = (
    (4, 60, _P),
    (64, 60, _P),
    (124, 60, _P),
    (185, 30, Tells.OTHER),
    (215, 12, Tells.OTHER),
)
_APE_HEAD_BYTES: Final = 32
_APE: Final = b"APETAGEX"
_FILLER: Final = b"Padding"
_MAX_ITEMS: Final = 2000
_LYRICS: Final = b"LYRICSBEGIN"
_LYRICS_END_BYTES: Final = 15
"""Size of the mark that ends a Lyrics3v2 tag: six digits, LYRICS200."""
_FIELD_BYTES: Final = 8
"""Size of a Lyrics3v2 field without its text: three letters, five digits."""
_MAX_TAGS: Final = 64
_OVERLAP: Final = "tags at its end overlap"


def clean_front(edits: Edits) -> int:
    """Clean the tags at the start of a file; return the offset behind these tags in bytes.

    Zeros between and behind the tags are skipped.
    """
    at = 0
    for _ in range(_MAX_TAGS):
        at = skip_zeros(edits.source, at)
        size = clean_here(edits, at, edits.source.size)
        if not size:
            break
        at += size
    return at


def clean_here(edits: Edits, at: int, end: int) -> int:
    """Clean the ID3v2 or APE tag at an offset, up to `end`; return its length in bytes (0: no tag)."""
    head = edits.source.read(at, min(_APE_HEAD_BYTES, end - at))
    size = tag_size(head)
    if size:
        _id3(edits, at, min(size, end - at), whole=at + size <= end)
        return min(size, end - at)
    if head.startswith(_APE):
        size = _APE_HEAD_BYTES + int.from_bytes(head[12:16], "little")
        if len(head) == _APE_HEAD_BYTES and at + size <= end:
            _ape(edits, at, at + size)
            return size
    return 0


def clean_end(edits: Edits, start: int) -> int:
    """Clean the tags at the end of a file, but not before `start`; return the offset of the first of them.

    Raises NotThisKindError if two of the tags overlap, or if one reaches into the tags before `start`.
    """
    end = edits.source.size
    for _ in range(_MAX_TAGS):
        before = _last(edits, start, end)
        if before is None:
            return _unmark(edits, start, end)
        if before == end:
            break
        end = before
    return end


def _last(edits: Edits, start: int, end: int) -> int | None:
    """Clean the tag that ends at `end`; return its start; `end` if there is none, None if it is broken.
    Raises NotThisKindError if readers may take the bytes before `end` for two tags.
    """
    if end <= start:
        return end
    source = edits.source
    tail = source.read(max(0, end - _OLD_BYTES), min(end, _OLD_BYTES))
    # exiftool takes any TAG before an ID3v1 tag for a TAG+.
    before_old = end + _OLD_BYTES == source.size and source.read(end, 3) == b"TAG"
    mark = b"TAG" if before_old else b"TAG+"
    more = end >= _MORE_BYTES and source.read(end - _MORE_BYTES, len(mark)) == mark
    found = {
        _MORE_BYTES: more and before_old,
        _OLD_BYTES: len(tail) == _OLD_BYTES and tail.startswith(b"TAG"),
        _APE_HEAD_BYTES: tail[-_APE_HEAD_BYTES:].startswith(_APE),
        _LYRICS_END_BYTES: tail.endswith((b"LYRICS200", b"LYRICSEND")),
        HEAD_BYTES: tail[-HEAD_BYTES:].startswith(b"3DI"),
    }
    sizes = [size for size, is_here in found.items() if is_here]
    if len(sizes) > 1 or (sizes and end - sizes[0] < start):
        raise NotThisKindError(_OVERLAP)
    if found[_OLD_BYTES]:
        _fields(edits, end - _OLD_BYTES, tail, _OLD_FIELDS, "ID3v1")
        return end - _OLD_BYTES
    if found[_APE_HEAD_BYTES]:
        return _last_ape(edits, start, end, tail[-_APE_HEAD_BYTES:])
    if found[_LYRICS_END_BYTES]:
        return _last_lyrics(edits, start, end, tail[-_LYRICS_END_BYTES:])
    if found[HEAD_BYTES]:
        size = tag_size(b"ID3" + tail[-HEAD_BYTES + 3 :])
        if size and end - size >= start and tag_size(source.read(end - size, HEAD_BYTES)) == size:
            _id3(edits, end - size, size, whole=True)
            return end - size
        return end
    if more and end - _MORE_BYTES >= start:
        data = source.read(end - _MORE_BYTES, _MORE_BYTES)
        _fields(edits, end - _MORE_BYTES, data, _MORE_FIELDS, "ID3v1 TAG+")
        return end - _MORE_BYTES
    return end


def _last_ape(edits: Edits, start: int, end: int, foot: bytes) -> int | None:
    size = int.from_bytes(foot[12:16], "little")
    begin = end - size
    if size < _APE_HEAD_BYTES or begin < start:
        return None
    header = begin - _APE_HEAD_BYTES
    # Readers find the items by the size, also if the header that the flags state is missing.
    if foot[23] & 0x80 and header >= start and edits.source.read(header, len(_APE)) == _APE:
        begin = header
    _ape(edits, begin, end)
    return begin


def _last_lyrics(edits: Edits, start: int, end: int, foot: bytes) -> int | None:
    """Clean the Lyrics3 tag that ends at `end`, and return its start: the first mark, as in exiftool; or
    None.
    """
    size = 5200
    if foot.endswith(b"LYRICS200"):
        size = _LYRICS_END_BYTES + int(foot[:6]) if foot[:6].isdigit() else 0
    at = max(0, end - size)
    begin = at + edits.source.read(at, end - at).find(_LYRICS)
    if begin < max(at, start):
        return None
    _lyrics(edits, begin, end)
    return begin


def _unmark(edits: Edits, start: int, end: int) -> int:
    """Zero the end of a broken tag, so that no reader finds a tag before; return the first zero's offset.
    Raises NotThisKindError if this end reaches before `start`.
    """
    begin = end - _APE_HEAD_BYTES
    if begin < start:
        raise NotThisKindError(_OVERLAP)
    edits.zero(begin, end, "tag", broken=True)
    return begin


def _id3(edits: Edits, at: int, size: int, *, whole: bool) -> None:
    if not whole or size > MAX_BLOCK_BYTES:
        # Another tag that cuts it off may become zeros: then its header would be that of a whole tag.
        stays = whole or at + size == edits.source.size
        edits.zero(at + HEAD_BYTES * stays, at + size, "ID3", broken=not whole)
        return
    tag = edits.source.read(at, size)
    edits.block(at, tag, clean_id3(tag, edits.inner))


def _fields(edits: Edits, at: int, data: bytes, fields: tuple[tuple[int, int, Tells], ...], tag: str) -> None:
    new = bytearray(data)
    for start, size, tells in fields:
        text = data[start : start + size]
        if text.strip(b"\0 ") and told(edits.inner.hide, tells, text, edits.inner.budget):
            new[start : start + size] = bytes(size)
            edits.note(at + start, size, tag, tells)
    edits.put(at, data, bytes(new))


def _lyrics(edits: Edits, at: int, end: int) -> None:
    """Remove the text of a Lyrics3 tag. Its marks stay, so that the sound still ends at the first one."""
    old = edits.source.read(at, end - at)
    behind = 9 if old.endswith(b"LYRICSEND") else 15
    size = len(old) - len(_LYRICS) - behind
    if size < 0:
        return
    fields = bytearray()
    while behind == 15 and size - len(fields) >= _FIELD_BYTES:
        room = min(size - len(fields) - _FIELD_BYTES, 90_000)
        fields += b"INF%05d" % room + b" " * room
    new = old[: len(_LYRICS)] + bytes(fields).ljust(size, b" ") + old[len(old) - behind :]
    if edits.put(at, old, new):
        edits.note(at, len(old), "Lyrics3")


# --- APE ---


@dataclass(frozen=True, slots=True)
class _Item:
    data: bytes
    key: str
    value: int


def _ape(edits: Edits, begin: int, end: int) -> None:
    if end - begin > MAX_BLOCK_BYTES:
        edits.zero(begin, end, "APE")
        return
    tag = edits.source.read(begin, end - begin)
    head = _APE_HEAD_BYTES if tag.startswith(_APE) else 0
    foot = _APE_HEAD_BYTES * (len(tag) >= head + _APE_HEAD_BYTES and tag[-_APE_HEAD_BYTES:].startswith(_APE))
    body = tag[head : len(tag) - foot]
    kept: list[bytes] = []
    done = 0
    changed = sum(bool(part[24:].strip(b"\0")) for part in (tag[:head], tag[head + len(body) :]))
    if changed:
        edits.note(begin, len(tag), "APE", UNKNOWN, broken=True)
    for item in _items(body):
        tells, new = _clean_item(item, edits)
        if new is not None:
            kept.append(new)
        if new != item.data:
            changed += 1
            edits.note(begin + head + done, len(item.data), f"APE {item.key}", tells)
        done += len(item.data)
    if done < len(body):
        changed += 1
        edits.note(begin + head + done, len(body) - done, "APE", UNKNOWN, broken=True)
    if not changed:
        return
    missing = len(body) - sum(map(len, kept))
    if missing >= 8 + 2 + 1:
        key = _FILLER[: missing - 9]
        content = missing - 9 - len(key)
        kept.append(content.to_bytes(4, "little") + b"\2\0\0\0" + key + b"\0" + bytes(content))
    count = len(kept).to_bytes(4, "little")
    first, last = (_recounted(part, count) for part in (tag[:head], tag[head + len(body) :]))
    edits.put(begin, tag, first + b"".join(kept).ljust(len(body), b"\0") + last)


def _recounted(end: bytes, count: bytes) -> bytes:
    return end[:16] + count + end[20:24] + bytes(8) if end else b""


def _items(body: bytes) -> Iterator[_Item]:
    at = 0
    for _ in range(_MAX_ITEMS):
        size = int.from_bytes(body[at : at + 4], "little")
        end_of_key = body.find(b"\0", at + 8, at + 8 + 256)
        if end_of_key < at + 10 or end_of_key + 1 + size > len(body):
            return
        value = end_of_key + 1
        key = body[at + 8 : end_of_key]
        if not key.isascii():
            return
        yield _Item(body[at : value + size], key.decode("ascii"), value - at)
        at = value + size


def _clean_item(item: _Item, edits: Edits) -> tuple[Tells, bytes | None]:
    """Return the categories of an item, and its new bytes, as many as before; None if it goes."""
    head, value = item.data[: item.value], item.data[item.value :]
    kind = item.data[4] >> 1 & 3
    if kind == 0:
        tells = told_by_named(edits.inner.hide, item.key, value, edits.inner.budget)
        return tells, None if tells else item.data
    if kind == 1 and item.key.lower().startswith("cover art"):
        name, zero, picture = value.partition(b"\0")
        cleaned: Cleaned | None = edits.inner.image(picture) if zero else None
        if cleaned is None:
            return UNKNOWN, None
        if name.strip(b" ") and told(edits.inner.hide, Tells.PEOPLE, name, edits.inner.budget):
            name = b" " * len(name)
        return UNKNOWN, head + name + zero + cleaned.data
    if kind == 1 and _FILLER.startswith(item.key.encode()) and not value.strip(b"\0"):
        return UNKNOWN, item.data
    return UNKNOWN, None

"""Subtitles beside films: SubRip (also drones' telemetry), WebVTT, YouTube's SBV, and SSA or ASS scripts.

Each cue is searched; times and numbers of cues stay, and spaces replace the words of a cue that goes. Where
one cue tells a place, all cues with several digits go: a drone writes a cue for each picture. Sources: WebVTT
(W3C), ASS as libass reads it. SubRip and SBV have no standard: each line but times and numbers is words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from policyfs.redact.core.categories import NOTHING, Tells
from policyfs.redact.core.cleaners import Found, Inner, Note, NotThisKindError, TooMuchError
from policyfs.redact.core.patches import ByteSource, uniform_difference
from policyfs.redact.core.tag_names import told
from policyfs.redact.matroska.codec_private import clean_private

MAX_BYTES: Final = 16 << 20
MAX_LINES: Final = 300_000
_DIGITS: Final = 4
"""Number of digits with which a cue may be a part of a place, if other cues tell one."""
_LINE: Final = re.compile(r"([^\r\n]*)(\r\n|\r|\n|\Z)")
_CLOCK: Final = r"(?:\d{1,3}:)?\d{1,2}:\d{1,2}[,.]\d{1,3}"
_PERCENT: Final = r"\d{1,3}(?:\.\d{1,2})?%"
_TIME: Final = re.compile(
    rf"[ \t]*{_CLOCK}(?:[ \t]*-->[ \t]*|,){_CLOCK}"
    r"(?:[ \t]+(?:[XY][12]:\d{1,4}|vertical:(?:rl|lr)|align:(?:start|middle|center|end|left|right)"
    rf"|line:(?:-?\d{{1,3}}|{_PERCENT})(?:,(?:start|center|end))?|size:{_PERCENT}"
    rf"|position:{_PERCENT}(?:,(?:line-left|center|line-right))?))*(?![^ \t])[ \t]*"
)
"""Pattern of the times of a cue, and of its settings with values of the standard. What is behind them counts
as words.
"""
_NUMBER: Final = re.compile(r"[ \t]*\d{1,6}[ \t]*")
_HEAD: Final = re.compile(r"(?:\u00ef\u00bb\u00bf|\ufeff)?(?:WEBVTT(?![^ \t\r\n]))?")
_SCRIPT: Final = re.compile(rb"(?:\xef\xbb\xbf)?(?:[ \t]*[\r\n])*\[Script Info\][ \t]*[\r\n]")
_DIALOGUE: Final = re.compile(
    rb"(Dialogue:[ \t]*(?:Marked=)?\d{0,4},[ \t]*\d{1,3}:\d\d:\d\d\.\d\d,[ \t]*\d{1,3}:\d\d:\d\d\.\d\d,)"
    rb"([^,\r\n]*)(,)([^,\r\n]*)(,[ \t]*\d{0,4},[ \t]*\d{0,4},[ \t]*\d{0,4},)([^,\r\n]*)(,)([^\r\n]*)"
)
"""Pattern of a line of an ASS script. Its even groups are style, speaker, effect and words."""
_DIGIT: Final = re.compile(rb"\d")
_MARKS: Final = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


@dataclass(slots=True)
class _Cue:
    """The words between two times: ranges of rows of lines, in characters; then what they tell."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    told: Tells = NOTHING


def locate_subtitles(source: ByteSource, inner: Inner) -> Found:
    """Locate everything to hide in subtitles. Raises NotThisKindError, TooMuchError."""
    if source.size > MAX_BYTES:
        raise TooMuchError("the subtitles are larger than the limit")
    data = source.read(0, source.size)
    found = Found()
    if _SCRIPT.match(data):
        new = b"".join(_script(data, inner, found))
    else:
        encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "latin-1")
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            raise NotThisKindError("its text is broken") from None
        new = _cleaned(text, encoding, inner, found)
    found.patches += uniform_difference(0, data, new)
    return found


def _cleaned(text: str, encoding: str, inner: Inner, found: Found) -> bytes:
    if text.count("\n") + text.count("\r") > MAX_LINES:
        raise TooMuchError("the subtitles have too many lines")
    cues = list(_cues(text))
    if text and not text.strip("\ufeff\u00ef\u00bb\u00bf \t\r\n"):
        return text.encode(encoding)  # only blanks: redaction writes them
    if len(cues) < 2 or "\0" in text:
        raise NotThisKindError("there is no cue in it")
    words = ["\n".join(text[start:end] for start, end in cue.spans).encode(encoding) for cue in cues]
    for cue, told_in_cue in zip(cues, _told_in(words, "\n".encode(encoding), inner), strict=True):
        cue.told = told_in_cue
    pieces: list[str] = []
    done = offset = 0
    unit = 1 if encoding == "latin-1" else 2
    for cue in cues:
        for start, end in cue.spans if cue.told else ():
            size = len(text[start:end].encode(encoding))
            offset += len(text[done:start].encode(encoding))
            pieces += [text[done:start], " " * (size // unit)]
            found.notes.append(Note(offset, size, "subtitles", "cue", cue.told))
            offset, done = offset + size, end
    return "".join([*pieces, text[done:]]).encode(encoding)


def _cues(text: str) -> Iterator[_Cue]:
    """Yield what comes before the first time, then the words behind each time. Rows of lines are one span."""
    cue, goes_on = _Cue(), False
    at = _HEAD.match(text).end()  # type: ignore[union-attr]  # always matches
    lines = [(found.start(1), found.end(1), found[1]) for found in _LINE.finditer(text, at)]
    times = [_TIME.match(line) for _, _, line in lines] + [None]
    for number, (start, end, line) in enumerate(lines):
        if time := times[number]:
            yield cue
            cue, goes_on = _Cue(), False
            if line[time.end() :]:
                cue.spans.append((start + time.end(), end))
        elif not line.strip() or (times[number + 1] and _NUMBER.fullmatch(line)):
            goes_on = False
        elif goes_on:
            cue.spans[-1] = (cue.spans[-1][0], end)
        else:
            cue.spans.append((start, end))
            goes_on = True
    yield cue


def _script(data: bytes, inner: Inner, found: Found) -> Iterator[bytes]:
    """Yield the pieces of a script, cleaned: its lines of words, and the lines between them."""
    lines = list(_DIALOGUE.finditer(data))
    if not lines:
        raise NotThisKindError("there is no cue in it")
    words = [b"\n".join(line.group(2, 4, 6, 8)) for line in lines]
    done = 0
    for line, each in zip(lines, _told_in(words, b"\n", inner), strict=True):
        yield _between(data[done : line.start()], inner)
        done = line.end()
        if not each:
            yield line[0]
            continue
        found.notes.append(Note(line.start(2), done - line.start(2), "subtitles", "line", each))
        parts = enumerate(line.groups(), 1)
        yield b"".join(part if number % 2 else b" " * len(part) for number, part in parts)
    yield _between(data[done:], inner)


def _told_in(words: list[bytes], between: bytes, inner: Inner) -> list[Tells]:
    """Return the categories of the data in the words of each cue; a place may be in two neighbours."""
    tells = [_told(said, inner) for said in words]
    several = [len(_DIGIT.findall(said)) >= _DIGITS for said in words]
    place = any(each & Tells.LOCATION for each in tells)
    for one, other in pairwise(range(len(words)) if inner.hide & Tells.LOCATION and not place else ()):
        if several[one] and several[other]:
            last = between.join(words[cue].split(between)[-1] for cue in (one, other))
            place = place or bool(_told(last, inner) & Tells.LOCATION)
    if not place:
        return tells
    return [each | Tells.LOCATION if many else each for each, many in zip(tells, several, strict=True)]


def _told(words: bytes, inner: Inner) -> Tells:
    inner.budget.part(1 + (len(words) <= inner.budget.texts))  # the search costs more than the rest
    return told(inner.hide, Tells.PEOPLE, words, inner.budget) if words.strip(b"\0 \n") else NOTHING


def _between(data: bytes, inner: Inner) -> bytes:
    if not data.strip():
        return data
    cleaned = clean_private("S_TEXT/ASS", data, inner)
    if cleaned is None:
        raise TooMuchError("the header of the script is too long")
    return cleaned

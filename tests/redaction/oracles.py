"""Independent readers of metadata: what they still find in a file that was redacted.

exiftool says of each tag what it is about (its family 2 group), which makes it a second opinion on
what our tables call location, time and people; facts planted in the samples are the rest.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.support.samples.media import TOOL_DEADLINE_S

Tags = Mapping[str, str]
"""``Group1:Group2:Name`` (numbered where it comes several times) -> the value as exiftool prints it."""

_NOT_OF_THE_FILE: Final = frozenset({"System", "ExifTool", "Composite", "SourceFile"})
_ABOUT: Final = {"location": {"Location"}, "time": {"Time"}, "people": {"Author"}}
"""Words whose tags exiftool knows by group; device it mixes with settings (Camera)."""
_NO_PLACE: Final = frozenset({("IPTC", "Destination"), ("GPS", "GPSVersionID")})
"""What exiftool holds to be about places, but is not: the system that a message is sent to (IIM 1:05)."""
_MAY_GO: Final = {
    "location": frozenset({"Location", "Unknown"}),
    "device": frozenset(
        {"Camera", "Author", "Unknown", "Image", "Video", "Audio", "Document", "Device", "Other"}
    ),
    "time": frozenset({"Time", "Unknown", "Image", "Document"}),
    "people": frozenset({"Author", "Unknown", "Image", "Video", "Audio", "Document", "Other"}),
}
"""What may be different after a word was hidden, by group; finer in the facts of the samples."""
_RECKONED: Final = frozenset({"CurrentIPTCDigest", "ImageDataHash"})
"""What exiftool works out from the bytes; the file does not say it."""


def exiftool(paths: Iterable[Path], *, binary: bool = False) -> dict[Path, Tags]:
    """All tags of many files, embedded and unknown ones too, by one run. binary: pictures in base64."""
    options = ["-q", "-q", "-m", "-j", "-a", "-u", "-ee", "-n", "-G1:2:4", "-api", "largefilesupport=1"]
    options += ["-b"] if binary else []
    command = ["exiftool", *options, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, timeout=3 * TOOL_DEADLINE_S, check=False)
    found = {}
    for entry in json.loads(done.stdout.decode("utf-8", "replace") or "[]"):
        path = Path(entry.pop("SourceFile"))
        found[path] = {name: str(value) for name, value in entry.items() if _of_the_file(name)}
    return found


def _of_the_file(name: str) -> bool:
    return name.split(":", 1)[0] not in _NOT_OF_THE_FILE


def about(tags: Tags, word: str) -> list[str]:
    """Tags that exiftool says are about the word, and that tell something."""
    groups = _ABOUT.get(word, set())
    named = (name for name, value in tags.items() if groups & set(name.split(":")[1:-1]) and _tells(value))
    return [name for name in named if (name.split(":")[0], name.split(":")[-1]) not in _NO_PLACE]


def _tells(value: str) -> bool:
    """Zero dates, empty texts and binary placeholders of nothing tell nothing."""
    return bool(value.strip(" 0:.-+TZ\0"))


def differences(before: Tags, after: Tags, word: str) -> Iterator[str]:
    """Tags that changed or went though the word has nothing to do with them, by group."""
    allowed = _MAY_GO.get(word)
    if allowed is None:
        return
    for name, value in before.items():
        first, *groups, tag = name.split(":")
        if (word == "location" and first == "GPS") or tag in _RECKONED:
            continue
        if after.get(name) != value and not set(groups) & allowed:
            yield f"{name}: {value[:60]!r} became {str(after.get(name))[:60]!r}"


def printed(paths: Sequence[Path]) -> dict[Path, str]:
    """Everything that ffmpeg and mediainfo say of films and sounds, each as one text."""
    if not paths:
        return {}
    texts = dict(
        zip(paths, map("\n".join, zip(_by_ffmpeg(paths), _by_mediainfo(paths), strict=True)), strict=True)
    )
    return {
        path: "\n".join(line for line in text.splitlines() if path.name not in line)
        for path, text in texts.items()
    }


def _by_ffmpeg(paths: Sequence[Path]) -> list[str]:
    """Format, streams, chapters and tags of each file, by one ffmpeg: it takes long to start."""
    words = ["ffmpeg", "-hide_banner", *(word for path in paths for word in ("-i", str(path)))]
    done = subprocess.run(
        words, capture_output=True, timeout=TOOL_DEADLINE_S, check=False
    )  # no output: exit 1
    _, *texts = re.split(r"(?m)^Input #\d+, ", done.stderr.decode("utf-8", "replace"))
    assert len(texts) == len(paths), done.stderr
    return texts


def _by_mediainfo(paths: Sequence[Path]) -> list[str]:
    """One text for each file, which begins with the section General."""
    return re.split(r"(?m)^(?=General$)", _run(["mediainfo", "--Full", *map(str, paths)]))[1:]


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, timeout=TOOL_DEADLINE_S, check=False)
    return done.stdout.decode("utf-8", "replace")


def in_bytes(data: bytes, fact: str) -> bool:
    """Whether a fact stands in the bytes as text, in an encoding that metadata is written in."""
    return any(fact.encode(encoding) in data for encoding in ("utf-8", "utf-16-le", "utf-16-be"))

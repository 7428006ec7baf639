"""Every tag of a place, a time or a person that exiftool can write, in every container: nothing is left.

A tag counts if exiftool puts it into its group Location, Time or Author, whatever the tables in
policyfs/redact say.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from policyfs.content.workers.worker import Detector
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.redaction.material_documents import PAGE
from tests.redaction.material_movies import clip
from tests.redaction.oracles import about, exiftool
from tests.support.samples import cr3s, tiffs
from tests.support.samples.jpegs import plain
from tests.support.samples.media import picture, run

_GROUPS: Final = {"location": "Location", "time": "Time", "people": "Author"}
_VALUES: Final = ("7", "11:22:33", "47.8045", "2024:05:17 11:22:33", "Quincebury")
"""Each tag gets all of these. A tag keeps the values that it can hold."""
_MANY: Final = 90
"""Each container holds at least so many tags of each group."""
_NOT_IN_FILES: Final = frozenset({"Composite", "MIE", "MakerNotes", "File"})
_SIDECAR: Final = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
)


def _arguments() -> str:
    command = ["exiftool", "-listx", "-s"]  # without descriptions in all languages
    listed = subprocess.run(command, capture_output=True, timeout=60, check=True)
    found = []
    for table in ET.fromstring(listed.stdout):  # exiftool of this machine wrote it
        for tag in table.findall("tag"):
            groups = [tag.get(name) or table.get(name) for name in ("g0", "g1", "g2")]
            here = groups[2] in _GROUPS.values() and groups[0] not in _NOT_IN_FILES
            if here and tag.get("writable") == "true":
                found += [f"-{groups[1]}:{tag.get('name')}={value}" for value in _VALUES]
    return "\n".join(found)


def _by(*command: str) -> Callable[[Path], object]:
    return lambda path: run(
        *(str(path.with_name("plain.png")) if w == "IN" else w.replace("OUT", str(path)) for w in command)
    )


def _pdf(path: Path) -> None:
    script = path.with_suffix(".ps")
    script.write_text(PAGE, encoding="utf-8")
    run("gs", "-q", "-sDEVICE=pdfwrite", "-o", str(path), str(script))


_MADE: Final[dict[str, Callable[[Path], object]]] = {
    "a.jpg": lambda path: path.write_bytes(plain()),
    "a.tif": _by("convert", "IN", "OUT"),
    "a.dng": lambda path: path.write_bytes(tiffs.digital_negative("II")),
    "a.cr3": lambda path: path.write_bytes(cr3s.cr3()),
    "a.png": _by("convert", "IN", "OUT"),
    "a.gif": _by("convert", "IN", "OUT"),
    "a.webp": _by("convert", "IN", "OUT"),
    "a.heic": _by("heif-enc", "IN", "-q", "40", "-o", "OUT"),
    "a.avif": _by("avifenc", "-s", "10", "-j", "1", "IN", "OUT"),
    "a.jp2": _by("opj_compress", "-i", "IN", "-o", "OUT"),
    "a.jxl": _by("cjxl", "IN", "OUT", "--container=1"),
    "a.pdf": _pdf,
    "a.xmp": lambda path: path.write_text(_SIDECAR),
    "a.mp4": clip,
    "a.mov": clip,
    "a.m4v": clip,
    "a.3gp": lambda path: clip(path, options=("-ar", "16000")),
    "a.m4a": lambda path: clip(path, options=("-vn",)),
}


@pytest.mark.timeout(240)
def test_no_tag_is_left_in_any_container(tmp_path: Path) -> None:
    picture(tmp_path / "plain.png", width=96, height=64)
    arguments, detector = tmp_path / "arguments", Detector()
    arguments.write_text(_arguments(), "utf-8")
    outputs: dict[tuple[Path, str], Path] = {}
    paths = [tmp_path / name for name in _MADE]
    for path in paths:
        _MADE[path.name](path)
    # One process reads the thousands of arguments once.
    command = ["exiftool", "-q", "-q", "-m", "-n", "-overwrite_original", "-@", arguments, *paths]
    subprocess.run(command, capture_output=True, timeout=120, check=False)
    for path in paths:
        data = path.read_bytes()
        for word in _GROUPS:
            plan = locate(detector.kind(data[:65536]), frozenset({word}), MemorySource(data))
            assert plan.outcome is Outcome.PATCH, (path.name, word, plan.reason)
            outputs[path, word] = tmp_path / f"{word}.{path.name}"
            outputs[path, word].write_bytes(apply(data, plan.patches))
    tags = exiftool([*{path for path, _ in outputs}, *outputs.values()])
    left = {output.name: about(tags[output], word) for (_, word), output in outputs.items()}
    assert not any(left.values()), left
    few = [output.name for (path, word), output in outputs.items() if len(about(tags[path], word)) < _MANY]
    assert not few

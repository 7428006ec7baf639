"""Print a matrix of redaction by kind: what readers find, decoders show, and a second redaction changes.

    python -m tests.redaction.kind_matrix [--made] [--packages] [DIRECTORY...]

--made: the samples that the tests make. --packages: those that packages have installed on this machine.
Judges are exiftool, ImageMagick, ffmpeg and Poppler. The exit code is 1 if a place stays, or a file is
damaged, has another size, or changes again in a second redaction.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Final

from policyfs.redact.core.patches import MemorySource
from policyfs.redact.plan import Outcome, locate
from tests.redaction import odd_files, plain_files
from tests.redaction.oracles import about, exiftool
from tests.redaction.precision_report import Result, judge, redacted

WORD: Final = "location"
ROOTS: Final = tuple(map(Path, ("/usr/share", "/usr/lib")))
_ENDS: Final = (
    "png jpg jpeg gif webp heic avif jxl jp2 tif tiff bmp dng cr2 nef orf raf rw2 pdf"
    " wav ogg oga opus mp3 flac m4a mp4 mov mkv webm avi mpg"
)
SUFFIXES: Final = frozenset(f".{end}" for end in _ENDS.split())
MOST: Final = 400
"""Number of files of one suffix: icons are many and alike."""
_AT_ONCE: Final = 100
COLUMNS: Final = (
    *("files", "refused", "changed", "place", "left", "decoded"),
    *("damaged", "tags", "lost", "size", "again"),
)


@dataclass(slots=True)
class Row:
    """One kind: numbers of files by column.

    place, left: files in which exiftool finds a place before and after. tags, lost: its tags that are about
    no place, and those of them that went or changed. size, again: files with another size, or that a second
    redaction changes.
    """

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COLUMNS, 0))
    wrong: list[str] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count one file that is judged."""
        again = other_size = False
        if result.out is not None:
            out = result.out.read_bytes()
            other_size = len(out) != result.path.stat().st_size
            again = locate(result.kind, frozenset({WORD}), MemorySource(out)).outcome is not Outcome.CLEAN
        left = bool(about(result.after, WORD))
        found = {
            "files": 1, "refused": result.plan.outcome is Outcome.REFUSE,
            "changed": bool(result.plan.patches), "place": bool(about(result.before, WORD)), "left": left,
            "decoded": result.decoded, "damaged": result.damaged,
            "tags": len(result.counted), "lost": len(result.lost),
            "size": other_size, "again": again,
        }  # fmt: skip
        for name, number in found.items():
            self.counts[name] += number
        bad = [name for name in ("left", "damaged", "size", "again") if found[name]]
        if bad:
            self.wrong.append(f"{', '.join(bad)}: {result.path}")


def made(directory: Path) -> Iterator[Path]:
    """The samples of the tests: with places, odd ones, and ones without a place."""
    for module in sorted(Path(__file__).parent.glob("material_*.py")):
        place = directory / module.stem
        place.mkdir()
        yield from (one.path for one in import_module(f"tests.redaction.{module.stem}").samples(place))
    for make in (odd_files.stills, odd_files.films, odd_files.sounds, odd_files.large):
        place = directory / make.__name__
        place.mkdir()
        for number, odd in enumerate(make(place)):
            path = place / f"{number} {odd.kind.replace('/', '-')}"
            path.write_bytes(odd.data)
            yield path
    place = directory / "plain"
    place.mkdir()
    yield from plain_files.files(place)


def packaged(roots: Iterable[Path] = ROOTS) -> list[Path]:
    """Every sample, icon and sound that packages have installed, or that is in POLICYFS_SAMPLES."""
    more = map(Path, filter(None, os.environ.get("POLICYFS_SAMPLES", "").split(":")))
    by_suffix: dict[str, list[Path]] = {}
    for root in (*roots, *more):
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink():
                by_suffix.setdefault(path.suffix.lower(), []).append(path)
    return [path for alike in by_suffix.values() for path in alike[:: len(alike) // MOST + 1]]


def matrix(paths: list[Path], directory: Path) -> dict[str, Row]:
    """Redact and judge files. Return the rows by kind. directory: for the redacted files."""
    rows: dict[str, Row] = {}
    for start in range(0, len(paths), _AT_ONCE):
        place = directory / str(start)
        place.mkdir()
        results = list(redacted(paths[start : start + _AT_ONCE], WORD, place))
        read = [path for result in results for path in (result.path, result.out) if path is not None]
        tags = exiftool(read, binary=True) if read else {}
        for result in results:
            if result.out is not None:
                judge(result, tags.get(result.path, {}), tags.get(result.out, {}))
            rows.setdefault(result.kind, Row()).add(result)
    return rows


def table(rows: dict[str, Row]) -> Iterator[str]:
    """The lines of the matrix, its sums, and what is wrong."""
    yield "| kind | " + " | ".join(COLUMNS) + " |"
    yield "|---|" + "---|" * len(COLUMNS)
    sums = {name: sum(row.counts[name] for row in rows.values()) for name in COLUMNS}
    for kind, counts in (*sorted((kind, row.counts) for kind, row in rows.items()), ("all", sums)):
        yield f"| {kind} | " + " | ".join(str(counts[name]) for name in COLUMNS) + " |"
    yield from (f"{kind}: {text}" for kind, row in rows.items() for text in row.wrong)


def main() -> int:
    """Command line of the matrix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, nargs="*")
    parser.add_argument("--made", action="store_true")
    parser.add_argument("--packages", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for part in ("made", "out"):
            Path(name, part).mkdir()
        paths = list(made(Path(name, "made"))) if asked.made else []
        paths += packaged() if asked.packages else []
        paths += [path for one in asked.directory for path in sorted(one.rglob("*")) if path.is_file()]
        rows = matrix(paths, Path(name, "out"))
    print("\n".join(table(rows)))
    return int(any(row.wrong for row in rows.values()))


if __name__ == "__main__":
    sys.exit(main())

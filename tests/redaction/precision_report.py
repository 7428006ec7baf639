"""Count what redaction of places takes from files that hold none, over a directory of real files.

    python -m tests.redaction.precision_report DIRECTORY [--causes] [--word location]

Run by hand: the files are people's own or a package's samples, and none of them is in this repository.
Independent readers judge (exiftool, ImageMagick, ffmpeg); what they cannot read is not counted.
"""

from __future__ import annotations

import argparse
import base64
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policyfs.content.workers.worker import Detector, SniffError
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, Plan, Treatment, kind_table, locate
from tests.redaction.decoders import said, same
from tests.redaction.oracles import Tags, about, exiftool

HEAD_BYTES: Final = 65536
MAX_FILE_BYTES: Final = 256 << 20
_RECKONED: Final = frozenset({"CurrentIPTCDigest", "ImageDataHash"})
_UNCOUNTED: Final = ("HDRP", "Google")
"""Groups of tags that fill a report by the thousand: Google's HDR+ numbers."""


@dataclass(slots=True)
class Result:
    """One file: its plan, what it reads as, and what the readers say of both."""

    path: Path
    kind: str
    plan: Plan
    out: Path | None = None
    before: Tags = field(default_factory=dict)
    after: Tags = field(default_factory=dict)
    damaged: bool = False
    decoded: bool = False
    """True if a decoder reads the file, and the file changed."""

    @property
    def counted(self) -> list[str]:
        """Tags that are about no place."""
        return [name for name in self.before if _counts(name)]

    @property
    def lost(self) -> list[str]:
        """Tags that are about no place and went, or say something else."""
        return [name for name in self.counted if self.after.get(name) != self.before[name]]


def _counts(name: str) -> bool:
    first, *groups, tag = name.split(":")
    about_place = "Location" in groups or first == "GPS" or tag.startswith("GPS")
    return not about_place and tag not in _RECKONED and not first.startswith(_UNCOUNTED)


def redacted(paths: list[Path], word: str, directory: Path) -> Iterator[Result]:
    """The plan of each file whose kind is redacted, and what an app reads, in a directory."""
    detector, table = Detector(), kind_table()
    for number, path in enumerate(paths):
        data = path.read_bytes()
        try:
            kind = detector.kind(data[:HEAD_BYTES])
        except SniffError:
            continue
        row = table.get(kind or "")
        if row is None or row.treatment is not Treatment.LOCATOR:
            continue
        result = Result(path, row.kind, locate(row.kind, frozenset({word}), MemorySource(data)))
        if result.plan.outcome is not Outcome.REFUSE:
            result.out = directory / f"{number}{path.suffix}"
            result.out.write_bytes(apply(data, result.plan.patches))
        yield result


def judge(result: Result, before: Tags, after: Tags) -> None:
    """Adds what the readers say of a file as it was and as an app reads it."""
    assert result.out is not None
    result.before, result.after = before, after
    if not result.plan.patches:
        return
    # The readers number attached files: one that is gone gives its number to another.
    old, new = (Counter(v for v in tags.values() if v.startswith("base64:/9j/")) for tags in (before, after))
    changed, shown = (Counter(map(_pixels, some.elements())) for some in (old - new, new - old))
    broken = any(changed[pixels] > shown[pixels] for pixels in changed if pixels)
    alike = same(result.path, result.out, result.kind)
    result.decoded = alike is not None
    result.damaged = broken or alike is False


def _pixels(value: str) -> str:
    """A digest of an embedded picture's pixels; empty if nothing decodes it."""
    if not value.startswith("base64:"):
        return ""
    return said(["identify", "-quiet", "-format", "%#", "-"], base64.b64decode(value[7:]))


def report(results: list[Result], word: str, *, causes: bool) -> Iterator[str]:
    """The figures as lines for people."""
    placed = {r.path for r in results if about(r.before, word)}
    leaks = [r for r in results if about(r.after, word)]
    changed = [r for r in results if r.plan.patches and r.path not in placed]
    refused = [r for r in results if r.plan.outcome is Outcome.REFUSE]
    damaged = [r for r in results if r.damaged]
    yield f"files {len(results)}, with what {word} hides {len(placed)}, leaks {len(leaks)}"
    yield f"refused {len(refused)}, damaged {len(damaged)}, changed though nothing is hidden {len(changed)}"
    yield f"tags lost {sum(len(r.lost) for r in results)}"
    if not causes:
        return
    for name, some in (("leak", leaks), ("damaged", damaged)):
        yield from (f"{name}: {r.path}" for r in some)
    yield from (f"refused: {r.path}: {r.plan.reason}" for r in refused)
    found = Counter(
        cause
        for r in changed
        for cause in {f"{f.container} {f.tag}" for f in r.plan.findings} or {"no finding"}
    )
    yield from (f"changed: {number} {cause}" for cause, number in found.most_common())
    yield from (
        f"changed file: {r.path}: {sorted({f.container + ' ' + f.tag for f in r.plan.findings})[:12]}"
        for r in changed
    )
    lost = sorted(results, key=lambda r: -len(r.lost))
    yield from (f"lost: {len(r.lost)} {r.path}: {' '.join(r.lost)[:1500]}" for r in lost if r.lost)


def main() -> int:
    """Measures a directory; the exit code is 1 if anything leaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--word", default="location")
    parser.add_argument("--causes", action="store_true", help="name each file and what went from it")
    options = parser.parse_args()
    paths = sorted(
        p for p in options.directory.rglob("*") if p.is_file() and p.stat().st_size <= MAX_FILE_BYTES
    )
    with tempfile.TemporaryDirectory() as directory:
        results = list(redacted(paths, options.word, Path(directory)))
        served = [r for r in results if r.out is not None]
        tags = exiftool([p for r in served for p in (r.path, r.out) if p is not None], binary=True)
        for result in served:
            assert result.out is not None
            judge(result, tags.get(result.path, {}), tags.get(result.out, {}))
        lines = list(report(results, options.word, causes=options.causes))
    print("\n".join(lines))
    return int(" leaks 0" not in lines[0])


if __name__ == "__main__":
    sys.exit(main())

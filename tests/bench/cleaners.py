"""policyfs beside exiftool and mat2, which write copies without places.

``python -m tests.bench.cleaners [TOOL ...]``

The files are the samples of tests/redaction/material_*.py that have a place, made by the programs that write
such files, and photos of 4 MB. Independent readers judge the copies, as in tests/redaction/test_matrix.py.
The result is a table. Needs root; a program that is not installed is left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Final

from tests.redaction.oracles import exiftool, in_bytes, printed
from tests.redaction.samples import Sample
from tests.support.samples import media

MATERIAL: Final = Path(__file__).parents[1] / "redaction"
PHOTOS: Final = 200
DEADLINE_S: Final = 1800
POLICY: Final = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: share}
apps: {friend: {}}
rules:
  - {id: places, require: {redact: [location]}, paths: "/***"}
  - {id: photos, allow: [see, read], paths: "/***"}
"""


def _by_policyfs(files: list[Path], out: Path) -> list[str]:
    policy = out.with_name(f"{out.name}.yaml")
    policy.write_text(POLICY, encoding="utf-8")
    command = [sys.executable, "-m", "policyfs.cli.main", "run", "--app", "friend"]
    command += ["--uid", "0", "--policy", str(policy), str(files[0].parent)]
    return [*command, "--", "cp", *map(str, files), str(out)]


def _by_exiftool(files: list[Path], out: Path) -> list[str]:
    words = ["-gps:all=", "-xmp:gps*=", "-location:all="]
    return ["exiftool", "-q", "-q", "-o", f"{out}/", *words, *map(str, files)]


def _by_mat2(files: list[Path], out: Path) -> list[str]:
    for path in files:  # it writes beside them
        shutil.copyfile(path, out / path.name)
    sandbox = [] if shutil.which("bwrap") else ["--no-sandbox"]
    return ["mat2", *sandbox, *(str(out / path.name) for path in files)]


TOOLS: Final[dict[str, Callable[[list[Path], Path], list[str]]]] = {
    "policyfs run": _by_policyfs,
    "exiftool": _by_exiftool,
    "mat2": _by_mat2,
}


def samples(directory: Path) -> list[Sample]:
    """Make the files that have a place, with names of their own, in one directory."""
    found = []
    for module in sorted(MATERIAL.glob("material_*.py")):
        place = directory / module.stem
        place.mkdir()
        for sample in import_module(f"tests.redaction.{module.stem}").samples(place):
            if sample.told.get("location"):
                found.append(sample)
    return found


def run(tool: str, files: list[Path], out: Path) -> float:
    """Let a tool make copies of some files. Return its seconds."""
    out.mkdir()
    command = TOOLS[tool](files, out)
    begin = time.monotonic()
    subprocess.run(command, check=False, capture_output=True, timeout=DEADLINE_S)
    return time.monotonic() - begin


def copy_of(tool: str, path: Path, out: Path) -> Path | None:
    """Return the copy that a tool has made of a file, if it has made one."""
    made = out / (f"{path.stem}.cleaned{path.suffix}" if tool == "mat2" else path.name)
    return made if made.exists() else None


def left(sample: Sample, made: Path, tags: dict[Path, object]) -> bool:
    """Return True if a reader still finds a place in a copy, or its bytes hold it."""
    found = tags.get(made) or {}
    assert isinstance(found, dict)
    told = "\n".join([*found.values(), *found])
    if sample.kind.startswith(("video/", "audio/")):
        told += printed([made])[made]
    data = made.read_bytes()
    return any(fact in told or in_bytes(data, fact) for fact in sample.told["location"])


def damaged(sample: Sample, made: Path) -> bool:
    """Return True if a copy shows or plays something else."""
    if sample.shown is None:
        return False
    try:
        return sample.shown(made) != sample.shown(sample.path)
    except (AssertionError, ValueError):  # no reader reads it, or a part is gone
        return True


def row(tool: str, found: list[Sample], names: dict[Path, Path], photos: list[Path], out: Path) -> str:
    """Return the row of a tool."""
    took = run(tool, [names[sample.path] for sample in found], out / tool)
    made = [(sample, copy_of(tool, names[sample.path], out / tool)) for sample in found]
    copies = [(sample, copy) for sample, copy in made if copy is not None]
    tags: dict[Path, object] = dict(exiftool([copy for _, copy in copies]))
    places = sum(left(sample, copy, tags) for sample, copy in copies)
    harmed = sum(damaged(sample, copy) for sample, copy in copies)
    many = run(tool, photos, out / f"{tool} photos")
    refused = len(found) - len(copies)
    return f"| {tool} | {places} | {harmed} | {refused} | {took:.1f} | {many:.1f} |"


def main() -> int:
    """Print the table."""
    directory = Path(tempfile.mkdtemp(prefix="policyfs-cleaners-"))
    try:
        made = directory / "made"
        made.mkdir()
        found = samples(made)
        flat = directory / "files"
        flat.mkdir()
        names: dict[Path, Path] = {}
        for number, sample in enumerate(found):
            names[sample.path] = flat / f"{number}{sample.path.suffix}"
            shutil.copyfile(sample.path, names[sample.path])
        first = directory / "0.jpg"
        media.picture(first, width=2600, height=1950, noise=True)
        media.write_tags(first, media.place_tags(media.HOME))
        album = directory / "photos"
        album.mkdir()
        photos = [shutil.copyfile(first, album / f"{number}.jpg") for number in range(PHOTOS)]
        head = f"place left, of {len(found)} | shows something else | no copy | s | s, {PHOTOS} photos"
        print(f"| tool | {head} |")
        print("|---|---|---|---|---|---|")
        for tool in sys.argv[1:] or TOOLS:
            if tool.startswith("policyfs") or shutil.which(tool):
                print(row(tool, found, names, photos, directory), flush=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

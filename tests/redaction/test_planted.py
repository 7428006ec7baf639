"""Nothing is concluded from a sample, behind a bound: places planted behind each bound of the code.

bounds.txt classifies every bound (tests/support/machine/bounds.py). Each file is first shown to tell the
place; what an app reads of it tells none, to the same readers.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from policyfs.redact.registry import LOCATORS
from tests.redaction import (
    planted_boxes,
    planted_films,
    planted_frames,
    planted_photos,
    planted_sound,
    planted_streams,
    planted_subtitles,
)
from tests.redaction.planted import Plant, Plants, places_in
from tests.support.machine.bounds import bounds
from tests.support.samples import exiftool

MODULES: Final = (
    planted_photos,
    planted_boxes,
    planted_sound,
    planted_films,
    planted_frames,
    planted_subtitles,
    planted_streams,
)
LOCATION: Final = frozenset({"location"})
PLANTED: Final[Plants] = {name: one for module in MODULES for name, one in module.PLANTS.items()}
LONG: Final[Plants] = {name: one for module in MODULES for name, one in module.SOAK.items()}
CLASSES: Final = frozenset(
    {"field", "step", "cost", "small", "form", "removed", "kinds", "verdict", "service"}
)
"""The classes of bounds.txt, which explains them."""
GROUPS: Final = 6
_EXIFTOOL_MOST_BYTES: Final = 20_000
_READ: Final = re.compile(r"47[.,]80453|47[.,]8045|47 deg 48|Zirbelstadt")
_NO_TAGS: Final = ("FileName", "Directory")


def view(one: Plant, data: bytes) -> bytes | None:
    """What an app reads; None if the file is refused. Redacting it again finds nothing."""
    plan = locate(one.kind, LOCATION, MemorySource(data))
    assert not plan.reason.startswith("internal error"), plan.reason
    if plan.outcome is Outcome.REFUSE:
        return None
    return apply(data, plan.patches)


def wrong(plants: Plants) -> Iterator[str]:
    """What is wrong with any of these files."""
    for name, one in plants.items():
        data = one.make()
        if not places_in(data, one.needle):
            yield f"{name}: nothing is planted"
        out = view(one, data)
        if (out is None) != one.refused:
            yield f"{name}: refused" if out is None else f"{name}: not refused"
        if out is None:
            continue
        if len(out) != len(data):
            yield f"{name}: its size changed"
        if left := places_in(out, one.needle):
            yield f"{name}: {left} stays"
        if len(data) < 1 << 20 and locate(one.kind, LOCATION, MemorySource(out)).outcome is not Outcome.CLEAN:
            yield f"{name}: redacting it again finds more"


@pytest.mark.parametrize("group", range(GROUPS))
def test_places_behind_every_bound_go(group):
    names = list(itertools.islice(PLANTED, group, None, GROUPS))
    assert list(wrong({name: PLANTED[name] for name in names})) == []


@pytest.mark.soak
@pytest.mark.parametrize("name", LONG)
def test_places_behind_bounds_of_many_megabytes_go(name):
    assert list(wrong({name: LONG[name]})) == []


def test_exiftool_reads_the_places_before_and_none_after(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    for number, (name, one) in enumerate(PLANTED.items()):
        data = one.make()
        out = view(one, data) if len(data) <= _EXIFTOOL_MOST_BYTES and not one.refused else None
        if out is not None:
            for directory, content in ((before, data), (after, out)):
                directory.mkdir(exist_ok=True)
                (directory / f"{number:03} {re.sub('[^a-z0-9 ]', '', name)}").write_bytes(content)
    told, left = _read(before), _read(after)
    assert len(told) >= 60, told
    assert not left


def _read(directory: Path) -> list[str]:
    """The names of the files in which exiftool reads the place."""
    files = map(str, sorted(directory.iterdir()))
    done = exiftool.run("-ee", "-u", "-U", "-a", "-G3:1", "-q", "-q", "-m", "-j", *files)
    told = []
    for entry in json.loads(done.stdout.decode("utf-8", "replace")):
        name = entry.pop("SourceFile")
        if any(_READ.search(str(value)) for tag, value in entry.items() if not tag.endswith(_NO_TAGS)):
            told.append(Path(name).name)
    return told


def rows() -> dict[str, dict[str, str]]:
    """The rows of bounds.txt: module -> bound -> class."""
    found: dict[str, dict[str, str]] = {}
    for line in Path(__file__).with_name("bounds.txt").read_text("utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if not line.startswith(" "):
            current = found.setdefault(line.strip(), {})
            continue
        sort, *names = line.split()
        for name in names:
            assert name not in current, f"two rows for {name}"
            current[name] = sort
    return found


def test_every_bound_of_the_code_has_a_row_and_every_row_a_bound():
    listed = {(module, name) for module, names in rows().items() for name in names}
    there = {(module, name) for module, names in bounds().items() for name in names}
    assert sorted(there - listed) == []
    assert sorted(listed - there) == []
    assert {sort for names in rows().values() for sort in names.values()} <= CLASSES


def test_every_bound_that_something_lies_behind_has_a_planted_place():
    every = (*PLANTED.values(), *LONG.values())
    planted = {bound.strip() for one in every for bound in one.bounds.split(",")}
    removed = {
        f"{module.removeprefix('redact/')} {name}"
        for module, names in rows().items()
        for name, sort in names.items()
        if sort == "removed"
    }
    assert sorted(removed - planted) == []
    known = {
        f"{module.removeprefix('redact/')} {name}" for module, names in bounds().items() for name in names
    }
    assert sorted(planted - known - {""}) == []


def test_every_kind_of_file_has_a_planted_place():
    kinds = {one.kind for one in PLANTED.values()}
    assert {LOCATORS[kind] for kind in kinds} == set(LOCATORS.values())
    assert len(PLANTED) >= 200

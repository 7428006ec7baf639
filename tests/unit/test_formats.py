"""One row for each format: all that follows from it is there, and agrees with real files."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Final

import magic
import pytest

from policyfs.content.kinds import SNIFF_BYTES, is_kind, normalise
from policyfs.content.workers.worker import Detector
from policyfs.formats import (
    BRANDS,
    FORMATS,
    OTHER_NAMES,
    REDACTABLE_KINDS,
    STARTS,
    WITHOUT_LOCATOR,
    Format,
    Use,
    kind_by_start,
    starts_for,
)
from policyfs.fs.checked.head import may_become
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.core.values import Outcome
from policyfs.redact.plan import locate
from policyfs.redact.registry import LOCATORS, Treatment, kind_rows
from tests.fuzz.seeds import KINDS, seeds_of

JUDGED_BY_FIRST_BYTES = {kind for kind, _, _ in starts_for(Use.HEAD)}
BEGIN_IN_SEVERAL_WAYS = {
    "application/rdf+xml",
    "application/x-location+json",
    "application/x-location+vtt",
    "application/x-sbv",
    "application/x-ssa",
    "application/x-subrip",
    "audio/aac",
    "audio/mpeg",
    "image/jxl",
    "image/x-olympus-orf",
    "video/mp2t",
    "video/mpeg",
}
SELDOM_WRITTEN_THROUGH_A_CHECK = {
    "audio/mp4",
    "audio/webm",
    "audio/x-matroska",
    "image/heic-sequence",
    "image/heif-sequence",
    "image/jp2",
    "image/jph",
    "image/jpx",
    "image/x-canon-cr2",
    "image/x-canon-cr3",
    "image/x-fuji-raf",
    "image/x-jp2-codestream",
    "image/x-panasonic-rw2",
    "video/3gpp2",
}
"""Kinds that a checked write is judged by only when more of the file is there."""


def test_a_row_has_every_field_that_somebody_could_forget() -> None:
    fields = dataclasses.fields(Format)
    required = [field.name for field in fields if field.default_factory is dataclasses.MISSING]
    assert required == ["locator", "kinds", "starts"]


def test_kinds_are_unique_and_well_formed() -> None:
    counted = Counter([*(kind for one in FORMATS for kind in one.kinds), *WITHOUT_LOCATOR])
    assert [kind for kind, times in counted.items() if times > 1] == []
    named = {kind for start in STARTS for kind in start.kinds} | {kind for kind, _ in BRANDS}
    assert all(is_kind(kind) for kind in (*counted, *OTHER_NAMES.values(), *named))
    assert {OTHER_NAMES.get(kind, kind) for kind in named} <= REDACTABLE_KINDS


def test_each_kind_has_its_locator() -> None:
    located = {row.kind for row in kind_rows() if row.treatment is Treatment.LOCATOR}
    assert located == REDACTABLE_KINDS == LOCATORS.keys()
    assert {one.locator.partition(":")[2] for one in FORMATS} == {f.__name__ for f in LOCATORS.values()}


def test_no_other_name_is_a_kind() -> None:
    assert not OTHER_NAMES.keys() & (REDACTABLE_KINDS | WITHOUT_LOCATOR.keys())
    for name, kind in OTHER_NAMES.items():
        assert normalise(name) == kind


def test_a_kind_without_a_signature_for_checked_heads_is_no_oversight() -> None:
    without = REDACTABLE_KINDS - JUDGED_BY_FIRST_BYTES
    assert without == BEGIN_IN_SEVERAL_WAYS | SELDOM_WRITTEN_THROUGH_A_CHECK


def test_a_signature_allows_its_own_kinds() -> None:
    for start in STARTS:
        for kind in start.kinds:
            assert not start.only or re.fullmatch(start.only, kind), start


REFUSED_AT_FIRST: Final = {"application/pdf": b"%PDF-", "audio/flac": b"fLaC"}
"""Libmagic and lax readers find these behind other bytes, too; a checked write has to begin with them."""


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_file_is_refused_at_none_of_its_first_bytes(kind: str, detector: Detector) -> None:
    for head in seeds_of(kind):
        found = detector.kind(head[:SNIFF_BYTES])
        if found in JUDGED_BY_FIRST_BYTES and head.startswith(REFUSED_AT_FIRST.get(found, b"")):
            assert all(may_become(head[:size], (frozenset({found}),)) for size in range(64)), head[:16]


def test_pictures_in_other_files_go_to_a_locator_that_takes_them() -> None:
    for kind, offset, data in starts_for(Use.PICTURE):
        assert kind in LOCATORS
        known = [head for head in seeds_of(kind) if head.startswith(data, offset)]
        for head in known[:3]:
            assert locate(kind, frozenset({"location"}), MemorySource(head)).outcome is not Outcome.REFUSE


def test_kinds_by_first_bytes_alone(tmp_path: Path) -> None:
    """What libmagic says of these files is the same, so that no policy changes its meaning."""
    found = dict[str, str | None]()
    for journal in ("persist", "wal"):
        with contextlib.closing(sqlite3.connect(tmp_path / journal, isolation_level=None)) as base:
            base.execute(f"PRAGMA journal_mode={journal}")
            base.execute("CREATE TABLE words (word)")
            base.execute("BEGIN")
            base.executemany("INSERT INTO words VALUES (?)", [("x" * 4000,)] * 9)
            for path in tmp_path.iterdir():
                head = path.read_bytes()[:SNIFF_BYTES]
                found[path.name] = kind_by_start(head)
                assert found[path.name] in {None, normalise(magic.from_buffer(head, mime=True))}, path.name
    assert found["wal-wal"] == "application/octet-stream"
    assert found["persist"] == found["wal"] == "application/vnd.sqlite3"
    lmdb = bytes(10) + b"\x08" + bytes(5) + b"\xde\xc0\xef\xbe\1" + bytes(8000)
    assert kind_by_start(lmdb) == normalise(magic.from_buffer(lmdb, mime=True)) == "application/octet-stream"
    assert kind_by_start(bytes(SNIFF_BYTES)) is None
    for name in KINDS:
        assert all(kind_by_start(seed) is None for seed in seeds_of(name)), name

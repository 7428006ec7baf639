"""Files that tell no place are read unchanged, and a share with `no: [location]` takes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.content.workers.worker import Detector
from policyfs.domain import TO_TELL
from policyfs.redact.core.patches import MemorySource
from policyfs.redact.plan import Outcome, locate
from tests.redaction import plain_files

CHANGED = {"licence.xmp"}
"""Comments of XML go from XMP under every word (docs/redaction.md)."""


@pytest.mark.timeout(120)
def test_files_without_a_place_are_unchanged_and_taken(tmp_path: Path) -> None:
    """Before, ExifTool's mark in the EXIF of a WebP became zeros."""
    detector, count, wrong = Detector(), 0, []
    for path in plain_files.files(tmp_path):
        count += 1
        data = path.read_bytes()
        kind = detector.kind(data[:65536])
        shown, taken = (
            locate(kind, frozenset(words), MemorySource(data))
            for words in ({"location"}, {"location", TO_TELL})
        )
        if (shown.outcome is not Outcome.CLEAN) != (path.name in CHANGED):
            wrong.append((path.name, kind, shown.outcome, shown.reason, shown.findings[:3]))
        if taken.outcome is not Outcome.CLEAN:
            wrong.append((path.name, kind, "no: [location]", taken.reason))
    assert not wrong
    assert count >= 60

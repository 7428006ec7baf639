"""Photos as a camera and photo software leave them (support/media.py), with a place and without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.redaction.samples import Sample
from tests.support.samples import media


def samples(directory: Path) -> Iterator[Sample]:
    """A photo with the place in every group that can carry one, and the same without."""
    told = {
        "location": ("47.804531", "13.042287", *media.HOME.names),
        "device": ("Testmaker", "Modell 7"),
        "people": ("Rosa Kamera", "a quince on a table"),
        "time": ("2024:05:17 11:22:33",),
    }
    there = media.photo(directory / "placed.jpg")
    yield Sample("a photo with a place", "image/jpeg", there, told)
    nowhere = media.photo(directory / "unplaced.jpg", place=None)
    yield Sample("a photo without", "image/jpeg", nowhere, {w: f for w, f in told.items() if w != "location"})

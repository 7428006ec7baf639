"""Captions with coordinates, as programs write them in languages with other letters than English."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import locate
from tests.redaction.oracles import exiftool
from tests.support.samples.exiftool import run
from tests.support.samples.jpegs import plain

CAPTIONS = (
    "Широта: 47.80453, Долгота: 13.04229",  # the low bytes of these letters in UTF-16 are digits
    "Дом 47.80453 за 13.04229",
    "Γεωγραφικό 47.80453, μήκος 13.04229",
    "緯度47.80453、経度13.04229",
)
TAGS = ("XPComment", "XPTitle", "XPSubject", "XPKeywords", "UserComment")


def picture(directory: Path, kind: str) -> Path:
    path = directory / f"plain.{kind}"
    if kind == "jpg":
        path.write_bytes(plain())
    else:
        subprocess.run(["convert", "-size", "8x8", "xc:red", str(path)], check=True, timeout=60)
    return path


@pytest.mark.parametrize(("kind", "mime"), [("jpg", "image/jpeg"), ("tif", "image/tiff")])
def test_coordinates_in_captions_of_any_letters_go(kind: str, mime: str, tmp_path: Path) -> None:
    made = picture(tmp_path, kind)
    outputs = []
    for number, (tag, order) in enumerate((tag, order) for tag in TAGS for order in ("II", "MM")):
        caption = CAPTIONS[number % len(CAPTIONS)]
        path = tmp_path / f"{number}.{kind}"
        options = ("-q", "-api", "Charset=UTF8", f"-ExifByteOrder={order}", "-o", str(path))
        run(*options, f"-{tag}={caption}", "-Artist=Rosa", str(made), check=True)
        data = path.read_bytes()
        plan = locate(mime, frozenset({"location"}), MemorySource(data))
        outputs.append(tmp_path / f"{number}-{tag}-{order}-redacted.{kind}")
        outputs[-1].write_bytes(apply(data, plan.patches))
    left = exiftool(outputs)
    for path in outputs:
        said = "\n".join(left[path].values())
        assert "47.80453" not in said, (path.name, said)
        assert "Rosa" in said, path.name

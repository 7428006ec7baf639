"""Keywords in a tree, as photo managers write them: those below a keyword for places go with the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.redact.core.coordinates import is_below_places
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import locate
from tests.redaction.oracles import exiftool
from tests.support.samples.jpegs import plain
from tests.support.samples.media import run

_TREES = {
    "XMP-lr:HierarchicalSubject": ("Places|Austria|Quincebury", "People|Ann"),
    "XMP-lr:WeightedFlatSubject": ("Location|Quincebury", "Ann"),
    "XMP-digiKam:TagsList": ("Places/Austria/Quincebury", "People/Ann"),
    "XMP-microsoft:LastKeywordXMP": ("Orte/Quincebury", "People/Ann"),
    "XMP-microsoft:LastKeywordIPTC": ("Lieux/Quincebury", "People/Ann"),
    "XMP-mediapro:CatalogSets": ("Places|Quincebury",),
    "XMP-acdsee:Categories": (
        "<Categories><Category>Places<Category>Quincebury</Category></Category></Categories>",
    ),
    "XMP-dc:Subject": ("Photos|Places|Quincebury", "flower"),
    "IPTC:Keywords": ("Places|Quincebury", "flower"),
    "EXIF:XPKeywords": ("flower;Places/Quincebury",),
}


def test_keywords_below_places_go_and_the_others_stay(tmp_path: Path) -> None:
    path, out = tmp_path / "a.jpg", tmp_path / "out.jpg"
    path.write_bytes(plain())
    tree = [f"-{tag}={value}" for tag, values in _TREES.items() for value in values]
    tree += ["-XMP-mwg-kw:HierarchicalKeywords1=Places", "-XMP-mwg-kw:HierarchicalKeywords2=Quincebury"]
    run("exiftool", "-q", "-overwrite_original", *tree, str(path))
    data = path.read_bytes()
    out.write_bytes(apply(data, locate("image/jpeg", frozenset({"location"}), MemorySource(data)).patches))
    tags = exiftool([path, out])
    assert str(tags[path]).count("Quincebury") > len(_TREES)
    assert "Quincebury" not in str(tags[out])
    assert b"Quincebury" not in out.read_bytes().replace(b"\0", b"")
    assert str(tags[out]).count("Ann") == 5
    assert str(tags[out]).count("flower") == 2


@pytest.mark.parametrize(
    "text",
    [
        "Places|Rome",
        "places / Rome",
        "Ort>Wien",
        "a|b|Location|Rome",
        "flower; Places/Rome",
        "x, Cities|Rome",
    ],
)
def test_what_is_below_places(text: str) -> None:
    assert is_below_places(text)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "Places",
            "Places|",
            "|Places|",
            "People|Rome",
            "Marketplaces|Rome",
            "http://a.b/places/c",
            "/places/c",
        ),
        *("Location: a/b", "a place/thing in a sentence, which goes on: no keyword", "Places|" + "a" * 99),
    ],
)
def test_what_is_not(text: str) -> None:
    assert not is_below_places(text)


def test_a_place_behind_many_keywords_is_found() -> None:
    assert is_below_places("flower;" * 30_000 + "Places|Rome")

"""Every tag that exiftool can write into a JPEG, and what it says each is about: a second opinion.

The tables in policyfs/redact say what tags tell; exiftool says so of its own tags by their groups
(Location, Time, Author). Whatever it puts into one of these must not be left under that word.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, locate
from tests.redaction.oracles import Tags, about, exiftool
from tests.redaction.samples import WORDS
from tests.support.samples.jpegs import plain

_LISTING: Final = r"""
use Image::ExifTool; use Image::ExifTool::XMP; my $et = new Image::ExifTool;
for my $ns (keys %Image::ExifTool::XMP::Main) {
    my $dir = $Image::ExifTool::XMP::Main{$ns};
    next unless ref $dir eq 'HASH' and $$dir{SubDirectory};
    my $table = Image::ExifTool::GetTagTable($$dir{SubDirectory}{TagTable});
    for my $id (keys %$table) {
        my $tag = $$table{$id};
        next unless ref $tag eq 'HASH' and $$tag{Name} and not $$tag{SubDirectory};
        my $form = $$tag{Writable} // $$table{WRITABLE} // next;
        print "$$table{GROUPS}{1} $$tag{Name} $form\n" unless ref $form;
    }
}
"""
_VALUES: Final = {"integer": "7", "real": "7.5", "rational": "7.5", "boolean": "True"}
_OF_A_DEVICE: Final = re.compile(
    r"Serial(?!$)|SerialNumber|:(?:Lens)?(?:Make|Model)$|UniqueID|Software|Firmware|HostComputer|:OwnerName|CreatorTool|"
    r"(?:Document|Instance)ID$"
)
_NOT_FOR_WRITING: Final = frozenset({"XMP-crd", "XMP-x", "XMP-rdf", "XMP-xmpNote"})


def _value(name: str, form: str) -> str:
    if form == "date" or "Date" in name:
        return "2001:02:03 04:05:06"
    if name.endswith(("Latitude", "Longitude")):
        return "47.80453"
    return _VALUES.get(form, "Quincebury")


def _xmp() -> list[str]:
    done = subprocess.run(["perl", "-e", _LISTING], capture_output=True, text=True, timeout=60, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [f"-{g}:{n}={_value(n, form)}" for g, n, form in rows if g not in _NOT_FOR_WRITING]


def _others() -> list[str]:
    found = []
    for group in ("EXIF", "IPTC"):
        command = ["exiftool", "-listw", f"-{group}:All"]
        listed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        for name in listed.stdout.split(":", 1)[1].split():
            if not name.startswith(("Strip", "JPEGTables", "GeoTiff")):
                date = "2001:02:03 04:05:06" if group == "EXIF" else "2001:02:03"
                found.append(f"-{group}:{name}={date if 'Date' in name else '04:05:06'}")
                if "Date" not in name and "Time" not in name:
                    found[-1] = f"-{group}:{name}=7"
    return found


def _about(tags: Tags, word: str) -> list[str]:
    """As the oracles say; for devices, which exiftool has no group for, by what tags are called."""
    if word != "device":
        return about(tags, word)
    return [name for name in tags if _OF_A_DEVICE.search(name)]


@pytest.mark.timeout(120)
def test_what_exiftool_holds_to_be_about_a_word_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "every.jpg"
    path.write_bytes(plain())
    arguments = tmp_path / "arguments"
    arguments.write_text("\n".join([*_xmp(), *_others()]), "utf-8")
    command = ["exiftool", "-q", "-q", "-m", "-n", "-overwrite_original", "-@", str(arguments), str(path)]
    subprocess.run(command, capture_output=True, timeout=60, check=False)
    data = path.read_bytes()
    outputs = {}
    for word in WORDS:
        plan = locate("image/jpeg", frozenset({word}), MemorySource(data))
        assert plan.outcome is Outcome.PATCH, plan.reason
        outputs[word] = tmp_path / f"{word}.jpg"
        outputs[word].write_bytes(apply(data, plan.patches))
    tags = exiftool([path, *outputs.values()])
    assert len(tags[path]) > 1000
    for word, output in outputs.items():
        assert not _about(tags[output], word), word
        assert word == "all-metadata" or _about(tags[path], word), word

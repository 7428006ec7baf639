"""A1 and A5 at rest: two apps look at the same photos at the same time; one may know where.

The restricted app's bytes are searched for the place in every encoding (jpegs.needles), shown to
exiftool, and decoded: the picture must be the very same. The other app has the original bytes.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import start_as, tool_as
from tests.support.mount.daemons import Mount
from tests.support.samples import hidden, jpegs
from tests.support.samples.jpegs import leaks, pixels
from tests.support.samples.media import HOME, KEPT_TAGS, photo

GALLERY, MAPS = 10011, 10012
FAMILY: Final = Path(__file__).resolve().parents[2] / "policies" / "family-photos.yaml"
DEMO: Final = {
    "beach.jpg": {"width": 1600, "height": 1200},
    "plain.jpg": {"place": None, "seed": 5},
}
"""The photos of `make demo`."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, media: dict[str, Path]) -> dict[str, bytes]:
    """Photos as cameras and as real encoders leave them: name -> bytes."""
    directory = tmp_path_factory.mktemp("photos")
    made = {name: photo(directory / name, **options).read_bytes() for name, options in DEMO.items()}
    return made | {"8mb.jpg": media["photo_8mb.jpg"].read_bytes()}


def fill(store: Path, files: dict[str, bytes]) -> None:
    (store / "DCIM").mkdir()
    for name, data in files.items():
        (store / "DCIM" / name).write_bytes(data)


def _hold(channel, directory: Path) -> None:
    """Open and map every file of a directory; then, by name, send what the mapping and read() say."""
    with contextlib.ExitStack() as stack:
        files, maps = {}, {}
        for name in sorted(os.listdir(directory)):
            files[name] = stack.enter_context((directory / name).open("rb", buffering=0))
            maps[name] = stack.enter_context(mmap.mmap(files[name].fileno(), 0, prot=mmap.PROT_READ))
        channel.send(sorted(files))
        while (name := channel.recv()) is not None:
            mapped = maps[name][:]
            files[name].seek(0)
            read = files[name].readall()
            channel.send((mapped, read))


def exiftool(uid: int, directory: Path) -> dict[str, dict[str, Any]]:
    """Every tag that exiftool finds in each file of a directory, as that app sees it."""
    said = tool_as(uid, "exiftool", "-a", "-u", "-U", "-ee", "-n", "-G3:1", "-j", directory, check=True)
    return {Path(tags["SourceFile"]).name: tags for tags in json.loads(said.stdout)}


def telling(tags: dict[str, Any]) -> dict[str, Any]:
    """Tags that tell a place: GPS ones, and those in which a name or a coordinate of HOME stands."""
    words = [*HOME.names, HOME.country_code, "47.80", "13.04", "437.25"]
    return {
        name: value
        for name, value in tags.items()
        if "GPS" in name.upper() or any(word in str(value) for word in words)
    }


def identified(data: bytes) -> bytes:
    """ImageMagick's signature of the decoded pixels."""
    command = ["identify", "-format", "%# %wx%h", "-"]
    return subprocess.run(command, input=data, capture_output=True, check=True, timeout=60).stdout


@pytest.mark.timeout(300)
def test_two_apps_hold_the_same_photos_and_one_knows_no_place(mounts, empty_store, photos) -> None:
    fill(empty_store, photos)
    mount = mounts.start(FAMILY, empty_store)
    gallery, maps = (start_as(uid, _hold, mount / "DCIM") for uid in (GALLERY, MAPS))
    assert gallery.receive(60) == maps.receive(60) == sorted(photos)
    before, after = (exiftool(uid, mount / "DCIM") for uid in (MAPS, GALLERY))
    assert before.keys() == after.keys() == photos.keys()
    for name, original in photos.items():
        for app in (gallery, maps):
            app.send(name)
        mapped, read = maps.receive()
        assert mapped == read == original
        mapped, read = gallery.receive()
        assert mapped == read
        assert len(read) == len(original)
        assert leaks(read) == []
        assert pixels(read) == pixels(original)
        assert identified(read) == identified(original)
        assert telling(after[name]) == {}
        assert plain_tags(after[name]) == plain_tags(before[name])
        assert bool(leaks(original)) == bool(telling(before[name])) == (name != "plain.jpg")
    for app in (gallery, maps):
        app.send(None)
        app.result()
    counters = mount.fuse_counters()
    assert counters.get("READ", 0) == 0, "both apps were to read at the kernel's speed"


def plain_tags(tags: dict[str, Any]) -> dict[str, Any]:
    """The tags of KEPT_TAGS, which have nothing to do with a place and must stay."""
    wanted = {tag.rpartition(":")[2].rstrip("#") for tag in KEPT_TAGS}
    found = {name: value for name, value in tags.items() if name.rpartition(":")[2] in wanted}
    assert {name.rpartition(":")[2] for name in found} == wanted, found
    return found


CORPUS: Final = {
    **{
        f"{name} {order}": (build, order)
        for name, build in hidden.EXIF_CASES.items()
        for order in ("II", "MM")
    },
    **{name: (build, None) for name, build in hidden.JPEG_CASES.items()},
}


def corpus() -> dict[str, bytes]:
    """A5: photos with a place where a lazy parser does not look."""
    files = {}
    for number, (build, order) in enumerate(CORPUS.values()):
        data = build() if order is None else jpegs.photo_with(build(order))
        files[f"{number:03}.jpg"] = data
    return files


def _read_each(_channel, directory: Path) -> dict[str, bytes | int]:
    found: dict[str, bytes | int] = {}
    for name in sorted(os.listdir(directory)):
        try:
            found[name] = (directory / name).read_bytes()
        except OSError as error:
            found[name] = error.errno or 0
    return found


ROADS: Final = [((),), (("--copy-max", "1K"),), (("--no-passthrough",),)]


@pytest.mark.parametrize("options", first(2, ROADS), ids=" ".join)
def test_places_where_a_lazy_parser_does_not_look(mounts, empty_store, options) -> None:
    """Attack A5.1: Put the place where a lazy parser does not search
    Guard: policyfs/redact/plan.py::locate
    Also: ::test_what_cannot_be_cleaned_is_not_shown
    Without: tests/attack/test_parsers.py::test_places_are_read_where_the_parser_is_lazy
    """
    files = corpus()
    fill(empty_store, files)
    mount: Mount = mounts.start(FAMILY, empty_store, *options)
    shown = start_as(GALLERY, _read_each, mount / "DCIM").result(90)
    originals = start_as(MAPS, _read_each, mount / "DCIM").result(90)
    assert originals == files
    assert sorted(shown) == sorted(files)
    for (name, data), case in zip(shown.items(), CORPUS, strict=True):
        assert isinstance(data, bytes), (case, data)
        assert leaks(data) == [], case
        assert len(data) == len(files[name]), case
        if options == ():
            assert pixels(data) == pixels(files[name]), case


HOSTILE: Final = {
    "empty.jpg": b"",
    "no picture.jpg": b"\xff\xd8\xff\xe1\0\x10Exif\0\0II*\0\x08\0\0\0",
    "text.jpg": f"taken in {HOME.city}, {HOME.latitude}, {HOME.longitude}\n".encode(),
    "film.jpg": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + HOME.city.encode() * 100,
    "drawing.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + HOME.city.encode() * 100,
    "noise.bin": bytes(range(256)) * 40 + HOME.city.encode(),
    "archive.jpg": b"PK\x03\x04" + HOME.city.encode() * 50,
    "track.gpx": b'<?xml version="1.0"?><gpx><trkpt lat="47.804531" lon="13.042287"/></gpx>',
}


def test_what_cannot_be_cleaned_is_not_shown(mounts, empty_store) -> None:
    fill(empty_store, HOSTILE)
    mount = mounts.start(FAMILY, empty_store)
    shown = start_as(GALLERY, _read_each, mount / "DCIM").result(90)
    assert shown.pop("empty.jpg") == b""
    assert set(shown.values()) == {13}, shown
    assert start_as(MAPS, _read_each, mount / "DCIM").result(90) == HOSTILE
    denials = mount.events(app="gallery", operation="open", decision="deny")
    assert {event["path"] for event in denials} == {
        f"/DCIM/{name}" for name in HOSTILE if name != "empty.jpg"
    }

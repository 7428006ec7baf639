"""Share folders: photos without a place get in, photos with one do not, and the trail says why."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import locate
from tests.support.machine.processes import call_as, code_of, start_as, tool_as, wait_for
from tests.support.mount.corners import Corner, Corners
from tests.support.mount.stores import wait_until_closed
from tests.support.samples import cameras, jpegs
from tests.support.samples.cameras import Photo

CAMERA, OTHER = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/**"}}
  - {{id: no, require: {{no: [location]}}, paths: "/*/No/**"}}
  - {{id: strict, require: {{no: [location]}}, paths: "/*/Strict/**", on_unknown: deny}}
  - {{id: zips, require: {{no: [location]}}, paths: "/*/Zips/**", raw_types: [application/zip, text/plain]}}
  - {{id: clean, require: {{clean: [location]}}, paths: ["/*/Clean/**", "/*/Both/**"]}}
  - {{id: both, require: {{no: [location]}}, paths: "/*/Both/**"}}
  - {{id: clean.zips, require: {{clean: [location]}}, paths: "/*/CleanZips/**", raw_types: [text/plain]}}
"""
FOLDERS = ("Outside", "No", "Strict", "Zips", "Clean", "CleanZips", "Both")
ODD = jpegs.with_segments(jpegs.plain(), jpegs.segment(0xEB, b"what nobody understands"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Photo]:
    return cameras.photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def share(corner_of) -> Corner:
    return corner_of(POLICY, *FOLDERS)


def saved(directory: Path, files: dict[str, bytes]) -> dict[str, str]:
    """What came of writing each file, by name."""
    return {name: code_of((directory / name).write_bytes, data) for name, data in files.items()}


def _move(source: Path, target: Path) -> None:
    """As mv does: what cannot be checked in time while the kernel holds locks is copied."""
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        target.write_bytes(source.read_bytes())
        source.unlink()


def moved(source: Path, target: Path, names: list[str], move: Callable = os.rename) -> dict[str, str]:
    return {name: code_of(move, source / name, target / name) for name in names}


def told(corner: Corner, **wanted: str) -> dict[str, str]:
    """What the trail says of each file, by its path in the corner."""
    top = f"/{corner.name}"
    return {event["path"].removeprefix(top): event["note"] for event in corner.events(**wanted)}


def refused(corner: Corner) -> dict[str, str]:
    """What it says of each file that was refused."""
    return told(corner, decision="deny")


@pytest.mark.night
def test_twenty_photos_of_five_makers(share: Corner, photos: list[Photo]) -> None:
    without = {photo.name: photo.without for photo in photos}
    placed = {f"placed-{photo.name}": photo.placed for photo in photos}
    said = call_as(CAMERA, saved, share / "No", without)
    assert said == dict.fromkeys(without, "")
    assert call_as(CAMERA, saved, share / "No", placed) == dict.fromkeys(placed, "EPERM")
    wait_for(lambda: sorted(os.listdir(share.store / "No")) == sorted(without), "what was refused to go")
    assert {name: (share.store / "No" / name).read_bytes() for name in without} == without
    wait_for(lambda: set(refused(share)) == {f"/No/{name}" for name in placed}, "the refusals on the trail")
    notes = refused(share).values()
    assert [note for note in notes if not note.startswith("holds data about location: ")] == []
    # moved in, they are told apart likewise
    call_as(CAMERA, saved, share / "Outside", without | placed)
    there = {f"moved-{name}" for name in without}
    for name in there:
        os.rename(share.store / "Outside" / name.removeprefix("moved-"), share.store / "Outside" / name)
    said = call_as(CAMERA, moved, share / "Outside", share / "No", sorted(there | set(placed)), _move)
    assert said == dict.fromkeys(there, "") | dict.fromkeys(placed, "EPERM")
    notes = [event["note"] for event in share.events(decision="deny") if event["errno"] == "EPERM"]
    assert notes[-1].startswith("holds data about location: ")


def test_the_trail_says_what_was_found_and_what_was_not_understood(share: Corner) -> None:
    found = {"a.jpg": jpegs.with_segments(jpegs.plain(), jpegs.segment(0xEB, b"City: Zirbelstadt"))}
    odd, words = {"b.jpg": ODD}, {"c.txt": b"words\n"}
    assert call_as(CAMERA, saved, share / "No", found | odd | words) == {
        "a.jpg": "EPERM", "b.jpg": "", "c.txt": "EPERM"
    }  # fmt: skip
    assert call_as(CAMERA, saved, share / "Strict", odd | {"d.jpg": jpegs.plain()}) == {
        "b.jpg": "EPERM",
        "d.jpg": "",
    }
    wait_for(lambda: len(refused(share)) == 3, "the refusals on the trail")
    assert refused(share) == {
        "/No/a.jpg": "a search found data about location in parts that are not understood: JPEG APP11 at 6",
        "/No/c.txt": "not understood: text/plain: may contain any text, also a track or a log of places",
        "/Strict/b.jpg": "parts are not understood: JPEG APP11 at 6;"
        " the rule denies such files (on_unknown: deny)",
    }


def test_kinds_that_are_let_through_unread(share: Corner) -> None:
    words = {"a.txt": b"by the lake at 47.804531 north\n" * 3}
    placed = {"b.jpg": jpegs.photo_with(jpegs.exif())}
    assert call_as(CAMERA, saved, share / "Zips", words | placed) == {"a.txt": "", "b.jpg": "EPERM"}
    # where they are not let through, they do not get by way of there
    assert call_as(CAMERA, code_of, os.rename, share / "Zips/a.txt", share / "No/a.txt") == "EPERM"
    assert call_as(CAMERA, saved, share / "Outside", words) == {"a.txt": ""}
    assert call_as(CAMERA, code_of, os.rename, share / "Outside/a.txt", share / "Zips/b.txt") == ""


def as_redacted(data: bytes) -> bytes:
    """What an app under redaction of places would read."""
    return apply(data, locate("image/jpeg", frozenset({"location"}), MemorySource(data)).patches)


@pytest.mark.parametrize("where", ["Clean", "Both"])
def test_twenty_photos_are_stored_without_their_places(
    share: Corner, photos: list[Photo], where: str
) -> None:
    placed = {photo.name: photo.placed for photo in photos}
    assert call_as(CAMERA, saved, share / where, placed) == dict.fromkeys(placed, "")
    stored = {name: (share.store / where / name).read_bytes() for name in placed}
    assert stored == {name: as_redacted(data) for name, data in placed.items()}
    assert [name for name, data in stored.items() if jpegs.leaks(data)] == []
    assert [name for name, data in stored.items() if jpegs.pixels(data) != jpegs.pixels(placed[name])] == []
    assert call_as(CAMERA, lambda: {name: (share / where / name).read_bytes() for name in placed}) == stored
    gps = [
        tags
        for tags in jpegs.exiftool(*(share.store / where / name for name in placed))
        if "GPS" in str(tags)
    ]
    assert gps == []
    notes = told(share, operation="write", decision="allow")
    assert set(notes) == {f"/{where}/{name}" for name in placed}
    assert [note for note in notes.values() if not note.startswith("cleaned of location: ")] == []
    # what was cleaned is accepted wherever nothing may tell of it
    into = call_as(CAMERA, moved, share / where, share / "No", list(placed), _move)
    assert into == dict.fromkeys(placed, "")


def test_what_is_not_clean_is_moved_by_copying(share: Corner) -> None:
    placed = {"a.jpg": jpegs.photo_with(jpegs.exif())}
    call_as(CAMERA, saved, share / "Outside", placed)
    for where in ("Clean", "Both"):
        said = call_as(CAMERA, moved, share / "Outside", share / where, ["a.jpg"])
        assert said == {"a.jpg": "EXDEV"}
        assert call_as(CAMERA, code_of, os.link, share / "Outside/a.jpg", share / where / "a.jpg") == "EXDEV"
    assert (share.store / "Outside/a.jpg").read_bytes() == placed["a.jpg"]
    tool_as(CAMERA, "mv", share / "Outside/a.jpg", share / "Clean/a.jpg", check=True)
    assert (share.store / "Clean/a.jpg").read_bytes() == as_redacted(placed["a.jpg"])
    assert call_as(CAMERA, moved, share / "Clean", share / "Both", ["a.jpg"]) == {"a.jpg": ""}


def test_what_cannot_be_cleaned_is_refused_unless_its_kind_is_let_through(share: Corner) -> None:
    words = {"a.txt": b"by the lake at 47.804531 north\n" * 3}
    assert call_as(CAMERA, saved, share / "Clean", words) == {"a.txt": "EPERM"}
    assert call_as(CAMERA, saved, share / "CleanZips", words) == {"a.txt": ""}
    wait_for(lambda: refused(share), "the refusal on the trail")
    assert refused(share)["/Clean/a.txt"].startswith("cannot be cleaned of location: ")


def _open_until_told(channel, path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.close(os.dup(file.fileno()))
        channel.send("written")
        channel.recv()


def test_another_writer_reads_what_is_stored(share: Corner) -> None:
    """Two apps that both may write there have the same view, and yet not each other's drafts."""
    placed = jpegs.photo_with(jpegs.exif())
    writer = start_as(CAMERA, _open_until_told, share / "Clean/a.jpg", placed)
    writer.receive()
    assert call_as(OTHER, (share / "Clean/a.jpg").read_bytes) == as_redacted(placed)
    writer.send("go on")
    writer.result()
    assert call_as(CAMERA, (share / "Clean/a.jpg").read_bytes) == as_redacted(placed)


def test_its_writer_reads_what_is_stored_before_the_release(share: Corner) -> None:
    """A close returns before the RELEASE comes: what the app then reads does not hang on which is first."""
    placed = jpegs.photo_with(jpegs.exif())
    at = share / "Clean/a.jpg"

    def write_and_read() -> tuple[bytes, bytes, bytes]:
        fd = os.open(at, os.O_RDWR | os.O_CREAT, 0o644)
        os.write(fd, placed)
        before = at.read_bytes()
        os.close(os.dup(fd))
        stored = at.read_bytes()
        os.pwrite(fd, placed[-2:], len(placed) - 2)
        again = at.read_bytes()
        os.close(fd)
        return before, stored, again

    assert call_as(CAMERA, write_and_read) == (placed, as_redacted(placed), placed)
    assert call_as(CAMERA, at.read_bytes) == as_redacted(placed) == (share.store / "Clean/a.jpg").read_bytes()


def test_other_names_keep_what_they_tell(share: Corner) -> None:
    """The store's side has given a photo a name in each of two folders."""
    placed = jpegs.photo_with(jpegs.exif())
    (share.store / "Outside/a.jpg").write_bytes(placed)
    os.link(share.store / "Outside/a.jpg", share.store / "Clean/a.jpg")

    def append() -> str:
        fd = os.open(share / "Clean/a.jpg", os.O_WRONLY | os.O_APPEND)
        os.write(fd, b"\0")
        return code_of(os.close, fd)

    assert call_as(CAMERA, append) == "EPERM"
    assert (share.store / "Outside/a.jpg").read_bytes() == placed


def _in_order(mountpoint: Path, name: str, data: bytes, order: tuple[str, ...]) -> None:
    """Write a photo into the folder that cleans, and do these things with it before it is closed."""
    at = mountpoint / "Clean" / name
    fd = os.open(at, os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, data[:1500])
    for number, what in enumerate(order):
        try:
            if what == "dup":
                os.close(os.dup(fd))
            elif what == "rest":
                os.pwrite(fd, data[1500:], 1500)
            elif what == "link":
                os.link(at, at.with_name(f"{number}-{name}"))
            elif what in {"out", "in"}:
                to = mountpoint / ("Outside" if what == "out" else "Clean") / name
                os.rename(at, to)
                at = to
        except OSError:
            continue
    os.close(fd)


def test_no_order_of_calls_loses_an_original(share: Corner, photos: list[Photo]) -> None:
    """Attack C1.11: Have another user's original, at another path, replaced by a cleaned copy: by a link, a
    move, a close in between
    Guard: policyfs/fs/checked/drafts.py::Drafts.settle,
    policyfs/fs/checked/drafts.py::Drafts._check_other_names
    Also: ::test_other_names_keep_what_they_tell
    Without: ::test_one_is_lost_where_the_store_is_not_written_anew
    """
    data = photos[0].placed
    orders = list(itertools.permutations(("dup", "rest", "link", "out")))
    orders += [(*order, "in", "dup") for order in orders[::5]]
    for number, order in enumerate(orders):
        call_as(CAMERA, _in_order, share.mountpoint, f"{number}.jpg", data, order)
    wait_until_closed(share.mount)
    outside = {path.name: path.read_bytes() for path in (share.store / "Outside").iterdir()}
    clean = {path.name: path.read_bytes() for path in (share.store / "Clean").iterdir()}
    assert len(outside) >= len(orders) // 3
    assert {name for name, stored in outside.items() if stored != data} == set()
    assert {name for name, stored in clean.items() if stored != as_redacted(data)} == set()


@pytest.fixture
def forgetful(mounts, empty_store: Path) -> Corner:
    """A mount whose daemon forgets what the store's file was cleaned of."""
    mount = mounts.prepare(POLICY, empty_store)
    mount.program = ("tests.attack.weakened", "cleaned-for-good")
    return Corners(mount.start()).new(*FOLDERS)


def test_one_is_lost_where_the_store_is_not_written_anew(forgetful: Corner, photos: list[Photo]) -> None:
    data = photos[0].placed
    call_as(CAMERA, _in_order, forgetful.mountpoint, "a.jpg", data, ("rest", "dup", "out"))
    assert (forgetful.store / "Outside/a.jpg").read_bytes() == as_redacted(data)

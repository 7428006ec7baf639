"""Real editors on what an app sees redacted: what works, what is refused, and what stays of the true bytes.

Two policies: in one the editing app may delete others' files, in the other it may only read them and
make its own. Nothing it reads back ever has the place; where the true bytes go, that is on record.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.support.machine.processes import call_as, tool_as
from tests.support.mount.corners import Corner
from tests.support.samples.jpegs import leaks, pixels
from tests.support.samples.media import HOME

CAMERA, GALLERY = 10010, 10011
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}, grants: [media.location]}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/**"}}
  - {{id: no-place, require: {{redact: location}}, who: {{not: {{grant: media.location}}}}, paths: "/**"}}
"""
CAREFUL: Final = POLICY + (
    "  - {id: not-others, deny: [write, delete, attr], who: {app: gallery}, unless: {owner: self},"
    ' paths: "/**"}\n'
)
REFUSED, REPLACED, KEPT = "refused", "replaced", "kept beside"


class Editor(NamedTuple):
    """command: of a photo's path. becomes: of another app's photo, where files of others may be deleted."""

    command: Callable[[str], list[str]]
    becomes: str


def exiftool(*options: str) -> Callable[[str], list[str]]:
    return lambda path: ["exiftool", "-q", *options, "-Artist=me", path]


def synced(*options: str) -> Callable[[str], list[str]]:
    """A copy beside, which rsync brings over the photo."""
    line = 'cp "$0" "$0.new" && touch "$0.new" && rsync "$@" --ignore-times "$0.new" "$0" && rm "$0.new"'
    return lambda path: ["sh", "-c", line, path, *options]


EDITORS: Final = {
    "exiftool": Editor(exiftool("-overwrite_original"), REPLACED),
    "exiftool with a backup": Editor(exiftool(), KEPT),
    "exiftool in place": Editor(exiftool("-overwrite_original_in_place"), REFUSED),
    "jpegtran": Editor(
        lambda path: ["jpegtran", "-rotate", "90", "-copy", "all", "-outfile", path, path], REPLACED
    ),
    "mogrify": Editor(lambda path: ["mogrify", "-flip", path], REPLACED),
    "save as": Editor(lambda path: ["sh", "-c", 'cp "$0" "$0.new" && mv "$0.new" "$0"', path], REPLACED),
    "sed in place": Editor(lambda path: ["sed", "-i", "s/nothing/something/", path], REPLACED),
    "perl in place": Editor(lambda path: ["perl", "-pi", "-e", "s/nothing/something/", path], REPLACED),
    "rsync": Editor(synced("-a"), REPLACED),
    "rsync in place": Editor(synced("-a", "--inplace"), REFUSED),
    "cp onto it": Editor(lambda path: ["sh", "-c", 'cp "$0" "$0.new" && cp "$0.new" "$0"', path], REPLACED),
    "dd in the middle": Editor(
        lambda path: ["dd", "if=/dev/zero", f"of={path}", "bs=16", "count=1", "seek=2", "conv=notrunc"],
        REFUSED,
    ),
}


SAME_BYTES: Final = {"save as", "sed in place", "perl in place", "rsync", "rsync in place", "cp onto it"}
"""They write what they have read."""


class Edited(NamedTuple):
    """ok: did the editor say so. left: what the store has afterwards."""

    ok: bool
    left: dict[str, bytes]
    events: list[dict[str, Any]]


@pytest.fixture
def photo(media: dict[str, Path]) -> bytes:
    return media["photo_with_place.jpg"].read_bytes()


def edited(mount: Corner, photo: bytes, editor: str) -> Edited:
    """The gallery edits the camera's photo; whatever comes of it, it has read no place back."""
    (mount.store / "a.jpg").write_bytes(photo)
    (mount.store / "a.jpg").chmod(0o666)
    path = str(mount / "a.jpg")
    said = tool_as(GALLERY, *EDITORS[editor].command(path), cwd=mount.mountpoint)
    shown = call_as(GALLERY, lambda: [file.read_bytes() for file in mount.mountpoint.iterdir()])
    assert [leaks(data) for data in shown] == [[]] * len(shown)
    left = {file.name: file.read_bytes() for file in mount.store.iterdir()}
    return Edited(said.returncode == 0, left, mount.events(app="gallery", type="event"))


@pytest.mark.night
@pytest.mark.parametrize("editor", EDITORS)
def test_where_others_files_may_be_deleted(corner_of, photo: bytes, editor: str) -> None:
    done = edited(corner_of(POLICY), photo, editor)
    becomes = EDITORS[editor].becomes
    assert done.ok == (becomes != REFUSED)
    if becomes == REFUSED:
        assert done.left["a.jpg"] == photo
        assert "EACCES" in {event["errno"] for event in done.events if event["decision"] == "deny"}
        return
    assert leaks(done.left["a.jpg"]) == []
    assert pixels(done.left["a.jpg"])
    assert list(done.left.values()).count(photo) == (becomes == KEPT)
    # Where the true bytes went is on record: replaced, deleted, emptied, or moved away as they were.
    lost = [e for e in done.events if e["operation"] in {"rename", "unlink"} or "O_TRUNC" in e["syscall"]]
    assert (len(photo) in [end.get("size_before") for end in lost]) == (becomes == REPLACED)
    assert becomes == REPLACED or ("a.jpg", "a.jpg_original") in [
        (Path(end["path"]).name, Path(end.get("new_path", "")).name) for end in lost
    ]


@pytest.mark.parametrize("editor", EDITORS)
def test_where_they_may_not(corner_of, photo: bytes, editor: str) -> None:
    done = edited(corner_of(CAREFUL), photo, editor)
    assert not done.ok
    assert done.left.pop("a.jpg") == photo
    assert all(leaks(data) == [] for data in done.left.values())
    assert {event["errno"] for event in done.events if event["decision"] == "deny"} <= {"EACCES", "EPERM"}


@pytest.mark.parametrize("editor", EDITORS)
@pytest.mark.parametrize(
    "policy",
    [pytest.param(POLICY, marks=pytest.mark.soak, id="trusting"), pytest.param(CAREFUL, id="careful")],
)
def test_ones_own_photo_is_edited_as_ever(corner_of, photo: bytes, policy: str, editor: str) -> None:
    """A copy that the gallery made is its own: every editor works on it, in place too."""
    mount = corner_of(policy)
    (mount.store / "a.jpg").write_bytes(photo)
    (mount.store / "a.jpg").chmod(0o644)
    tool_as(GALLERY, "cp", mount / "a.jpg", mount / "mine.jpg", check=True)
    before = (mount.store / "mine.jpg").read_bytes()
    assert leaks(before) == []
    tool_as(GALLERY, *EDITORS[editor].command(str(mount / "mine.jpg")), cwd=mount.mountpoint, check=True)
    after = (mount.store / "mine.jpg").read_bytes()
    assert leaks(after) == []
    assert (after == before) == (editor in SAME_BYTES)
    assert (mount.store / "a.jpg").read_bytes() == photo


def test_a_film_is_cut_into_a_new_one(corner_of, media: dict[str, Path]) -> None:
    """ffmpeg reads what it may see, and what it writes has no place either."""
    mount = corner_of(CAREFUL)
    film = media["video_with_place.mp4"].read_bytes()
    (mount.store / "a.mp4").write_bytes(film)
    (mount.store / "a.mp4").chmod(0o644)
    command = ["ffmpeg", "-v", "error", "-i", str(mount / "a.mp4"), "-c", "copy", str(mount / "b.mp4")]
    tool_as(GALLERY, *command, check=True)
    cut = (mount.store / "b.mp4").read_bytes()
    place = int(round(HOME.latitude, 4) * 65536).to_bytes(4)  # fixed point, as loci has it
    assert place in film
    assert place not in cut
    probe = ["ffprobe", "-v", "error", "-show_entries", "format=duration", str(mount / "b.mp4")]
    assert b"duration=" in tool_as(GALLERY, *probe, check=True).stdout

"""policyfs inspect --write --to: cleaned copies of whole trees."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from policyfs.cli import clean_copies as command
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import locate
from policyfs.store.frozen import Version
from tests.support.mount.daemons import Said, policyfs
from tests.support.samples import jpegs

pytestmark = pytest.mark.usefixtures("forked_launchers")

PHOTO = jpegs.photo_with(jpegs.exif())
LOCATION = frozenset({"location"})
CLEANED = apply(PHOTO, locate("image/jpeg", LOCATION, MemorySource(PHOTO)).patches)
CHANGED = "another program changed the file: try again"
NO_PLACE, PLACE = b"a quince on a table.", b"47.804531, 13.042287"
REFUSED_TEXT = "text/plain: may contain any text, also a track or a log of places"
OLD_NS = 1_500_000_000_123_456_789


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of a photo with a place, one without, a text, a link, a fifo, and an empty directory."""
    top = tmp_path / "DCIM"
    for name in ("2024/trip", "empty"):
        (top / name).mkdir(parents=True)
    (top / "2024/trip/a.jpg").write_bytes(PHOTO)
    (top / "2024/b.jpg").write_bytes(jpegs.plain())
    (top / "notes.txt").write_text("some words\n")
    (top / "link.jpg").symlink_to("2024/b.jpg")
    os.mkfifo(top / "fifo")
    (top / "2024/trip/a.jpg").chmod(0o4640)
    for name in ("2024/trip/a.jpg", "2024/trip", "2024"):
        os.utime(top / name, ns=(OLD_NS + 1, OLD_NS))
    (top / "2024").chmod(0o750)
    return top


@pytest.fixture(params=["in one step", "no unnamed files"])
def any_store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems with and without O_TMPFILE."""
    if request.param != "in one step":
        monkeypatch.setattr("policyfs.cli.common.output._unnamed_file", lambda _: None)


def copied(to: Path, *arguments: str | Path) -> Said:
    return policyfs("inspect", "--redact", "location", "--write", "--to", to, *arguments)


def files_below(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_a_tree(tree: Path, any_store: None) -> None:
    to = tree.parent / "out"
    said = copied(to, tree)
    assert said.returncode == 1, said
    assert files_below(to) == {"DCIM/2024/trip/a.jpg": CLEANED, "DCIM/2024/b.jpg": jpegs.plain()}
    assert (to / "DCIM/empty").is_dir()
    assert not os.path.lexists(to / "DCIM/link.jpg")
    for name, mode in (("2024/trip/a.jpg", 0o640), ("2024", 0o750), ("2024/trip", 0o755)):
        found = (to / "DCIM" / name).stat()
        assert (found.st_mode & 0o7777, found.st_mtime_ns) == (mode, OLD_NS), name
    rows = [" ".join(line.split()) for line in said.stdout.splitlines()]
    assert rows == [
        "file kind copy",
        f"{tree}/2024/b.jpg image/jpeg unchanged",
        f"{tree}/2024/trip/a.jpg image/jpeg removed: location 1",
        f"{tree}/fifo unknown refused: it is not a regular file",
        f"{tree}/link.jpg unknown refused: it is a symbolic link, which is not followed",
        f"{tree}/notes.txt text/plain refused: {REFUSED_TEXT}",
        f"copies in {to}: 1 cleaned, 1 unchanged; 3 refused",
    ]


def test_all_are_written(tree: Path) -> None:
    to = tree.parent / "out"
    to.mkdir()
    said = copied(to, tree / "2024", tree / "2024/trip/a.jpg", "--json")
    assert said.returncode == 0, said
    found = json.loads(said.stdout)
    assert (found["written"], found["refused"], found["redact"]) == (3, 0, ["location"])
    assert [(file["file"], file["outcome"], file["removed"]) for file in found["files"]] == [
        (f"{tree}/2024/b.jpg", "clean", {}),
        (f"{tree}/2024/trip/a.jpg", "patch", {"location": 1}),
        (f"{tree}/2024/trip/a.jpg", "patch", {"location": 1}),
    ]
    assert files_below(to) == {"2024/b.jpg": jpegs.plain(), "2024/trip/a.jpg": CLEANED, "a.jpg": CLEANED}


def test_what_is_there_is_never_overwritten(tree: Path, any_store: None) -> None:
    to = tree.parent / "out"
    (to / "DCIM/2024").mkdir(parents=True)
    (to / "DCIM/2024/b.jpg").write_bytes(b"mine")
    elsewhere = tree.parent / "elsewhere"
    elsewhere.mkdir()
    (to / "DCIM/2024/trip").symlink_to(elsewhere)
    files = {file["file"]: file for file in json.loads(copied(to, tree, "--json").stdout)["files"]}
    assert files[f"{tree}/2024/b.jpg"]["reason"] == "File exists"
    assert files[f"{tree}/2024/trip"]["reason"] == "Too many levels of symbolic links"
    assert (to / "DCIM/2024/b.jpg").read_bytes() == b"mine"
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    ("to", "paths", "why"),
    [
        ("DCIM/out", ["DCIM"], "is inside"),
        ("inside", ["DCIM"], "is inside"),
        ("DCIM/2024", ["DCIM"], "is inside"),
        ("DCIM", ["DCIM"], "is inside"),
        (".", ["DCIM"], "would be this very"),
        ("out", ["DCIM", "other/DCIM"], "needs a name that no other path has"),
        ("out", ["/"], "needs a name"),
        ("out", [], "name one file"),
    ],
)
def test_wrong_use_writes_nothing(
    tree: Path, monkeypatch: pytest.MonkeyPatch, to: str, paths: list[str], why: str
) -> None:
    monkeypatch.chdir(tree.parent)
    Path("inside").symlink_to("DCIM/2024")
    Path("other/DCIM").mkdir(parents=True)
    before = sorted(tree.parent.rglob("*"))
    said = copied(Path(to), *paths)
    assert (said.returncode, said.stdout) == (2, "")
    assert why in said.stderr
    assert sorted(tree.parent.rglob("*")) == before


def test_paths_that_cannot_be_read(tree: Path) -> None:
    to = tree.parent / "out"
    said = copied(to, tree.parent / "absent.jpg", tree / "link.jpg", tree / "2024/b.jpg", "--json")
    found = json.loads(said.stdout)
    assert (said.returncode, found["written"]) == (1, 1)
    assert [file["reason"] for file in found["files"]] == [
        "No such file or directory", "it is a symbolic link, which is not followed", "",
    ]  # fmt: skip
    assert copied(tree / "notes.txt", tree / "2024").returncode == 1
    assert copied(to, tree.parent / "absent/a.jpg").stderr.endswith("a.jpg: No such file or directory\n")


def test_a_deep_tree(tmp_path: Path) -> None:
    """The path of its file is nearly as long as a path may be."""
    path = b"d" * 200 + b"".join(b"/" + b"d" * 200 for _ in range(17))
    (tmp_path / os.fsdecode(path)).mkdir(parents=True)
    (tmp_path / os.fsdecode(path) / "a.jpg").write_bytes(PHOTO)
    assert copied(tmp_path / "out", tmp_path / ("d" * 200)).returncode == 0
    assert (tmp_path / "out" / os.fsdecode(path) / "a.jpg").read_bytes() == CLEANED


def test_a_file_that_changes_meanwhile_is_refused(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = command.save
    photo = tree / "2024/trip/a.jpg"

    def late(*arguments):
        with photo.open("r+b") as file:
            file.write(b"another")
        save(*arguments)

    monkeypatch.setattr(command, "save", late)
    to = tree.parent / "out"
    (file,) = json.loads(copied(to, photo, "--json").stdout)["files"]
    assert (file["outcome"], file["reason"]) == ("refuse", CHANGED)
    assert list(to.iterdir()) == []


@pytest.mark.parametrize("guard", ["frozen", "examined again", "none"])
def test_a_writer_that_leaves_no_trace(tree: Path, monkeypatch: pytest.MonkeyPatch, guard: str) -> None:
    """The second write to a page of a shared mapping changes neither times nor size."""
    if guard != "frozen":
        monkeypatch.setattr(command, "_FROZEN_BYTES", 0)
    save, photo, to = command.save, tree / "2024/b.jpg", tree.parent / "out"
    photo.write_bytes(jpegs.with_segments(jpegs.plain(), jpegs.segment(jpegs.COM, NO_PLACE)))
    version = Version(photo.stat().st_size, 0, 0)
    monkeypatch.setattr(command, "_version", lambda _: version)

    def late(fd, before, source, plan, path, look, like):
        photo.write_bytes(photo.read_bytes().replace(NO_PLACE, PLACE))
        save(fd, before, source, plan, path, look if guard != "none" else lambda _: plan, like)

    monkeypatch.setattr(command, "save", late)
    (found,) = json.loads(copied(to, photo, "--json").stdout)["files"]
    assert found["reason"] == (CHANGED if guard == "examined again" else "")
    leaks = {"frozen": [False], "examined again": [], "none": [True]}
    assert [PLACE in data for data in files_below(to).values()] == leaks[guard]


@pytest.mark.parametrize("way", ["killed", "interrupted"])
def test_no_half_file_is_left(tree: Path, way: str) -> None:
    to = tree.parent / "out"
    pid = os.fork()
    if pid == 0:
        pwrite = os.pwrite

        def stopped(fd: int, data: bytes, at: int) -> int:
            pwrite(fd, data[:100], at)
            if way == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            raise KeyboardInterrupt

        os.pwrite = stopped  # type: ignore[assignment]
        try:
            copied(to, tree / "2024")
        except KeyboardInterrupt:
            os._exit(7)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == (-signal.SIGKILL if way == "killed" else 7)
    assert files_below(to) == {}


def test_names_cannot_harm_the_terminal(tree: Path) -> None:
    os.rename(tree / "2024/b.jpg", tree / "2024/\x1b]0;b\x07.jpg")
    said = copied(tree.parent / "out", tree / "2024")
    assert said.returncode == 0
    assert "\x1b" not in said.stdout
    assert "\\x1b]0;b\\x07.jpg" in said.stdout

"""Mounts with policies from answers to the questions of init: what was answered is refused, and no more."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli.setup.access import Access, policy_text
from policyfs.cli.setup.programs import narrowed, profile_of
from tests.support.machine.processes import TOOL_ENVIRONMENT, code_of, wait_for
from tests.support.mount.daemons import Mount
from tests.support.programs.samba import free_port
from tests.support.samples import jpegs, media
from tests.support.samples.jpegs import leaks

PHOTO = jpegs.photo_with(jpegs.exif())
NFO = b'<?xml version="1.0"?>\n<movie><title>Heat</title><plot>In Paris</plot></movie>\n'
SRT = b"1\n00:00:01,000 --> 00:00:02,000\nHello\n"
FILES = {
    "Films/heat.nfo": NFO,
    "Films/heat.srt": SRT,
    "Films/list.m3u": b"heat.mkv\nother.mkv\n",
    "Films/photo.nfo": PHOTO,
    "Films/diary.txt": b"In Paris again.\n",
    "Photos/a.jpg": PHOTO,
    "immich/library/b.jpg": PHOTO,
}


@pytest.fixture
def filled(empty_store: Path) -> Path:
    for name, data in FILES.items():
        (empty_store / name).parent.mkdir(parents=True, exist_ok=True)
        (empty_store / name).write_bytes(data)
    return empty_store


def text_of(access: Access) -> str:
    return policy_text([access], name="home", file="home.yaml", store="/srv", site="home.site.yaml")


def change(path: Path) -> str:
    """Open a file for writing and write one byte in its place; the name of the error."""
    with open(path, "r+b", buffering=0) as file:
        file.write(b"x")
    return ""


def works(mount: Mount, directory: str) -> None:
    """A program makes, reads, changes, moves, links and deletes files and directories of its own."""
    made = mount / directory / "made"
    made.mkdir()
    (made / "own.jpg").write_bytes(PHOTO)
    assert (made / "own.jpg").read_bytes() == PHOTO
    change(made / "own.jpg")
    os.chmod(made / "own.jpg", 0o600)
    os.link(made / "own.jpg", made / "linked.jpg")
    os.rename(made / "own.jpg", mount / directory / "moved.jpg")
    os.unlink(mount / directory / "moved.jpg")
    os.unlink(made / "linked.jpg")
    made.rmdir()


def test_as_before_nothing_is_refused_or_hidden(mounts, filled: Path) -> None:
    mount = mounts.start(
        text_of(Access("jellyfin", {"/": True})), filled, "--app", "jellyfin", "--any-uid", "--posix"
    )
    for name, data in FILES.items():
        assert (mount / name).read_bytes() == data
    works(mount, "Films")
    change(mount / "Films/diary.txt")
    os.link(mount / "Films/heat.nfo", mount / "Photos/heat.nfo")
    os.rename(mount / "Photos/a.jpg", mount / "Films/a.jpg")
    os.unlink(mount / "Films/heat.srt")
    os.rename(mount / "immich/library", mount / "Photos/library")
    assert mount.events(decision="deny") == []


def test_hidden_places_and_files_of_others_kept(mounts, filled: Path) -> None:
    profile = profile_of("jellyfin/jellyfin:latest", "")
    assert profile is not None
    access = narrowed(profile, Access("jellyfin", {"/": True}), lambda _: True)
    mount = mounts.start(text_of(access), filled, "--app", "jellyfin", "--any-uid", "--posix")
    for name in ("Photos/a.jpg", "Films/photo.nfo"):
        read = (mount / name).read_bytes()
        assert len(read) == len(PHOTO) and leaks(PHOTO) and not leaks(read)
    for name in ("Films/heat.nfo", "Films/heat.srt", "Films/list.m3u"):
        assert (mount / name).read_bytes() == FILES[name]
    assert code_of((mount / "Films/diary.txt").read_bytes) == "EACCES"  # a text of another name
    for name in FILES:
        assert code_of(change, mount / name) == "EACCES"
        assert code_of(os.unlink, mount / name) == "EACCES"
        assert code_of(os.rename, mount / name, mount / "Films/other") == "EACCES"
        assert code_of(os.truncate, mount / name, 0) == "EACCES"
    works(mount, "Films")
    assert {name: (filled / name).read_bytes() for name in FILES} == FILES


def test_a_backup_that_keeps_what_is_there(mounts, filled: Path) -> None:
    profile = profile_of("restic/restic", "")
    assert profile is not None
    access = narrowed(profile, Access("restic", {"/": True}), lambda _: True)
    mount = mounts.start(text_of(access), filled, "--app", "restic", "--any-uid", "--posix")
    for name, data in FILES.items():
        assert (mount / name).read_bytes() == data
        assert code_of(os.unlink, mount / name) == "EACCES"
    works(mount, "Photos")  # it restores what is not there


def test_the_own_files_of_a_program_are_as_before(mounts, filled: Path) -> None:
    profile = profile_of("immich-app/immich-server", "")
    assert profile is not None
    before = Access("immich", {"/immich": True, "/Photos": True}, own=("/immich",))
    access = narrowed(profile, before, lambda _: True)
    mount = mounts.start(text_of(access), filled, "--app", "immich", "--any-uid", "--posix")
    assert not leaks((mount / "Photos/a.jpg").read_bytes())
    assert code_of(os.unlink, mount / "Photos/a.jpg") == "EACCES"
    assert (mount / "immich/library/b.jpg").read_bytes() == PHOTO
    os.rename(mount / "immich/library/b.jpg", mount / "immich/b.jpg")  # by its storage template
    os.unlink(mount / "immich/b.jpg")
    works(mount, "immich")
    works(mount, "Photos")
    assert not os.path.exists(mount / "Films")


@pytest.mark.soak
def test_minidlna_hands_out_all_without_places(mounts, filled: Path, tmp_path: Path) -> None:
    """The real program: its scan and its downloads are refused nothing, and no photo has a place."""
    profile = profile_of("", "minidlna.service")
    assert profile is not None
    access = narrowed(profile, Access("minidlna", {"/": True}), lambda _: True)
    (filled / "Films/list.m3u").write_text("../Music/a.mp3\n")
    photo = media.photo(filled / "Photos/real.jpg")
    mount = mounts.start(text_of(access), filled, "--app", "minidlna", "--any-uid", "--posix")
    rows = dict(_handed_out(mount, tmp_path))
    assert sorted(rows) == ["Photos/a.jpg", "Photos/real.jpg", "immich/library/b.jpg"]
    (tmp_path / "served.jpg").write_bytes(rows["Photos/real.jpg"])
    before, served = (jpegs.exiftool(path)[0] for path in (photo, tmp_path / "served.jpg"))
    assert [any("GPS" in name for name in tags) for tags in (before, served)] == [True, False]
    assert mount.events(decision="deny") == []


def _handed_out(mount: Mount, aside: Path) -> Iterator[tuple[str, bytes]]:
    """Run minidlna on a mount. Yield each file that it hands out, with its bytes."""
    port, config = free_port(), aside / "minidlna.conf"
    words = ("network_interface=lo", "inotify=no", f"port={port}", f"media_dir={mount.mountpoint}",
             f"db_dir={aside}/db", f"log_dir={aside}")  # fmt: skip
    config.write_text("\n".join(words))
    command = ("minidlnad", "-d", "-r", "-f", str(config), "-P", str(aside / "pid"))
    base = f"http://127.0.0.1:{port}"

    def scanned() -> list[tuple[int, str]]:
        database = f"file:{aside}/db/files.db?mode=ro"
        with (
            contextlib.suppress(sqlite3.Error),
            contextlib.closing(sqlite3.connect(database, uri=True)) as rows,
        ):
            found = rows.execute("SELECT ID, PATH FROM DETAILS WHERE MIME IS NOT NULL").fetchall()
            return found if len(found) == 3 else []
        return []  # before it has made its tables

    with (aside / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            found = wait_for(scanned, "minidlna has scanned", 60.0)
            for number, path in found:
                with urllib.request.urlopen(f"{base}/MediaItems/{number}.jpg", timeout=30) as answer:
                    yield str(Path(path).relative_to(mount.mountpoint)), answer.read()
        finally:
            server.terminate()
            server.wait(20.0)


@pytest.mark.soak
def test_restic_backs_up_and_restores_only_what_is_not_there(mounts, filled: Path, tmp_path: Path) -> None:
    profile = profile_of("restic/restic", "")
    assert profile is not None
    access = narrowed(profile, Access("restic", {"/": True}), lambda _: True)
    mount = mounts.start(text_of(access), filled, "--app", "restic", "--any-uid", "--posix")
    repository = tmp_path / "repository"

    def restic(*words: str) -> subprocess.CompletedProcess[str]:
        environment = TOOL_ENVIRONMENT | {"RESTIC_PASSWORD": "x", "HOME": str(tmp_path)}
        command = ("restic", "-r", str(repository), "--no-cache", *words)
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    assert restic("init").returncode == 0
    assert restic("backup", str(mount.mountpoint)).returncode == 0
    (filled / "Films/heat.srt").unlink()
    (filled / "Films/heat.nfo").write_text("changed")
    restic("restore", "latest", "--target", "/", "--include", str(mount / "Films"))
    wait_for((filled / "Films/heat.srt").exists, "the file is seen")
    assert (filled / "Films/heat.srt").read_bytes() == SRT
    assert (filled / "Films/heat.nfo").read_text() == "changed"
    aside = tmp_path / "aside"
    assert restic("restore", "latest", "--target", str(aside)).returncode == 0
    assert (aside / f".{mount.mountpoint}" / "Photos/a.jpg").read_bytes() == PHOTO

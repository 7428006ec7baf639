"""The recipes of docs/cookbook.md on real mounts, with the file work of the programs that they name.

Each app has a mount of its own, which any uid may use, as a site gives it to services and containers.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.documents import CHECKOUT, blocks
from tests.support.machine.processes import call_as, code_of, tool_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs import day_servers, home_server
from tests.support.programs.day import Desk
from tests.support.samples import jpegs

POLICIES: Final = CHECKOUT / "policies"
PHOTO: Final = jpegs.photo_with(jpegs.exif())
PROGRAM: Final = 10350
"""The uid of programs in containers: none of the policy."""


class Home:
    """A store of root's with these directories, and a mount for each app that is asked for."""

    def __init__(self, mounts: Mounts, store: Path, policy: str, *directories: str) -> None:
        self.store, self._mounts, self._policy = store, mounts, (POLICIES / policy).read_text("utf-8")
        self._made: dict[str, Mount] = {}
        for name in directories:
            (store / name).mkdir(parents=True)

    def mount(self, app: str) -> Mount:
        if app not in self._made:
            self._made[app] = self._mounts.start(self._policy, self.store, "--app", app, "--any-uid")
        return self._made[app]

    def has(self, app: str, function: Callable[..., Any], path: str, *arguments: Any, **named: Any) -> Any:
        """What a function of a program returns, given a path in its mount."""
        work = lambda: function(self.mount(app) / path, *arguments, **named)  # noqa: E731
        self.mount(app)
        return call_as(PROGRAM, work)

    def code(self, app: str, function: Callable[..., Any], path: str, *arguments: Any) -> str:
        """The name of the errno that a call ends in; empty if it succeeds."""
        return call_as(PROGRAM, code_of, function, self.mount(app) / path, *arguments)


@pytest.fixture
def home(mounts: Mounts, empty_store: Path) -> Home:
    made = Home(mounts, empty_store, "home-server.yaml", "Photos/anna", "Films", "Music", "Immich")
    (empty_store / "Photos/anna/a.jpg").write_bytes(PHOTO)
    (empty_store / "Films/a.mkv").write_bytes(b"film" * 1000)
    return made


def test_immich_starts_takes_in_uploads_and_scans_its_external_library(home: Home) -> None:
    home.has("immich", home_server.immich_start, "Immich", first=True)
    stored = home.has("immich", home_server.immich_upload, "Immich", PHOTO)
    home.has("immich", home_server.immich_start, "Immich", first=False)
    assert stored.name == "IMG_1.jpg"
    assert (home.store / "Immich/library/5c1f/2024/06/IMG_1.jpg").read_bytes() == PHOTO
    assert home.has("immich", home_server.scan, "Photos") == ["anna/a.jpg"]
    assert home.has("immich", Path.read_bytes, "Photos/anna/a.jpg") == PHOTO
    # It can neither delete from the external library, nor write sidecars into it.
    assert home.code("immich", os.unlink, "Photos/anna/a.jpg") == "EACCES"
    assert home.code("immich", Path.write_bytes, "Photos/anna/a.jpg.xmp", b"x") == "EACCES"
    # Without the mount it does not start, since no marker is there; with a new one it does.
    home.mount("immich").stop()
    with pytest.raises(FileNotFoundError):
        home.has("immich", home_server.immich_start, "Immich", first=False)
    home.mount("immich").start()
    home.has("immich", home_server.immich_start, "Immich", first=False)


def test_syncthing_takes_in_files_and_all_others_see_them_without_its_own(home: Home) -> None:
    assert home.has("immich", home_server.scan, "Photos") == ["anna/a.jpg"]
    for content in (b"old", PHOTO):
        home.has("syncthing", home_server.syncthing_pull, "Photos", "ben/b.jpg", content)
    own = {".stfolder", ".stversions", "anna", "ben"}
    assert set(home.has("syncthing", os.listdir, "Photos")) == own
    assert set(home.has("backup", os.listdir, "Photos")) == own
    for app in ("immich", "frame"):
        assert home.has(app, home_server.scan, "Photos") == ["anna/a.jpg", "ben/b.jpg"]
    assert home.has("immich", Path.read_bytes, "Photos/ben/b.jpg") == PHOTO
    shown = home.has("frame", Path.read_bytes, "Photos/ben/b.jpg")
    assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
    home.has("syncthing", home_server.syncthing_delete, "Photos", "ben/b.jpg")
    assert home.has("frame", home_server.scan, "Photos") == ["anna/a.jpg"]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_syncthing_itself_syncs_in_its_mount(home: Home, arena: Path, media: dict[str, Path]) -> None:
    """The program, with its markers, temporary files and watcher."""
    aside = arena / "aside"
    call_as(0, os.mkdir, aside)
    os.chown(aside, PROGRAM, PROGRAM)
    desk = Desk(home.mount("syncthing") / "Photos", aside, PROGRAM, media)
    inside, outside = day_servers.syncthing(desk)
    assert inside == outside
    assert "renamed.png" in home.has("frame", os.listdir, "Photos/synced")


def test_jellyfin_scans_films_and_home_videos(home: Home, media: dict[str, Path]) -> None:
    (home.store / "Photos/anna/trip.mp4").write_bytes(media["video_with_place.mp4"].read_bytes())
    assert home.has("jellyfin", home_server.scan, "Films") == ["a.mkv"]
    assert home.has("jellyfin", home_server.scan, "Photos") == ["anna/trip.mp4"]
    # Artwork and .nfo files beside the films are refused: its settings must not ask for them.
    assert home.code("jellyfin", Path.write_bytes, "Films/poster.jpg", b"x") == "EACCES"
    assert home.code("jellyfin", os.listdir, "Immich") == "ENOENT"


def test_photoprism_indexes_in_the_place_of_immich(home: Home) -> None:
    def index(top: Path) -> int:
        return home_server.photoprism_index(top / "Photos", top / "Immich/storage")

    assert home.has("immich", index, ".") == 1
    assert (home.store / "Immich/storage/sidecar/anna/a.jpg.yml").read_bytes() == b"Title: two\n"


def test_nextcloud_offers_what_the_policy_allows(mounts: Mounts, empty_store: Path, home: Home) -> None:
    policy = (POLICIES / "home-server.yaml").read_text()
    more = policy.replace("\npath_sets:", "  nextcloud: {modes: policy, grants: [true-bytes]}\npath_sets:")
    more = more.replace("who: {app: [immich, frame]}", "who: {app: [immich, frame, nextcloud]}")
    more += '\n  - {id: cloud, allow: [all], who: {app: nextcloud}, paths: "/Cloud/***"}\n'
    (empty_store / "Cloud").mkdir()
    mount = mounts.start(more, empty_store, "--app", "nextcloud", "--any-uid")
    call_as(PROGRAM, home_server.nextcloud_upload, mount / "Cloud", "b.jpg", PHOTO)
    assert (empty_store / "Cloud/b.jpg").read_bytes() == PHOTO
    assert call_as(PROGRAM, home_server.nextcloud_permissions, mount / "Cloud/b.jpg") == "read update delete"
    assert call_as(PROGRAM, home_server.nextcloud_permissions, mount / "Photos/anna/a.jpg") == "read delete"
    assert call_as(PROGRAM, code_of, os.unlink, mount / "Photos/anna/a.jpg") == "EACCES"
    assert call_as(PROGRAM, home_server.scan, mount / "Photos") == ["anna/a.jpg"]


SEEN: Final = ("st_ino", "st_mtime_ns", "st_ctime_ns", "st_size", "st_mode", "st_nlink", "st_uid", "st_gid")


def _seen(top: Path) -> dict[str, tuple[int, ...]]:
    """What a backup compares to know the files that it need not read again."""
    found = {}
    for directory, _, names in os.walk(top):
        for path in (directory, *(f"{directory}/{name}" for name in names)):
            stat = os.lstat(path)
            found[os.path.relpath(path, top)] = tuple(getattr(stat, field) for field in SEEN)
    return found


@pytest.mark.parametrize("app", ["backup", "frame"])
def test_a_backup_finds_every_file_unchanged_after_a_restart(home: Home, app: str) -> None:
    home.has("immich", home_server.immich_upload, "Immich", PHOTO)
    before = home.has(app, _seen, ".")
    assert len(before) > 3
    files = home.has(app, home_server.scan, ".")  # redacted, and copied
    mount = home.mount(app)
    assert home.has(app, _seen, ".") == before
    mount.stop()
    mount.start()
    assert home.has(app, _seen, ".") == before
    assert home.has(app, home_server.scan, ".") == files
    mount.policy.write_text(mount.policy.read_text() + "\n# other\n")
    assert mount.reload().returncode == 0
    assert home.has(app, _seen, ".") == before
    in_store = _seen(home.store)
    assert {path: before[path][:4] for path in before} == {path: in_store[path][:4] for path in before}


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("app", ["backup", "frame"])
def test_borg_and_restic_read_no_file_again_after_a_restart(home: Home, app: str, arena: Path) -> None:
    for number in range(20):
        (home.store / f"Photos/anna/{number}.jpg").write_bytes(PHOTO + bytes([number]))
    for path in (*home.store.rglob("*"), home.store):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    aside = arena / "aside"
    aside.mkdir(mode=0o777)
    aside.chmod(0o777)
    own = {
        "BORG_BASE_DIR": str(aside), "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "RESTIC_PASSWORD": "words", "RESTIC_REPOSITORY": str(aside / "restic"), "HOME": str(aside),
        "LOGNAME": "backup",
    }  # fmt: skip
    mount = home.mount(app)

    def run(*words: str) -> str:
        done = tool_as(PROGRAM, *words, cwd=mount.mountpoint, environment=own, check=True, deadline_s=100)
        return (done.stdout + done.stderr).decode()

    run("borg", "init", "--encryption=none", str(aside / "borg"))
    run("restic", "--quiet", "init")
    (home.store / "Photos/anna/newest").touch()  # borg does not remember the files of the newest second
    for name in ("first", "second"):
        listed = run("borg", "create", "--list", "--filter=AM", f"{aside}/borg::{name}", ".").splitlines()
        summary = run("restic", "backup", "--verbose", ".")
        if name == "first":
            assert len(listed) > 20
            mount.stop()
            mount.start()
            mount.policy.write_text(mount.policy.read_text() + "\n# other\n")
            assert mount.reload().returncode == 0
    assert [line for line in listed if not line.endswith("newest")] == []
    [files] = [line for line in summary.splitlines() if line.startswith("Files:")]
    assert re.match(r"Files: +0 new, +0 changed, +2[0-9] unmodified", files), summary


@pytest.fixture
def downloads(mounts: Mounts, empty_store: Path) -> Home:
    return Home(mounts, empty_store, "downloads.yaml", "Downloads", "Films", "Series")


def test_an_importer_links_and_moves_downloads_into_the_library(downloads: Home) -> None:
    film = os.urandom(300_001)
    for name in ("linked", "moved"):
        downloads.has("downloader", home_server.download, f"Downloads/{name}", film)

    def to_library(top: Path) -> None:
        home_server.arr_import(top / "Downloads/linked/film.mkv", top / "Films/One (2024)/One.mkv")
        home_server.arr_move(top / "Downloads/moved/film.mkv", top / "Series/Two/S01/E01.mkv")

    downloads.has("importer", to_library, ".")
    assert downloads.has("player", home_server.scan, "Films") == ["One (2024)/One.mkv"]
    assert downloads.has("player", Path.read_bytes, "Series/Two/S01/E01.mkv") == film
    # The download program goes on to seed, and deletes its name; the library keeps the film.
    assert downloads.has("downloader", Path.read_bytes, "Downloads/linked/film.mkv") == film
    assert downloads.code("downloader", os.listdir, "Films") == "ENOENT"
    downloads.has("downloader", os.unlink, "Downloads/linked/film.mkv")
    assert downloads.has("player", Path.read_bytes, "Films/One (2024)/One.mkv") == film
    assert (downloads.store / "Films/One (2024)/One.mkv").stat().st_nlink == 1
    assert downloads.code("player", os.unlink, "Films/One (2024)/One.mkv") == "EACCES"


@pytest.fixture
def family(mounts: Mounts, empty_store: Path) -> Home:
    made = Home(mounts, empty_store, "two-galleries.yaml", "Photos/Shared", "Home/anna", "Home/ben")
    (empty_store / "Photos/a.jpg").write_bytes(PHOTO)
    (empty_store / "Photos/Shared/b.jpg").write_bytes(PHOTO)
    return made


def _write_sidecar(photo: Path, title: str) -> None:
    """As exiftool-vendored does: into the sidecar, which is made or replaced."""
    sidecar = f"{photo}.xmp"
    made = ["-overwrite_original", sidecar] if os.path.exists(sidecar) else ["-o", sidecar]
    subprocess.run(["exiftool", "-q", f"-XMP-dc:Title={title}", *made], check=True, timeout=30)


def test_originals_stay_and_sidecars_are_edited(family: Home) -> None:
    for app in ("gallery", "editor"):
        for title in ("one", f"two of {app}"):
            family.has(app, _write_sidecar, "Photos/Shared/b.jpg", title)
        assert f"two of {app}" in (family.store / "Photos/Shared/b.jpg.xmp").read_text()
        assert family.code(app, Path.write_bytes, "Photos/Shared/b.jpg", b"x") == "EACCES"
        assert family.code(app, os.unlink, "Photos/Shared/b.jpg") == "EACCES"
        assert family.code(app, os.listdir, "Home") == "ENOENT"
    assert (family.store / "Photos/Shared/b.jpg").read_bytes() == PHOTO


def test_the_gallery_with_links_shows_some_photos_without_places(family: Home) -> None:
    family.has("gallery", _write_sidecar, "Photos/Shared/b.jpg", "one")
    assert family.has("gallery", home_server.scan, "Photos") == ["Shared/b.jpg", "Shared/b.jpg.xmp", "a.jpg"]
    assert family.has("links", home_server.scan, ".") == ["Photos/Shared/b.jpg"]
    shown = family.has("links", Path.read_bytes, "Photos/Shared/b.jpg")
    assert (len(shown), jpegs.leaks(shown)) == (len(PHOTO), [])
    assert family.has("gallery", Path.read_bytes, "Photos/Shared/b.jpg") == PHOTO


def test_each_person_has_a_directory_and_shares_photos(family: Home, mounts: Mounts) -> None:
    mount = mounts.start(POLICIES / "two-galleries.yaml", family.store)
    anna, ben = 1000, 1001
    call_as(anna, Path.write_bytes, mount / "Home/anna/letter.txt", b"x")
    call_as(anna, Path.write_bytes, mount / "Photos/c.jpg", PHOTO)
    assert call_as(ben, os.listdir, mount / "Home") == ["ben"]
    assert call_as(ben, Path.read_bytes, mount / "Photos/c.jpg") == PHOTO
    assert call_as(ben, code_of, os.unlink, mount / "Photos/c.jpg") == "EACCES"
    # Who added a photo gives it to others.
    call_as(anna, os.rename, mount / "Photos/c.jpg", mount / "Photos/Shared/c.jpg")
    assert family.has("links", os.listdir, "Photos/Shared") in (["b.jpg", "c.jpg"], ["c.jpg", "b.jpg"])
    call_as(anna, os.unlink, mount / "Photos/Shared/c.jpg")


def test_a_desktop_program_gets_a_mount_in_place_of_the_home_directory(family: Home, mounts: Mounts) -> None:
    mount = mounts.start(
        POLICIES / "two-galleries.yaml", family.store, "--app", "editor", "--uid", "1000", "--gid", "1000"
    )
    [command] = [block.text for block in blocks(CHECKOUT / "docs/cookbook.md") if block.language == "bash"]
    words = shlex.split(command.replace("\\\n", " ").replace("/run/anna/editor", str(mount.mountpoint)))
    script = "cd /home/anna; echo *; cd Pictures; echo *; echo new >Photos/a.jpg.xmp; ! echo x >Photos/a.jpg"
    said = tool_as(1000, *words, "-c", script, check=True)
    assert said.stdout.split() == [b"Pictures", b"Photos"]
    assert (family.store / "Photos/a.jpg.xmp").read_text() == "new\n"
    assert (family.store / "Photos/a.jpg").read_bytes() == PHOTO

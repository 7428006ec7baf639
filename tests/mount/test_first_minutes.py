"""The first minutes of a newcomer: from a compose file and a library, by the answers to what `policyfs init`
asks, to a gallery that reads photos without their places; and back."""

from __future__ import annotations

import base64
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.linux.immutable import set_immutable
from tests.support.machine.booted import CHECKOUT, POLICYFS, booted
from tests.support.machine.namespace import abort_connection, detach, mounts_below
from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import policyfs_process
from tests.support.samples import jpegs
from tests.unit.test_cli_setup_command import furnish

GALLERY, PLAYER, SYNC = 10021, 10022, 10023
PHOTO = jpegs.with_segments(jpegs.plain(7, 120), jpegs.exif_segment(jpegs.exif()))
MINUTES_S = 300
"""Most that a newcomer's machine may take, however busy."""


@pytest.fixture
def home(arena: Path) -> Iterator[Path]:
    library = furnish(arena)
    (library / "Films/film.mkv").write_bytes(b"film")
    (library / "Photos/library/a.jpg").write_bytes(PHOTO)
    (library / "Photos/library/.immich").write_bytes(b"1")
    library.chmod(0o700)
    yield arena
    for entry in mounts_below(arena):
        abort_connection(entry.device)
        detach(entry.mountpoint)
    for place in (arena / "run/mounts").glob("*/*"):
        set_immutable(str(place), immutable=False)


@pytest.mark.timeout(MINUTES_S)
def test_a_gallery_reads_photos_without_places(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home / "app")
    environment = {
        "POLICYFS_RUNTIME_DIR": f"{home}/run", "POLICYFS_KEY_DIR": f"{home}/keys",
        "POLICYFS_STATE_DIR": f"{home}/state", "POLICYFS_TRAIL_DIR": f"{home}/trail",
        "PYTHONPATH": str(CHECKOUT),
    }  # fmt: skip
    begun = time.monotonic()
    said = policyfs_process("init", "--yes", "--to", f"{home}/etc", environment=environment, deadline_s=250)
    assert said.returncode == 0, said
    print(f"from the compose file to mounts: {time.monotonic() - begun:.1f} s")

    # What the containers see at /data, /media and /data1; each may have any uid.
    names = ("immich-server", "jellyfin", "syncthing")
    data, media, data1 = (home / "run/mounts/media" / name for name in names)
    photo = home / "srv/media/Photos/library/a.jpg"
    for above in (home / "run/mounts", home / "run"):
        above.chmod(0o755)  # as if from within: nobody but root enters it on the machine
    assert jpegs.leaks(photo.read_bytes()) != []
    seen = call_as(GALLERY, (data / "library/a.jpg").read_bytes)
    assert (jpegs.leaks(seen), jpegs.pixels(seen)) == ([], jpegs.pixels(photo.read_bytes()))
    assert call_as(SYNC, (data1 / "Photos/library/a.jpg").read_bytes) == photo.read_bytes()
    assert call_as(PLAYER, os.listdir, media / "films") == ["film.mkv"]
    assert sorted(call_as(PLAYER, os.listdir, media / "library")) == ["Films", "Music"]
    assert call_as(GALLERY, code_of, os.unlink, data / "library/a.jpg") == "EACCES"
    assert call_as(GALLERY, code_of, os.mkdir, data / "upload/mine") == ""
    call_as(GALLERY, (data / "library/.immich").write_bytes, b"2")  # as Immich does at each start
    assert code_of(os.mkdir, data / "encoded-video") == "EPERM", "beside the mount it would end with /run"

    undo = ("init", "--undo", f"{home}/etc/media.init")
    undone = policyfs_process(*undo, environment=environment, deadline_s=250)
    assert undone.returncode == 0, undone
    assert os.listdir(home / "etc") == os.listdir(home / "run/mounts") == []
    assert list(mounts_below(home)) == []
    assert photo.exists()
    assert os.listxattr(photo.with_name(".immich")) == []
    shutil.rmtree(home / "srv")


SETUP = f"""\
mkdir -p /srv/media/Photos /srv/media/Films /etc/policyfs
chmod 700 /srv/media
echo {base64.b64encode(PHOTO).decode()} | base64 -d >/srv/media/Photos/a.jpg
echo film >/srv/media/Films/film.mkv
echo 'jellyfin:x:970:970::/:/bin/sh' >>/etc/passwd
echo 'jellyfin:x:970:' >>/etc/group
cd /etc/systemd/system
printf '[Service]\\nUser=jellyfin\\nExecStart=/usr/bin/sleep infinity\\n' >jellyfin.service
"""


@pytest.mark.soak
@pytest.mark.timeout(MINUTES_S)
def test_a_service_of_systemd_finds_its_mount_at_the_path_of_the_library(tmp_path: Path) -> None:
    setup = tmp_path / "setup"
    setup.write_text(SETUP)
    with booted(tmp_path, setup) as machine:
        print(machine(str(POLICYFS), "init", "--yes", "/srv/media"))
        machine("systemctl", "start", "jellyfin.service")
        seen = f"/proc/{machine.main_pid('jellyfin.service')}/root/srv/media"
        assert machine("ls", f"{seen}/Films", seen).split() == [
            f"{seen}:", "Films", "Photos", f"{seen}/Films:", "film.mkv",
        ]  # fmt: skip
        shown = base64.b64decode(machine("base64", f"{seen}/Photos/a.jpg"))
        assert (jpegs.leaks(shown), jpegs.pixels(shown)) == ([], jpegs.pixels(PHOTO))
        beside = "/run/policyfs/mounts/media/jellyfin/new"
        assert "Operation not permitted" in machine("mkdir", beside, check=False)
        print(machine(str(POLICYFS), "init", "--undo", "/etc/policyfs/media.init"))
        places = ("/etc/policyfs", "/etc/systemd/system", "/run/policyfs/mounts")
        left = machine("find", *places, "-name", "*media*")
        assert left == ""
        assert machine.state("jellyfin.service") == "inactive"

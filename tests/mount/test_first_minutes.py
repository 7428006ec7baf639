"""The first minutes of a newcomer: from a compose file and a library, by `policyfs init`, to programs that
have what they had, through mounts; and back."""

from __future__ import annotations

import base64
import errno
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from policyfs.linux.immutable import set_immutable
from tests.support.machine.booted import CHECKOUT, POLICYFS, Booted, booted
from tests.support.machine.namespace import abort_connection, detach, mounts_below
from tests.support.machine.processes import call_as, code_of, wait_for
from tests.support.mount.daemons import policyfs_process
from tests.support.samples import jpegs
from tests.unit.test_cli_setup_command import furnish

OTHER = 10022
MUSIC = "Müsik, alt"
PHOTO = jpegs.with_segments(jpegs.plain(7, 120), jpegs.exif_segment(jpegs.exif()))
PUID = 1000
MINUTES_S = 300
"""Most that a newcomer's machine may take, however busy."""




@pytest.fixture
def home(arena: Path) -> Iterator[Path]:
    library = furnish(arena)
    for owner, name in ((0, "root"), (PUID, "own"), (OTHER, "other")):
        for directory in ("Films", MUSIC, "Photos", "Photos/upload"):
            for mode in (0o644, 0o600):
                path = library / directory / f"{name}-{mode:o}"
                path.write_bytes(PHOTO)
                path.chmod(mode)
                os.chown(path, owner, owner)
    for name in ("Photos", "Photos/upload", "Films"):
        os.chown(library / name, PUID, PUID)
    shutil.copytree(arena / "srv", arena / "native", symlinks=True)
    tree = [path.relative_to(arena / "srv") for path in (arena / "srv").rglob("*")]
    for path in tree:  # copytree keeps no owners
        found = (arena / "srv" / path).lstat()
        os.chown(arena / "native" / path, found.st_uid, found.st_gid)
    yield arena
    for entry in mounts_below(arena):
        abort_connection(entry.device)
        detach(entry.mountpoint)
    for place in [arena / "run/mounts", *(arena / "run/mounts").rglob("*")]:
        if place.is_dir():
            set_immutable(str(place), immutable=False)


def calls(top: Path, uid: int) -> Iterator[tuple[str, object]]:
    """Make the calls of programs with the files of a library, and yield what each of them got."""

    def called(name: str, function: Callable[..., object], *arguments: object) -> tuple[str, object]:
        try:
            found = function(*arguments)
        except OSError as error:
            return name, errno.errorcode[error.errno or 0]
        return name, found if isinstance(found, bytes | list) else None

    def written(path: Path, flags: int) -> None:
        fd = os.open(path, os.O_WRONLY | flags, 0o640)
        os.write(fd, b"text")
        os.close(fd)

    def moved(old: Path, new: Path) -> None:
        os.rename(old, new)
        os.rename(new, old)

    yield called("list", lambda: sorted(os.listdir(top)))
    for path in sorted(top.glob("*-6*")):
        name = path.name
        yield called(f"read {name}", path.read_bytes)
        yield called(f"append {name}", written, path, os.O_APPEND)
        yield called(f"chmod {name}", path.chmod, 0o664)
        yield called(f"utime {name}", os.utime, path, (1, 1))
        yield called(f"chown {name}", os.chown, path, uid, OTHER)
        yield called(f"xattr {name}", os.setxattr, path, "user.note", b"1")
        yield called(f"link {name}", os.link, path, top / f"linked-{uid}-{name}")
        yield called(f"move {name}", moved, path, top / f"moved-{uid}-{name}")
        yield called(f"unlink {name}", os.unlink, path)
    yield called("create", written, top / f"new-{uid}", os.O_CREAT | os.O_EXCL)
    yield called("mkdir", os.mkdir, top / f"made-{uid}")
    yield called("create in it", written, top / f"made-{uid}/new", os.O_CREAT)
    yield called("symlink", os.symlink, "new", top / f"link-{uid}")
    yield called("fifo", os.mkfifo, top / f"fifo-{uid}")
    yield called("rmdir", os.rmdir, top / f"made-{uid}")


def sorted_in(top: Path) -> Iterator[str]:
    """Sort a download into a library, as programs do: by a hard link, which is renamed."""
    new, linked = top / "Photos/new", top / "Films/new"
    new.write_bytes(b"film")
    yield code_of(os.link, new, linked)
    yield code_of(os.rename, linked, top / MUSIC / "new")
    yield code_of(os.rename, new, top / "Films/again")
    season = top / "Photos/season"
    season.mkdir()
    with (season / "one").open("wb") as file:
        file.write(b"film")
        yield code_of(os.rename, season, top / "Films/season")
        file.write(b"more")
    yield code_of((top / "Films/season/two").write_bytes, b"2")
    yield str(sorted(os.listdir(top / "Films/season")))
    yield str((top / "Films/season/one").read_bytes())
    yield code_of(os.stat, season)


def state(top: Path) -> dict[str, object]:
    """The files of a library, with owners, modes and links."""
    return {
        str(path.relative_to(top)): (found.st_mode, found.st_uid, found.st_gid, found.st_nlink)
        for path in sorted(top.rglob("*"))
        for found in (path.lstat(),)
    }


@pytest.mark.timeout(MINUTES_S)
def test_each_container_has_what_it_had(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of its paths, as its own user and as root: the same answers as from the library itself."""
    monkeypatch.chdir(home / "app")
    environment = {
        "POLICYFS_RUNTIME_DIR": f"{home}/run", "POLICYFS_KEY_DIR": f"{home}/keys",
        "POLICYFS_STATE_DIR": f"{home}/state", "POLICYFS_TRAIL_DIR": f"{home}/trail",
        "PYTHONPATH": str(CHECKOUT),
    }  # fmt: skip
    begun = time.monotonic()
    said = policyfs_process("init", "--yes", "--to", f"{home}/etc", environment=environment, deadline_s=250)
    assert said.returncode == 0, said
    assert " services, nothing restricted yet; on " in said.stdout.splitlines()[-1]
    print(f"from the compose file to mounts: {time.monotonic() - begun:.1f} s")

    for above in (home / "run/mounts", home / "run"):
        above.chmod(0o755)  # as if from within: nobody but root enters it on the machine
    volumes = YAML(typ="safe").load((home / "app/docker-compose.override.yml").read_text())["services"]
    binds = {one["target"]: one for its in volumes.values() for one in its["volumes"]}
    for target, below in (
        ("/media/films", "Films"), ("/media/music", MUSIC), ("/data", "Photos"),
        ("/data1", "Photos/upload"),
    ):  # fmt: skip
        native, mounted = home / "native/media" / below, Path(binds[target]["source"])
        mounted /= below if target == "/data1" else ""
        if binds[target].get("read_only"):
            bind_read_only(native)
        for uid in (PUID, OTHER, 0):
            answers, wanted = (call_as(uid, lambda top, uid: list(calls(top, uid)), top, uid)
                               for top in (mounted, native))  # fmt: skip
            assert dict(answers) == dict(wanted), (target, uid)
    for entry in mounts_below(home / "native"):
        detach(entry.mountpoint)
    # To where other programs have more rights.
    tops = Path(binds["/data1"]["source"]), home / "native/media"
    found = [call_as(0, lambda top: list(sorted_in(top)), top) for top in tops]
    assert found[0] == found[1]
    seen = Path(binds["/media/films"]["source"]) / "season/one"
    assert call_as(OTHER, seen.read_bytes) == b"filmmore", "another program, in its mount"
    assert state(home / "srv/media") == state(home / "native/media")

    # A volume that comes later.
    compose = home / "app/compose.yaml"
    more = f":/media/music:ro\n      - {home}/srv/media/Photos:/p\n"
    compose.write_text(compose.read_text().replace(":/media/music:ro\n", more))
    again = policyfs_process("init", "--yes", "--to", f"{home}/etc", environment=environment, deadline_s=250)
    assert (again.returncode, "/media/music (read only), /p\n" in again.stdout) == (0, True), again
    volumes = YAML(typ="safe").load((home / "app/docker-compose.override.yml").read_text())["services"]
    (place,) = (one["source"] for one in volumes["jellyfin"]["volumes"] if one["target"] == "/p")
    assert sorted(call_as(PUID, os.listdir, place)) == sorted(os.listdir(home / "srv/media/Photos"))

    undo = ("init", "--undo", f"{home}/etc/media.init")
    undone = policyfs_process(*undo, environment=environment, deadline_s=250)
    assert undone.returncode == 0, undone
    assert os.listdir(home / "etc") == os.listdir(home / "run/mounts") == []
    assert sorted(os.listdir(home / "app")) == [".env", "compose.yaml"]
    assert [entry.mountpoint for entry in mounts_below(home / "run")] == []
    shutil.rmtree(home / "srv")


def bind_read_only(path: Path) -> None:
    for options in (["--bind", str(path), str(path)], ["-o", "remount,bind,ro", str(path)]):
        subprocess.run(["mount", *options], check=True)


SETUP = f"""\
mkdir -p /srv/media/Photos /srv/media/Films /srv/films/New /srv/music/Old /etc/policyfs
echo {base64.b64encode(PHOTO).decode()} | base64 -d >/srv/media/Photos/a.jpg
echo film >/srv/media/Films/film.mkv
echo film >/srv/films/New/film.mkv
echo song >/srv/music/Old/song
echo 'jellyfin:x:970:970::/:/bin/sh' >>/etc/passwd
echo 'jellyfin:x:970:' >>/etc/group
chown jellyfin /srv/media/Films
chmod 600 /srv/media/Photos/a.jpg
cd /etc/systemd/system
for name in jellyfin navidrome; do
    printf '[Service]\\nUser=jellyfin\\nExecStart=/usr/bin/sleep infinity\\n' >$name.service
done
"""


class Machine:
    """A machine with three libraries."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine

    def __call__(self, *words: str, check: bool = True) -> str:
        return self.machine(str(POLICYFS), *words, check=check)

    def finds(self, unit: str = "jellyfin.service") -> list[str]:
        """The libraries that a service has, through their mounts."""
        pid = self.machine.main_pid(unit)
        table = self.machine("cat", f"/proc/{pid}/mountinfo") if pid else ""
        return [
            name
            for name in ("films", "media", "music")
            if re.search(rf" /srv/{name} .* fuse.policyfs ", table)
            and self.machine("ls", f"/proc/{pid}/root/srv/{name}", check=False).split()[:1]
            in (["Films"], ["New"], ["Old"])
        ]

    def up(self) -> list[str]:
        """The libraries of which a mount answers."""
        found = self("status", check=False)
        return sorted(set(re.findall(r"^/run/policyfs/mounts/(\w+)/", found, re.MULTILINE)))


@pytest.mark.soak
@pytest.mark.timeout(MINUTES_S)
def test_three_libraries_of_a_machine_leave_each_other(tmp_path: Path) -> None:
    """Of services that use all of them: each command for one library changes nothing of the others."""
    setup = tmp_path / "setup"
    setup.write_text(SETUP)
    with booted(tmp_path, setup) as machine:
        home = Machine(machine)
        for name in ("media", "films", "music"):
            print(home("init", "--yes", f"/srv/{name}"))
        named = re.findall(r"service: .*", machine("cat", "/etc/policyfs/music.site.yaml"))
        assert "policyfs-" not in "".join(named)
        machine("systemctl", "start", "jellyfin.service", "navidrome.service")
        assert home.finds() == home.finds("navidrome.service") == home.up() == ["films", "media", "music"]
        seen = f"/proc/{machine.main_pid('jellyfin.service')}/root/srv/media"
        as_user = ("setpriv", "--reuid=970", "--regid=970", "--clear-groups")
        assert "Permission denied" in machine(*as_user, "cat", f"{seen}/Photos/a.jpg", check=False)
        machine(*as_user, "touch", f"{seen}/Films/new")
        assert "Permission denied" in machine(*as_user, "touch", f"{seen}/Photos/new", check=False)
        beside = "/run/policyfs/mounts/media/jellyfin/new"
        assert "Operation not permitted" in machine("mkdir", beside, check=False)

        services = ("jellyfin.service", "navidrome.service")
        home("unit", "/etc/policyfs/films.site.yaml")
        home("up", "/etc/policyfs/films.site.yaml")
        assert "units run mounts" in home("down", "/etc/policyfs/films.site.yaml", check=False)
        machine("systemctl", "daemon-reload")
        assert home.finds() == home.up() == ["films", "media", "music"]
        machine("systemctl", "stop", "policyfs-films.target")
        wait_for(lambda: home.up() == ["media", "music"], "the mounts of one library have ended", MINUTES_S)
        states = {machine.state(f"policyfs-{name}-jellyfin.service") for name in ("media", "music")}
        assert states == {"active"}
        machine("systemctl", "start", "policyfs-films.target", *services)
        assert home.finds() == home.up() == ["films", "media", "music"]

        # A drop-in of older code goes with an upgrade; then the stop of one library ends no mount of another.
        wrong = "/etc/systemd/system/policyfs-media-jellyfin.service.d"
        machine("mkdir", wrong)
        machine("cp", "/etc/systemd/system/jellyfin.service.d/policyfs-music.conf", wrong)
        machine("systemctl", "daemon-reload")
        python = str(CHECKOUT / ".venv/bin/python")
        assert "removed" in machine(python, "-m", "policyfs.cli.running.unit_upgrade")
        print(home("init", "--undo", "/etc/policyfs/music.init"))
        assert home.up() == ["films", "media"]
        machine("systemctl", "start", *services)
        assert home.finds() == ["films", "media"]

        renamed = "s/^name: films/name: cinema/"
        machine("sed", "-i", renamed, "/etc/policyfs/films.site.yaml")
        print(home("unit", "/etc/policyfs/films.site.yaml"))
        machine("systemctl", "daemon-reload")
        assert machine.state("policyfs-media-jellyfin.service") == "active"
        print(home("init", "--undo", "/etc/policyfs/media.init"))
        places = ("/etc/policyfs", "/etc/systemd/system", "/run/policyfs/mounts")
        assert machine("find", *places, "-name", "*media*") == ""
        assert machine.state("jellyfin.service") == "inactive"

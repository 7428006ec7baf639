"""`policyfs init`: what it writes is fine in the eyes of lint, test and compose, and undone by its list."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from policyfs.cli.policy.init.questions import Questions
from policyfs.cli.setup import command
from policyfs.linux import interpreter
from tests.support.mount.daemons import Said, policyfs
from tests.unit.test_cli_machine_running_containers import inspected, manager

pytestmark = pytest.mark.usefixtures("forked_launchers")
COMPOSE = """\
x-common: &common
  restart: unless-stopped
services:
  immich-server:
    <<: *common
    image: ghcr.io/immich-app/immich-server:${IMMICH_VERSION:-release}
    volumes:
      - ${UPLOAD_LOCATION}:/data
      - /etc/localtime:/etc/localtime:ro
    env_file: [.env]
  database:
    image: postgres
    volumes: ["${DB_DATA_LOCATION}:/var/lib/postgresql/data"]
  jellyfin:
    <<: *common
    image: jellyfin/jellyfin
    user: 1000:1000
    volumes:
      - ./jellyfin:/config
      - type: bind
        source: LIBRARY/Films
        target: /media/films
        read_only: true
      - LIBRARY/Music:/media/music:ro
  syncthing:
    image: lscr.io/linuxserver/syncthing
    environment: [PUID=1000, PGID=1000, UMASK=022]
    volumes: ["syncthing:/config", "LIBRARY:/data1"]
    ports: ["8384:8384", "22000:22000/udp"]
volumes: {syncthing: }
"""
ENV = "# Immich's files\nUPLOAD_LOCATION=LIBRARY/Photos\nDB_DATA_LOCATION=./postgres\n"
"""A compose file and its .env, as their users write them."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a library, a compose file and its variables."""
    library = furnish(tmp_path)
    (library / "Films/film.mkv").write_bytes(b"")
    monkeypatch.chdir(tmp_path / "app")
    monkeypatch.setattr(command, "likely_units", list)
    monkeypatch.setattr(interpreter, "PATH", str(tmp_path / "bin"))  # without this machine's containers
    return tmp_path


def furnish(place: Path) -> Path:
    """Make a library, and beside it a compose file of its users. Return the library."""
    library = place / "srv/media"
    for name in ("Films", "Music", "Photos/library", "Photos/upload"):
        (library / name).mkdir(parents=True)
    (place / "app").mkdir()
    (place / "app/compose.yaml").write_text(COMPOSE.replace("LIBRARY", str(library)))
    (place / "app/.env").write_text(ENV.replace("LIBRARY", str(library)))
    return library


def init(place: Path, monkeypatch: pytest.MonkeyPatch, *answers: str, words: Sequence[str] = ()) -> Said:
    read, write = os.pipe()
    os.write(write, "".join(f"{answer}\n" for answer in answers).encode())
    os.close(write)
    with os.fdopen(read) as stream:
        monkeypatch.setattr(command, "Questions", lambda: Questions(None, stream))
        return policyfs("init", "--to", str(place / "etc"), *words)


def test_from_a_compose_file_to_a_policy_without_findings(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only what differs from the proposals is answered: Jellyfin sees no music; nothing is mounted."""
    mark = place / "srv/media/Photos/library/.immich"
    mark.write_text("1")
    said = init(place, monkeypatch, "", "", "no", "read", "Films", "", "", "no")
    assert said.returncode == 0, said
    owner = f"policyfs owner set {place}/srv/media immich-server /Photos/library/.immich"
    assert f"next: {owner}\n" in said.stdout
    assert f"Which directory is the library ({place}/srv/media): " in said.stderr
    etc = place / "etc"
    assert f"next: policyfs up {etc}/media.site.yaml" in said.stdout
    assert "/Films/***" in said.stdout, "the matrix"
    names = ["media.compose.yaml", "media.init", "media.site.yaml", "media.test.yaml", "media.yaml"]
    assert sorted(os.listdir(etc)) == names
    assert 'paths: ["/Films/***"]' in (etc / "media.yaml").read_text()
    for words in (("lint", "--store", f"{place}/srv/media"), ("test",)):
        done = policyfs("policy", words[0], etc / "media.yaml", *words[1:])
        assert (done.returncode, done.stderr) == (0, ""), done
    merged = (etc / "media.compose.yaml").read_text()
    assert merged.count("volumes: !override") == 3
    assert all(kept in merged for kept in ("- ./jellyfin:/config\n", "- syncthing:/config\n"))
    # What docker makes of both files: each list of volumes is the second one's.
    (place / "app/both.yaml").write_text(merged.replace("!override", ""))
    done = policyfs("compose", etc / "media.site.yaml", place / "app/both.yaml")
    assert done.returncode == 0, done

    head = (etc / "media.yaml").read_text().split("apiVersion")[0]
    assert head.endswith(f"#   policyfs up {etc}/media.site.yaml\n")
    assert "is a user of this machine" not in (etc / "media.yaml").read_text(), "no app of these is one"

    again = init(place, monkeypatch, "")  # the questions about each program would be answered for nothing
    assert again.returncode == 1
    there = f"{etc}/media.yaml is there already, and is not overwritten"
    assert f"{there}: policyfs init --undo {etc}/media.init, or choose another --to" in again.stderr
    with (etc / "media.yaml").open("a") as file:
        file.write("# mine\n")
    undone = policyfs("init", "--undo", etc / "media.init")
    assert (undone.returncode, f"kept {etc}/media.yaml: it was changed" in undone.stdout) == (1, True), undone
    assert os.listdir(etc) == ["media.yaml"]


def test_a_library_that_nothing_uses_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "app/compose.yaml").write_text("services: {app: {image: x}}")
    said = init(place, monkeypatch, str(place / "srv/media"), "-")
    assert said.returncode == 2, said
    assert "no service or container uses" in said.stderr
    (place / "empty").mkdir()
    assert "has no directories to share" in init(place, monkeypatch, str(place / "empty")).stderr
    assert not (place / "etc").exists()
    (place / "app/compose.yaml").write_text(f"services: {{mpd: {{volumes: ['{place}/srv/media:/media']}}}}")
    said = init(place, monkeypatch, "")
    assert "the input ended before the last answer" in said.stderr
    monkeypatch.setattr(command, "likely_units", lambda: ["mpd.service"])
    said = init(place, monkeypatch, "", "", "", "")
    assert (said.returncode, "mpd-2" in said.stdout) == (0, True), said
    assert policyfs("init", "--undo", place / "etc/media.init").returncode == 0
    monkeypatch.setattr(command, "likely_units", list)
    (place / "app/compose.yaml").unlink()
    said = init(place, monkeypatch, str(place / "srv/media"), "mpd, radio.service", "", "", "no")
    assert said.returncode == 0, said
    assert 'service: "radio.service"' in (place / "etc/media.site.yaml").read_text()


def test_running_containers_give_the_compose_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manager is a script with the JSON of Docker; tests/mount/test_containers.py has the real ones."""
    monkeypatch.chdir(place)
    library, compose = str(place / "srv/media"), place / "app/compose.yaml"
    app = {"files": "compose.yaml", "above": str(place / "app")}
    server, player = (inspected(name, f"{library}/{of}", **app) for name, of in
                      (("immich-server", "Photos"), ("jellyfin", "Films")))  # fmt: skip
    manager(place / "bin", "docker", server, player, inspected("stray\x1b", str(place / "srv")))
    (place / "other.yaml").touch()
    for more in ([], [library]):
        other = inspected("web", *more or ["/var/www"], files=f"{place}/other.yaml")
        manager(place / "bin", "podman", other)
        said = policyfs("init", "--yes", "--to", place / "etc", *more)
        assert said.returncode == 2, "none of several is chosen"
        assert (
            f"choose one compose file with --compose{'' if more else ', or name the library'}: "
            in said.stderr
        )
        assert f"{compose}, from which containers run: immich-server, jellyfin; " in said.stderr
        assert f"{place}/other.yaml, from which containers run: web" in said.stderr
    manager(place / "bin", "podman", inspected("web", "/var/www", files=f"{place}/other.yaml"))

    stray = f"note: the container stray\\x1b of docker has {place}/srv: it still reaches the library directly"
    for words in (["--compose", str(compose), library], [library]):
        said = init(place, monkeypatch, *["", "", "", "no"], words=words)
        assert said.returncode == 0, said
        reading = f"reading {compose}, from which containers run: immich-server, jellyfin\n"
        assert (reading in said.stderr) == (words == [library]), said
        assert said.stderr.count("it still reaches the library directly") == said.stderr.count(stray) == 1
        assert policyfs("init", "--undo", place / "etc/media.init").returncode == 0

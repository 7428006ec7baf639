"""`policyfs init`: what it writes is fine in the eyes of lint, test and compose, and undone by its list."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from policyfs.cli.setup import command
from policyfs.cli.setup.library_users import User
from policyfs.cli.setup.questions import Questions
from policyfs.cli.site.site_document import read_site
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
      - LIBRARY/Müsik, alt:/media/music:ro
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
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "run"))  # and sites, which take names
    monkeypatch.setattr(command, "_mount", lambda _: pytest.fail("an answer too few or too many: it mounts"))
    return tmp_path


def furnish(place: Path) -> Path:
    """Make a library, and beside it a compose file of its users. Return the library."""
    library = place / "srv/media"
    for name in ("Films", "Müsik, alt", "Photos/library", "Photos/upload"):
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
    """Each service gets what it had: nothing is mounted, but the next `docker compose up` has the volumes."""
    said = init(place, monkeypatch, "", "", "", "no")
    assert (said.returncode, "nothing was written" in said.stdout) == (0, True), said
    assert not (place / "etc").exists()
    said = init(place, monkeypatch, "", "", "", "files")
    assert said.returncode == 0, said
    assert f"Which directory is the library ({place}/srv/media): jellyfin shows" in said.stderr
    assert "Hide from it where photos and films of others were taken (no): syncthing changes" in said.stderr
    assert "jellyfin: as before, at /media/films (read only), /media/music (read only)\n" in said.stdout
    etc, own = place / "etc", place / "app/docker-compose.override.yml"
    assert f"next: policyfs up {etc}/media.site.yaml" in said.stdout
    assert f"next: cd {place}/app && docker compose up -d\n" in said.stdout
    last = said.stdout.splitlines()[-1]
    assert last.startswith("as before: 3 services, nothing restricted yet; on 20")
    assert f"`policyfs tighten {etc}/media.site.yaml`" in last
    assert "/Films/***" in said.stdout, "the matrix"
    assert sorted(os.listdir(etc)) == ["media.init", "media.site.yaml", "media.test.yaml", "media.yaml"]
    for words in (("lint", "--store", f"{place}/srv/media"), ("test",)):
        done = policyfs("policy", words[0], etc / "media.yaml", *words[1:])
        assert (done.returncode, done.stderr) == (0, ""), done
    volumes = YAML(typ="safe").load(own.read_text())["services"]
    assert {name: [(one["target"], "read_only" in one) for one in its["volumes"]]
            for name, its in volumes.items()} == {
        "immich-server": [("/data", False)], "syncthing": [("/data1", False)],
        "jellyfin": [("/media/films", True), ("/media/music", True)],
    }  # fmt: skip
    assert own.stat().st_mode & 0o777 == 0o644

    again = init(place, monkeypatch, "")
    told = f"nothing is new for {etc}/media.site.yaml\n"
    assert (again.returncode, told in again.stdout) == (0, True), again
    with (etc / "media.yaml").open("a") as file:
        file.write("# mine\n")
    (copy := etc / "media.yaml.20260301T080000").touch()  # as `policyfs tighten` keeps it
    undone = policyfs("init", "--undo", etc / "media.init")
    assert (undone.returncode, f"kept {etc}/media.yaml: it was changed" in undone.stdout) == (1, True), undone
    assert f"so it is yours; rm {etc}/media.yaml {copy} removes it and its old copies\n" in undone.stdout
    assert undone.stdout.splitlines()[-1] == f"next: in {place}/app, docker compose up -d"
    assert (sorted(os.listdir(etc)), own.exists()) == (["media.yaml", copy.name], False)
    said = init(place, monkeypatch, "")
    there = f"{etc}/media.yaml is there already, and is not overwritten: choose another --to"
    assert (said.returncode, there in said.stderr) == (1, True), said


def test_what_comes_later_joins_and_what_was_written_stays(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose, etc, library = place / "app/compose.yaml", place / "etc", place / "srv/media"
    before = (place / "app/.env").read_text()
    (place / "app/compose.override.yml").write_text("services: {jellyfin: {restart: always}}")
    assert init(place, monkeypatch, "", "", "", "files").returncode == 0
    line = "COMPOSE_FILE=compose.yaml:compose.override.yml:policyfs-media.yml\n"
    assert (place / "app/.env").read_text() == before + line
    rule = '  - {id: mine, deny: [read], who: {app: jellyfin}, paths: ["/Films/old/**"]}  # mine'
    policy, site = etc / "media.yaml", etc / "media.site.yaml"
    policy.write_text(policy.read_text().replace("rules:\n", f"rules:\n{rule}\n"))
    (library / "Bücher, neu").mkdir()
    compose.write_text(
        compose.read_text()
        .replace("volumes: {syncthing: }", f"  kavita: {{volumes: ['{library}/Bücher, neu:/books']}}")
        .replace("/media/music:ro\n", f"/media/music:ro\n      - {library}/Photos:/photos:ro\n")
    )
    said = init(place, monkeypatch, "", "files")
    assert said.returncode == 0, said
    assert "/media/music (read only), /photos (read only)\n" in said.stdout
    assert "immich" not in said.stdout.split("files: ")[0].split("jellyfin: as before")[1]
    assert "as before: 3 services, 1 restricted; " in said.stdout.splitlines()[-1]
    text = policy.read_text()
    assert rule in text
    assert (text.count("- id: jellyfin.reads"), "- id: jellyfin.reads-2\n" in text) == (2, True)
    assert '"/books": "/Bücher, neu"' in site.read_text()
    for words in (("lint",), ("test",)):
        done = policyfs("policy", words[0], policy)
        assert (done.returncode, done.stderr) == (0, ""), done
    assert "target: /photos" in (place / "app/policyfs-media.yml").read_text()
    assert f"nothing is new for {site}" in init(place, monkeypatch, "").stdout
    site.write_text(site.read_text().replace("\nmounts:\n", "\nmounts:  # all\n"))
    compose.write_text(compose.read_text() + f"  emby: {{volumes: ['{library}/Films:/f']}}\n")
    said = init(place, monkeypatch, "")
    assert (said.returncode, "no line is 'mounts:'; nothing was written. Add by hand:\n  - app: emby" in
            said.stderr) == (1, True), said  # fmt: skip
    undone = policyfs("init", "--undo", etc / "media.init")
    assert undone.returncode == 1, undone
    assert sorted(os.listdir(etc)) == ["media.site.yaml", "media.yaml"]
    assert (place / "app/.env").read_text() == before


def test_libraries_with_one_name_get_sites_of_their_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that has files alone, and one whose service cannot enter it."""
    other = place / "mnt/media"
    other.mkdir(parents=True)
    (other / "a film").touch()
    compose = place / "app/compose.yaml"
    compose.write_text(
        compose.read_text().replace(
            "services:\n",
            f"""services:
  emby: {{volumes: ['{other}:/films']}}
""",
        )
    )
    assert init(place, monkeypatch, "", "", "files", words=[str(place / "srv/media")]).returncode == 0
    said = init(place, monkeypatch, "files", words=[str(other)])
    assert said.returncode == 0, said
    sites = [read_site(str(path)) for path in sorted((place / "etc").glob("*.site.yaml"))]
    assert [(site.name, site.store) for site in sites] == [
        ("media-2", str(other)), ("media", str(place / "srv/media")),
    ]  # fmt: skip
    assert sorted(path.name for path in (place / "app").glob("*.yml")) == [
        "docker-compose.override.yml", "policyfs-media-2.yml",
    ]  # fmt: skip
    assert policyfs("init", "--undo", place / "etc/media.init").returncode == 0
    line = "COMPOSE_FILE=compose.yaml:policyfs-media-2.yml\n"
    assert (place / "app/.env").read_text().endswith(line), "without the file that is gone"
    bound = User("mpd", unit="mpd.service", bound=["/music"])
    assert "edit --full mpd.service: its unit binds /music itself" in next(command._next([bound], None))
    monkeypatch.setattr(command, "of_unit", lambda name, _: User(name, unit=name))
    monkeypatch.setattr(command, "likely_units", lambda: ["mpd.service"])
    said = init(place, monkeypatch, "", "files", words=["--to", str(place / "more"), str(other)])
    assert f"mpd.service cannot enter {other}: it gets nothing" in said.stderr
    assert "mpd.service is not on this machine: a typing error?" in said.stderr


def test_answers_narrow_what_known_programs_may_do(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compose, policy = place / "app/compose.yaml", place / "etc/media.yaml"
    said = init(place, monkeypatch, "", "yes", "", "yes", "files")  # no places for Jellyfin; a brake
    assert said.returncode == 0, said
    assert "jellyfin: reads /Films, /Müsik, alt, without places, at /media/films" in said.stdout
    assert "own: files that the app owns" not in said.stdout, "a matrix with a condition in each cell"
    assert said.stdout.splitlines()[-1].startswith("as before: 1 service, 2 restricted")
    text = policy.read_text()
    assert "require: {redact: [location]}\n    who: {app: jellyfin}\n" in text
    assert 'path: "/**/*.{nfo,' in text
    assert "limit: {changes: 200, within: 10m}\n    who: {app: syncthing}\n" in text
    assert "require: {keep: 30d}\n    who: {app: syncthing}\n" in text
    told = "syncthing: as before; stopped after 200 changes in 10m, losses kept 30d, at /data1\n"
    assert told in said.stdout
    sonarr = (
        f"  sonarr:\n    image: lscr.io/linuxserver/sonarr\n    volumes: ['{place}/srv/media/Films:/tv']\n"
    )
    compose.write_text(compose.read_text().replace("volumes: {syncthing: }", sonarr))
    said = init(place, monkeypatch, "", "yes", "files")  # Sonarr keeps what others make; no other is asked
    assert said.returncode == 0, said
    assert "sonarr: reads /Films; keeps what others make, and adds files, in /Films, at /tv\n" in said.stdout
    compose.write_text(
        compose.read_text().replace("Films:/tv']", f"Films:/tv', '{place}/srv/media/Photos:/m']")
    )
    said = init(place, monkeypatch, "", "files")
    assert said.returncode == 0, said
    assert re.search(r"id: sonarr.own-2\n +allow: \[create, write, delete, attr\].*", policy.read_text())
    for words in (("lint",), ("test",)):
        done = policyfs("policy", words[0], policy)
        assert (done.returncode, done.stderr) == (0, ""), done


@pytest.mark.parametrize("is_changed", [False, True])
def test_a_site_of_an_older_version_goes_by_a_word(
    place: Path, monkeypatch: pytest.MonkeyPatch, is_changed: bool
) -> None:
    assert init(place, monkeypatch, "", "", "", "files").returncode == 0
    etc = place / "etc"
    site, listed = etc / "media.site.yaml", etc / "media.init"
    head, _, tail = site.read_text().partition("    targets:\n")
    site.write_text(head + "    path: /data/media\n" + tail.partition("\n")[2])
    if not is_changed:  # as if it had made this
        made = json.loads(listed.read_text())
        made["files"][str(site)] = sha256(site.read_bytes()).hexdigest()
        listed.write_text(json.dumps(made))
    said = init(place, monkeypatch, "", "no")
    told = "An older version has given immich-server other paths and rights than before. Undo that (as b"
    assert (said.returncode, told in said.stderr, "nothing is new" in said.stdout) == (0, True, True), said
    said = init(place, monkeypatch, "", "as before", "", "", "files")
    if is_changed:
        assert (said.returncode, "move the files that were kept" in said.stderr) == (1, True), said
        assert os.listdir(etc) == ["media.site.yaml"]
        return
    assert said.returncode == 0, said
    assert all(mount.targets for mount in read_site(str(site)).mounts)
    assert "as before: 3 services, nothing restricted yet" in said.stdout


def test_a_library_that_nothing_uses_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "app/compose.yaml").write_text("services: {app: {image: x}}")
    for none in ("-", "no", "None"):
        said = init(place, monkeypatch, str(place / "srv/media"), none)
        assert said.returncode == 2, said
        assert "no service or container uses" in said.stderr
    assert "is no directory: name" in init(place, monkeypatch, str(place / "absent")).stderr
    assert not (place / "etc").exists()
    (place / "app/compose.yaml").write_text(f"services: {{mpd: {{volumes: ['{place}/srv/media:/media']}}}}")
    said = init(place, monkeypatch, "")
    assert "the input ended before the last answer" in said.stderr
    monkeypatch.setattr(command, "likely_units", lambda: ["mpd.service"])
    said = init(place, monkeypatch, "", "", "files")
    assert (said.returncode, "mpd-2" in said.stdout) == (0, True), said
    assert policyfs("init", "--undo", place / "etc/media.init").returncode == 0
    monkeypatch.setattr(command, "likely_units", list)
    (place / "app/compose.yaml").unlink()
    said = init(place, monkeypatch, str(place / "srv/media"), "mpd, radio.service", "files")
    assert said.returncode == 0, said
    assert "next: systemctl restart mpd.service radio.service\n" in said.stdout
    assert 'service: "radio.service"' in (place / "etc/media.site.yaml").read_text()


def test_the_project_of_containers_has_its_directory_and_variables(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`docker compose --project-directory DIRECTORY --env-file FILE -f FILE up` was read as without both."""
    monkeypatch.chdir(place)
    (place / "more/compose.yaml").parent.mkdir()
    (place / "more/compose.yaml").write_text("services: {tv: {volumes: ['./media/$KIND:/media:ro']}}")
    (place / "kind.env").write_text("KIND=Films")
    tv = inspected(
        "tv", f"{place}/srv/media/Films", files=f"{place}/more/compose.yaml", above=f"{place}/srv",
        env=f"{place}/kind.env",
    )  # fmt: skip
    manager(place / "bin", "docker", tv)
    said = init(place, monkeypatch, "files", words=[f"{place}/srv/media"])
    assert (said.returncode, "tv: as before, at /media (read only)" in said.stdout) == (0, True), said


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
        said = init(place, monkeypatch, "", "", "files", words=words)
        assert said.returncode == 0, said
        reading = f"reading {compose}, from which containers run: immich-server, jellyfin\n"
        assert (reading in said.stderr) == (words == [library]), said
        assert said.stderr.count("it still reaches the library directly") == said.stderr.count(stray) == 1
        site = place / "etc/media.site.yaml"
        text = site.read_text()
        site.write_text(f'{text}past: ["stray\\x1b"]\n')
        again = init(place, monkeypatch, "", words=words)
        assert ("nothing is new" in again.stdout, "stray" in again.stderr) == (True, False), again
        site.write_text(text)
        assert policyfs("init", "--undo", place / "etc/media.init").returncode == 0

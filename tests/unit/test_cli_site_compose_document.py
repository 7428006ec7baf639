"""Compose files are read as their users write them, and as hostile."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.common import confined
from policyfs.cli.site.compose_document import ComposeFile, Volume, read_compose
from policyfs.errors import PolicyfsError

LAUGHS = "\n".join([
    "a0: &a0 [lol]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)),
    "services: *a11",
])  # fmt: skip
MERGES = "\n".join([
    "m0: &m0 {a: 1, b: 2}",
    *(f"m{n}: &m{n}\n  <<: [{', '.join([f'*m{n - 1}'] * 10)}]" for n in range(1, 12)), "services: *m11",
])  # fmt: skip
DEEP = f"services: {'[' * 5_000}"
RECURSIVE = "services: &a {b: *a}"
TEXTS = f"x: &x {'y' * 900_000}\nservices: {{a: [{', '.join(['*x'] * 100)}]}}"


def read(place: Path, text: str, *, variables: bool = True) -> ComposeFile:
    (place / "compose.yaml").write_text(text)
    return read_compose(str(place / "compose.yaml"), variables=variables)


@pytest.mark.parametrize(
    "text", [LAUGHS, MERGES, DEEP, RECURSIVE, TEXTS, "services: !!python/name:os.system"]
)
def test_a_hostile_file_is_an_error(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined, "_CPU_S", 1)
    with pytest.raises(PolicyfsError, match="cannot read"):
        read(tmp_path, text)


def test_volumes_in_all_forms(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# places\nLIBRARY='/srv/my media'\nexport TOP=/srv # all\nnonsense\n")
    text = """\
x-common: &common {restart: always}
services:
  app:
    <<: *common
    volumes:
      - ${LIBRARY}/Films:/films:ro,z
      - $TOP:/top
      - ${UNSET:-/srv/other}:/other
      - ./own$$:/config
      - named:/named
      - /anonymous
      - {type: bind, source: /srv/Music, target: /music/, read_only: true}
volumes:
  named: {driver_opts: {type: none, o: 'bind,ro', device: /srv/disk}}
"""
    found = list(read(tmp_path, text).volumes("app"))
    assert [(one.source, one.target, one.read_only) for one in found] == [
        ("/srv/my media/Films", "/films", True), ("/srv", "/top", False), ("/srv/other", "/other", False),
        (f"{tmp_path}/own$", "/config", False), ("/srv/disk", "/named", True), (None, "/anonymous", False),
        ("/srv/Music", "/music", True),
    ]  # fmt: skip
    assert found[0].text == "${LIBRARY}/Films:/films:ro,z"
    assert isinstance(found[6], Volume)
    for variables, volume in ((False, "${LIBRARY}:/m"), (True, "${NONE}:/m"), (True, "${A?b}:/m")):
        with pytest.raises(PolicyfsError, match="has a variable"):
            read(tmp_path, f"services: {{app: {{volumes: ['{volume}']}}}}", variables=variables)


def test_files_that_it_names_are_read_below_limits(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("services: {other: {image: x, volumes: [./own:/own]}}")
    text = "include: [more.yaml]\nservices: {app: {extends: {file: more.yaml, service: other}}}"
    found = read(tmp_path, text)
    assert list(found.services) == ["other", "app"]
    assert found.files == tuple(f"{tmp_path}/{name}.yaml" for name in ("compose", "more"))
    assert [one.source for one in found.volumes("app")] == [f"{tmp_path}/own"]
    for named in ("/dev/zero", "/dev/stdin", str(tmp_path), "compose.yaml", "none.yaml"):
        with pytest.raises(PolicyfsError):
            read(tmp_path, f"include: ['{named}']\nservices: {{a: {{image: x}}}}")
        with pytest.raises(PolicyfsError):
            read(tmp_path, f"services: {{a: {{extends: {{file: '{named}', service: a}}}}}}")
    (tmp_path / ".env").write_text("COMPOSE_FILE=/dev/zero:compose.yaml")
    with pytest.raises(PolicyfsError, match="not a regular file"):
        read(tmp_path, text)
    (tmp_path / ".env").unlink()
    elsewhere = "include: ['https://host/x.git', 'oci://host/x']\nservices: {a: {image: x}}"
    assert [one.partition(" ")[0] for one in read(tmp_path, elsewhere).unread] == ["include:", "include:"]


def test_services_with_volumes_of_each_other(tmp_path: Path) -> None:
    text = "a: {volumes_from: [a, b, b:ro], volumes: [/a:/a]}, b: {volumes_from: [a], volumes: [/b:/b]}"
    found = read(tmp_path, f"services: {{{text}}}")
    assert {one.target: one.read_only for one in found.volumes("a")} == {"/a": False, "/b": True}
    chain = ", ".join(f"s{at}: {{volumes_from: [s{at + 1}]}}" for at in range(30))
    with pytest.raises(PolicyfsError, match="nested too deeply"):
        list(read(tmp_path, f"services: {{{chain}}}").volumes("s0"))


def test_what_is_elsewhere_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "services: {app: {volumes: [~/films:/films], use_api_socket: true}}"
    assert len(read(tmp_path, text).unread) == 1
    monkeypatch.setenv("SUDO_USER", "anna")
    assert "another one if anna starts it" in read(tmp_path, text).unread[1]
    text = 'services: {app: {volumes: [own:/a, {type: cluster, source: x, target: /x}, "\\\\\\\\.\\\\p:/p"]}}'
    _, windows, relative = read(
        tmp_path, f"{text}\nvolumes: {{own: {{driver_opts: {{o: bind, device: ./a}}}}}}"
    ).unread
    assert "of another system" in windows
    assert relative == "the volume own has ./a (none), whose files policyfs does not know"


def test_keys_with_typing_errors_are_named(tmp_path: Path) -> None:
    text = "x-all: 1\nservices: {a: {volume: [/x:/x], x-more: 1, image: a}, b: null}\nvolume: {}\nfoo: 1"
    assert read(tmp_path, text).unread == (
        "the file has the key foo, which Compose does not know",
        "the file has the key volume, which Compose does not know; write volumes",
        "the service a has the key volume, which Compose does not know; write volumes",
    )


def test_a_project_directory_is_where_paths_begin(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own/.env").write_text("FILMS=/srv/films")
    (tmp_path / "compose.yaml").write_text("services: {app: {volumes: ['$FILMS:/films', ./a:/a]}}")
    found = read_compose(str(tmp_path / "compose.yaml"), variables=True, directory=f"{tmp_path}/own")
    assert [one.source for one in found.volumes("app")] == ["/srv/films", f"{tmp_path}/own/a"]


def test_two_compose_files_are_named(tmp_path: Path) -> None:
    for name in ("docker-compose.yaml", "docker-compose.yml"):
        (tmp_path / name).write_text("services: {}")
    assert not read_compose(str(tmp_path / "docker-compose.yml")).unread
    (told,) = read(tmp_path, "services: {}").unread
    assert told.startswith("Compose reads compose.yaml, but docker-compose 1 reads docker-compose.yml")
    assert not read_compose(str(tmp_path / "compose.yaml"), more=[str(tmp_path / "compose.yaml")]).unread


def test_several_env_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in ((".env", "A=/0"), ("one.env", "A=/1\nB=$A/b"), ("two.env", "A=/2\nC=$A$B")):
        (tmp_path / name).write_text(text)
    (tmp_path / "compose.yaml").write_text("services: {app: {volumes: ['$A:/a', '${B-}${C-/c}:/b']}}")
    path, both = str(tmp_path / "compose.yaml"), ["one.env", "two.env"]
    found = read_compose(path, variables=True, env_files=both)
    assert [one.source for one in found.volumes("app")] == ["/2", "/1/b/2/1/b"]
    monkeypatch.setenv("COMPOSE_ENV_FILES", ",".join(both))
    assert list(read_compose(path, variables=True).volumes("app")) == list(found.volumes("app"))

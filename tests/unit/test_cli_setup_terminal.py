"""No name that others choose reaches the terminal as it is, whatever compose file `init` reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from policyfs.cli.setup import command
from policyfs.linux import interpreter
from tests.support.mount.daemons import Said, policyfs
from tests.unit.test_cli_setup_command import init

pytestmark = pytest.mark.usefixtures("forked_launchers")
EVIL = "e\x1b[31m\u202ev\u200bil"


def harmless(said: Said) -> Said:
    for line in (said.stdout + said.stderr).split("\n"):
        assert line.isprintable(), ascii(line)
    return said


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a harmful name, for the compose file; beside it a library, with harmful names."""
    here = tmp_path / f"a\n{EVIL}"
    here.mkdir()
    for name in ("Films", EVIL, f"{EVIL}\n2"):
        (tmp_path / "media" / name).mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(command, "likely_units", list)
    monkeypatch.setattr(interpreter, "PATH", str(tmp_path / "bin"))  # without this machine's containers
    return tmp_path


@pytest.mark.parametrize(
    ("service", "written"),
    [
        ({"volumes": [f"MEDIA/{EVIL}:/x"]}, False), ({"volumes": [f"MEDIA/{EVIL}\n2:/x"]}, False),
        ({"volumes": [f"MEDIA/Films:/{EVIL}"]}, False), ({"volumes": [f"MEDIA/none{EVIL}:/x"]}, False),
        ({"volumes": [f"MEDIA:/x:ro:{EVIL}"]}, False), ({"volumes": [f"$NO{EVIL}:/x"]}, False),
        ({"volumes": [f"{{$NO{EVIL}"]}, False), ({"extends": {"file": EVIL, "service": "x"}}, False),
        ({"extends": EVIL}, False), ({"volumes_from": [EVIL], "volumes": ["MEDIA:/x"]}, True),
        ({"volumes": [{"type": EVIL, "target": "/x"}, "MEDIA:/y"]}, True),
        ({"volumes": [f"{EVIL}:/x", "MEDIA:/y"], "image": EVIL, "user": EVIL}, True),
    ],
)  # fmt: skip
def test_init(
    place: Path, service: dict[str, object], written: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = json.dumps({EVIL: service}).replace("MEDIA", str(place / "media"))
    volumes = {EVIL: {"driver": EVIL}}
    Path("compose.yaml").write_text(json.dumps({"services": json.loads(text), "volumes": volumes}))
    said = harmless(init(place, monkeypatch, "files", words=[str(place / "media")]))
    assert "Traceback" not in said.stderr
    assert (said.returncode == 0) == written, said
    if written:
        assert os.path.exists("docker-compose.override.yml")
        (listed,) = (place / "etc").glob("*.init")  # another library of this machine may have the name
        assert harmless(policyfs("init", "--undo", listed)).returncode == 0
        assert not os.path.exists("docker-compose.override.yml")


def test_compose(place: Path) -> None:
    site = place / "home.site.yaml"
    site.write_text(
        f"apiVersion: policyfs/v1\nkind: Site\nname: home\nstore: {place}/media\npolicy: {place}/p.yaml\n"
        "mounts:\n  - {app: player, container: player, path: /media}\n"
    )
    for name, service in (
        (EVIL, {}),
        ("player", {"volumes": [f"{place}/media/{EVIL}:/x"]}),
        ("player", {"volumes": [f"/:/media/{EVIL}"]}),
        ("player", {"volumes": [f"/proc/1/root{EVIL}:/x"], EVIL: 1, "build": EVIL}),
    ):
        Path("compose.yaml").write_text(json.dumps({"services": {name: service}, "include": []}))
        harmless(policyfs("compose", site, "compose.yaml"))

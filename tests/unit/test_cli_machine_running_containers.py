"""The running containers, from what Docker and Podman print, also if that is nonsense."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from policyfs.cli.machine import running_containers
from policyfs.cli.machine.running_containers import (
    Container,
    compose_files,
    having,
    parse,
    past_policy,
    running,
)
from policyfs.linux import interpreter
from policyfs.trail.lines.table import word

LABEL = "com.docker.compose"


def inspected(name: str, *sources: str, files: str = "", above: str = "", env: str = "") -> dict[str, object]:
    """What `docker container inspect` prints of a container, as far as it matters."""
    labels = {f"{LABEL}.service": name, f"{LABEL}.project.config_files": files,
              f"{LABEL}.project.working_dir": above, f"{LABEL}.project.environment_file": env}  # fmt: skip
    mounts = [{"Type": "bind", "Source": source, "Destination": "/data", "RW": True} for source in sources]
    return {
        "Id": name.encode().hex().ljust(64, "0"), "Name": f"/{name}", "State": {"Status": "running"},
        "Mounts": [*mounts, {"Type": "tmpfs", "Source": "", "Destination": "/tmp"}],
        "Config": {"Labels": labels if files else None},
    }  # fmt: skip


def manager(place: Path, name: str, *containers: dict[str, object]) -> None:
    """Write a program that prints containers as Docker does."""
    place.mkdir(exist_ok=True)
    (place / f"{name}.json").write_text(json.dumps(containers))
    ids = "\n".join(str(one["Id"]) for one in containers)
    script(place / name, f"case $1 in ps) echo '{ids}' ;; *) /bin/cat '{place}/{name}.json' ;; esac")


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_of_docker_and_podman() -> None:
    both = inspected("web", "/srv/media", files="compose.yaml,/opt/more.yaml", above="/opt/web",
                     env="/opt/x.env")  # fmt: skip
    data = json.dumps([both, {**inspected("alone"), "Name": "alone", "Mounts": None}]).encode()
    assert list(parse("podman", data).values()) == [
        Container(
            "web",
            "podman",
            "web",
            ("/opt/web/compose.yaml", "/opt/more.yaml"),
            ("/srv/media",),
            0,
            "/opt/web",
            ("/opt/x.env",),
        ),
        Container("alone", "podman", "", (), ()),
    ]
    relative = json.dumps([inspected("web", files="compose.yaml")]).encode()
    assert [one.files for one in parse("docker", relative).values()] == [()], (
        "nobody knows of which directory"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b"null", b"3", b"{}x", b'{"Id": 1}', b"[1]", b"[{}]", b"[" * 100_000, b"9" * 10_000,
        b'[{"Id": "a", "Name": 1, "Mounts": [], "Config": {"Labels": {}}}]',
        b'[{"Id": [], "Name": "a", "Mounts": [], "Config": {"Labels": {}}}]',
        b'[{"Id": "a", "Name": "a", "Mounts": [{"Source": 1}], "Config": {"Labels": {}}}]',
        b'[{"Id": "a", "Name": "a", "Mounts": [], "Config": {"Labels": 1}}]',
    ],
    ids=range(14),
)  # fmt: skip
def test_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse("docker", data)


@pytest.mark.parametrize(
    "text",
    ["exit 1", "echo x; echo --all", "echo 0123456789ab", "exec /bin/sleep 60", "exec /nonexistent",
     "[ $1 = ps ] || exit 1; echo 0123456789ab", "/bin/head -c 3000 /dev/zero"],
)  # fmt: skip
def test_a_manager_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    """The other one is asked all the same, and a container with two managers is one."""
    monkeypatch.setattr(interpreter, "PATH", str(tmp_path))
    monkeypatch.setattr(running_containers, "_MOST_S", 1.0)
    monkeypatch.setattr(running_containers, "_MAX_BYTES", 2000)
    assert running() == []
    manager(tmp_path, "podman", inspected("web"))
    script(tmp_path / "docker", text)
    assert len(running()) == 1
    told = "note: docker does not list its containers, so none is found: `docker ps` tells why\n"
    assert capsys.readouterr().err == told
    manager(tmp_path, "docker", inspected("web"))
    assert len(running()) == 1


def test_which_containers_have_the_library(tmp_path: Path) -> None:
    store = tmp_path / "srv/media"
    (store / "Films").mkdir(parents=True)
    (tmp_path / "link").symlink_to(store)
    compose = tmp_path / "compose.yaml"
    compose.touch()
    has = [str(store), f"{store}/Films", str(tmp_path / "srv"), "/", f"{tmp_path}/link/Films", f"{store}/new"]
    lacks = [f"{store}-2", str(tmp_path / "srv/other"), "/proc/1/exe/x", "/dev/null", "/srv\0", "/\ud800"]
    containers = [
        Container(f"{at}\n", "docker", str(at), (str(compose), "/gone.yaml"), ("/etc", source))
        for at, source in enumerate(has + lacks)
    ]
    assert [source for _, source in having(containers, str(store))] == has
    names = [f"{at}\\x0a" for at in range(len(has + lacks))]
    assert compose_files(containers, str(store)) == {(str(compose),): names[: len(has)]}
    assert compose_files(containers, None) == {(str(compose),): names}

    link = tmp_path / "other.yaml"
    link.symlink_to(compose)
    first, *_ = told = list(past_policy(containers, os.path.relpath(link), {"1", "2", "3"}, str(store)))
    assert len(told) == len(has) - 3
    assert first.startswith(
        f"the container 0\\x0a of docker has {store}: it still reaches the library directly"
    )
    assert "--compose" not in first, "its compose file is read already"
    first, *_ = told = list(past_policy(containers, "", {"0"}, str(store)))
    assert len(told) == len(has)
    assert f"use --compose {word(str(compose))}, " in first

"""The running containers of Docker and Podman: their compose files, and those that have the library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from policyfs.linux.interpreter import clean_environment, program
from policyfs.linux.mountinfo import Mount, mount_over, mounts
from policyfs.linux.reach import reaches
from policyfs.trail.lines.table import shown, word

_LABEL: Final = "com.docker.compose."  # of podman-compose, too
_MOST_S: Final = 10.0
_MAX_BYTES: Final = 16 << 20


class Container(NamedTuple):
    """A container. service: its name in *files*, compose files. sources: directories of the host. pid: of its
    first process; 0 if it does not run. directory, env_files: of its Compose project. image: its name."""

    name: str
    manager: str
    service: str
    files: tuple[str, ...]
    sources: tuple[str, ...]
    pid: int = 0
    directory: str = ""
    env_files: tuple[str, ...] = ()
    image: str = ""


def running(*, stopped: bool = False) -> list[Container]:
    """Return the running containers of the managers that are installed. Print a note if a manager fails.
    stopped: True for those that do not run, too."""
    which = ("--all",) if stopped else ()
    found: dict[str, Container] = {}  # by id: `docker` may be another name of podman
    for manager in ("docker", "podman"):
        path = program(manager)
        try:
            if path and (ids := _answer(path, "ps", "--quiet", "--no-trunc", *which).decode().split()):
                found |= parse(manager, _answer(path, "container", "inspect", "--", *ids))
        except (OSError, ValueError, subprocess.SubprocessError):
            told = f"{manager} does not list its containers, so none is found: `{manager} ps` tells why"
            print(f"note: {told}", file=sys.stderr)
    return list(found.values())


def parse(manager: str, data: bytes) -> dict[str, Container]:
    """Return the containers in what `container inspect` prints, by their ids. Raises ValueError."""
    found = {}
    try:
        for one in json.loads(data):
            labels = one["Config"]["Labels"] or {}
            named = labels.get(f"{_LABEL}project.config_files", "").split(",")
            above = labels.get(f"{_LABEL}project.working_dir", "")
            paths = [os.path.normpath(os.path.join(above, name)) for name in named if name]
            sources = [mount.get("Source") or "" for mount in one["Mounts"] or ()]
            found[one["Id"]] = Container(
                one["Name"].removeprefix("/"), manager, str(labels.get(f"{_LABEL}service", "")),
                tuple(filter(os.path.isabs, paths)), tuple(filter(os.path.isabs, sources)),
                int(one["State"].get("Pid", 0)), above if os.path.isabs(above) else "",
                tuple(filter(os.path.isabs, labels.get(f"{_LABEL}project.environment_file", "").split(","))),
                str(one["Config"].get("Image", "")),
            )  # fmt: skip
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError("it is not what `container inspect` prints") from error
    return found


def _answer(*words: str) -> bytes:
    """Return what a command prints. Raises OSError, and SubprocessError if it fails or hangs."""
    with tempfile.TemporaryFile() as file:  # no pipe: a child that hangs would keep it open
        subprocess.run(
            words, env=clean_environment(), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.DEVNULL,
            timeout=_MOST_S, check=True,
        )  # fmt: skip
        file.seek(0)
        return file.read(_MAX_BYTES)


def compose_files(containers: Iterable[Container], store: str | None) -> dict[tuple[str, ...], list[str]]:
    """Return the compose files, each with those merged over it, of the containers that have the library
    (None: of all), with the names of these containers. Files that are not on this machine are left out."""
    found: dict[tuple[str, ...], list[str]] = {}
    for one in containers if store is None else (one for one, _ in having(containers, store)):
        if files := tuple(filter(os.path.isfile, one.files)):
            found.setdefault(files, []).append(shown(one.name))
    return found


def having(containers: Iterable[Container], store: str) -> Iterator[tuple[Container, str]]:
    """Yield the containers that have the library or a directory in it or above it, and this directory."""
    table = mounts()
    places = _places(store, table)
    for one in containers:
        for source in one.sources:
            if any(map(reaches, _places(_real(source), table), places)):
                yield one, source
                break


def _places(path: str, table: Sequence[Mount]) -> tuple[str, str]:
    """Return a directory's path, and its device with its path there: bind mounts and volumes share these."""
    mount = mount_over(path, table)
    if mount is None:
        return path, path
    below = os.path.relpath(path, mount.path)
    return path, f"{mount.device}{os.path.normpath(os.path.join(mount.root, below))}"


def past_policy(
    containers: Iterable[Container], compose: str, services: Collection[str], store: str
) -> Iterator[str]:
    """Yield a text for each container that has the library, but is of no service that gets a mount. compose:
    the compose file that is read, or "". services: those of this file that get mounts."""
    for one, source in having(containers, store):
        is_read = compose != "" and _real(compose) in map(_real, one.files)
        if not is_read or one.service not in services:
            use = "" if is_read else f"use --compose {word((*one.files, 'FILE')[0])}, "
            yield (
                f"the container {shown(one.name)} of {one.manager} has {shown(source)}: it still reaches the"
                f" library directly, past policyfs; {use}give it a mount in the site file, or stop it"
            )


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # a link of /proc, or a NUL
        return path

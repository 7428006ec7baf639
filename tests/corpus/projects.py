"""The projects of compose_files.txt, and what Compose itself reads in them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML

HERE: Final = Path(__file__).parent


class Project(NamedTuple):
    """A case. files: texts by name; the one to be read is the first. volumes: the expected lines. unread,
    error: parts of the expected texts. old: what docker-compose 1.29 makes of it, if that differs. more:
    other expected lines."""

    name: str
    files: Mapping[str, str]
    volumes: list[str]
    unread: list[str]
    error: str
    old: str
    more: list[str]

    def written(self, place: Path) -> Path:
        """Write the files, and return the path of the first one."""
        for name, text in self.files.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return place / next(iter(self.files))


def projects(file: str) -> Iterator[Project]:
    """Yield the cases in a file of this directory."""
    for case in re.split(r"^=== ", (HERE / file).read_text("utf-8"), flags=re.MULTILINE)[1:]:
        title, *parts = re.split(r"^--- ", case, flags=re.MULTILINE)
        files = {name: f"{text.rstrip()}\n" for name, _, text in (part.partition("\n") for part in parts)}
        lines = files.pop("expect").splitlines()
        told = {
            key: [line.removeprefix(key) for line in lines if line.startswith(key)]
            for key in ("unread: ", "error: ", "old: ")
        }
        volumes = [line for line in lines if " | " in line]
        error, old = "".join(told["error: "]), "".join(told["old: "])
        more = [line for line in lines if line and line not in volumes and not line.startswith((*told,))]
        yield Project(title.strip(), files, volumes, told["unread: "], error, old, more)


def expected(project: Project, place: Path, home: str) -> list[str]:
    """Return the expected lines with the real paths of this machine."""
    found = []
    for line in project.volumes:
        service, source, target, mode = line.replace("\\n", "\n").replace("\\t", "\t").split(" | ")
        source = os.path.join(place, home + source[1:] if source.startswith("~") else source)
        found.append(" | ".join((service, os.path.realpath(source), target, mode)))
    return sorted(found)


def by_compose(program: Path, place: Path, home: str, *words: str) -> list[str] | None:
    """Return the lines that a program's `config` gives for the project in a directory; None if it fails."""
    environment = {"PATH": os.environ["PATH"], "HOME": home, "PWD": str(place), "LC_ALL": "C.UTF-8"}
    said = subprocess.run(
        [program, *words, "config"], env=environment, cwd=place, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    if said.returncode:
        return None
    config = YAML(typ="safe").load(said.stdout.replace("$$", "$"))
    return sorted(
        f"{name} | {os.path.realpath(source)} | {target} | {'ro' if read_only else 'rw'}"
        for name in config["services"]
        for target, (source, read_only) in _targets(config, name).items()
        if source
    )


def _targets(config: dict[str, Any], name: str) -> dict[str, tuple[str, bool]]:
    """Return the sources of a service's volumes by target, as the engine mounts them."""
    service = config["services"][name]
    found: dict[str, tuple[str, bool]] = {}
    for one in service.get("volumes_from") or ():
        other, _, mode = one.partition(":")
        its = _targets(config, other) if other in config["services"] else {}
        found |= {target: (source, ro or mode == "ro") for target, (source, ro) in its.items()}
    for kind, above in (("configs", "/"), ("secrets", "/run/secrets/")):
        for one in service.get(kind) or ():
            if path := config[kind][one["source"]].get("file"):
                found[os.path.join(above, one.get("target") or one["source"])] = path, True
    for volume in service.get("volumes") or ():
        source, target, read_only = _volume(volume, config.get("volumes") or {})
        found[target] = source if source.startswith("/") else "", read_only
    return found


def _volume(one: Any, named: dict[str, Any]) -> tuple[str, str, bool]:
    if isinstance(one, str):  # docker-compose 1.29
        source, target, mode = one.rsplit(":", 2) if ":" in one else ("", one, "")
        one = {"source": source, "target": target, "read_only": "ro" in mode.split(",")}
    source, read_only = one.get("source", ""), bool(one.get("read_only"))
    if source in named:
        options = (named[source] or {}).get("driver_opts", {})
        is_bind = {*options.get("o", "").split(","), options.get("type")} & {"bind", "rbind"}
        below = one.get("volume", {}).get("subpath", "")
        source = os.path.join(options["device"], below).rstrip("/") if is_bind else ""
        read_only = read_only or "ro" in options.get("o", "").split(",")
    return source if one.get("type") not in {"image", "tmpfs"} else "", one["target"], read_only

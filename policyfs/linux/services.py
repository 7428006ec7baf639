"""The users of systemd's services, read from the unit files. Also works on machines without systemd."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

UNIT_DIRECTORIES: Final = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""Directories of unit files, the strongest first (systemd.unit(5))."""

_MASKED: Final = Path("/dev/null")


class Service(NamedTuple):
    """One service. user: from ``User=``; empty for root. dynamic: True if each start gives a new uid."""

    name: str
    user: str
    dynamic: bool


def services(directories: Iterable[str] = UNIT_DIRECTORIES) -> list[Service]:
    """Return the services of this machine, sorted by name, without templates and masked units."""
    places = [Path(one) for one in directories]
    files: dict[str, Path] = {}
    for place in places:
        for file in _listed(place, "*.service"):
            files.setdefault(file.name, file)
    found = []
    for name, file in sorted(files.items()):
        if "@." in name or file.resolve() == _MASKED:
            continue
        keys = dict(_keys(file))
        dropins: dict[str, Path] = {}
        for place in reversed(places):
            dropins |= {one.name: one for one in _listed(place / f"{name}.d", "*.conf")}
        for _, dropin in sorted(dropins.items()):
            keys.update(_keys(dropin))
        dynamic = keys.get("DynamicUser", "").lower() in {"1", "yes", "true", "on"}
        found.append(Service(name, keys.get("User", ""), dynamic))
    return found


def _listed(place: Path, pattern: str) -> list[Path]:
    try:
        return sorted(place.glob(pattern))
    except OSError:
        return []


def _keys(file: Path) -> Iterator[tuple[str, str]]:
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        stripped = line.strip()
        if stripped.startswith("["):
            section = stripped
        elif section == "[Service]" and "=" in stripped and stripped[0] not in "#;":
            key, _, value = stripped.partition("=")
            yield key.strip(), value.strip()

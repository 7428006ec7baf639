"""The users of systemd's services, read from the unit files. Also works on machines without systemd."""

from __future__ import annotations

import re
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

_BINDS: Final = {"BindPaths", "BindReadOnlyPaths"}
_HIDES: Final = {"InaccessiblePaths", "TemporaryFileSystem"}
_MASKED: Final = Path("/dev/null")


class Service(NamedTuple):
    """One service. user: from ``User=``; empty for root. dynamic: True if each start gives a new uid."""

    name: str
    user: str
    dynamic: bool


def services(directories: Iterable[str] = UNIT_DIRECTORIES) -> list[Service]:
    """Return the services of this machine, sorted by name, without templates and masked units."""
    found = []
    for name, every in _settings(directories):
        if "@." in name:
            continue
        keys = dict(every)
        dynamic = keys.get("DynamicUser", "").lower() in {"1", "yes", "true", "on"}
        found.append(Service(name, keys.get("User", ""), dynamic))
    return found


def is_enabled(name: str, directories: Iterable[str] = UNIT_DIRECTORIES) -> bool:
    """Return True if a service starts with another unit, such as multi-user.target."""
    links = [f"*.wants/{name}", f"*.requires/{name}"]
    return any(_listed(Path(one), link) for one in directories for link in links)


def naming(directory: str, directories: Iterable[str] = UNIT_DIRECTORIES) -> Iterator[tuple[str, str]]:
    """Yield the services whose settings name a directory or a path in it, with such a setting. A service that
    finds something else at the path (``BindPaths=``), or nothing, is left out."""
    path = re.compile(rf"(?<![\w./])(?<!\w-){re.escape(directory)}(?![\w.-])(?:/[^\s'\":;]*)?")
    for name, every in _settings(directories):
        words = [(key, word.lstrip("-+")) for key, value in every for word in value.split()]
        binds = [(key, *word.partition(":")[::2]) for key, word in words if key in _BINDS]
        others = [to for _, of, to in binds if not path.fullmatch(of)]
        others += [word for key, word in words if key in _HIDES]
        settings = [(key, value) for key, value in every if key not in {*_BINDS, *_HIDES}]
        for key, value in (*settings, *((key, of) for key, of, _ in binds)):
            found = path.search(value)
            if found and not any(one and f"{found[0]}/".startswith(f"{one}/") for one in others):
                yield name, f"{key}={value}"
                break


def _settings(directories: Iterable[str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Yield each service, sorted by name, with all settings of its files in their order."""
    places = [Path(one) for one in directories]
    files: dict[str, Path] = {}
    for place in places:
        for file in _listed(place, "*.service"):
            files.setdefault(file.name, file)
    for name, file in sorted(files.items()):
        if file.is_symlink() and file.resolve() == _MASKED:
            continue
        dropins: dict[str, Path] = {}
        for place in reversed(places):
            dropins |= {one.name: one for one in _listed(place / f"{name}.d", "*.conf")}
        yield name, [*_keys(file), *(pair for _, dropin in sorted(dropins.items()) for pair in _keys(dropin))]


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

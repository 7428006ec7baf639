"""The files of a Compose project, merged to one: overrides, `extends`, `include`, as Compose merges them.

A compose file is hostile, and chooses the other files. Each of these is a regular file of limited size, and
parsed in a confined child like the first; nothing is fetched.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, NoReturn

from policyfs.cli.common.confined import in_confined_child
from policyfs.cli.site.compose_variables import Missing, interpolated, settings
from policyfs.cli.site.compose_volumes import canonical, located
from policyfs.cli.site.compose_yaml import MAX_BYTES, OVERRIDE, documents
from policyfs.errors import PolicyfsError
from policyfs.trail.lines.table import shown

Tree = dict[str, object]
NAMES: Final = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
"""The names for which Compose looks, the first one first."""
OVERRIDES: Final = (
    "compose.override.yml", "compose.override.yaml",
    "docker-compose.override.yml", "docker-compose.override.yaml",
)  # fmt: skip
_MAX_FILES: Final = 50
_MAX_USES: Final = 300
_MAX_NESTED: Final = 20
VARIABLE: Final = "has a variable; pass a file without: `docker compose config` prints it"
_REMOTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|github\.com/|git@")
"""The beginning of the name of a compose file that Compose would fetch."""


class Override:
    """A value with the tag ``!override`` or ``!reset`` (None): it replaces what earlier files have."""

    def __init__(self, value: object) -> None:
        self.value = value


class Place(NamedTuple):
    """The surroundings of a compose file. directory: where its relative paths begin. values: of its
    variables, or None if none is replaced. nested: the number of files between it and the first one."""

    directory: str
    values: Mapping[str, str] | None
    nested: int = 0

    def path(self, path: str) -> str:
        """Return the absolute path of a path in the compose file."""
        return located(path, self.directory, (self.values or os.environ).get("HOME") or "/")


class Project:
    """The files of a project. given: the one that the user has named. files: the compose files that were
    read, in order. unread: a text for each part of them that is not understood, ready for a terminal."""

    def __init__(self, given: str = "") -> None:
        self._given = given
        self.files: list[str] = []
        self.unread: list[str] = []
        self._read = self._used = 0
        self._parsed: dict[str, Any] = {}

    def merged(self, paths: Sequence[str], place: Place) -> Tree:
        """Return the content of compose files, each merged over those before it. Raises PolicyfsError."""
        tree: object = {}
        for path in paths:
            for document in self._documents(path, place):
                tree = _merge(tree, self._with_others(document, path, place))
        found = _plain(tree)
        return found if isinstance(found, dict) else {}

    def values(self, files: Sequence[str], directory: str, given: Mapping[str, str]) -> dict[str, str]:
        """Return the environment, with the variables that files set, or if there are none the file `.env` in
        a directory, if it exists. given: the environment, which counts before them. Raises PolicyfsError."""
        beside = os.path.join(directory, ".env")
        own: dict[str, str] = {}
        for path in files or [beside] * os.path.lexists(beside):
            self._count()
            read = partial(_settings, given=given, before=own)
            found = in_confined_child(read, path, MAX_BYTES, regular=True)
            own |= found if isinstance(found, dict) else {}
        return {**own, **given}

    def _count(self) -> None:
        self._read += 1
        if self._read > _MAX_FILES:
            raise PolicyfsError(f"the compose file needs more than {_MAX_FILES} other files")

    def _documents(self, path: str, place: Place) -> Iterator[Tree]:
        if path not in self._parsed:
            self._count()
            self.files.append(path)
            regular = path != self._given  # the user may name /dev/stdin
            self._parsed[path] = in_confined_child(documents, path, MAX_BYTES, regular=regular)
        self._used += 1
        if self._used > _MAX_USES:
            raise PolicyfsError(f"the compose file uses other files more than {_MAX_USES} times")
        for tree, tags in copy.deepcopy(self._parsed[path]):
            if not isinstance(tree, dict):
                raise PolicyfsError(f"{shown(path)} is not a compose file: it has no mapping")
            for at, tag in reversed(tags):  # inner ones first
                _mark(tree, at, tag)
            try:
                found = _located(tree, path, place)
            except ValueError as error:
                raise PolicyfsError(f"{shown(path)}: {error}") from error
            yield found

    def _with_others(self, tree: Tree, path: str, place: Place) -> Tree:
        """Merge a file over the files that it includes, and its services over those that they extend."""
        included: Any = {}
        entries = _unmarked(tree.pop("include", None))
        for entry in entries if isinstance(entries, list) else ():
            included = _merge(included, self._included(_unmarked(entry), place))
        tree = included | {key: _merge(included.get(key), one) for key, one in tree.items()}
        services = _unmarked(tree.get("services"))
        if isinstance(services, dict):
            extended: Tree = {}
            for name, one in services.items():
                service = self._extended(name, services, path, place, ())
                extended[name] = Override(service) if isinstance(one, Override) else service
            tree["services"] = Override(extended) if isinstance(tree["services"], Override) else extended
        return tree

    def _included(self, entry: object, place: Place) -> Tree:
        entry = entry if isinstance(entry, dict) else {"path": entry}
        names = _texts(entry.get("path"))
        if remote := [name for name in names if _REMOTE.match(name)]:
            self.unread.append(f"include: {shown(remote[0])} is not on this machine")
            return {}
        if not names or place.nested >= _MAX_NESTED:
            raise PolicyfsError(f"{shown(self.files[0])}: an include has no path, or is nested too deeply")
        paths = [place.path(name) for name in names]
        named = entry.get("project_directory")
        directory = place.path(str(named)) if named else os.path.dirname(paths[0])
        values = place.values
        if values is not None:
            files = [place.path(name) for name in _texts(entry.get("env_file"))]
            values = self.values(files, directory, values)
        return self.merged(paths, Place(directory, values, place.nested + 1))

    def _extended(
        self, name: str, services: Tree, path: str, place: Place, seen: tuple[tuple[str, str], ...]
    ) -> object:
        """Return a service of a file, merged over the service that it extends."""
        service = _unmarked(services.get(name))
        extends = _unmarked(service.get("extends")) if isinstance(service, dict) else None
        if not isinstance(service, dict) or not extends:
            return service
        service = {key: value for key, value in service.items() if key != "extends"}
        extends = extends if isinstance(extends, dict) else {"service": extends}
        base, file = str(extends.get("service")), _unmarked(extends.get("file"))
        at = f"{shown(path)}: the service {shown(name)} extends {shown(base)}"
        if (path, name) in seen or len(seen) > _MAX_NESTED:
            raise PolicyfsError(f"{at}, and so itself")
        if file and _REMOTE.match(str(file)):
            self.unread.append(f"{at} of {shown(str(file))}, which is not on this machine")
            return service
        if file and place.path(str(file)) != path:
            path = place.path(str(file))
            place = Place(os.path.dirname(path), place.values, place.nested)
            others: object = {}
            for document in self._documents(path, place):
                others = _merge(others, document)
            found = _plain(others)
            inner = found.get("services") if isinstance(found, dict) else None
            services = inner if isinstance(inner, dict) else {}
        if base not in services:
            raise PolicyfsError(f"{at}, which is not in {shown(path)}")
        extended = self._extended(base, services, path, place, (*seen, (path, name)))
        return _merge(_unmarked(extended), service)


def _settings(data: bytes, given: Mapping[str, str], before: Mapping[str, str]) -> dict[str, str]:
    return settings(data.decode(errors="replace"), given, before)


def _located(tree: Tree, path: str, place: Place) -> Tree:
    """Replace the variables in a file, write all volumes in one form, and make paths of files absolute."""
    found: Tree = _replaced(tree, place)
    before = dict(_entries(tree.get("services")))
    for name, service in _entries(found.get("services")):
        volumes, texts = (_unmarked(one.get("volumes")) for one in (service, before[name]))
        if isinstance(volumes, list) and isinstance(texts, list):
            volumes[:] = [_volume(one, path, place) for one in texts]
    for _, entry in (*_entries(found.get("configs")), *_entries(found.get("secrets"))):
        if entry.get("file"):
            entry["file"] = place.path(str(entry["file"]))
    for _, volume in _entries(found.get("volumes")) if place.values is None else ():
        volume[VARIABLE] = "$" in str(_plain(volume.get("driver_opts"))).replace("$$", "")
    return found


def _entries(value: object) -> Iterator[tuple[str, Tree]]:
    value = _unmarked(value)
    for name, one in value.items() if isinstance(value, dict) else ():
        if isinstance(entry := _unmarked(one), dict):
            yield name, entry


def _volume(entry: object, path: str, place: Place) -> object:
    """Return a volume in one form. Raises PolicyfsError if it is no volume, or a variable has no value."""
    if isinstance(entry, Override):
        return Override(entry.value and _volume(entry.value, path, place))
    text = str(_plain(entry))
    told = f"{shown(path)}: the volume {shown(text)}"
    if place.values is None and "$" in text.replace("$$", ""):
        raise PolicyfsError(f"{told} {VARIABLE}")

    def missing(name: str) -> NoReturn:
        raise PolicyfsError(f"{told} has a variable without a value: set {name} in .env or the environment")

    try:
        plain = _replaced({"": entry}, place._replace(values=place.values or {}), missing)[""]
        return canonical(plain, _plain(entry), place.directory, place.path("~"))
    except ValueError as error:
        raise PolicyfsError(f"{told}: {error}") from error


def _replaced(value: Any, place: Place, missing: Missing = lambda _: "") -> Any:
    if isinstance(value, Override):
        return Override(_replaced(value.value, place, missing))
    if isinstance(value, dict):
        return {key: _replaced(one, place, missing) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, place, missing) for one in value]
    if not isinstance(value, str) or place.values is None:
        return value
    return interpolated(value, place.values, missing)


def _merge(base: object, over: object) -> object:
    """Merge a value over that of an earlier file. One with a tag replaces it, and those of files before."""
    if isinstance(over, Override):
        return over
    if isinstance(base, Override):
        return Override(_merge(base.value, over))
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: _merge(base[key], one) if key in base else one for key, one in over.items()}
    if isinstance(base, list) and isinstance(over, list):
        return base + over
    return base if over is None else over


def _unmarked(value: object) -> object:
    return value.value if isinstance(value, Override) else value


def _plain(value: object) -> object:
    """Return a value without marks, and without what is marked as absent."""
    if isinstance(value, Override):
        return _plain(value.value)
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if not _absent(one)}
        return {key: _plain(one) for key, one in kept.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value if not _absent(one)]
    return value


def _absent(value: object) -> bool:
    return isinstance(value, Override) and value.value is None


def _texts(value: object) -> list[str]:
    found = _plain(value)
    return [str(one) for one in found] if isinstance(found, list) else [str(found)] if found else []


def _mark(tree: Any, path: Sequence[str | int], tag: str) -> None:
    """Put the tag of a value into a tree, in which the value is."""
    for step in path[:-1]:
        tree = tree[step]
    if path:
        tree[path[-1]] = Override(tree[path[-1]] if tag == OVERRIDE else None)

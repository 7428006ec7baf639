"""A user's compose file, read as hostile: in a confined child, and without the files that it names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from ruamel.yaml import YAML

from policyfs.cli.common.confined import in_confined_child
from policyfs.cli.common.looking import opened
from policyfs.errors import PolicyfsError
from policyfs.trail.lines.table import shown

Tree = dict[str, object]
_MAX_BYTES: Final = 1 << 20
_MAX_NODES: Final = 20_000
_MAX_CHARACTERS: Final = 4 << 20
"""Limits of a compose file, and of what its aliases stand for together."""
_MAX_DEPTH: Final = 50
_VARIABLE: Final = re.compile(r"\$(?:(\$)|\{([A-Za-z_]\w*)(?::?-([^${}]*))?\}|([A-Za-z_]\w*))")
_SETTING: Final = re.compile(r"(?:export )?([A-Za-z_]\w*)=(.*)")


class Volume(NamedTuple):
    """A volume of a service. source: the directory of the host, absolute and without symlinks, or None.
    target: the path in the container. text: as it stands in the file."""

    source: str | None
    target: str
    read_only: bool
    text: object


class ComposeFile(NamedTuple):
    """A compose file. tree: its top mapping. settings: values for its variables, or None if a volume with a
    variable is an error: only docker knows all values."""

    path: str
    tree: Tree
    settings: Mapping[str, str] | None = None

    @property
    def services(self) -> Tree:
        """The services, by name."""
        found = self.tree["services"]
        return found if isinstance(found, dict) else {}

    def volumes(self, name: str) -> Iterator[Volume]:
        """Yield the volumes of a service. Raises PolicyfsError if one cannot be understood."""
        service = self.services.get(name)
        volumes = service.get("volumes") if isinstance(service, dict) else None
        for volume in volumes if isinstance(volumes, list) else ():
            if isinstance(volume, dict):
                source, target = (self._plain(str(volume.get(key, ""))) for key in ("source", "target"))
                is_path, read_only = volume.get("type") == "bind", volume.get("read_only") is True
            else:
                words = self._plain(str(volume)).split(":")
                source, target = (words[0], words[1]) if len(words) > 1 else ("", words[0])
                is_path, read_only = False, "ro" in ",".join(words[2:]).split(",")
            found = self._directory(source, is_path=is_path)
            yield Volume(found, os.path.normpath(target), read_only, volume)

    def _directory(self, source: str, *, is_path: bool) -> str | None:
        if not is_path and not source.startswith(("/", ".", "~")):
            named = self.tree.get("volumes")
            options = named.get(source) if isinstance(named, dict) else None
            options = options.get("driver_opts") if isinstance(options, dict) else None
            source = self._plain(str(options.get("device", ""))) if isinstance(options, dict) else ""
        if not is_path and not source.startswith(("/", ".", "~")):
            return None
        path = os.path.join(os.path.dirname(os.path.abspath(self.path)), os.path.expanduser(source))
        try:
            return os.path.realpath(path, strict=os.path.lexists(path))  # Python 3.13 else ignores errors
        except FileNotFoundError:  # a link that leads nowhere
            return os.path.realpath(path)
        except OSError as error:  # a link of /proc, for example
            raise PolicyfsError(
                f"the volume {shown(source)} cannot be checked: {error.strerror}; run this command as"
                " root, or write the real path"
            ) from error

    def _plain(self, text: str) -> str:
        """Replace variables and doubled dollar signs. Raises PolicyfsError for a variable without a value."""

        values = [
            "$" if one[1] else (self.settings or {}).get(one[2] or one[4]) or one[3]
            for one in _VARIABLE.finditer(text)
            if one[1] or self.settings is not None
        ]
        if None in values or len(values) != len(_VARIABLE.findall(text)) or "$" in _VARIABLE.sub("", text):
            raise PolicyfsError(
                f"the volume {shown(text)} has a variable; pass a file without: `docker compose config`"
                " prints it"
            )
        return _VARIABLE.sub(lambda _: str(values.pop(0)), text)


def read_compose(path: str, *, variables: bool = False) -> ComposeFile:
    """Read a compose file. Raises PolicyfsError.

    variables: True if variables in volumes get the values that the file `.env` beside it has, as docker
    does. Other files that it names are not read.
    """
    tree = in_confined_child(_tree, path, _MAX_BYTES)
    if not isinstance(tree, dict) or not isinstance(tree.get("services"), dict):
        raise PolicyfsError(f"{path} is not a compose file: it has no services")
    return ComposeFile(path, tree, _settings(path) if variables else None)


def _tree(data: bytes) -> object:
    """Return a YAML document as mappings, lists and texts. Runs in the confined child."""
    nodes = characters = 0

    def plain(node: object, depth: int) -> object:
        nonlocal nodes, characters
        nodes += 1
        characters += len(node) if isinstance(node, str) else 0
        if nodes > _MAX_NODES or characters > _MAX_CHARACTERS or depth > _MAX_DEPTH:
            raise ValueError("it is too large, or too deeply nested, also if aliases are replaced")
        if isinstance(node, dict):
            return {str(plain(key, depth + 1)): plain(value, depth + 1) for key, value in node.items()}
        if isinstance(node, list | tuple | set):
            return [plain(one, depth + 1) for one in node]
        return node if node is None or isinstance(node, bool | int) else str(node)

    return plain(YAML(typ="safe").load(data), 0)


def _settings(path: str) -> dict[str, str]:
    """Return the variables in the file `.env` beside a compose file. Lines of another form are skipped."""
    beside = os.path.join(os.path.dirname(path), ".env")
    if not os.path.lexists(beside):
        return {}
    with opened(beside) as fd:
        lines = os.pread(fd, _MAX_BYTES, 0).decode(errors="replace").splitlines()
    found = {}
    for match in filter(None, (_SETTING.fullmatch(line.strip()) for line in lines)):
        value = match[2].strip()
        if value[:1] in {"'", '"'} and value[:1] == value[-1:] and len(value) > 1:
            value = value[1:-1]
        else:
            value = value.partition(" #")[0].strip()
        found[match[1]] = value
    return found

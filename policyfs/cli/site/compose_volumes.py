"""A volume of a service in one form, from the forms in which compose files have it (pure)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

Tree = dict[str, object]
_TRUE: Final = frozenset({"true", "yes", "on", "y"})


def canonical(entry: object, text: object, directory: str, home: str) -> Tree:
    """Return a volume as a mapping with type, source, target, read_only, subpath, and its text.

    entry: the volume with its variables replaced. text: as it stands in the file. directory: where relative
    paths begin. home: the directory for ``~``. Raises ValueError if it is no volume.
    """
    found = dict(_long(entry)) if isinstance(entry, Mapping) else _short(str(entry))
    if found["type"] == "bind" and not is_windows(str(found["source"])):
        found["source"] = located(str(found["source"]), directory, home)
    if not isinstance(found["target"], str) or not found["target"]:
        raise ValueError("a volume needs a target")
    found["target"] = os.path.normpath(found["target"])
    return {**found, "text": text}


def _long(entry: Mapping[object, object]) -> Tree:
    options = entry.get("volume")
    return {
        "type": str(entry.get("type") or ("volume" if entry.get("source") else "")),
        "source": str(entry.get("source") or ""), "target": entry.get("target"),
        "read_only": str(entry.get("read_only")).lower() in _TRUE,
        "subpath": str(options.get("subpath") or "") if isinstance(options, Mapping) else "",
    }  # fmt: skip


def _short(text: str) -> Tree:
    """Parse ``source:target:options``, where Windows has a colon in paths."""
    parts: list[str] = []
    for one in text.split(":"):
        if parts and len(parts[-1]) == 1 and parts[-1].isalpha():
            parts[-1] += f":{one}"
        else:
            parts.append(one)
    if len(parts) > 3 or not all(parts):
        raise ValueError("a volume has the form source:target:options")
    source, target = parts[:2] if len(parts) > 1 else ("", parts[0])
    modes = [one for one in "".join(parts[2:]).split(",") if one in {"ro", "rw"}]
    is_path = source.startswith(("/", ".", "~", "\\\\")) or (source[1:2] == ":" and source[0].isalpha())
    kind = "bind" if is_path else "volume"
    read_only = modes[-1:] == ["ro"]
    return {"type": kind, "source": source, "target": target, "read_only": read_only, "subpath": ""}


def is_windows(path: str) -> bool:
    """Return True for an absolute path of Windows, which has a drive or is a pipe."""
    return path.startswith("\\\\") or (path[1:3] in {":\\", ":/"} and path[0].isalpha())


def located(path: str, directory: str, home: str) -> str:
    """Return the absolute path of a path in a compose file, with ``~`` for the home directory."""
    if path.startswith("~"):
        path = os.path.join(home, path[1:].lstrip("/"))
    return os.path.normpath(os.path.join(directory, path))

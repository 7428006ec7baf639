"""Containers of podman that systemd starts: Quadlets, files NAME.container (podman-systemd.unit(5))."""

from __future__ import annotations

import contextlib
import os
import pwd
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.common.looking import opened
from policyfs.cli.site.compose_document import Volume, real_path
from policyfs.errors import PolicyfsError
from policyfs.linux.reach import reaches
from policyfs.trail.lines.table import shown

_SYSTEM: Final = ("/etc/containers/systemd", "/usr/share/containers/systemd", "/run/containers/systemd")
_USERS: Final = "/etc/containers/systemd/users"
_OWN: Final = ".config/containers/systemd"
_MAX_BYTES: Final = 1 << 20
_TRUE: Final = frozenset({"", "1", "on", "true", "yes"})
_RAW: Final = ("-v", "--volume", "--mount", "--volumes-from")
_SOURCE, _TARGET, _READ_ONLY = ("source", "src"), ("destination", "dst", "target"), ("ro", "readonly")

Keys = list[tuple[str, str]]


class Quadlet(NamedTuple):
    """A container of systemd. unread: a text for each part that is not understood, ready for a terminal."""

    file: str
    volumes: tuple[Volume, ...]
    unread: tuple[str, ...]


def quadlets() -> Iterator[Quadlet]:
    """Yield the Quadlets of this machine, also those of users. Raises PolicyfsError if one cannot be read."""
    places = [(place, "/root") for place in _SYSTEM]
    for user in pwd.getpwall():
        places += [(f"{user.pw_dir}/{_OWN}", user.pw_dir), (f"{_USERS}/{user.pw_uid}", user.pw_dir)]
    for place, home in places:
        with contextlib.suppress(OSError):  # not even listed: nothing of it runs
            for name in sorted(os.listdir(place)):
                if name.endswith(".container"):
                    yield read_quadlet(Path(place, name), home)


def past_quadlets(store: str) -> Iterator[str]:
    """Yield a text for each Quadlet that has a directory of the library or above it, and for each that is
    not understood."""
    for one in quadlets():
        for volume in one.volumes:
            if volume.source and reaches(volume.source, store):
                yield (
                    f"{shown(one.file)} has {shown(volume.source)}, past policyfs: name it in the site file,"
                    " as container, and give it the volume that `policyfs compose` prints"
                )
                break
        yield from one.unread


def read_quadlet(file: Path, home: str = "/root") -> Quadlet:
    """Read a Quadlet. home: of the user that starts it. Raises PolicyfsError."""
    keys = keys_in(file, "[Container]")
    unread = [
        f"{shown(str(file))}: the volumes in PodmanArgs= are not checked"
        for key, value in keys
        if key == "PodmanArgs" and any(word.partition("=")[0] in _RAW for word in value.split())
    ]
    for key, value in keys:
        if key == "Pod" and (pod := file.with_name(value)).suffix == ".pod":
            keys = [*(one for one in keys_in(pod, "[Pod]") if one[0] == "Volume"), *keys]
    found: dict[str, Volume] = {}
    for key, value in keys:
        text = value.replace("%h", home).replace("%%", "%")
        volume = _short(text, file) if key == "Volume" else _long(text, file) if key == "Mount" else None
        if volume is not None:
            found[volume.target] = volume._replace(text=value)
    return Quadlet(str(file), tuple(found.values()), tuple(unread))


def _short(text: str, file: Path) -> Volume:
    source, _, rest = text.partition(":") if ":" in text else ("", "", text)
    target, _, options = rest.partition(":")
    found, read_only = _directory(source, file, is_path=False)
    return Volume(found, os.path.normpath(target), read_only or "ro" in options.split(","), text)


def _long(text: str, file: Path) -> Volume | None:
    values = dict(word.partition("=")[::2] for word in "".join(shlex.split(text)).split(","))
    source, target = (next((values[key] for key in keys if key in values), "") for keys in (_SOURCE, _TARGET))
    if values.get("type") not in {"bind", "volume"} or not target:
        return Volume(None, os.path.normpath(target), read_only=False, text=text) if target else None
    found, read_only = _directory(source, file, is_path=values["type"] == "bind")
    named = any(values[key].lower() in _TRUE for key in _READ_ONLY if key in values)
    return Volume(found, os.path.normpath(target), read_only or named, text)


def _directory(source: str, file: Path, *, is_path: bool) -> tuple[str | None, bool]:
    """Return the host's directory of a volume, or None, and True if its own options make it read-only."""
    if source.endswith(".volume") and not source.startswith(("/", ".")):
        values = dict(keys_in(file.with_name(source), "[Volume]"))
        options = values.get("Options", "").split(",")
        is_bind = bool({"bind", "rbind"} & {*options, values.get("Type", "")})
        return (real_path(values["Device"]) if is_bind and "Device" in values else None), "ro" in options
    if not is_path and not source.startswith(("/", ".")):
        return None, False
    return real_path(os.path.normpath(file.parent / source)), False


def keys_in(file: Path, section: str) -> Keys:
    """Return the keys in a section of a unit file and its drop-ins; an empty value resets the key's list."""
    found: Keys = []
    for path in (file, *sorted(file.with_name(f"{file.name}.d").glob("*.conf"))):
        within = ""
        for line in _lines(path):
            key, _, value = (one.strip() for one in line.partition("="))
            if line.startswith("["):
                within = line
            elif within == section and value:
                found.append((key, value))
            elif within == section:
                found = [one for one in found if one[0] != key]
    return found


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a unit file without comments, those that a backslash ends put together."""
    try:
        with opened(str(path)) as fd:
            text = os.pread(fd, _MAX_BYTES, 0).decode("utf-8", "surrogateescape")
    except PolicyfsError:
        if not path.exists():  # a Quadlet may name a volume or pod that is not there
            return
        raise
    begun = ""
    for line in text.splitlines():
        if line.lstrip().startswith(("#", ";")):
            continue
        begun += line.rstrip("\\").strip() if line.endswith("\\") else line.strip()
        if line.endswith("\\"):
            begun += " "
            continue
        if begun:
            yield begun
        begun = ""

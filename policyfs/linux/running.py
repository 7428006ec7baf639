"""The running processes, with their uids. The cgroup of a process shows its service or container."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.linux import procfs

_CONTAINERS: Final = (
    (re.compile(r"(?:^|/)docker[-/]([0-9a-f]{12})[0-9a-f]*(?:\.scope)?(?:/|$)"), "docker {}"),
    (re.compile(r"(?:^|/)libpod-([0-9a-f]{12})[0-9a-f]*(?:\.scope)?(?:/|$)"), "podman {}"),
    (re.compile(r"(?:^|/)cri-containerd-([0-9a-f]{12})[0-9a-f]*\.scope"), "containerd {}"),
    (re.compile(r"(?:^|/)kubepods.*/(?:[^/]*-)?([0-9a-f]{12})[0-9a-f]*(?:\.scope)?(?:/|$)"), "kubernetes {}"),
    (re.compile(r"(?:^|/)lxc(?:\.payload\.|/)([^/]+)"), "lxc {}"),
    (re.compile(r"(?:^|/)machine-([^/]+)\.scope"), "machine {}"),
)
_SERVICE: Final = re.compile(r"/([^/]+\.service)(?:/|$)")
_UNIT: Final = re.compile(r"^[^/]+\.(?:service|mount|scope)$")
_USER: Final = re.compile(r"^user-(\d+)\.slice$")
_UIDS: Final = re.compile(r"^Uid:\t\d+\t(\d+)", re.MULTILINE)


class Process(NamedTuple):
    """A running process. uid: effective. service: its unit. container: manager and name. "": none."""

    uid: int
    service: str
    container: str


def processes() -> Iterator[Process]:
    """Yield the running processes whose files in /proc can be read."""
    for pid in procfs.pids():
        try:
            status, groups = procfs.text(pid, "status"), procfs.text(pid, "cgroup")
        except OSError:
            continue  # the process has ended
        found = _UIDS.search(status)
        if found is not None:
            service, container = place_of(groups)
            yield Process(int(found[1]), service, container)


def place_of(groups: str) -> tuple[str, str]:
    """Return the service and the container in the text of a ``cgroup`` file; at least one is empty."""
    paths = _paths(groups)
    for path in paths:
        for pattern, name in _CONTAINERS:
            found = pattern.search(path)
            if found is not None:
                return "", name.format(found[1])
    for path in paths:
        names = _SERVICE.findall(path)
        if names and not names[-1].startswith("user@"):
            return names[-1], ""
    return "", ""


def _paths(groups: str) -> list[str]:
    return [line.split(":", 2)[2] for line in groups.splitlines() if line.count(":") >= 2]


def unit_of(groups: str) -> str:
    """Return the system's unit in a ``cgroup`` file's text, or "". (A user's unit has any name: none.)"""
    for path in _paths(groups):
        names = path.split("/")
        found = next(filter(_UNIT.match, names), "")
        if found and not any(map(_USER.match, names)) and found != "init.scope":
            return found
    return ""


def session_of(groups: str) -> int | None:
    """Return the uid of the user whose session or units a process belongs to, by its ``cgroup`` file."""
    names = (name for path in _paths(groups) for name in path.split("/"))
    return next((int(found[1]) for name in names if (found := _USER.match(name))), None)

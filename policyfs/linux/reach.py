"""The processes that reach a directory by another way than its path: they were given a mount of it, or have
an open file, a working directory or their program in it.

A mount namespace with the same root directory as this one sees the directory as all programs do, so its mode
guards it. A mount at another path, or in a container, goes past this guard. INVARIANT: this module reads only
links and tables of /proc: it sends no request to a file system, which may hang.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from policyfs.linux import procfs
from policyfs.linux.mountinfo import Mount, mount_id_of_fd, mount_over, mounts

_FIRST: Final = 1
_MAY_READ_ALL: Final = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (linux/capability.h)
_ENDED: Final = (FileNotFoundError, ProcessLookupError)


class Reach(NamedTuple):
    """One way of a process to the directory. uid: effective. groups: its ``cgroup`` file. namespace: the link
    of its mount namespace. what: ``mount``, ``cwd``, ``root``, ``exe`` or ``file``. path: as the process sees
    it. given: True if it is a mount that other programs of the machine do not have."""

    pid: int
    uid: int
    command: str
    groups: str
    namespace: str
    what: str
    path: str
    given: bool


class Look(NamedTuple):
    """The result of a look at all processes. unseen: the uids of those that this one may not look at."""

    found: list[Reach]
    unseen: list[int]


class _Place(NamedTuple):
    """A directory within its file system: one that bind mounts share."""

    device: int
    path: str


class _View(NamedTuple):
    """The mounts that one root directory in one mount namespace has, and the processes that use it."""

    table: Sequence[Mount]
    pids: list[int]


def look_at(directory: str, own: Collection[int]) -> Look:
    """Return the processes that reach a directory, at most one way of each to each mount.

    directory: absolute, without symlinks, as this process sees it. own: processes that are left out, with
    their descendants. Raises OSError. This can wait in /proc without end (policyfs.linux.procfs).
    """
    ours = mounts()
    places = _places(directory, ours)
    devices = {place.device for place in places}
    views, unseen = _views(own)
    hosts = [ours, *(view.table for view in views.values() if _FIRST in view.pids)]
    found: list[Reach] = []
    for (namespace, _), (table, pids) in views.items():
        given = list(_given(table, places, hosts))
        by_any = next((path for path, guarded in given if not guarded), "")
        for pid in pids:
            with contextlib.suppress(OSError):
                if by_any:
                    found.append(_reach(pid, namespace, "mount", by_any, given=True))
                    break
                if given and _reads_all(pid):
                    found.append(_reach(pid, namespace, "mount", given[0][0], given=True))
                    break
        else:
            whole = views[namespace, "/"].table if (namespace, "/") in views else ()
            for pid in pids:
                with contextlib.suppress(OSError):
                    for what, path in _uses(pid, directory, whole, devices):
                        found.append(_reach(pid, namespace, what, path, given=False))
                        break
    return Look(found, unseen)


def reaches(source: str, store: str) -> bool:
    """Return True if a directory is the store, or has it, or is in it. Both are without symlinks."""
    return _is_in(source, store) or _is_in(store, source)


def shares_of(directory: str) -> Iterator[str]:
    """Yield the paths at which this mount namespace has the directory, or a part of it, a second time."""
    table = mounts()
    places, tree = _places(directory, table), _Tree(table)
    for mount in table:
        for place in places:
            path = _exposed(mount, place)
            if path is not None and not _is_in(path, directory) and tree.is_seen(mount, path):
                yield path
                break


def _places(directory: str, table: Sequence[Mount]) -> list[_Place]:
    """Return the places of a directory, and of the file systems mounted in it."""
    over = mount_over(directory, table)
    if over is None:
        raise FileNotFoundError(f"{directory} is in no mount")
    within = (one for one in table if one.path != directory and _is_in(one.path, directory))
    parts = (_Place(one.device, one.root) for one in within if not one.fstype.startswith("fuse"))
    return [_place_of(over, directory), *parts]


def _place_of(mount: Mount, path: str) -> _Place:
    return _Place(mount.device, os.path.normpath(os.path.join(mount.root, os.path.relpath(path, mount.path))))


def _is_in(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _exposed(mount: Mount, place: _Place) -> str | None:
    """Return the path at which a mount has a place, or a part of it; None if it has nothing of it."""
    if mount.device != place.device:
        return None
    if _is_in(mount.root, place.path):
        return mount.path
    if not _is_in(place.path, mount.root):
        return None
    return os.path.normpath(os.path.join(mount.path, os.path.relpath(place.path, mount.root)))


def _given(
    table: Sequence[Mount], places: Sequence[_Place], hosts: Sequence[Sequence[Mount]]
) -> Iterator[tuple[str, bool]]:
    """Yield the paths at which a view has a part of the places, but programs of the machine have not. With
    each path, True if the mode of the directory still guards it: then only root gets in."""
    same = [host for host in hosts if _root_of(host) == _root_of(table)]
    entries = {(one.device, one.root, one.path) for host in same for one in host}
    tree = _Tree(table)
    for mount in table:
        for place in places:
            path = _exposed(mount, place)
            if path is None or not tree.is_seen(mount, path):
                continue
            is_above = not _is_in(mount.root, place.path)
            there = _Place(mount.device, place.path if is_above else mount.root)
            overs = [over for host in same if (over := mount_over(path, host)) is not None]
            is_at_same = any(_place_of(over, path) == there for over in overs)
            if is_at_same and (is_above or (mount.device, mount.root, mount.path) in entries):
                continue
            yield path, is_at_same or is_above


def _root_of(table: Sequence[Mount]) -> tuple[int, str] | None:
    return next(((one.device, one.root) for one in reversed(table) if one.path == "/"), None)


class _Tree:
    """The mounts of a table, found by their numbers. INVARIANT: no work for each pair of mounts: any user may
    have as many as a namespace may have."""

    def __init__(self, table: Iterable[Mount]) -> None:
        self._by_id: dict[int, Mount] = {}
        self._above: dict[tuple[int, str], set[int]] = {}
        for one in table:
            self._by_id.setdefault(one.mount_id, one)
            self._above.setdefault((one.parent_id, one.path), set()).add(one.mount_id)

    def is_seen(self, mount: Mount, path: str) -> bool:
        """Return True if a path leads into this mount, and no other one covers it there or on the way."""
        via = mount
        while True:
            own = {via.mount_id, mount.mount_id}
            if any(self._above.get((mount.mount_id, one), own) - own for one in _ways(path)):
                return False
            path, via = mount.path, mount
            above = self._by_id.get(mount.parent_id)
            if above is None or above.mount_id == mount.mount_id:
                return True
            mount = above


def _ways(path: str) -> Iterator[str]:
    yield path
    while path != "/":
        path = os.path.dirname(path)
        yield path


def _views(own: Collection[int]) -> tuple[Mapping[tuple[str, str], _View], list[int]]:
    """Return the views of all processes by mount namespace and root, each read once, and the uids of the
    processes that cannot be looked at."""
    views: dict[tuple[str, str], _View] = {}
    unseen: list[int] = []
    left_out = {os.getpid(), *own}
    for pid in procfs.pids():  # ascending: a parent mostly comes first
        try:
            parent = int(procfs.text(pid, "stat").rpartition(")")[2].split()[1])
            if pid in left_out or parent in left_out:
                left_out.add(pid)
                continue
            key = os.fsdecode(procfs.link(pid, "ns/mnt")), os.fsdecode(procfs.link(pid, "root"))
            if key not in views:
                views[key] = _View(mounts(pid), [])
            views[key].pids.append(pid)
        except _ENDED:
            continue
        except PermissionError:
            with contextlib.suppress(OSError):
                unseen.append(_rights(pid)[0])
    return views, unseen


def _uses(
    pid: int, directory: str, table: Sequence[Mount], devices: Collection[int]
) -> Iterator[tuple[str, str]]:
    """Yield the uses of a directory by a process, by the names of what it uses. table: of the process's mount
    namespace: what it has at the path of the directory may be on another device."""
    for what in ("cwd", "root", "exe"):
        with contextlib.suppress(OSError):
            path = os.fsdecode(procfs.link(pid, what))
            over = mount_over(path, table) if _is_in(path, directory) else None
            if _is_in(path, directory) and (over is None or over.device in devices):
                yield what, path
    for fd, path in procfs.links(pid, "fd"):
        if path.startswith(directory) and _is_in(path, directory):
            with contextlib.suppress(OSError):
                number = mount_id_of_fd(int(fd), pid)
                if all(one.mount_id != number or one.device in devices for one in table):
                    yield "file", path


def _reach(pid: int, namespace: str, what: str, path: str, *, given: bool) -> Reach:
    uid, _ = _rights(pid)
    command = procfs.text(pid, "comm").rstrip("\n")
    return Reach(pid, uid, command, procfs.text(pid, "cgroup"), namespace, what, path, given)


def _reads_all(pid: int) -> bool:
    """Return True if no mode of a directory keeps a process out."""
    uid, capabilities = _rights(pid)
    same = procfs.link(pid, "ns/user") == os.fsencode(os.readlink("/proc/self/ns/user"))
    return uid == 0 or (same and bool(capabilities & _MAY_READ_ALL))


def _rights(pid: int) -> tuple[int, int]:
    fields = dict(line.split(":\t", 1) for line in procfs.text(pid, "status").splitlines() if ":\t" in line)
    return int(fields["Uid"].split("\t")[1]), int(fields["CapEff"], 16)

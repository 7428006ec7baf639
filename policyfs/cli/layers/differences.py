"""The differences that a commit of a layer would make in the store, for people and for programs."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from policyfs.cli.common.colour import paint
from policyfs.cli.layers.changes import (
    DIRECTORY,
    Below,
    Entry,
    Found,
    Place,
    entries,
    moved,
    parent_of,
    same_content,
    status_of,
    xattrs,
)
from policyfs.linux.libc import open_beneath
from policyfs.trail.lines.table import shown

_MOST_TEXT: Final = 256 << 10
_MOST_LINES: Final = 5000
"""The largest texts that are compared line by line, which may take the square of their lines."""
_SIGNS: Final = {"added": "+", "changed": "~", "removed": "-", "renamed": ">"}
_COLOURS: Final = {"added": "32", "changed": "33", "removed": "31", "renamed": "36"}


class Difference(NamedTuple):
    """One path that differs. kind: a key of _SIGNS. what: of a changed object, its changed parts. old: the
    former path of a renamed file. is_directory: True also for a removed one, with all that is in it."""

    kind: str
    path: bytes
    is_directory: bool
    what: tuple[str, ...] = ()
    old: bytes = b""

    def fields(self) -> dict[str, object]:
        """Return the difference for JSON."""
        path = os.fsdecode(self.path) + "/" * self.is_directory
        fields: dict[str, object] = {"kind": self.kind, "path": path}
        if self.what:
            fields["what"] = list(self.what)
        return fields | {"from": os.fsdecode(self.old)} if self.old else fields

    def text(self, note: str = "", *, colours: bool = False) -> str:
        """Return the difference as one line."""
        path = shown(os.fsdecode(self.path)) + "/" * self.is_directory
        more = f"  ({', '.join(self.what)})" if self.what else ""
        old = f"{shown(os.fsdecode(self.old))} -> " if self.old else ""
        line = f"{_SIGNS[self.kind]} {old}{path}{more}"
        line = paint(line, _COLOURS[self.kind]) if colours else line
        return f"{line}{f'  [{note}]' if note else ''}"


def differences(upper: int, view: int) -> list[Difference]:
    """Return what differs between a layer and the view below it, sorted by path. Raises OSError."""
    with contextlib.closing(Below(view)) as below:
        found = [
            one for entry in entries(upper) for one in _of_entry(entry, below.status(entry.path), upper, view)
        ]
    return sorted(_with_renames(found, upper, view), key=lambda one: one.path)


def _of_entry(entry: Entry, now: os.stat_result | None, upper: int, view: int) -> Iterator[Difference]:
    was_directory = now is not None and stat.S_ISDIR(now.st_mode)
    if entry.is_gone:
        if now is not None:
            yield Difference("removed", entry.path, was_directory)
        return
    if now is None:
        yield Difference("added", entry.path, entry.is_directory)
        return
    if what := tuple(_parts(entry, now, (upper, entry.path), (view, entry.path))):
        yield Difference("changed", entry.path, entry.is_directory, what)
    if entry.is_opaque and was_directory:
        for name in sorted(_names(view, entry.path) - _names(upper, entry.path)):
            path = os.path.join(entry.path, name)
            status = status_of((view, path))
            yield Difference("removed", path, status is not None and stat.S_ISDIR(status.st_mode))


def _names(root: int, path: bytes) -> set[bytes]:
    fd = open_beneath(root, path, DIRECTORY)
    try:
        return set(os.listdir(f"/proc/self/fd/{fd}".encode()))
    finally:
        os.close(fd)


def _parts(entry: Entry, now: os.stat_result, ours: Place, theirs: Place) -> Iterator[str]:
    wanted = entry.stat
    kind = stat.S_IFMT(wanted.st_mode)
    if kind != stat.S_IFMT(now.st_mode):
        yield "type"
        return
    if kind == stat.S_IFLNK:
        if _target(ours) != _target(theirs):
            yield "target"
        return
    if kind == stat.S_IFREG and (wanted.st_size != now.st_size or not same_content(ours, theirs)):
        yield "content"
    if stat.S_IMODE(wanted.st_mode) != stat.S_IMODE(now.st_mode):
        yield f"mode {stat.S_IMODE(now.st_mode):o} -> {stat.S_IMODE(wanted.st_mode):o}"
    if kind in {stat.S_IFREG, stat.S_IFDIR} and xattrs(ours) != xattrs(theirs):
        yield "extended attributes"
    if kind == stat.S_IFREG and wanted.st_mtime_ns != now.st_mtime_ns:
        yield "time"


def _target(place: Place) -> bytes:
    with parent_of(place) as (directory, name):
        return os.readlink(name, dir_fd=directory)


def _with_renames(found: list[Difference], upper: int, view: int) -> Iterator[Difference]:
    """Yield a removed and an added file that are moved() as one renamed file."""
    names = moved(_files("removed", found, view), _files("added", found, upper), upper, view)
    olds = set(names.values())
    for one in found:
        if old := names.get(one.path):
            yield Difference("renamed", one.path, is_directory=False, old=old)
        elif one.path not in olds:
            yield one


def _files(kind: str, found: list[Difference], root: int) -> Iterator[Found]:
    for one in found:
        if one.kind == kind and not one.is_directory and (status := status_of((root, one.path))):
            yield one.path, status


def text_of(one: Difference, upper: int, view: int, *, colours: bool = False) -> Iterator[str]:
    """Yield the lines of a unified diff of a text; nothing if one side is no text, or too long."""
    if one.is_directory or one.kind == "renamed" or (one.kind == "changed" and "content" not in one.what):
        return
    old = [] if one.kind == "added" else _lines((view, one.path))
    new = [] if one.kind == "removed" else _lines((upper, one.path))
    if old is None or new is None:
        return
    for line in itertools.islice(difflib.unified_diff(old, new, lineterm=""), 2, None):
        colour = {"+": "32", "-": "31", "@": "36"}.get(line[:1])
        yield paint(shown(line), colour) if colour and colours else shown(line)


def _lines(place: Place) -> list[str] | None:
    try:
        with open(open_beneath(*place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            data = file.read(_MOST_TEXT + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b"\0"
        text = data.decode()
    except (OSError, UnicodeDecodeError):
        return None
    lines = text.splitlines()
    return None if len(data) > _MOST_TEXT or "\0" in text or len(lines) > _MOST_LINES else lines

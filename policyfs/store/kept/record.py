"""Records of changes for undo, one JSON line each, with the state of the object before the change."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Final, NamedTuple, Self

from policyfs.domain import FileType
from policyfs.linux.libc import proc_fd
from policyfs.linux.statx import Stat, fstatx
from policyfs.store.owner import OWNER_XATTR

OWN: Final = "the app has made it just before"
"""The reason (Record.why) not to keep a file of the app itself: an undo needs none of its bytes."""
NOTES: Final = frozenset({"date", "left", "done"})
"""Records of `policyfs undo` that are no changes: a directory's old mtime (asked), which is set last; a
change that could not be taken back; the end. Dates after the last `done` are of one that was killed."""
_TIME: Final = b'{"time_ns": '
_DIGITS: Final = 20
_PATH: Final = re.compile(rb"/?|(/(?!\.\.?(/|\Z))[^/\0]+)+")


class Inode(NamedTuple):
    """The number that tells an object from all others of its file system, and its birth time (ns; 0 if the
    file system has none)."""

    ino: int
    btime_ns: int

    @classmethod
    def of(cls, stat: Stat) -> Self:
        """Return the inode that has these attributes."""
        return cls(stat.ino, stat.btime_ns)


class State(NamedTuple):
    """The attributes of an object before a change. size in bytes, times in ns since 1970."""

    ino: int
    btime_ns: int
    ftype: str
    mode: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int

    @classmethod
    def of(cls, stat: Stat) -> Self:
        """Return the state in these attributes."""
        return cls(
            stat.ino, stat.btime_ns, stat.ftype.value, stat.mode, stat.uid, stat.gid, stat.size,
            stat.atime_ns, stat.mtime_ns,
        )  # fmt: skip

    @property
    def inode(self) -> Inode:
        """The object's inode."""
        return Inode(self.ino, self.btime_ns)


@dataclass(frozen=True, slots=True)
class Record:
    """One change under a rule with `keep`, or what became of one.

    op: `unlink`, `rmdir`, `rename`, `replace` (a rename over another object), `exchange`, `write`, `attr`
    (mode, owner, times), `xattr`; `end` (a file that `write` told of was closed), `gone` (a kept object
    was removed), `dated` (names were made in a directory); of `policyfs undo`, `put` and `mkdir`, and
    NOTES. path, new: within the store. before: of the object that is lost or changed; of an `end`,
    afterwards. moved: of a rename, the object that moves. until_s: since 1970. kept: the name of the kept
    object, "" if there is none. asked: the attributes that the app has set. xattrs: their old values
    (None: absent), and of `rmdir` all. set: the new value of one. above: the mtimes of the directories (of
    path, of new) in ns. own: True if the app has made the moved object just before. why: the reason if
    bytes could not be kept; of a `date`, the app. of: of `policyfs undo`, time_ns of the change that it
    takes back."""

    time_ns: int
    op: str
    path: bytes
    until_s: int
    uid: int = -1
    pid: int = 0
    new: bytes = b""
    before: State | None = None
    moved: Inode | None = None
    kept: str = ""
    asked: dict[str, int] = field(default_factory=dict)
    xattrs: dict[str, bytes | None] = field(default_factory=dict)
    set: dict[str, bytes | None] = field(default_factory=dict)
    above: tuple[int, ...] = ()
    own: bool = False
    why: str = ""
    of: int = 0

    def line(self) -> bytes:
        """Return the record as a line of JSON, which begins with its time."""
        fields = {name: value for name, value in asdict(self).items() if value or name == "time_ns"}
        fields |= {name: os.fsdecode(fields[name]) for name in ("path", "new") if name in fields}
        for name in ("xattrs", "set"):
            if name in fields:
                fields[name] = {
                    key: None if value is None else base64.b64encode(value).decode()
                    for key, value in fields[name].items()
                }
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Record:
        """Parse a line. Raise ValueError if it is no record."""
        try:
            fields = json.loads(line)
            for name in ("path", "new"):
                fields[name] = os.fsencode(fields.get(name, ""))
                if not _PATH.fullmatch(fields[name]):
                    raise ValueError(f"no path: {fields[name]!r}")
            numbers = [fields.get(name, 0) for name in ("until_s", "uid", "pid", "of")]
            for name, kind in (("before", State), ("moved", Inode)):
                if name in fields:
                    found = fields[name] = kind(*fields[name])
                    numbers += found[:2] + found[3:]
            if set(map(type, numbers)) != {int}:
                raise ValueError("no number")
            fields["above"] = tuple(fields.get("above", ()))
            for name in ("xattrs", "set"):
                fields[name] = {
                    key: None if value is None else base64.b64decode(value)
                    for key, value in fields.get(name, {}).items()
                }
            return cls(**fields)
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"no record: {error}") from error


def records_since(lines: Iterable[bytes], since_ns: int, until_ns: int) -> Iterator[Record]:
    """Yield the records of this time in the lines of a file, and skip what a crash has cut. Lines of other
    times are not parsed."""
    for line in lines:
        if not line.startswith(_TIME):
            continue
        digits = line[len(_TIME) : len(_TIME) + _DIGITS].partition(b",")[0]
        if digits.isdigit() and since_ns <= int(digits) <= until_ns:
            try:
                yield Record.of_line(line)
            except ValueError:
                continue


def xattrs_of(fd: int, *names: bytes) -> dict[str, bytes | None]:
    """Return these extended attributes of an open object (O_PATH is enough); None: absent. Without names,
    all."""
    path = proc_fd(fd)
    if fstatx(fd).ftype is FileType.SYMLINK:
        return {}
    found: dict[str, bytes | None] = {}
    for name in names or map(os.fsencode, os.listxattr(path)):
        try:
            found[os.fsdecode(name)] = os.getxattr(path, name)
        except OSError:
            found[os.fsdecode(name)] = None
    return found


OWNER: Final = os.fsdecode(OWNER_XATTR)

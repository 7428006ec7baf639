"""The store's tree as undo plans it: each object that a planned step has moved, made or removed, elsewhere as
it is. Only what a plan names is looked at."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Final

from policyfs.domain import FileType
from policyfs.linux.libc import get_xattr
from policyfs.linux.statx import Stat, fstatx, statx
from policyfs.store.kept.record import Inode, State
from policyfs.store.owner import OWNER_XATTR, decode
from policyfs.store.tree import Tree

_OPEN: Final = 64


class Place:
    """An object of the planned tree.

    real: the path in the store where it is now, None for a kept one, or one that a step makes. is_gone: True
    for an object that is no more, but was there at the time to which a plan has gone back."""

    __slots__ = ("above", "attrs", "children", "is_gone", "name", "owner", "real")

    def __init__(self, attrs: State, real: bytes | None = None, owner: str = "") -> None:
        self.attrs = attrs
        self.real = real
        self.owner = owner
        self.is_gone = False
        self.name = b""
        self.above: Place | None = None
        self.children: dict[bytes, Place | None] = {}

    @property
    def inode(self) -> Inode:
        """The object's inode."""
        return self.attrs.inode

    @property
    def path(self) -> bytes:
        """The object's planned path."""
        names: list[bytes] = []
        at: Place | None = self
        while at is not None and at.above is not None:
            names.append(at.name)
            at = at.above
        return b"/" + b"/".join(reversed(names))


class Remade:
    """The directories that undo has made again, each with another inode than the removed one had. All names
    of one directory count as the first."""

    def __init__(self) -> None:
        self._older: dict[Inode, Inode] = {}
        self._newer: dict[Inode, Inode] = {}

    def add(self, old: Inode, new: Inode) -> None:
        """Note that *new* was made in the place of *old*."""
        self._older[new], self._newer[old] = old, new

    def first(self, inode: Inode) -> Inode:
        """Return the inode that the directory had first."""
        while inode in self._older:
            inode = self._older[inode]
        return inode

    def present(self, inode: Inode) -> Inode:
        """Return the inode that the directory has now."""
        while inode in self._newer:
            inode = self._newer[inode]
        return inode


class Places:
    """The planned tree of one store."""

    def __init__(self, tree: Tree, remade: Remade) -> None:
        """tree: of the store."""
        self._tree = tree
        self._remade = remade
        self.root = Place(State.of(fstatx(tree.root_fd)), b"")
        self._fds: OrderedDict[bytes, int] = OrderedDict()

    def close(self) -> None:
        """Close all descriptors."""
        while self._fds:
            os.close(self._fds.popitem()[1])

    def find(self, path: bytes) -> Place | None:
        """Return the object at a path, or None."""
        at: Place | None = self.root
        for name in path.split(b"/"):
            if name:
                at = None if at is None else self._child(at, name)
        return at

    def above(self, path: bytes) -> Place | None:
        """Return the directory in which a path's last name is, or None if there is none."""
        found = self.find(os.path.dirname(path))
        return found if found is not None and found.attrs.ftype == FileType.DIRECTORY.value else None

    def put(self, place: Place, path: bytes) -> None:
        """Plan an object at a path, whose directory exists."""
        self.take(place)
        above = self.above(path)
        if above is None:
            raise FileNotFoundError(path)
        place.above, place.name = above, os.path.basename(path)
        above.children[place.name] = place

    def take(self, place: Place) -> None:
        """Plan that an object has no path."""
        if place.above is not None:
            place.above.children[place.name] = None
            place.above = None

    def _child(self, at: Place, name: bytes) -> Place | None:
        if name in at.children:
            found = at.children[name]
            return None if found is None or found.is_gone else found
        if at.real is None or at.attrs.ftype != FileType.DIRECTORY.value:
            return None
        found = None
        try:
            stat = statx(self._fd(at.real), name)
            real = at.real + b"/" + name
            first = self._remade.first(Inode.of(stat))
            state = State.of(stat)._replace(ino=first.ino, btime_ns=first.btime_ns)
            found = Place(state, real, self._owner(at.real, name, stat))
            found.name, found.above = name, at
        except (FileNotFoundError, NotADirectoryError):
            pass
        at.children[name] = found
        return found

    def gone(self, path: bytes) -> Place | None:
        """Return the object at a path if it is one that is no more."""
        above = self.above(path)
        found = None if above is None else above.children.get(os.path.basename(path))
        return found if found is not None and found.is_gone else None

    def _owner(self, real: bytes, name: bytes, stat: Stat) -> str:
        if stat.ftype is not FileType.REGULAR:
            return ""
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd(real))
        except FileNotFoundError:
            return ""
        try:
            value = get_xattr(fd, OWNER_XATTR)
            return "" if value is None else decode(value, stat)
        finally:
            os.close(fd)

    def _fd(self, real: bytes) -> int:
        found = self._fds.get(real)
        if found is None:
            found = open_directory(self._tree, real)
            self._fds[real] = found
            if len(self._fds) > _OPEN:
                os.close(self._fds.popitem(last=False)[1])
        self._fds.move_to_end(real)
        return found


def open_directory(tree: Tree, path: bytes) -> int:
    """Return an O_PATH descriptor of a directory of the store. Raise OSError, also for a symlink."""
    names = [name for name in path.split(b"/") if name]
    return tree.open_below(tree.root_fd, names) if names else os.dup(tree.root_fd)

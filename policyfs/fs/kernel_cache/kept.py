"""The kernel's cache timeouts of one path, for ``policyfs status --path``."""

from __future__ import annotations

import os
from dataclasses import dataclass

from policyfs.domain import FileType, Need, Op
from policyfs.errors import PolicyfsError
from policyfs.fs.access.gate import Gate
from policyfs.fs.inodes.node_table import NodeTable
from policyfs.fs.kernel_cache.attributes import LONG_S, Timeouts
from policyfs.linux.statx import Stat
from policyfs.policy.decide import Engine
from policyfs.policy.explain.kept import kept_by_kernel
from policyfs.store.tree import Tree


@dataclass(frozen=True, slots=True)
class Kept:
    """The timeouts of one path in seconds, and their reasons. attributes_s: None for an absent name. listing:
    True if the kernel may keep the directory's listing; None for other objects."""

    path: str
    type: str
    name_s: float
    attributes_s: float | None
    listing: bool | None
    why: tuple[str, ...]


def names_in(path: str) -> list[bytes]:
    """Return the names in a path of the mount. Raise PolicyfsError for a relative path, ``.`` or ``..``."""
    names = [name for name in os.fsencode(path).split(b"/") if name]
    if not path.startswith("/") or b"." in names or b".." in names:
        raise PolicyfsError(f"{path}: write the path within the mount, such as /DCIM/a.jpg")
    return names


def find(tree: Tree, names: list[bytes]) -> Stat | None:
    """Return the attributes of the object at a path, or None. May wait for the disk. Raise PolicyfsError if
    the store cannot be read there."""
    if not names:
        return tree.fstat(tree.root_fd)
    try:
        fd = tree.open_below(tree.root_fd, names[:-1]) if names[1:] else os.dup(tree.root_fd)
        try:
            return tree.stat(fd, names[-1])
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise PolicyfsError(f"{os.fsdecode(b'/' + b'/'.join(names))}: {error.strerror}") from error


def kept(names: list[bytes], stat: Stat | None, *, gate: Gate, timeouts: Timeouts, nodes: NodeTable) -> Kept:
    """Return the timeouts of a path, and their reasons. stat: the object's attributes, or None."""
    engine = gate.engine
    path = b"/" + b"/".join(names)
    state = engine.state_of(path)
    shown = path.decode("utf-8", "backslashreplace")
    ftype = FileType.REGULAR if stat is None else stat.ftype
    why = [_reason(engine, timeouts, path, ftype)]
    if stat is None:
        # In an app mount uid 0 is the app. In a shared mount only answers that all callers get are kept.
        need = engine.needs(gate.principal(0), Op.SEE, state, FileType.REGULAR)
        name_s = timeouts.missing(state, by_kind=bool(need & Need.KIND))
        return Kept(shown, "absent", name_s, None, None, tuple(why))
    reported = ftype is not FileType.DIRECTORY or _is_reported(names, timeouts, nodes)
    name_s = timeouts.entry(state, ftype)
    attributes_s = timeouts.attributes(state, stat, reported=reported)
    if name_s and not timeouts.watched:
        why.append("no watch reports changes of the store, so nothing is kept longer than a second")
    elif not reported:
        why.append(
            "the daemon has not opened this directory yet, so it would not notice changes in the directory"
        )
    elif ftype is FileType.REGULAR and stat.nlink > 1:
        why.append("a program may write the file by another name, where no watch would notice it")
    elif ftype is FileType.REGULAR and 0 < attributes_s < LONG_S:
        why.append("the older a file's last change is, the longer its attributes are kept, up to a minute")
    if timeouts.told_apart and not timeouts.alone:
        why.append("an app sees owners and modes that match its rights, so attributes are not kept")
    listing = timeouts.listing(state) if ftype is FileType.DIRECTORY else None
    return Kept(shown, ftype.name.lower(), name_s, attributes_s, listing, tuple(why))


def _reason(engine: Engine, timeouts: Timeouts, path: bytes, ftype: FileType) -> str:
    """Return a sentence that tells why the mount's type or policy gives a path these timeouts."""
    if timeouts.guarded:
        return "asks the daemon each time: the mount admits only some callers"
    if timeouts.uids_differ:
        return "asks the daemon each time: the mount admits every uid, and rules distinguish uids"
    if timeouts.alone:
        return "keeps every answer: only one app uses this mount"
    if timeouts.posix and engine.caller_matters(engine.state_of(path)):
        return "asks the daemon each time: with --posix all operations count, and rules distinguish callers"
    return kept_by_kernel(engine, engine.state_of(path), ftype)


def _is_reported(names: list[bytes], timeouts: Timeouts, nodes: NodeTable) -> bool:
    node = nodes.root
    for name in names:
        found = nodes.directory(node, name)
        if found is None:
            return False
        node = found
    return timeouts.reported(node)

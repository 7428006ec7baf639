"""The answer to `policyfs status`: one plain JSON object."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from policyfs.content.disk_cache import Remembered
from policyfs.content.sniffer import Sniffer
from policyfs.daemon.contain import containment
from policyfs.daemon.control import control
from policyfs.daemon.control import server as control_server
from policyfs.daemon.inotify import Inotify
from policyfs.daemon.log import Fields, Notice
from policyfs.daemon.options import MountOptions
from policyfs.daemon.policies.policies import Policies
from policyfs.daemon.worker_losses import RECENT_NS
from policyfs.domain import FileType
from policyfs.errors import PolicyfsError
from policyfs.fs.filesystem import FileSystem
from policyfs.fs.inodes.saved_nodes import NOBODY
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.report import fields, report
from policyfs.journal.writing.journal import Journal
from policyfs.kernel.bridge import counters, lost_replies, waiting
from policyfs.linux.code_digest import VERSION
from policyfs.linux.statx import Stat, cached_stat
from policyfs.policy.exceptions import PREFIX, ended, instant_text
from policyfs.policy.model import Policy
from policyfs.store.facts import StoreFacts
from policyfs.store.tree import Tree
from policyfs.trail.lines.line import iso_time


class Reported(Protocol):
    """The parts of a running daemon that its status reports."""

    fs: FileSystem
    facts: StoreFacts
    root: control.Json
    code: str
    journal: Journal
    sniffer: Sniffer
    inotify: Inotify | None
    remembered: Remembered | None
    policies: Policies
    trail: Path
    started_ns: int
    leaving: bool
    state: SavedState | None

    @property
    def options(self) -> MountOptions: ...
    @property
    def connection(self) -> int: ...
    @property
    def bugs(self) -> int: ...


def describe(daemon: Reported) -> control.Json:
    """Return the present state of a daemon: its counts, and sizes in bytes."""
    options, engine = daemon.options, daemon.fs.gate.engine
    return {
        "mountpoint": options.mountpoint,
        "mount_id": control.mount_id(options.mountpoint),
        "store": options.store,
        "store_fs": daemon.facts.name,
        "root": daemon.root,
        "app": options.app,
        "admits": {
            "any": options.user_id is None,
            "uid": options.user_id,
            "gids": list(options.group_ids),
        },
        "options": options.told.get("options"),
        "posix": options.posix,
        "read_only": options.read_only,
        "copy_bytes": options.copy_bytes,
        "nodes_max": options.nodes,
        "reflink": daemon.facts.reflink,
        "pid": os.getpid(),
        "version": VERSION,
        "code": daemon.code,
        "started": iso_time(daemon.started_ns),
        "leaving": daemon.leaving,
        "takeover": None if daemon.state is None else _takeover(daemon.state),
        "connection": daemon.connection,
        "policy": {
            "name": engine.policy.name,
            "file": options.policy,
            "digest": engine.digest,
            "previous": daemon.policies.previous,
            "generation": daemon.fs.gate.generation,
            "monitor": engine.monitor,
            "exceptions": _exceptions(engine.policy),
            "modes_of": sorted(name or "stranger" for name in daemon.fs.modes.apps),
        },
        **report(daemon.fs),
        "inotify": _inotify(daemon),
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
        "sniffer": fields(daemon.sniffer.stats()),
        "remembered": None if daemon.remembered is None else fields(daemon.remembered.stats()),
        "contained": fields(containment()),
        "trail": {"directory": str(daemon.trail), **daemon.journal.stats()._asdict()},
        "bugs": daemon.bugs,
        "requests": dict(zip(("waiting", "under_way"), waiting(), strict=True)),
        "lost_replies": lost_replies(),
        "fuse": counters(),
    }


def root_of(tree: Tree, *, writable: bool) -> control.Json:
    """Return how `status` finds the directory that a daemon serves, and knows it again. Raises OSError."""
    found = cached_stat(tree.root_fd, b"")
    return {"fd": tree.root_fd, "device": found.dev, "inode": found.ino, "writable": writable}


def _takeover(state: SavedState) -> control.Json:
    """Return if another daemon would follow a killed one now (why_not: or why not), how many have, and how
    many of these by an upgrade; the last pause in ms, and its reason; the number of changes that were begun
    and came again, and how many of these got EIO; the pid of the keeper, 0 if it has ended; how many files
    and directories in use would be lost, and of which app or stranger (uid) most of them are."""
    again, unknown = state.again
    (upgrades, was_upgrade), has_keeper = state.upgrades, os.getppid() == state.keeper
    reason, why_not = "upgrade" if was_upgrade else "kill", _obstacle(state)
    ((whose, _),) = Counter(state.nodes.unsaved.values()).most_common(1) or [(NOBODY, 0)]
    return {
        "possible": not why_not, "why_not": why_not or None, "unsaved": len(state.nodes.unsaved),
        "unsaved_of": None if whose == NOBODY else str(whose),
        "count": state.takeovers, "upgrades": upgrades,
        "pause_ms": state.pause_ns // 1_000_000 if state.takeovers else None,
        "reason": reason if state.takeovers else None,
        "again": again, "unknown": unknown, "keeper": state.keeper if has_keeper else 0,
    }  # fmt: skip


def conditions(daemon: Reported) -> dict[Notice, Callable[[], Fields | None]]:
    """Return the functions that tell which states of a daemon an administrator must know, see Conditions."""

    def no_takeover() -> Fields | None:
        why = daemon.state is not None and _obstacle(daemon.state)
        return {"reason": why} if why else None

    def unsaved() -> Fields | None:
        count = 0 if daemon.state is None else len(daemon.state.nodes.unsaved)
        return {"count": count} if count else None

    def failing() -> Fields | None:
        stats = daemon.journal.stats()
        return {"trail": str(daemon.trail), "reason": stats.last_error} if stats.failing else None

    def dropped() -> Fields | None:
        return {"count": count} if (count := daemon.journal.stats().dropped) else None

    def lost() -> Fields | None:
        stats = daemon.sniffer.stats()
        recent = time.time_ns() - stats.last_loss_ns < RECENT_NS
        return {"failed": stats.failed, "reason": stats.last_error} if recent else None

    return {
        Notice.NO_TAKEOVER: no_takeover, Notice.UNSAVED_FILES: unsaved, Notice.TRAIL_FAILING: failing,
        Notice.EVENTS_LOST: dropped, Notice.WORKERS_LOST: lost,
    }  # fmt: skip


def _obstacle(state: SavedState) -> str:
    """Return why no other daemon would follow this one; empty if one would."""
    return state.obstacle if os.getppid() == state.keeper else "the keeper has ended"


def _inotify(daemon: Reported) -> control.Json | str | None:
    """Return None without --inotify, "none" if the store cannot be watched."""
    if daemon.inotify is None:
        return "none" if daemon.options.inotify else None
    return daemon.inotify.report()


def questions_about(fs: FileSystem) -> dict[str, control_server.Question]:
    """Return the functions that answer questions about a path, by their command on the control socket."""
    return {"file": partial(file_of, fs)}


def _exceptions(policy: Policy) -> list[dict[str, object]]:
    gone = ended(policy)
    return [
        {
            "id": one.rule.id.removeprefix(PREFIX),
            "until": instant_text(one.until_ns),
            "approved_by": one.approved_by,
            "reason": one.reason,
            "in_force": one not in gone,
        }
        for one in policy.exceptions
    ]


async def file_of(fs: FileSystem, path: str) -> control.Json:
    """Return how a file at a path in the mount is open now, with one entry for each view in use."""
    names, tree = _names_in(path), fs.context.tree
    stat = await trio.to_thread.run_sync(_find, tree, names)
    if stat is None or stat.ftype is not FileType.REGULAR:
        return {"open": []}
    found = []
    for node in fs.nodes.same_inode(fs.nodes.key_of(stat)):
        fs.nodes.vectors.drop(node)
        state = node.open
        if state is not None:
            head = None if state.head is None else state.head.held
            found.append(
                {
                    "view": node.view.label,
                    "byte_path": node.byte_path.value,
                    "mode": state.mode.value,
                    "handles": state.handles,
                    "writers": state.writers,
                    "held": len(head or b"") + (0 if state.draft is None else state.draft.size),
                }
            )
    return {"open": found}


def _names_in(path: str) -> list[bytes]:
    """Return the names in a path of the mount. Raise PolicyfsError for a relative path, ``.`` or ``..``."""
    names = [name for name in os.fsencode(path).split(b"/") if name]
    if not path.startswith("/") or b"." in names or b".." in names:
        raise PolicyfsError(f"{path}: write the path within the mount, such as /DCIM/a.jpg")
    return names


def _find(tree: Tree, names: list[bytes]) -> Stat | None:
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

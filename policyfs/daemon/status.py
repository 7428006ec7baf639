"""What `policyfs status` says of a mount: one plain JSON object."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from policyfs import __version__
from policyfs.content.disk_cache import Remembered
from policyfs.content.sniffer import Sniffer
from policyfs.daemon import control
from policyfs.daemon.contain import containment
from policyfs.daemon.options import MountOptions
from policyfs.daemon.policies import Policies
from policyfs.fs.filesystem import FileSystem
from policyfs.journal.journal import Journal
from policyfs.kernel.bridge import waiting
from policyfs.store.facts import StoreFacts
from policyfs.trail.line import iso_time


class Reported(Protocol):
    """What a running daemon can be asked for."""

    fs: FileSystem
    facts: StoreFacts
    journal: Journal
    sniffer: Sniffer
    remembered: Remembered | None
    policies: Policies
    trail: Path
    started_ns: int
    leaving: bool

    @property
    def options(self) -> MountOptions: ...
    @property
    def connection(self) -> int: ...
    @property
    def bugs(self) -> int: ...
    @property
    def lost_replies(self) -> int: ...
    def fuse_counters(self) -> dict[str, int]: ...


def describe(daemon: Reported) -> control.Json:
    """The state of a daemon, now. Counts; sizes in bytes."""
    options, engine = daemon.options, daemon.fs.gate.engine
    journal, copies, sniffer = daemon.journal.stats(), daemon.fs.copies.stats(), daemon.sniffer.stats()
    notifier = None if daemon.fs.notifier is None else daemon.fs.notifier.stats()
    handles = list(daemon.fs.handles)
    return {
        "mountpoint": options.mountpoint,
        "mount_id": control.mount_id(options.mountpoint),
        "store": options.store,
        "store_fs": daemon.facts.name,
        "app": options.app,
        "pid": os.getpid(),
        "version": __version__,
        "started": iso_time(daemon.started_ns),
        "leaving": daemon.leaving,
        "connection": daemon.connection,
        "policy": {
            "name": engine.policy.name,
            "digest": engine.digest,
            "previous": daemon.policies.previous,
            "generation": daemon.fs.gate.generation,
            "monitor": engine.monitor,
            "modes_of": sorted(name or "stranger" for name in daemon.fs.modes.apps),
        },
        "passthrough": {
            "enabled": daemon.fs.passthrough.enabled,
            "why_not": daemon.fs.passthrough.why,
            "opens": daemon.fs.passthrough.passed,
            "refused": dict(daemon.fs.passthrough.refused),
        },
        "handles": {
            "open": len(handles) + len(daemon.fs.listings),
            "files": len(handles),
            "directories": len(daemon.fs.listings),
            "mediated": sum(handle.mode.value == "mediated" for handle in handles),
        },
        "nodes": len(daemon.fs.nodes),
        "nodes_asked_back": daemon.fs.pruning.asked,
        "directory_descriptors": len(daemon.fs.resolver),
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
        "backing_ids": daemon.fs.passthrough.live,
        "leases": {
            "held": daemon.fs.leased.live,
            "refused": daemon.fs.leased.refusals,
            "broken": daemon.fs.leased.breaks,
        },
        "locks": _fields(daemon.fs.locks.stats()),
        "copies": {
            "bytes": copies.bytes,
            "count": copies.copies,
            "pinned": copies.pinned,
            "hits": copies.hits,
            "misses": copies.misses,
            "mapped": copies.mapped,
            "refused": copies.refused,
            "over_share": copies.shares,
        },
        "watch": {
            "running": daemon.fs.changes.watching,
            "events": daemon.fs.changes.events,
            "overflows": daemon.fs.changes.overflows,
        },
        "notifications": None
        if notifier is None
        else {"sent": notifier.sent, "failed": notifier.failed, "refused": notifier.refused},
        "sniffer": _fields(sniffer),
        "second_looks": _fields(daemon.fs.second_looks.stats()),
        "quarantine": _fields(daemon.fs.quarantine.stats()),
        "remembered": None if daemon.remembered is None else _fields(daemon.remembered.stats()),
        "contained": _fields(containment()),
        "trail": {
            "directory": str(daemon.trail),
            "written": journal.written,
            "dropped": journal.dropped,
            "queued": journal.queued,
            "failing": journal.failing,
            "last_error": journal.last_error,
            "refused": journal.refused,
            "bugs": journal.bugs,
            "seq": journal.seq,
            "head": journal.head,
        },
        "bugs": daemon.bugs,
        "requests": dict(zip(("waiting", "under_way"), waiting(), strict=True)),
        "lost_replies": daemon.lost_replies,
        "fuse": daemon.fuse_counters(),
    }


def _fields(stats: object) -> dict[str, object]:
    """The simple fields of a statistics object."""
    slots = getattr(stats, "__dataclass_fields__", {})
    found = {name: getattr(stats, name) for name in slots}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

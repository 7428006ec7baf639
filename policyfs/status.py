"""What `policyfs status` says of a mount: one plain JSON object."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from policyfs import control

if TYPE_CHECKING:
    from policyfs.mount import Daemon


def describe(daemon: Daemon) -> control.Json:
    """The state of a daemon, now. Counts; sizes in bytes."""
    options, engine = daemon.options, daemon.gate.engine
    journal, copies, sniffer = daemon.journal.stats(), daemon.copies.stats(), daemon.sniffer.stats()
    notifier = None if daemon.notifier is None else daemon.notifier.stats()
    handles = list(daemon.handles)
    return {
        "mountpoint": options.mountpoint,
        "mount_id": control.mount_id(options.mountpoint),
        "store": options.store,
        "store_fs": daemon.facts.name,
        "app": options.app,
        "pid": os.getpid(),
        "policy": {
            "name": engine.policy.name,
            "digest": engine.digest,
            "generation": daemon.gate.generation,
            "monitor": engine.monitor,
        },
        "passthrough": {
            "enabled": daemon.passing.enabled,
            "why_not": daemon.passing.why,
            "opens": daemon.passing.passed,
            "refused": dict(daemon.passing.refused),
        },
        "handles": {
            "open": len(handles) + daemon.seeing.listings,
            "files": len(handles),
            "directories": daemon.seeing.listings,
            "mediated": sum(handle.mode.value == "mediated" for handle in handles),
        },
        "nodes": len(daemon.nodes),
        "directory_descriptors": len(daemon.places),
        "descriptors": len(os.listdir("/proc/self/fd")) - 1,
        "backing_ids": daemon.passing.live,
        "leases": {
            "held": daemon.leased.live,
            "refused": daemon.leased.refusals,
            "broken": daemon.leased.breaks,
        },
        "copies": {
            "bytes": copies.bytes,
            "count": copies.copies,
            "pinned": copies.pinned,
            "hits": copies.hits,
            "misses": copies.misses,
        },
        "watch": {
            "running": daemon.changes.watching,
            "events": daemon.changes.events,
            "overflows": daemon.changes.overflows,
        },
        "notifications": None
        if notifier is None
        else {"sent": notifier.sent, "failed": notifier.failed, "refused": notifier.refused},
        "sniffer": _fields(sniffer),
        "trail": {
            "directory": str(options.trail),
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
        "lost_replies": daemon.lost_replies,
        "fuse": daemon.fuse_counters(),
    }


def _fields(stats: object) -> dict[str, object]:
    """The simple fields of a statistics object."""
    slots = getattr(stats, "__dataclass_fields__", {})
    found = {name: getattr(stats, name) for name in slots}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

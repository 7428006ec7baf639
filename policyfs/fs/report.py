"""The file system's part of ``policyfs status``."""

from __future__ import annotations

from policyfs.fs.filesystem import FileSystem
from policyfs.fs.opening.stale_handles import summary
from policyfs.kernel import vectors


def report(fs: FileSystem) -> dict[str, object]:
    """Return the present counts of a mount's file system. Sizes are in bytes."""
    repeats, handles, copies = vectors.stats(), list(fs.handles), fs.copies.stats()
    files, directories = len(handles) + repeats.handles, len(fs.listings) + repeats.listings
    notifier = fs.kernel_cache.notifier
    sent = None if notifier is None else notifier.stats()
    return {
        "passthrough": fs.passthrough.report(),
        "handles": {
            "open": files + directories,
            "files": files,
            "directories": directories,
            "mediated": sum(handle.mode.value == "mediated" for handle in handles),
        },
        "stale_handles": summary(fs.stale_handles.live()),
        "nodes": len(fs.nodes),
        "nodes_asked_back": fs.pruning.asked,
        "directory_descriptors": len(fs.resolver),
        "backing_ids": fs.passthrough.live,
        "leases": fs.leased.report(),
        "locks": fields(fs.locks.stats()),
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
        "watch": fs.changes.report(),
        "notifications": None
        if sent is None
        else {
            "sent": sent.sent,
            "failed": sent.failed,
            "refused": sent.refused,
            "queued": sent.queued,
            "hanging": sent.hanging,
        },
        "vectors": fields(repeats) if fs.nodes.vectors.in_use else None,
        "brakes": fs.gate.brakes.report(fs.gate.engine.policy),
        "quarantine": fields(fs.quarantine.stats()),
        "kept": fs.context.kept.report(),
    }


def fields(stats: object) -> dict[str, object]:
    """Return the simple fields of a statistics object."""
    slots = getattr(stats, "__dataclass_fields__", {})
    found = {name: getattr(stats, name) for name in slots}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

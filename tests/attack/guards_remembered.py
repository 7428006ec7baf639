"""Guards of remembered plans and kinds, taken out; and daemons that stop where a kind is counted on."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

import trio

import policyfs.daemon.daemon as mount_module
from policyfs.content.disk_cache import Remembered
from policyfs.content.sniffer import Sniffer
from policyfs.daemon.daemon import Daemon
from policyfs.fs.access.facts import FactFinder, version_key
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.inodes.node import BytePath
from policyfs.fs.opening.lifecycle import Lifecycle
from policyfs.fs.opening.request import OpenContext
from policyfs.fs.redacted.copies import Redactor
from policyfs.fs.redacted.plans import Proof
from policyfs.fs.redacted.results import CopyKey
from policyfs.linux.statx import Stat
from policyfs.store import frozen
from policyfs.store.locking.leases import Lease
from tests.attack.guards import named, put
from tests.attack.guards_writing import stopper


def stat_is_proof() -> None:
    """A plan that was found under the same stat is used without the proof that nobody wrote since."""
    freeze = Redactor._freeze

    async def trusting(
        self: Redactor, fd: int, stat: Stat, *, clones: bool
    ) -> tuple[frozen.Frozen, Proof | None]:
        copy, _ = await freeze(self, fd, stat, clones=clones)
        return copy, Proof(version_key(stat), lambda: True)

    put(Redactor, "_freeze", trusting)


def kind_by_stat() -> None:
    """A kind that was found under the same stat is believed, and a file is passed through for it."""
    put(FactFinder, "_proven", lambda self, stat, lease, lane: self._kinds.get(version_key(stat), lane))
    put(FactFinder, "_may_keep", lambda self, stat, fd, lease, *, seeing: True)
    unproven_kind()


def times_always_tell() -> None:
    """Every store is said to show in its times that a writer came and went."""
    probe = mount_module.probe
    put(mount_module, "probe", lambda *roots: dataclasses.replace(probe(*roots), times_tell=True))


def unproven_kind() -> None:
    """A file is passed through for the kind that was just found, whoever writes it."""
    put(KindEvidence, "holds", lambda self: True)
    put(KindEvidence, "demand", lambda self: None)


def kind_lease_let_go() -> None:
    """The lease that proves a kind is let go as soon as the kind is found."""
    keep = KindEvidence.keep

    def letting_go(self: KindEvidence, fd: int, lease: Lease | None) -> None:
        keep(self, fd, lease)
        self.close()

    put(KindEvidence, "keep", letting_go)
    unproven_kind()


def stops_when_sniffed() -> None:
    """No guard is gone, but the daemon waits each time when a kind was found and nothing came of it yet."""
    stop, kind_of_fd = stopper(), Sniffer.kind_of_fd

    async def stopping(self: Sniffer, fd: int, **named: Any) -> str | None:
        kind = await kind_of_fd(self, fd, **named)
        await trio.to_thread.run_sync(stop)
        return kind

    put(Sniffer, "kind_of_fd", stopping)


def stops_when_opened() -> None:
    """No guard is gone, but the daemon stops when a raw file is open and nobody has been told."""
    stop, finish = stopper(), Lifecycle.finish

    def stopping(self: Lifecycle, opening: OpenContext) -> None:
        finish(self, opening)
        if opening.request.node.byte_path is BytePath.RAW and not opening.handle.writable:
            stop()

    put(Lifecycle, "finish", stopping)


def copies_for_all() -> None:
    """A redacted copy that was made for one app goes for everybody."""
    of = CopyKey.of
    put(CopyKey, "of", staticmethod(lambda ino_key, stat, what, lane: of(ino_key, stat, what, None)))


def findings_for_all() -> None:
    """What is remembered of a file for one app goes for everybody, and for the next mount."""
    key = Remembered._key
    put(Remembered, "_key", lambda self, version, lane, what: key(self, version, None, what))


def apps_by_name() -> None:
    """What is remembered for an app goes for any app of this name, also in another policy."""
    put(Daemon, "_identify", lambda _self, lane: repr(lane))


REMEMBERED: Final = named(
    stat_is_proof, kind_by_stat, times_always_tell, unproven_kind, kind_lease_let_go, stops_when_sniffed,
    stops_when_opened, copies_for_all, findings_for_all, apps_by_name,
)  # fmt: skip

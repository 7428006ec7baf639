"""The settings of a mount, and the parts that its file system is built on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from policyfs.content.disk_cache import Remembered
from policyfs.content.sniffer import Sniffer
from policyfs.fs.access.admission import Admitted
from policyfs.fs.access.ledger import Sink
from policyfs.fs.path_bounds import MAX_NODES
from policyfs.store.facts import StoreFacts
from policyfs.store.leases import LeaseKeeper
from policyfs.store.owner import Owners
from policyfs.store.quarantine import Limits as QuarantineLimits
from policyfs.store.quarantine import Quarantine
from policyfs.store.tree import Tree
from policyfs.store.watch import Watch


@dataclass(frozen=True, slots=True)
class Settings:
    """How a mount is to behave. app: whose mount it is, None for a shared one. Sizes in bytes.

    directories, lock_owners, descriptors, copies: how many descriptors may be kept for directories, locks,
    open files and frozen copies. nodes: how many files and directories the kernel may know. latches: the
    file through which the daemons of one store keep out of each other's way. device_fd: of the FUSE
    connection; None switches passthrough off. posix: behave natively where no rule asks for anything.
    policy_modes: show everyone modes by the policy (see ShownModes). any_uid: an app's mount that admits
    every uid. admitted: whom one with several groups admits. read_only: nobody writes. quarantine: what each
    app may have there.
    """

    mountpoint: str
    store: str
    app: str | None
    device_fd: int | None
    copy_bytes: int
    cache_bytes: int
    directories: int
    descriptors: int
    quarantine: QuarantineLimits
    posix: bool = False
    lock_owners: int = 512
    copies: int = 1024
    nodes: int = MAX_NODES
    latches: str = ""
    policy_modes: bool = False
    any_uid: bool = False
    admitted: Admitted | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Foundation:
    """What the file system stands on; all of it is closed by who made it.

    warn: says in the daemon's log what is wrong with a path of the store.
    """

    tree: Tree
    facts: StoreFacts
    owners: Owners
    sniffer: Sniffer
    keeper: LeaseKeeper
    watch: Watch | None
    journal: Sink
    quarantine: Quarantine
    remembered: Remembered | None
    warn: Callable[[str, bytes], None]

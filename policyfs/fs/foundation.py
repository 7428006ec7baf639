"""The settings of a mount, and the parts that its file system is built on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from policyfs.content.disk_cache import Remembered
from policyfs.content.sniffer import Sniffer
from policyfs.fs.access.brakes import Brakes
from policyfs.fs.inodes.caller import Admitted
from policyfs.fs.path_bounds import MAX_NODES
from policyfs.journal.writing.journal import Journal
from policyfs.store.facts import StoreFacts
from policyfs.store.kept.kept_files import KeptFiles
from policyfs.store.locking.leases import LeaseKeeper
from policyfs.store.owner import Owners
from policyfs.store.pool import Pool
from policyfs.store.quarantine import Limits as QuarantineLimits
from policyfs.store.quarantine import Quarantine
from policyfs.store.tree import Tree
from policyfs.store.watch import Watch


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of one mount. Sizes are in bytes.

    app: the app of an app mount, None for a shared mount.
    device_fd: the descriptor of the FUSE connection. None switches passthrough off.
    copy_bytes: the size of the largest frozen copy. cache_bytes: the limit of all frozen copies together.
    directories, lock_owners, descriptors, copies: four limits of descriptors. They are, in this order, for
    directories, locks, open files and frozen copies.
    nodes: the limit of files and directories that the kernel knows.
    quarantine: each app's limits in the quarantine.
    posix: True with --posix. Then the mount behaves like a native file system at paths for which no rule has
    a requirement.
    latches: the path of the lock file that all daemons of one store use.
    policy_modes: True if all apps see modes that follow from the policy (see ShownModes).
    any_uid: True for an app mount that admits every uid.
    idmap: True for a mount that can be idmapped: only requests that create have a uid, and it is mapped.
    admitted: the callers that an app mount with several groups admits.
    read_only: True if no app may write.
    xattrs: False if extended attributes are switched off.
    vectors: True if the bridge may answer repeats of requests (kernel_cache/repeats.py).
    announced_to: the uid of the process by which inotify reports changes of the store; None: it reports none.
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
    idmap: bool = False
    admitted: Admitted | None = None
    read_only: bool = False
    xattrs: bool = True
    vectors: bool = False
    announced_to: int | None = None


@dataclass(frozen=True, slots=True)
class Foundation:
    """The parts below the file system. The daemon makes and closes these parts. warn: logs a problem with a
    path of the store. pool: the mergerfs pool that the store is in, or None. brakes: None: they are not
    saved."""

    tree: Tree
    facts: StoreFacts
    owners: Owners
    sniffer: Sniffer
    keeper: LeaseKeeper
    watch: Watch | None
    journal: Journal
    quarantine: Quarantine
    kept: KeptFiles
    remembered: Remembered | None
    warn: Callable[[str, bytes], None]
    pool: Pool | None = None
    brakes: Brakes | None = None

"""The checked command-line options of one mount."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from policyfs.fs.inodes.caller import Admitted
from policyfs.fs.path_bounds import MAX_NODES
from policyfs.journal.files.retention import Retention

if TYPE_CHECKING:
    from policyfs.daemon.keeper.upgrade import Before


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The options of `policyfs mount`. Paths are absolute, sizes in bytes.

    user_id, group_ids: the uid and groups that an app mount admits; None and () with any_uid, and for a
    shared mount. policy_modes: True if all apps see owners and modes that policyfs derives from the policy.
    If False, only apps with ``modes: policy`` in the policy see these. told: further fields for the trail's
    record of the start: all options, and the user who gave them.
    """

    store: str
    mountpoint: str
    app: str | None
    any_uid: bool
    user_id: int | None
    group_ids: tuple[int, ...]
    trail: Path
    posix: bool
    read_only: bool
    passthrough: bool
    copy_bytes: int
    cache_bytes: int
    segment_bytes: int
    keep: Retention
    policy_modes: bool = False
    told: dict[str, object] = field(default_factory=dict)
    quarantine_bytes: int = 1 << 30
    quarantine_files: int = 1000
    keep_file_bytes: int = 256 << 20
    """The largest file of which a copy is kept before an app overwrites it (`require: {keep: AGE}`)."""
    keep_bytes: int = 0
    """The limit of all that is kept for undo; 0: a tenth of the file system."""
    nodes: int = MAX_NODES
    xattrs: bool = True
    keys: Path | None = None
    """The directory of the keys that sign the trail's seals; None for a trail without seals."""
    vectors: bool = True
    """True if the C bridge may answer repeated requests (access vectors). Ignored for a remote store
    (StoreFacts.remote): while the store hangs, the bridge's readers would read requests ahead."""
    place_fd: int | None = None
    """A descriptor of the mountpoint, which the daemon closes once it has mounted there; None: the daemon
    opens the mountpoint itself. A daemon in the background has left the process group of the command. If an
    automounter makes the mount, the daemon could not open the mountpoint any more."""
    user_namespace: int | None = None
    """A descriptor of the user namespace that the mount belongs to; None for the daemon's own. Its only user
    has there the uid that the store's owner has here: so files and requests of the two are alike."""
    watch: bool = False
    """True if the mount reloads its policy when the policy's files change."""
    idmap: bool = False
    """True if the mount can be idmapped (mount_setattr(2)). The kernel then names no caller's uid."""
    inotify: bool = False
    """True if inotify reports changes of the store in the mount. Only with app."""
    keeper: bool = False
    """True if another daemon takes over from a killed one (decision 70), where the kernel lets it."""
    before: Before | None = None
    """The daemon of other code that this mount's first daemon takes over from."""
    policy: str = ""
    """The file or directory that the policy is read from."""
    named_uids: tuple[tuple[int, int], ...] = ()
    """Ranges of the uids (first, last) that the policy names: no worker may have one."""

    @property
    def kernel_admits(self) -> bool:
        """True if the kernel itself refuses all callers that the mount does not admit. For each mount, the
        kernel can check only one uid and one group."""
        return self.user_id is not None and len(self.group_ids) == 1

    @property
    def admitted(self) -> Admitted | None:
        """The uid and groups that the daemon checks; None if it checks none (see kernel_admits)."""
        if self.user_id is None or self.kernel_admits:
            return None
        return Admitted(self.user_id, frozenset(self.group_ids))

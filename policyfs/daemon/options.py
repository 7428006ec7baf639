"""The checked command-line options of one mount."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from policyfs.fs.access.admission import Admitted
from policyfs.fs.path_bounds import MAX_NODES
from policyfs.journal.retention import Retention


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The options of `policyfs mount`; paths absolute, sizes in bytes.

    user_id, group_ids: admitted by an app mount (None with any_uid, and for a shared mount). policy_modes:
    show owners and modes by the policy to everyone, not only to apps that the policy names for it. told:
    further fields for the trail's record of the start: all options as given, and the user who gave them.
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
    nodes: int = MAX_NODES
    xattrs: bool = True
    keys: Path | None = None
    """The directory of the keys that sign the trail's seals; None for a trail without seals."""
    vectors: bool = True
    """Let the C bridge answer repeated requests (access vectors). Ignored for a remote store
    (StoreFacts.remote): the bridge's readers would read ahead while such a store hangs."""
    remembers: bool = True
    """Keep for later daemons what was found in files, and owners if the store cannot keep them."""
    proof: bool = False
    """Prove the mount before apps reach it."""
    proof_fd: int | None = None
    """The socket of the process that proves the mount before it attaches it; None: mount without a proof."""
    watch: bool = False
    """True if the mount reloads its policy when the policy's files change."""
    policy: str = ""
    """The file or directory that the policy is read from."""

    @property
    def kernel_admits(self) -> bool:
        """True if the kernel keeps all other callers out: it can check one uid and one group for a mount."""
        return self.user_id is not None and len(self.group_ids) == 1

    @property
    def admitted(self) -> Admitted | None:
        """Return the uid and groups that the daemon must check; None if the kernel does, or for all."""
        if self.user_id is None or self.kernel_admits:
            return None
        return Admitted(self.user_id, frozenset(self.group_ids))

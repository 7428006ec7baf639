"""An instance of procfs for this process alone (policyfs.linux.procfs has the reason)."""

from __future__ import annotations

import os

from policyfs.kernel import mount_api
from policyfs.kernel.bridge import read_proc
from policyfs.linux import procfs


def own_proc() -> int:
    """Read /proc by an instance of procfs that no other process reaches, from now on, in Python and in the
    bridge.

    Call this before the readers start. Return the descriptor of its root, for end(). Raises OSError if the
    kernel does not permit such a mount. Then this process goes on reading /proc itself.
    """
    directory = mount_api.detached("proc", (), mount_api.MOUNT_NOSUID | mount_api.MOUNT_NODEV)
    procfs.use(directory)
    read_proc(directory)
    return directory


def end(directory: int) -> None:
    """Read /proc itself again, and close the instance. Call this when no reader runs."""
    procfs.use(-1)
    read_proc(-1)
    os.close(directory)

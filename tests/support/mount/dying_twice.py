"""`policyfs` in which the daemon after a killed one is killed, too, right before it serves.

python -m tests.support.mount.dying_twice mount --foreground ..."""

from __future__ import annotations

import signal
import sys
import threading

from policyfs.cli.main import main
from policyfs.fs.inodes.saved_state import SavedState

serves = SavedState.serves


def dies(state: SavedState, now_ns: int) -> None:
    """Count the take-over, and die in each first one of two."""
    serves(state, now_ns)
    if state.takeovers % 2:
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL)  # seccomp allows no kill(2)


if __name__ == "__main__":
    SavedState.serves = dies  # type: ignore[method-assign] # for this process only
    sys.exit(main(sys.argv[1:]))

"""`policyfs` that looks for a circle of locks each 0.3 s, and ends it after two seconds instead of 30.

    python -m tests.support.mount.short_waits [readers] mount --foreground ...

readers: its readers read the device from the first request on.
"""

from __future__ import annotations

import sys

from policyfs.cli.main import main
from policyfs.daemon import lock_circle
from policyfs.kernel import vectors

READERS = "readers"

if __name__ == "__main__":
    if sys.argv[1] == READERS:
        del sys.argv[1]
        vectors.set_shares(0, 0)
    setattr(lock_circle, "LOOK_S", 0.3)  # noqa: B010 - for this process only
    sys.exit(main(sys.argv[1:]))

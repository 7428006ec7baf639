"""`policyfs` that looks for a circle of locks each 0.15 s, and ends it after a second instead of 30.

    python -m tests.support.mount.short_waits mount --foreground ...
"""

from __future__ import annotations

import sys

from policyfs.cli.main import main
from policyfs.daemon import lock_circle

if __name__ == "__main__":
    setattr(lock_circle, "LOOK_S", 0.15)  # noqa: B010 - for this process only
    sys.exit(main(sys.argv[1:]))

"""`policyfs` with room for few access vectors, so that the table is full again and again.

    python -m tests.support.mount.small_table mount --foreground ...

With POLICYFS_TEST_DAEMON=tests.support.mount.small_table every test runs against it.
"""

from __future__ import annotations

import sys
from typing import Final

from policyfs.cli.main import main
from policyfs.daemon import daemon
from policyfs.fs.inodes import vectors

SMALL: Final = 64
DIRECTORIES: Final = 4

if __name__ == "__main__":
    for module in (daemon, vectors):
        setattr(module, "MAX_NODES", SMALL)  # noqa: B010 - for this process only
    setattr(daemon, "MAX_DIRECTORIES", DIRECTORIES)  # noqa: B010
    sys.exit(main(sys.argv[1:]))

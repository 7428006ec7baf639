"""`policyfs` without access vectors, unless the test asks for them.

    python -m tests.support.mount.without_vectors mount --foreground ...

With POLICYFS_TEST_DAEMON=tests.support.mount.without_vectors every test runs against it.
"""

from __future__ import annotations

import sys

from policyfs.cli.main import main

if __name__ == "__main__":
    command, *words = sys.argv[1:]
    sys.exit(main([command, "--no-avc", *words]))

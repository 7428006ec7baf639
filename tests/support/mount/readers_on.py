"""`policyfs` whose readers read the device from the first request on, whatever share of it are repeats.

    python -m tests.support.mount.readers_on mount --foreground ...

With POLICYFS_TEST_DAEMON=tests.support.mount.readers_on every test runs against it.
"""

from __future__ import annotations

import sys

from policyfs.cli.main import main
from policyfs.kernel import vectors

if __name__ == "__main__":
    vectors.set_shares(0, 0)
    sys.exit(main(sys.argv[1:]))

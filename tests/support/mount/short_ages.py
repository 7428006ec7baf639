"""`policyfs` that ends an open vector after seconds without an open, instead of a minute.

    python -m tests.support.mount.short_ages mount --foreground ...

With POLICYFS_TEST_DAEMON=tests.support.mount.short_ages every test runs against it.
"""

from __future__ import annotations

import sys

from policyfs.cli.main import main
from policyfs.fs.opening import bridge_handles
from policyfs.kernel import vectors

if __name__ == "__main__":
    setattr(bridge_handles, "_UNUSED_AGES", 2)  # noqa: B010 - for this process only
    vectors.set_shares(0, 0)
    sys.exit(main(sys.argv[1:]))

"""`policyfs` that may have only so many descriptors: python -m tests.support.machine.fewer LIMIT mount ...

As prlimit(1) does, but for a daemon that is forked off the tests, which starts in no time.
"""

from __future__ import annotations

import resource
import sys

from policyfs.cli.main import main

if __name__ == "__main__":
    limit = int(sys.argv.pop(1))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    raise SystemExit(main())

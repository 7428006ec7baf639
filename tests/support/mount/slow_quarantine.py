"""`policyfs` whose disk of the quarantine takes 50 ms to make a file durable, as a slow disk does.

python -m tests.support.mount.slow_quarantine mount --foreground ...
"""

from __future__ import annotations

import sys
import time
from typing import Any

from policyfs.cli.main import main
from policyfs.store.quarantine import Quarantine

if __name__ == "__main__":
    keep = Quarantine.keep

    def slowly(self: Quarantine, *arguments: Any) -> Any:
        time.sleep(0.05)
        return keep(self, *arguments)

    setattr(Quarantine, "keep", slowly)  # noqa: B010 - for this process only
    sys.exit(main(sys.argv[1:]))

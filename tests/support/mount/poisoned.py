"""`policyfs` that is killed by each look-up of the name `poison`.

    python -m tests.support.mount.poisoned mount --foreground ...
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any

from policyfs.cli.main import main
from policyfs.fs.namespace.lookup import Lookup

_lookup = Lookup.lookup


async def _killed(self: Lookup, parent: Any, name: bytes, caller: Any) -> Any:
    if name == b"poison":
        signal.pthread_kill(threading.get_ident(), signal.SIGKILL)  # the only process that it may kill
    return await _lookup(self, parent, name, caller)


if __name__ == "__main__":
    setattr(Lookup, "lookup", _killed)  # noqa: B010 - for this process only
    sys.exit(main(sys.argv[1:]))

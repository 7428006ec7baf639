"""`policyfs` whose first daemon never comes back from the look-up of the name `hang`.

    python -m tests.support.mount.hanging mount --foreground ...

The loop is looked at many times a second."""

from __future__ import annotations

import sys
from typing import Any

from policyfs.cli.main import main
from policyfs.daemon import lock_circle, pace
from policyfs.fs.namespace.lookup import Lookup
from tests.support.mount.holding import followers, note_followers

LOOK_S = 0.25
_lookup = Lookup.lookup


async def _hung(self: Lookup, parent: Any, name: bytes, caller: Any) -> Any:
    while name == b"hang" and not followers:
        pass
    return await _lookup(self, parent, name, caller)


if __name__ == "__main__":
    setattr(Lookup, "lookup", _hung)  # noqa: B010 - for this process only
    note_followers()
    setattr(lock_circle, "LOOK_S", LOOK_S)  # noqa: B010
    setattr(pace, "REST_S", LOOK_S)  # noqa: B010
    sys.exit(main(sys.argv[1:]))

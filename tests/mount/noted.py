"""`policyfs` that notes for whom it answers each LOOKUP, in the order of its answers.

    python -m tests.mount.noted FILE GUARDS mount --foreground ...

Callers can't tell: on a busy machine an app may be the first to be answered and the last to run. GUARDS
are those of tests.attack.weakened, with commas between them; "-" for none.
"""

from __future__ import annotations

import os
import sys

import pyfuse3

from policyfs.cli.main import main
from policyfs.fs.handlers import Handlers
from tests.attack.weakened import GUARDS


def note(path: str) -> None:
    """A line with a uid for each LOOKUP that is answered, appended to a file."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o600)
    lookup = Handlers.lookup

    async def noted(
        self: Handlers, parent: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        try:
            return await lookup(self, parent, name, ctx)
        finally:
            os.write(fd, b"%d\n" % ctx.uid)

    Handlers.lookup = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    note(sys.argv.pop(1))
    for guard in sys.argv.pop(1).split(","):
        if guard != "-":
            GUARDS[guard]()
    raise SystemExit(main())

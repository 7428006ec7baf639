"""`policyfs` whose first daemon dies while the announcer waits for its answer to an unlink(2).

    python -m tests.support.mount.announcing mount --foreground ...

The next daemon gets this request again."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from policyfs.cli.main import main
from policyfs.content.workers.announcer import REMOVED_FILE
from policyfs.fs.kernel_cache.announcements import Announcements
from tests.support.mount.dying import killer
from tests.support.mount.holding import followers, note_followers

_check, _killer = Announcements.check, killer()


def _dying(self: Announcements, kind: bytes, *where: Any) -> None:
    if kind == REMOVED_FILE and not followers:
        time.sleep(2)  # meanwhile the test makes another file
        os.write(_killer, os.getpid().to_bytes(8, "little"))
        time.sleep(60)  # it ends in here
    _check(self, kind, *where)


if __name__ == "__main__":
    setattr(Announcements, "check", _dying)  # noqa: B010 - for this process only
    note_followers()
    sys.exit(main(sys.argv[1:]))

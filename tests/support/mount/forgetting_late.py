"""`policyfs` that makes the kernel forget nothing after a take-over, so that most nodes stay unread.

    python -m tests.support.mount.forgetting_late mount --foreground ..."""

from __future__ import annotations

import sys

import trio

from policyfs.cli.main import main
from policyfs.daemon.daemon import Daemon


async def _later(_self: Daemon) -> None:
    await trio.sleep_forever()


if __name__ == "__main__":
    setattr(Daemon, "_forget", _later)  # noqa: B010 - for this process only
    sys.exit(main(sys.argv[1:]))

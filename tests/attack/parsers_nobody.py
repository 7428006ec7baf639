"""A zygote whose workers all run as nobody, a uid that other programs have, too (F0)."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any, NoReturn

import policyfs.content.workers.worker as worker_module
from policyfs.content.workers.zygote import main

NOBODY = 65534
_run = worker_module.run


def run_as_nobody(sock: Any, detector: Any, limits: Any, parent: int) -> NoReturn:
    """The same worker with the wrong uid."""
    _run(sock, detector, dataclasses.replace(limits, uid=NOBODY, gid=NOBODY), parent)


if __name__ == "__main__":
    worker_module.run = run_as_nobody
    sys.exit(main())

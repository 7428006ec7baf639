"""`policyfs` that notes at its end what Python's collector was told and how long a full collection takes.

python -m tests.mount.collecting FILE mount --foreground ...
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import trio

from policyfs.cli.main import main
from policyfs.daemon.daemon import Daemon

_RUN: Final[Callable[..., Any]] = trio.run


def _noted(path: Path) -> Callable[..., Any]:
    def run(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        if not isinstance(getattr(work, "__self__", None), Daemon):
            return _RUN(work, *arguments, **named)
        try:
            return _RUN(work, *arguments, **named)
        finally:
            begin = time.thread_time()
            gc.collect()
            took = time.thread_time() - begin
            gc.unfreeze()
            begin = time.thread_time()
            gc.collect()
            path.write_text(json.dumps({"took": took, "of_all": time.thread_time() - begin}))

    return run


if __name__ == "__main__":
    trio.run = _noted(Path(sys.argv.pop(1)))
    raise SystemExit(main())

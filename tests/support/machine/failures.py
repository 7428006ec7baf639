"""What has failed in which pass of `make test`, told once more at its end.

    python -m tests.support.machine.failures NOTES PASS...

NOTES followed by the name of a pass is the directory that this pass had as pytest's cache.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path


def failures(notes: str, passes: Sequence[str]) -> list[str]:
    """One line for each pass, and below it one for each test that failed for good."""
    lines = []
    for name in passes:
        noted = Path(f"{notes}{name}", "v/cache/lastfailed")
        failed = sorted(json.loads(noted.read_text(encoding="utf-8"))) if noted.exists() else []
        why = "" if failed else "; its output above says why"
        lines.append(f"make test: the pass '{name}' failed{why}")
        lines += [f"    {nodeid}" for nodeid in failed]
    return lines


if __name__ == "__main__":
    print("\n".join(failures(sys.argv[1], sys.argv[2:])), file=sys.stderr)

"""What has failed in which pass of `make test`, and what passed only alone, told once more at its end.

    python -m tests.support.machine.failures NOTES PASS...

NOTES followed by the name of a pass is the directory that this pass had as pytest's cache. PASS: it failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.machine.second_try import ALONE


def failures(notes: str, passes: Sequence[str]) -> list[str]:
    """One line for each pass, and below it one for each test that failed for good."""
    lines = []
    for name in passes:
        failed = _noted(Path(f"{notes}{name}"), "cache/lastfailed")
        why = "" if failed else "; its output above says why"
        lines.append(f"make test: the pass '{name}' failed{why}")
        lines += [f"    {nodeid}" for nodeid in failed]
    return lines


def luck(notes: str) -> list[str]:
    """One line for each test, of any pass, that failed beside others and passed alone."""
    directories = sorted(Path(notes).parent.glob(f"{Path(notes).name}*"))
    alone = [nodeid for directory in directories for nodeid in _noted(directory, ALONE)]
    return [f"make test: failed beside others, passed alone: {nodeid}" for nodeid in alone]


def _noted(directory: Path, key: str) -> list[str]:
    path = directory / "v" / key
    return sorted(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else []


if __name__ == "__main__":
    print("\n".join([*luck(sys.argv[1]), *failures(sys.argv[1], sys.argv[2:])]), file=sys.stderr)

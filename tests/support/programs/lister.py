"""lister.py EXPECTED PATH...: lists each PATH every 10 ms, and prints what changes in the answers.

EXPECTED: the names that a listing must have, joined by commas. A line is `PATH ok`, `PATH error ERRNO`, or
`PATH SHORT names`, if names are missing: a program that mirrors the directory would delete them elsewhere.
Needs nothing but Python's standard library: it runs as a service.
"""

import os
import sys
import time

PAUSE_S = 0.01


def answer(path: str, expected: set[str]) -> str:
    """List one directory."""
    try:
        names = set(os.listdir(path))
    except OSError as error:
        return f"error {error.errno}"
    return "ok" if expected <= names else f"SHORT {sorted(names)}"


def main() -> None:
    """List until the process is killed."""
    expected, paths = set(sys.argv[1].split(",")), sys.argv[2:]
    last: dict[str, str] = {}
    while True:
        for path in paths:
            now = answer(path, expected)
            if last.get(path) != now:
                last[path] = now
                print(path, now, flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()

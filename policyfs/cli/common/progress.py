"""A display that shows that long work goes on: a line on the terminal of standard error."""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
import time
from collections.abc import Sized
from typing import Final

_LONG: Final = frozenset({"accept", "audit", "doctor", "inspect", "policy"})
_PATIENCE_S: Final = 1.0
"""The time without output after which the line appears, and after which it is written again."""
_CLEAR: Final = b"\r\x1b[K"


def silent(what: str, done: int, total: int) -> None:
    """Show no progress."""


class Progress:
    """A line with the name of the work and its seconds, written by a thread until the work ends."""

    def __init__(self, name: str, fd: int) -> None:
        self._name = self._what = name
        self._counted: Sized | None = None
        self._fd = fd
        self._begun = self._last = time.monotonic()
        self._is_shown, self._is_free = False, True
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Take the number of finished steps, and of all."""
        self._what = f"{what}: {done} of {total}" if done < total else self._name

    def count(self, what: str, found: Sized) -> None:
        """Show from now on how many objects *found* has."""
        self._what, self._counted = what, found

    def make_way(self, text: str) -> None:
        """Remove the line before the command writes a text to the terminal."""
        if self._thread.is_alive():  # in a forked child it is not
            with self._lock:
                self._clear()
                self._last, self._is_free = time.monotonic(), text.endswith("\n")

    def end(self) -> None:
        """Remove the line for good."""
        self._ended.set()
        self._thread.join()
        self._clear()

    def _run(self) -> None:
        while not self._ended.wait(_PATIENCE_S):
            with self._lock:
                now = time.monotonic()
                if self._is_free and now - self._last >= _PATIENCE_S:
                    self._is_shown = True
                    count = "" if self._counted is None else f": {len(self._counted):,}"
                    line = f"{self._what}{count}, {now - self._begun:.0f} s"
                    self._write(_CLEAR + line.encode("utf-8", "backslashreplace"))

    def _clear(self) -> None:
        if self._is_shown:
            self._is_shown = False
            self._write(_CLEAR)

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            os.write(self._fd, data)


def count(args: argparse.Namespace, what: str, found: Sized) -> None:
    """Let a command's display, if it has one, show how many objects *found* has."""
    if isinstance(progress := getattr(args, "progress", None), Progress):
        progress.count(what, found)


def progress_of(args: argparse.Namespace, fd: int) -> Progress | None:
    """Return a display for a command, which gets it as *args.progress*; None if the command waits for events,
    or forks daemons. fd: a terminal."""
    action = getattr(args, "action", "")
    if args.command not in _LONG or action == "follow" or getattr(args, "follow", False):
        return None
    args.progress = progress = Progress(f"policyfs {args.command} {action}".strip(), fd)
    return progress

"""The watch over the event loop of a daemon with a keeper: if it hangs, another daemon takes over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

LOOKS: Final = 3
"""The number of looks in a row without a beat after which the loop hangs: 10 to 15 s (lock_circle.LOOK_S). A
loop without work beats every 5 s (pace.py)."""


class HungLoop:
    """A watch that kills this process if its event loop runs, or waits for itself, and does nothing else.

    A loop that waits in the kernel (state D) is left alone: if the store hangs, the next daemon would hang,
    too. A frozen or stopped process does not look, either. is_followed: returns True if another daemon
    would take over. warn: logs an event with fields."""

    def __init__(
        self, is_followed: Callable[[], bool], warn: Callable[..., object], proc: Path = Path("/proc")
    ) -> None:
        """proc: the instance of procfs to read."""
        self._is_followed = is_followed
        self._warn = warn
        self._proc = proc
        self._task: Path | None = None
        self._beats = self._seen = self._looks = 0

    def beat(self) -> None:
        """Note that the event loop works. Called on its thread."""
        self._task = self._task or self._proc / f"self/task/{threading.get_native_id()}"
        self._beats += 1

    def look(self) -> None:
        """Kill this process at the LOOKS-th look in a row without a beat. Called on another thread."""
        if self._task is None:
            return
        text = (self._task / "stat").read_text(encoding="utf-8", errors="replace")
        state = text.rpartition(")")[2].split()[0]
        if self._beats != self._seen or state == "D":
            self._seen, self._looks = self._beats, 0
            return
        self._looks += 1
        if self._looks >= LOOKS and self._is_followed():
            self._warn("the event loop hangs: another daemon takes over", state=state)
            signal.pthread_kill(threading.get_ident(), signal.SIGKILL)

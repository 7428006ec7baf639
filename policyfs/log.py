"""The daemon's own log (JSON lines or text on standard error); the trail is elsewhere."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Final, TextIO

_EVENT_WIDTH: Final = 30


class Log:
    """Writes one line for each event: when, how bad, what, and more fields. For any thread.

    A library for this brings more into the daemon than the daemon's own code (docs/performance.md, "Memory").
    """

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._lock = threading.Lock()

    def info(self, event: str, **fields: object) -> None:
        """Log what is worth knowing."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log what somebody should look at."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log what should not have happened."""
        self._write("error", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        if self._as_json:
            line = json.dumps(fields | {"event": event, "level": level, "timestamp": at}, default=repr)
        else:
            line = _text(at, level, event, fields)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def _text(at: str, level: str, event: str, fields: dict[str, object]) -> str:
    """A line for people; a traceback goes below it."""
    below = fields.pop("traceback", None)
    words = " ".join(f"{name}={_word(value)}" for name, value in fields.items())
    line = f"{at} [{level:<9}] {event:<{_EVENT_WIDTH}} {words}".rstrip()
    return line if below is None else f"{line}\n{below}"


def _word(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if text and text.isprintable() and not set(text) & set(" =\"'") else repr(text)


def configure(stream: TextIO | None = None, *, as_json: bool) -> Log:
    """A log that goes to *stream* (standard error)."""
    return Log(stream or sys.stderr, as_json=as_json)


class Bugs:
    """Counts and logs what should never happen."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.count = 0

    def bug(self, where: str, error: BaseException) -> None:
        """Log a bug with its traceback; the app gets EIO."""
        self.count += 1
        text = "".join(traceback.format_exception(error))
        self._log.error("bug", where=where, error=repr(error), traceback=text)

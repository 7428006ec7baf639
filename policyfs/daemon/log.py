"""The daemon's own log: JSON lines, or text for a terminal and the journal, on standard error.

The trail is another file.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TextIO

from policyfs.daemon.log_writer import LogWriter


class Log:
    """A log of events with fields. Each event is one line: all that could be no word of it is quoted."""

    def __init__(self, write: Callable[[str], object], *, as_json: bool) -> None:
        """write: takes a line without its end. as_json: JSON lines with their time; else text without it."""
        self._write = write
        self._as_json = as_json

    def info(self, event: str, **fields: object) -> None:
        """Log an event of normal work."""
        self._line("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log an event that a person should know."""
        self._line("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log a bug."""
        self._line("error", event, fields)

    def _line(self, level: str, event: str, fields: dict[str, object]) -> None:
        if self._as_json:
            now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            line = {**fields, "event": event, "level": level, "timestamp": now}
            self._write(json.dumps(line, default=repr))
            return
        more = (f"{name}={json.dumps(value, default=repr)}" for name, value in fields.items())
        self._write(" ".join([f"{level}:", json.dumps(event)[1:-1], *more]))


def configure(output: TextIO | LogWriter, *, as_json: bool) -> Log:
    """Return a log that writes lines to *output*, also about lines that were lost there."""
    if not isinstance(output, LogWriter):
        return Log(partial(print, file=output), as_json=as_json)
    log = Log(output.line, as_json=as_json)
    output.on_loss = lambda lines, reason: log.warning(
        "lines of this log were lost", lines=lines, reason=reason
    )
    return log


class Bugs:
    """A log that counts bugs."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.count = 0

    def bug(self, where: str, error: BaseException) -> None:
        """Log a bug with its traceback, and count it."""
        self.count += 1
        text = "".join(traceback.format_exception(error))
        self._log.error("bug", where=where, error=repr(error), traceback=text)

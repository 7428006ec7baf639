"""The daemon's own log (structlog): JSON lines, or text for a terminal and the journal, on standard error.

The trail is another file.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from typing import Final, TextIO

from policyfs.daemon.log_writer import LogWriter

# If rich is installed, structlog imports it for tracebacks that this log never writes: 3 MiB in each daemon.
_HIDES_RICH: Final = "rich" not in sys.modules
if _HIDES_RICH:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402

if _HIDES_RICH:
    del sys.modules["rich"]

Log = structlog.typing.FilteringBoundLogger


def configure(output: TextIO | LogWriter, *, as_json: bool) -> Log:
    """Return a logger that writes lines to *output*, with their time only if *as_json*."""
    json_lines = [structlog.processors.TimeStamper(fmt="iso", utc=True), structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=[structlog.processors.add_log_level, *(json_lines if as_json else [_as_text])],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=(
            (lambda *_names: output)
            if isinstance(output, LogWriter)
            else structlog.WriteLoggerFactory(file=output)
        ),
        cache_logger_on_first_use=False,
    )
    logger: Log = structlog.get_logger()
    if isinstance(output, LogWriter):
        output.on_loss = lambda lines, reason: logger.warning(
            "lines of this log were lost", lines=lines, reason=reason
        )
    return logger


def _as_text(_logger: object, _name: str, fields: structlog.typing.EventDict) -> str:
    """Return a line of text. All that could be no word of it is quoted as in JSON."""
    level, event = fields.pop("level"), json.dumps(fields.pop("event"))[1:-1]
    more = ((name, json.dumps(value, default=repr)) for name, value in fields.items())
    return " ".join([f"{level}:", event, *(f"{name}={value}" for name, value in more)])


class Bugs:
    """A log that counts bugs."""

    def __init__(self, logger: Log) -> None:
        self._logger = logger
        self.count = 0

    def bug(self, where: str, error: BaseException) -> None:
        """Log a bug with its traceback, and count it."""
        self.count += 1
        text = "".join(traceback.format_exception(error))
        self._logger.error("bug", where=where, error=repr(error), traceback=text)

"""The daemon's own log (structlog): JSON lines, or text for a terminal and the journal, on standard error.

The trail is another file.
"""

from __future__ import annotations

import json
import logging
import traceback
from functools import partial
from typing import Final, TextIO

import structlog
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter
from structlog.processors import JSONRenderer, TimeStamper, add_log_level

from policyfs.daemon.log_writer import LogWriter

Log = structlog.typing.FilteringBoundLogger

_JSON: Final = (TimeStamper(fmt="iso", utc=True), JSONRenderer(default=repr))
_TEXT: Final = ConsoleRenderer(
    columns=[
        Column("level", KeyValueColumnFormatter(None, "", "", str, postfix=":")),
        Column("event", KeyValueColumnFormatter(None, "", "", lambda event: json.dumps(event)[1:-1])),
        Column("", KeyValueColumnFormatter("", "", "", partial(json.dumps, default=repr))),
    ],
    sort_keys=False,
)
"""Each event is one line: all that could be no word of it is quoted as in JSON."""


def configure(output: TextIO | LogWriter, *, as_json: bool) -> Log:
    """Return a log that writes lines to *output*, with their time only if *as_json*; also about lines that
    were lost there."""
    log: Log = structlog.wrap_logger(
        output if isinstance(output, LogWriter) else structlog.WriteLogger(output),
        processors=[add_log_level, *(_JSON if as_json else [_TEXT])],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    ).bind()
    if isinstance(output, LogWriter):
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

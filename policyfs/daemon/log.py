"""The daemon's own log (structlog): JSON lines, or text for a terminal and the journal, on standard error.

The trail is another file.
"""

from __future__ import annotations

import json
import logging
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


_LEVELS: Final = {"error": 3, "warning": 4, "info": 6}


def _with_level(logger: object, name: str, event: structlog.typing.EventDict) -> str:
    level = _LEVELS.get(str(event.get("level")), 4)
    return f"<{level}>{_TEXT(logger, name, event)}"


def configure(output: TextIO | LogWriter, *, as_json: bool, of_journal: bool = False) -> Log:
    """Return a log that writes lines to *output*, with their time only if *as_json*; also about lines that
    were lost there. of_journal: begin each line with its level for systemd (sd-daemon(3))."""
    text = _with_level if of_journal else _TEXT
    log: Log = structlog.wrap_logger(
        output if isinstance(output, LogWriter) else structlog.WriteLogger(output),
        processors=[add_log_level, *(_JSON if as_json else [text])],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    ).bind()
    if isinstance(output, LogWriter):
        output.on_loss = lambda lines, reason: log.warning(
            "lines of this log were lost", lines=lines, reason=reason
        )
    return log

"""The daemon's own log (structlog): JSON lines or text on standard error. The trail is another file."""

from __future__ import annotations

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
    """Return a logger that writes to *output*."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=False)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
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

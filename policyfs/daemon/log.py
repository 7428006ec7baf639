"""The daemon's own log (structlog): JSON lines, or text for a terminal and the journal, on standard error.

The trail is another file. What an administrator must see is a Notice: it has a stable id and a level, so that
monitoring finds it in the journal (docs/operations.md#notices).
"""

from __future__ import annotations

import enum
import json
import logging
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TextIO

import structlog
from structlog.dev import Column, ConsoleRenderer, KeyValueColumnFormatter
from structlog.processors import JSONRenderer, TimeStamper, add_log_level

from policyfs.daemon.log_writer import LogWriter

Log = structlog.typing.FilteringBoundLogger
Fields = Mapping[str, object]

_EVERY_S: Final = 1.0
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


class Notice(enum.Enum):
    """One message: its id, its level, and its text."""

    TAKEN_OVER = "taken-over", "warning", "the daemon was killed, and this one has taken over"
    UPGRADED = "upgraded", "info", "this daemon has taken over from one of other code"
    STORE_ABSENT = "store-absent", "warning", "the store is absent, and the mount waits for it"
    NO_TAKEOVER = "no-takeover", "warning", "if this daemon is killed, the mount ends"
    UNSAVED_FILES = "unsaved-files", "warning", "if this daemon is killed, some files in use are lost"
    MOUNT_ENDED = "mount-ended", "warning", "the mount ends, and nobody has asked the daemon for that"
    PROGRAM_KILLED = "program-killed", "error", "a program that kept a lock of the kernel was killed"
    DEADLY_REQUEST = (
        "deadly-request", "warning", "a request that was in work when daemons were killed gets EIO"
    )  # fmt: skip
    TRAIL_FAILING = (
        "trail-failing",
        "warning",
        "the trail cannot be written: what must be on record is refused",
    )
    EVENTS_LOST = "events-lost", "warning", "events are not on the trail"
    TRAIL_INCOMPLETE = "trail-incomplete", "warning", "the trail has a gap, or keeps more than it should"
    POLICY_REFUSED = "policy-refused", "warning", "a new policy is refused, the old one stays"
    POLICY_UNRECORDED = (
        "policy-unrecorded", "warning",
        "the policy is in force, but not on record: until then, requests get EIO",
    )  # fmt: skip
    PAST_POLICY = "past-policy", "warning", "something reaches the store past the policy"
    WORKERS_LOST = "workers-lost", "warning", "workers that read files have died, and their requests failed"
    BRAKE_ON = "brake-on", "warning", "an app has changed too many files, and may change no more"
    BUG = "bug", "error", "bug"

    def __init__(self, id_: str, level: str, text: str) -> None:
        self.id: Final = id_
        self.level: Final = level
        self.text: Final = text

    def tell(self, log: Log, **fields: object) -> None:
        """Write the message. fields: what is known about this case."""
        getattr(log, self.level)(self.text, id=self.id, **fields)

    def ends(self, log: Log) -> None:
        """Write that the state of this message has ended."""
        log.info("this is over", id=self.id, what=self.text)


class Conditions:
    """The states of a mount that are told when they begin, and when they end."""

    def __init__(
        self, log: Log, states: Mapping[Notice, Callable[[], Fields | None]],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """states: functions that return the fields of a state that holds now, else None. They never wait."""
        self._log = log
        self._states = states
        self._now_s = now_s
        self._due_s = now_s()
        self._holding: set[Notice] = set()

    def tend(self) -> None:
        """Look at the states, at most once a second, and tell of changes."""
        now_s = self._now_s()
        if now_s < self._due_s:
            return
        self._due_s = now_s + _EVERY_S
        for notice, state in self._states.items():
            fields = state()
            if fields is not None and notice not in self._holding:
                self._holding.add(notice)
                notice.tell(self._log, **fields)
            elif fields is None and notice in self._holding:
                self._holding.discard(notice)
                notice.ends(self._log)


class Bugs:
    """A log that counts bugs."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.count = 0

    def bug(self, where: str, error: BaseException) -> None:
        """Log a bug with its traceback, and count it."""
        self.count += 1
        text = "".join(traceback.format_exception(error))
        Notice.BUG.tell(self._log, where=where, error=repr(error), traceback=text)

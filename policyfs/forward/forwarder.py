"""The forwarder: it runs each item of a configuration (sink, alert) in a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from pathlib import Path
from typing import Final

from policyfs.errors import EXIT_OK, EXIT_REFUSED
from policyfs.forward.alerts import Alert
from policyfs.forward.config import Config
from policyfs.forward.consumer import Consumer, Everything, Log, Plan
from policyfs.forward.cursors import CursorStore
from policyfs.forward.delivery import delivery_to
from policyfs.forward.source import Source

STATUS: Final = "status.json"
_PATIENCE_S: Final = 5.0
_STATUS_S: Final = 5.0


class Forwarder:
    """The threads that deliver: one for each item of sinks and alerts in the configuration."""

    def __init__(self, config: Config, source: Source, cursors: CursorStore, log: Log) -> None:
        """Raises PolicyfsError if the saved position of a sink or alert in the trail cannot be read."""
        self._cursors: Final = cursors
        plans = [
            Plan(doc.id, Everything(doc), delivery_to(doc), doc.start == "now") for doc in config.sinks
        ]
        plans += [
            Plan(doc.id, Alert(doc, time.monotonic), delivery_to(doc), from_now=True) for doc in config.alerts
        ]
        self._consumers: Final = [Consumer(plan, source, cursors, log) for plan in plans]
        self._stops: Final = queue.SimpleQueue[None]()
        self._has_bug = False
        self._log: Final = log

    def stop(self) -> None:
        """Ask all threads to end. May be called in a signal handler.

        INVARIANT: the object that this method calls is reentrant. threading.Event is not: a handler that runs
        in the middle of Event.wait() would wait for ever.
        """
        self._stops.put(None)

    def run(self, *, once: bool = False) -> int:
        """Run all threads until stop() is called. Return the exit code of the command. once: True to deliver
        only the present lines."""
        threads = [
            threading.Thread(target=self._guarded, args=(one,), kwargs={"once": once}, daemon=True)
            for one in self._consumers
        ]
        for consumer in self._consumers:
            consumer.begin()
        for thread in threads:
            thread.start()
        while not self._is_stopped(0.05 if once else _STATUS_S):
            self._tell()
            if not any(thread.is_alive() for thread in threads):
                break
        for one in self._consumers:
            one.stop()
        until_s = time.monotonic() + _PATIENCE_S
        for thread in threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        self._tell()
        return EXIT_REFUSED if self._has_bug or (once and self._failing()) else EXIT_OK

    def _is_stopped(self, wait_s: float) -> bool:
        with contextlib.suppress(queue.Empty):
            self._stops.get(timeout=wait_s)
            return True
        return False

    def _guarded(self, part: Consumer, *, once: bool) -> None:
        """Run one item. An unexpected exception ends the whole process: no sink stops without notice."""
        try:
            part.run(once=once)
        except Exception as bug:  # noqa: BLE001 - logged; systemd starts the service again
            self._log(f"{part.name}: ended by a bug: {bug!r}")
            self._has_bug = True
            self._stops.put(None)

    def _failing(self) -> bool:
        return any(one.state.failing or not one.finished for one in self._consumers)

    def _tell(self) -> None:
        sinks: dict[str, object] = {
            one.name: {
                "delivered": one.state.delivered, "failing": one.state.failing,
                "at": {mount_id: at.seq for mount_id, at in one.state.positions.items()},
            }
            for one in self._consumers
        }  # fmt: skip
        try:
            self._cursors.tell(STATUS, {"time": int(time.time()), "sinks": sinks})
        except OSError as exc:
            self._log(f"cannot write {Path(self._cursors.path) / STATUS}: {exc.strerror}")

"""The forwarder: it runs each item of a configuration (sink, alert, checkpoints) in a thread of its own."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from pathlib import Path
from typing import Final

from policyfs.errors import EXIT_OK, EXIT_REFUSED
from policyfs.forward.alerts import Alert
from policyfs.forward.config import CheckpointDoc, Config
from policyfs.forward.consumer import Consumer, Everything, Log, Plan
from policyfs.forward.cursors import CursorStore
from policyfs.forward.delivery import DeliveryError, delivery_to
from policyfs.forward.messages import Message
from policyfs.forward.source import Source
from policyfs.trail.chain.seal import checkpoint_of, split

STATUS: Final = "status.json"
_PATIENCE_S: Final = 5.0
_STATUS_S: Final = 5.0
_RETRY_S: Final = 10.0


class Checkpoints:
    """One item of ``checkpoints``: it regularly sends signed ends of all hash chains to one destination."""

    def __init__(self, doc: CheckpointDoc, source: Source, log: Log) -> None:
        self._doc: Final = doc
        self._source: Final = source
        self._log: Final = log
        self._delivery: Final = delivery_to(doc)
        self._stop: Final = threading.Event()
        self._sent: dict[str, int] = {}
        self.failing = ""
        self.delivered = 0
        self.finished = False

    @property
    def name(self) -> str:
        """Return the id of this item in the configuration."""
        return self._doc.id

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stop.set()

    def run(self, *, once: bool = False) -> None:
        """Send the signed ends of all chains now. After each interval, send the signed ends of the chains
        that have grown.

        once: True to return after the first time.
        """
        while True:
            try:
                self._send()
            except (OSError, DeliveryError) as exc:
                reason = str(exc)
                if isinstance(exc, OSError):
                    reason = f"no checkpoint: {exc.strerror or exc}"
                if reason != self.failing:
                    self._log(f"{self.name}: {reason}; trying again")
                self.failing = reason
            else:
                self.failing = ""
            if once or self._stop.wait(min(self._doc.every, _RETRY_S) if self.failing else self._doc.every):
                break
        self.finished = True

    def _send(self) -> None:
        lines = self._source.checkpoints()
        grown: dict[str, int] = {}
        messages = []
        for raw in lines:
            line = split(raw)
            made = checkpoint_of(line.body) if line else None
            if made is None or self._sent.get(made.mount_id) == made.seq:
                continue
            grown[made.mount_id] = made.seq
            signed = raw.rstrip(b"\n")
            name = f"{made.mount_id}:{made.seq}"
            messages.append(Message(name, made.time, signed.decode("ascii"), signed))
        if messages:
            self._delivery.deliver(messages)
        self._sent |= grown
        self.delivered += len(messages)


class Forwarder:
    """The threads that deliver: one for each item of sinks, alerts and checkpoints in the configuration."""

    def __init__(self, config: Config, source: Source, cursors: CursorStore, log: Log) -> None:
        """Raises PolicyfsError if the saved position of a sink or alert in the trail cannot be read."""
        self._cursors: Final = cursors
        plans = [
            Plan(doc.id, Everything(doc), delivery_to(doc), doc.start == "now", doc.behind)
            for doc in config.sinks
        ]
        plans += [
            Plan(doc.id, Alert(doc, time.monotonic), delivery_to(doc), from_now=True) for doc in config.alerts
        ]
        self._consumers: Final = [Consumer(plan, source, cursors, log) for plan in plans]
        self._checkpoints: Final = [Checkpoints(doc, source, log) for doc in config.checkpoints]
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
        """Run all threads until stop() is called. Return the exit code of the command.

        once: True to deliver only the present lines.
        """
        threads = [
            threading.Thread(target=self._guarded, args=(one,), kwargs={"once": once}, daemon=True)
            for one in self._parts
        ]
        for consumer in self._consumers:
            consumer.begin()
        for thread in threads:
            thread.start()
        while not self._is_stopped(0.05 if once else _STATUS_S):
            self._tell()
            if not any(thread.is_alive() for thread in threads):
                break
        for one in self._parts:
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

    @property
    def _parts(self) -> tuple[Consumer | Checkpoints, ...]:
        return (*self._consumers, *self._checkpoints)

    def _guarded(self, part: Consumer | Checkpoints, *, once: bool) -> None:
        """Run one item of the configuration. An unexpected exception ends the whole process.

        So no sink stops without notice.
        """
        try:
            part.run(once=once)
        except Exception as bug:  # noqa: BLE001 - logged; systemd starts the service again
            self._log(f"{part.name}: ended by a bug: {bug!r}")
            self._has_bug = True
            self._stops.put(None)

    def _failing(self) -> bool:
        failing = [one.state.failing or not one.finished for one in self._consumers]
        return any((*failing, *(one.failing or not one.finished for one in self._checkpoints)))

    def _tell(self) -> None:
        sinks: dict[str, object] = {
            one.name: {
                "delivered": one.state.delivered, "failing": one.state.failing,
                "at": {mount_id: at.seq for mount_id, at in one.state.positions.items()},
            }
            for one in self._consumers
        }  # fmt: skip
        sinks |= {one.name: {"delivered": one.delivered, "failing": one.failing} for one in self._checkpoints}
        try:
            self._cursors.tell(STATUS, {"time": int(time.time()), "sinks": sinks})
        except OSError as exc:
            self._log(f"cannot write {Path(self._cursors.path) / STATUS}: {exc.strerror}")

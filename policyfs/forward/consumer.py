"""A consumer: a thread that reads the trail, and delivers its lines to one sink or alert.

A sink is a file or command that gets lines of the trail. The thread repeats each delivery until it
succeeds, after pauses of up to 30 s. The queue of a sink is the trail itself, from the sink's cursor on. So a
slow sink delays no other sink, and needs no more memory.

INVARIANT: the cursor moves past a line only once the line, or a record of a gap that contains the line, was
delivered.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from policyfs.forward.alerts import Alert
from policyfs.forward.config import SinkDoc, selection_of
from policyfs.forward.cursors import CursorStore
from policyfs.forward.delivery import Delivery, DeliveryError
from policyfs.forward.follower import ChainFollower, Item, Position
from policyfs.forward.messages import Message, message_of
from policyfs.forward.source import Source
from policyfs.journal.files.segments import is_compressed, segment_number

_POLL_S: Final = 0.2
_SAVE_S: Final = 1.0
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 30.0
_MESSAGES: Final = 512

Log = Callable[[str], None]


class Everything:
    """The messages of a sink: one for each event that its query matches, and for each other line."""

    is_pending = False
    def __init__(self, doc: SinkDoc) -> None:
        self._wanted: Final = selection_of(doc.query).matches if doc.query else None

    def take(self, item: Item) -> Message | None:
        """Return the message of a line, or None for an event that the sink's query does not match."""
        event = item.record.event
        if event is not None and self._wanted is not None and not self._wanted(event):
            return None
        return message_of(item)

    def due(self, *, at_end: bool = False) -> Message | None:  # noqa: ARG002 - nothing waits
        """Return None. A sink has no later messages."""
        return None


class Plan(NamedTuple):
    """The settings of a consumer. name: the id in the configuration. transform: makes messages from lines.
    from_now: True if a new consumer begins at the trail's present end, not at its oldest line."""

    name: str
    transform: Everything | Alert
    delivery: Delivery
    from_now: bool


class State(NamedTuple):
    """The state of a consumer, for the status file. failing: the reason why deliveries fail, or the position
    cannot be saved; else empty. positions: by hash chain, after the last delivered line."""

    delivered: int
    failing: str
    positions: dict[str, Position]


class Consumer:
    """A reader of the trail that delivers its lines to one sink or alert. run() delivers in the calling
    thread."""

    def __init__(self, plan: Plan, source: Source, cursors: CursorStore, log: Log) -> None:
        """Raises PolicyfsError if the file with the sink's position in the trail cannot be read."""
        self._plan: Final = plan
        self._source: Final = source
        self._cursors: Final = cursors
        self._log: Final = log
        self._stop: Final = threading.Event()
        kept = cursors.load(plan.name)
        self._is_new = kept is None
        self._saved = kept
        self._done: dict[str, Position] = dict(kept or {})
        self._followers: dict[str, ChainFollower] = {}
        self._save_tried_s = 0.0
        self._is_untold = self._cannot_read = False
        self._delivered = 0
        self._failing = ""
        self._unsaved = ""  # the reason why the cursor cannot be saved, else empty. Deliveries go on
        self._unread = ""  # the reason why a hash chain cannot be read, else empty. Other chains are read
        self._older: frozenset[str] = frozenset()
        """The chains that are older than this consumer: their first lines may be gone."""
        self._ends: dict[str, tuple[int, float]] | None = None
        """The ends of run(once=True): for each chain that is not yet delivered to its end, the number of a
        file and an offset in bytes. None: no ends."""
        self.finished = False

    @property
    def name(self) -> str:
        """Return the id of the sink or alert in the configuration."""
        return self._plan.name

    @property
    def state(self) -> State:
        """Return a copy of the present state. May be called on any thread."""
        why = self._failing or self._unsaved or self._unread
        return State(self._delivered, why, dict(self._saved or {}))

    def stop(self) -> None:
        """Ask the thread to end. If a delivery fails and waits to be repeated, the next start repeats it."""
        self._stop.set()

    def begin(self) -> None:
        """If this is a new consumer with `from_now`, set its position to the trail's present end.

        If this fails, run() tries again. Call begin() of all consumers before the first run(). Then every
        consumer gets each line that is recorded later.
        """
        with contextlib.suppress(OSError):  # run() tries again, and reports the error
            self._begin()

    def run(self, *, once: bool = False) -> None:
        """Deliver lines until stop() is called. once: deliver only the present lines; end at a failure."""
        try:
            if once:
                with contextlib.suppress(OSError):  # the first round reports the error
                    self._ends = self._present_ends()
            while not self._stop.is_set():
                moved = self._round(once=once)
                if once and (self._failing or self._unsaved or not moved):
                    break
                if not moved:
                    self._stop.wait(_POLL_S)
            if not (self._failing or self._unsaved):
                self._tell_due(at_end=True)
        finally:
            self._save(at_end=True)
            for follower in self._followers.values():
                follower.close()
            self.finished = True

    # -- reading

    def _begin(self) -> None:
        if self._is_new:
            listing = self._source.chains(fresh=True)
            self._older = frozenset(listing)
            if self._plan.from_now:
                for mount_id, names in listing.items():
                    with contextlib.suppress(OSError):  # a chain that cannot be read is read from its start
                        self._follower(mount_id).skip_all(names)
                        self._done[mount_id] = self._followers[mount_id].position
                self._save(at_end=True)
        self._is_new = False

    def _present_ends(self) -> dict[str, tuple[int, float]]:
        """Return the number of the newest file of each chain, and its size in bytes. Raises OSError."""
        ends = {}
        for mount_id, names in self._source.chains(fresh=True).items():
            size = math.inf
            with contextlib.suppress(OSError):  # the chain was removed
                if not is_compressed(names[-1]):
                    fd = self._source.open(mount_id, names[-1])
                    size = os.fstat(fd).st_size
                    os.close(fd)
            ends[mount_id] = segment_number(names[-1]) or 0, size
        return ends

    def _follower(self, mount_id: str) -> ChainFollower:
        if mount_id not in self._followers:
            position = self._done.get(mount_id, Position())
            younger = mount_id not in self._older
            self._followers[mount_id] = ChainFollower(self._source, mount_id, position, from_first=younger)
        return self._followers[mount_id]

    def _round(self, *, once: bool) -> bool:
        """Read and deliver some lines of each hash chain. Return False without lines, or on an error."""
        moved = False
        try:
            self._begin()
            listing = self._source.chains(fresh=once)
            for gone in self._followers.keys() - listing.keys():
                self._followers.pop(gone).close()  # an open descriptor keeps removed files on disk
            unread = ""
            for mount_id, names in listing.items():
                if self._ends is not None and mount_id not in self._ends:
                    continue
                try:
                    batch = self._follower(mount_id).read(names)
                except OSError as exc:  # the other chains are still delivered
                    unread = f"cannot read the trail of {mount_id}: {exc.strerror or exc}"
                    continue
                if batch is None:
                    continue
                items, at = batch
                if not self._take(items, once=once):
                    return False
                self._done = self._done | {mount_id: at}
                moved = True
                if self._ends and (segment_number(at.segment) or 0, at.offset) >= self._ends[mount_id]:
                    del self._ends[mount_id]
            if unread and unread != self._unread:
                self._log(f"{self.name}: {unread}; trying again")
            self._unread = unread
        except OSError as exc:
            self._cannot_read = True
            self._failed(f"cannot read the trail: {exc.strerror or exc}")
            return False
        if self._cannot_read:
            self._cannot_read, self._failing = False, ""
        self._tell_due()
        self._save()
        return moved

    # -- delivering

    def _take(self, items: Sequence[Item], *, once: bool) -> bool:
        messages = [message for item in items if (message := self._plan.transform.take(item)) is not None]
        for first in range(0, len(messages), _MESSAGES):
            if not self._deliver(messages[first : first + _MESSAGES], once=once):
                return False
        return True

    def _tell_due(self, *, at_end: bool = False) -> None:
        message = self._plan.transform.due(at_end=at_end)
        if message is not None and not self._deliver([message], once=at_end):
            self._is_untold = True  # the cursor stays, so that the counted lines are read again

    def _deliver(self, messages: Sequence[Message], *, once: bool) -> bool:
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self._plan.delivery.deliver(messages)
            except DeliveryError as exc:
                self._failed(str(exc))
            else:
                if self._failing:
                    self._log(f"{self.name}: delivers again")
                self._failing = ""
                self._delivered += len(messages)
                return True
            if once or self._stop.wait(pause_s):
                return False
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _failed(self, reason: str) -> None:
        if reason != self._failing:
            self._log(f"{self.name}: {reason}; trying again")
        self._failing = reason

    # -- the cursor

    def _save(self, *, at_end: bool = False) -> None:
        now_s = time.monotonic()
        if self._plan.transform.is_pending or self._is_untold or self._done == self._saved:
            return
        if not at_end and now_s < self._save_tried_s + _SAVE_S:
            return
        self._save_tried_s = now_s
        try:
            self._cursors.save(self.name, self._done)
        except OSError as exc:
            reason = f"cannot keep the cursor: {exc.strerror}"
            if reason != self._unsaved:
                self._log(f"{self.name}: {reason}; trying again")
            self._unsaved = reason
            return
        self._saved, self._unsaved = self._done, ""

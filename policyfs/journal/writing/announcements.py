"""Records about the mount itself, such as a change of the policy, on their way to the writer of the trail."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from policyfs.journal.files.policy_texts import PolicyText
from policyfs.journal.writing.writer import ChainWriter
from policyfs.trail.lines.bounds import bounded_fields


class _Announcement(NamedTuple):
    time_ns: int
    kind: str
    records: tuple[dict[str, object], ...]
    policy: PolicyText | None
    previous: str
    written: Callable[[], None] | None


class Announcements:
    """A queue of records that must be written before all events that are admitted later. Any thread may call
    add(), which never waits for the disk. The other methods are called under the writer's lock."""

    def __init__(self, clock_ns: Callable[[], int]) -> None:
        """clock_ns: returns ns since 1970. The records have the time of add()."""
        self._clock_ns = clock_ns
        self._queue: deque[_Announcement] = deque()
        self._passed_on: list[_Announcement] = []

    def __bool__(self) -> bool:
        """Return True if the writer does not have all records yet."""
        return bool(self._queue)

    def add(
        self, kind: str, *records: dict[str, object], policy: PolicyText | None = None, previous: str = "",
        written: Callable[[], None] | None = None,
    ) -> None:  # fmt: skip
        """Queue records of one type (*kind*, such as ``mount``). policy: a text that they name, saved first.
        previous: the digest of the previous policy, if they put a new one in force. written: called by the
        thread that has written them."""
        fields = tuple(bounded_fields(one) for one in records)
        self._queue.append(_Announcement(self._clock_ns(), kind, fields, policy, previous, written))

    def pass_on(self, writer: ChainWriter) -> None:
        """Give all records to the writer, which writes them before the next event."""
        while self._queue:
            one = self._queue.popleft()
            if one.policy is not None:
                writer.texts.told(one.policy, one.records, one.previous)
            for fields in one.records:
                writer.note(one.kind, fields, one.time_ns)
            self._passed_on.append(one)

    def wrote(self) -> None:
        """Note that the writer has written all records that it has got."""
        written, self._passed_on = self._passed_on, []
        for one in written:
            if one.written is not None:
                one.written()

"""The link between writer and sealer: segments that close get seals, and findings get on record."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.journal.files.segments import TrailDirectory
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.sealing.sealer import Sealer
from policyfs.journal.writing.sealing import begin_sealing
from policyfs.journal.writing.writer import ChainWriter
from tests.support.machine.processes import wait_for
from tests.support.mount.trail import MOUNT_ID, Clock, an_event, kinds, read_all, segments


class Linked:
    """A writer and its sealer."""

    def __init__(self, root: Path, segment_bytes: int = 1) -> None:
        self.trail = root / MOUNT_ID
        self.place, self.lock = TrailDirectory(str(self.trail)), threading.Lock()
        self.writer = ChainWriter(self.place, MOUNT_ID, segment_bytes=segment_bytes, keep=0, clock_ns=Clock())
        self.sealer: Sealer = begin_sealing(str(self.trail), self.writer, self.lock, KeyStore(root / "keys"))

    def write(self) -> None:
        with self.lock:
            self.writer.write([an_event()])

    def end(self) -> None:
        with self.lock:
            for fd in self.writer.close():
                os.close(fd)
            self.writer.finished = True
        self.sealer.close()
        self.place.close()


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[Linked]:
    made = Linked(tmp_path)
    yield made
    if not made.writer.finished:
        made.end()


def test_a_segment_that_is_closed_gets_its_seal_and_the_seal_a_record(linked: Linked) -> None:
    for _ in range(2):
        linked.write()
    first = segments(linked.trail)[0]
    wait_for(first.with_suffix(".seal").exists, 10)

    def on_record() -> bool:
        linked.write()
        return "sealed" in kinds(linked.trail)

    wait_for(on_record, 10)
    sealed = next(record for record in read_all(linked.trail) if record.kind == "sealed")
    assert sealed.fields["segment"] == first.name


def test_a_line_that_another_process_changed_is_on_record(tmp_path: Path) -> None:
    linked = Linked(tmp_path, segment_bytes=1 << 20)
    linked.write()
    segment = segments(linked.trail)[0]
    segment.write_bytes(segment.read_bytes().replace(b"a.jpg", b"b.jpg"))
    with linked.lock:
        linked.writer.check_place()
        linked.writer._retire(linked.writer._segment, "rotation")  # type: ignore[arg-type]

    def on_record() -> bool:
        linked.write()
        return any("damage" in segment.read_text() for segment in segments(linked.trail)[1:])

    wait_for(on_record, 10)
    linked.end()


def test_after_the_writers_end_nothing_is_written(linked: Linked) -> None:
    linked.write()
    linked.end()
    left = [segment.read_bytes() for segment in segments(linked.trail)]
    notes = list(linked.writer._notes)
    linked.sealer._report_seal({"segment": "x"})
    linked.sealer._report_change("x", "y")
    assert linked.writer._notes == notes
    assert [segment.read_bytes() for segment in segments(linked.trail)] == left

"""A sink at its own pace: at least once, in order, and where it stopped."""

from __future__ import annotations

import contextlib
import errno
import itertools
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from policyfs.domain import Audit
from policyfs.forward import consumer
from policyfs.forward.alerts import Alert
from policyfs.forward.config import AlertDoc, SinkDoc
from policyfs.forward.consumer import Consumer, Everything, Plan
from policyfs.forward.cursors import CursorStore
from policyfs.forward.delivery import DeliveryError
from policyfs.forward.follower import GAP
from policyfs.forward.messages import Message
from policyfs.forward.source import DirectAccess, Source
from tests.support.machine.processes import wait_for
from tests.support.mount.trail import MOUNT_ID, a_denial, a_journal, an_event, segments, write_trail
from tests.unit.test_forward_messages import told

SMALL = 1500
OTHER_ID = "fedcba9876543210"


class Into:
    """A delivery into a list, which can fail or wait."""

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.before: Callable[[Sequence[Message]], None] = lambda _messages: None

    def deliver(self, messages: Sequence[Message]) -> None:
        self.before(messages)
        self.got += messages

    @property
    def ids(self) -> list[str]:
        return [message.id for message in self.got]

    def paths(self) -> list[object]:
        return [told(message)["path"] for message in self.got if told(message)["type"] == "event"]


class Place:
    """A trail, and the cursors of a sink."""

    def __init__(self, root: Path) -> None:
        self.trail = root / "trail"
        self.trail.mkdir(exist_ok=True)
        self.source = Source(DirectAccess(self.trail))
        self.cursors = CursorStore(str(root / "state"))
        self.log: list[str] = []

    def consumer(self, delivery: Into, doc: SinkDoc | AlertDoc | None = None, **plan: object) -> Consumer:
        doc = doc or SinkDoc(id="sink", file="/x")
        transform = Alert(doc, time.monotonic) if isinstance(doc, AlertDoc) else Everything(doc)
        settings = {"from_now": False, **plan}
        whole = Plan(doc.id, transform, delivery, **settings)  # type: ignore[arg-type]
        return Consumer(whole, self.source, self.cursors, self.log.append)

    def once(self, delivery: Into, **plan: object) -> Into:
        self.consumer(delivery, **plan).run(once=True)
        return delivery

    def write(self, count: int, first: int = 0) -> list[str]:
        events = [an_event(b"/%05d" % number) for number in range(first, first + count)]
        write_trail(self.trail, events, segment_bytes=SMALL)
        return [event.path.decode() for event in events]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@contextlib.contextmanager
def running(consumer: Consumer) -> Iterator[None]:
    """The consumer delivers on a thread of its own meanwhile."""
    thread = threading.Thread(target=consumer.run)
    thread.start()
    try:
        yield
    finally:
        consumer.stop()
        thread.join()


def make_unreadable(monkeypatch: pytest.MonkeyPatch, place: Place, refused: str) -> None:
    """The disk cannot read one chain."""
    read = place.source.open

    def bad_disk(mount_id: str, name: str) -> int:
        if mount_id == refused:
            raise OSError(errno.EIO, "Input/output error")
        return read(mount_id, name)

    monkeypatch.setattr(place.source, "open", bad_disk)


def test_it_goes_on_where_it_stopped(place: Place) -> None:
    paths = place.write(20)
    assert place.once(Into()).paths() == paths
    assert place.once(Into()).got == []
    more = place.write(20, 20)
    assert place.once(Into()).paths() == more


def test_only_the_lines_at_the_start_are_delivered_once(place: Place) -> None:
    """An app that recorded faster than a sink took lines: `--once` did not end."""
    paths = place.write(20)
    more: list[str] = []
    delivery = Into()

    def record(_messages: Sequence[Message]) -> None:
        if len(more) < 100:
            more.extend(place.write(5, 20 + len(more)))

    delivery.before = record
    assert place.once(delivery).paths() == paths
    assert len(more) < 100
    delivery.before = lambda _messages: None
    assert place.once(delivery).paths() == paths + more


def test_a_trail_made_anew_is_delivered_once_though_it_is_shorter(place: Place) -> None:
    place.write(20)
    place.once(Into())
    shutil.rmtree(place.trail / MOUNT_ID)
    paths = place.write(8, 50)
    assert place.once(Into()).paths() == paths


def test_a_query_selects_events_and_no_record_of_the_journal_is_left_out(place: Place) -> None:
    write_trail(place.trail, [an_event(), a_denial()])
    delivery = Into()
    place.consumer(delivery, SinkDoc(id="s", file="/x", query="decision:deny")).run(once=True)
    assert [told(message)["type"] for message in delivery.got] == ["header", "event", "close"]
    assert delivery.paths() == ["/Private/a.jpg"]


def test_what_fails_comes_again_and_nothing_is_left_out(place: Place) -> None:
    """A receiver that fails at random, and a forwarder that is killed (no cursor is kept) at random."""
    paths = place.write(100)
    chance = random.Random(7)
    delivery = Into()

    def fail(messages: Sequence[Message]) -> None:
        if chance.random() < 0.3:
            delivery.got += messages[: chance.randrange(len(messages))]  # a part of them arrived
            raise DeliveryError("broken")

    delivery.before = fail
    for _ in range(45):
        consumer = place.consumer(delivery)
        if chance.random() < 0.3:
            consumer._save = lambda **_: None  # type: ignore[method-assign]
        consumer.run(once=True)
    assert set(paths) == set(delivery.paths())
    firsts = [path for number, path in enumerate(delivery.paths()) if path not in delivery.paths()[:number]]
    assert firsts == paths


def test_a_cursor_that_can_be_kept_again_is_no_failure(place: Place, monkeypatch) -> None:
    """The state said failing until the next delivery, and `--once` ended with 1."""
    place.write(3)
    save, refused = CursorStore.save, [OSError(errno.ENOSPC, "No space left on device")]

    def full_once(self: CursorStore, *arguments) -> None:
        if refused:
            raise refused.pop()
        save(self, *arguments)

    monkeypatch.setattr(CursorStore, "save", full_once)
    sink = place.consumer(Into())
    sink.begin()
    monkeypatch.setattr(consumer, "_SAVE_S", 1e12)
    while sink._round(once=False):
        pass
    monkeypatch.setattr(consumer, "_SAVE_S", 0.0)
    failing = []
    for _ in range(2):
        sink._round(once=False)
        failing.append(sink.state.failing)
    assert failing == ["cannot keep the cursor: No space left on device", ""]


def test_a_cursor_that_cannot_be_kept_is_told_once_and_tried_once_a_second(place: Place, monkeypatch) -> None:
    """Each delivery said "delivers again", and each save after it "cannot keep": two lines for each batch."""
    tries: list[float] = []

    def full(self: CursorStore, *arguments) -> None:
        tries.append(time.monotonic())
        raise OSError(errno.ENOSPC, "No space left on device")

    delivery = Into()
    sink = place.consumer(delivery)
    sink.begin()
    monkeypatch.setattr(CursorStore, "save", full)
    paths, failing = [], []
    for number in range(12):
        paths += place.write(1, number)
        assert sink._round(once=True)
        failing.append(sink.state.failing)
    assert delivery.paths() == paths
    assert set(failing) == {"cannot keep the cursor: No space left on device"}
    assert place.log == ["sink: cannot keep the cursor: No space left on device; trying again"]
    assert all(after - before >= 0.9 for before, after in itertools.pairwise(tries))


def test_a_dead_sink_whose_cursor_cannot_be_kept_is_told_as_dead(place: Place, monkeypatch) -> None:
    def full(self: CursorStore, *arguments) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def dead(_messages: Sequence[Message]) -> None:
        raise DeliveryError("dead")

    monkeypatch.setattr(CursorStore, "save", full)
    delivery = Into()
    sink = place.consumer(delivery)
    said = []
    for number, before in enumerate((lambda _messages: None, dead, lambda _messages: None)):
        delivery.before = before
        place.write(1, number)
        sink._round(once=True)
        said.append(sink.state.failing)
    assert said == ["cannot keep the cursor: No space left on device", "dead", said[0]]


def test_a_dead_sink_holds_up_no_other_and_waits_on_the_disk(place: Place) -> None:
    dead, living = Into(), Into()
    gate = threading.Event()

    def refuse(_messages: Sequence[Message]) -> None:
        if not gate.is_set():
            raise DeliveryError("dead")

    dead.before = refuse
    consumers = [
        place.consumer(dead, SinkDoc(id="dead", file="/x")),
        place.consumer(living, SinkDoc(id="living", file="/x")),
    ]
    threads = [threading.Thread(target=one.run) for one in consumers]
    for thread in threads:
        thread.start()
    paths = place.write(50)
    wait_for(lambda: living.paths() == paths, "the living sink")
    assert dead.got == []
    assert consumers[0].state.failing == "dead"
    assert place.log == ["dead: dead; trying again"]
    gate.set()
    wait_for(lambda: dead.paths() == paths, "the dead sink, alive again")
    for one, thread in zip(consumers, threads, strict=True):
        one.stop()
        thread.join()
    assert place.log[-1] == "dead: delivers again"


def test_a_sink_that_begins_now_gets_no_old_line_and_each_new_one(place: Place) -> None:
    place.write(20)
    assert place.once(Into(), from_now=True).got == []
    more = place.write(20, 20)
    assert place.once(Into(), from_now=True).paths() == more


def test_lines_that_rotation_removed_are_told_with_their_bounds(place: Place) -> None:
    place.write(3)
    delivery = place.once(Into())
    last = int(delivery.ids[-1].rpartition(":")[2])
    place.write(40, 3)
    for file in segments(place.trail / MOUNT_ID)[:8]:
        file.unlink()
    found = place.once(Into()).got
    assert told(found[0])["type"] == GAP
    first = int(found[1].id.rpartition(":")[2])
    assert (told(found[0])["after"], told(found[0])["before"]) == (last, first)
    assert told(found[0])["lost"] == first - last - 1


def test_a_chain_that_cannot_be_read_stops_no_other(place: Place, monkeypatch) -> None:
    paths = place.write(3)
    shutil.copytree(place.trail / MOUNT_ID, place.trail / OTHER_ID)
    refused = min(MOUNT_ID, OTHER_ID)
    make_unreadable(monkeypatch, place, refused)
    delivery = Into()
    consumer = place.consumer(delivery)
    consumer.run(once=True)
    assert delivery.paths() == paths
    assert consumer.state.failing == f"cannot read the trail of {refused}: Input/output error"
    monkeypatch.undo()
    consumer.run(once=True)
    assert delivery.paths() == paths * 2
    assert consumer.state.failing == ""


@pytest.mark.parametrize("is_new", [True, False])
def test_first_lines_that_were_lost_while_the_sink_was_down_are_told(place: Place, is_new: bool) -> None:
    if not is_new:
        place.cursors.save("sink", {})
    place.write(60)
    files = segments(place.trail / MOUNT_ID)
    assert len(files) > 2
    files[0].unlink()
    kinds = [told(message)["type"] for message in place.once(Into()).got]
    assert (kinds[0] == "forward_gap") == (not is_new)


def test_a_trail_made_anew_is_read_while_its_old_file_is_open(place: Place) -> None:
    place.write(3)
    delivery = Into()
    consumer = place.consumer(delivery)
    while consumer._round(once=True):
        pass
    shutil.rmtree(place.trail / MOUNT_ID)
    paths = place.write(3, 50)
    for _ in range(5):
        consumer._round(once=True)
    assert delivery.paths()[-3:] == paths
    consumer.run(once=True)


def test_a_file_that_was_compressed_meanwhile_makes_no_chain_new(place: Place) -> None:
    """The list of files is up to a tenth of a second old."""
    paths = place.write(3)
    delivery = Into()
    consumer = place.consumer(delivery)
    while consumer._round(once=True):
        pass
    listing = place.source.chains(fresh=True)
    for file in segments(place.trail / MOUNT_ID):
        file.unlink()
    consumer._source = SimpleNamespace(chains=lambda fresh=False: listing)  # type: ignore[misc, assignment]
    consumer._round(once=True)
    assert delivery.paths() == paths
    assert "forward_gap" not in [told(message)["type"] for message in delivery.got]


def test_a_newest_file_that_was_removed_alone_makes_no_chain_new(place: Place) -> None:
    paths = place.write(40)
    delivery = Into()
    consumer = place.consumer(delivery)
    while consumer._round(once=True):
        pass
    segments(place.trail / MOUNT_ID)[-1].unlink()
    for _ in range(3):
        consumer._round(once=True)
    assert delivery.paths() == paths


def test_an_alert_begins_in_the_other_chains_if_one_cannot_be_read(place: Place, monkeypatch) -> None:
    place.write(3)
    shutil.copytree(place.trail / MOUNT_ID, place.trail / OTHER_ID)
    make_unreadable(monkeypatch, place, OTHER_ID)
    delivery = Into()
    consumer = place.consumer(delivery, from_now=True)
    consumer.begin()
    paths = place.write(3, 10)
    consumer.run(once=True)
    assert delivery.paths() == paths


def test_counts_of_an_alert_stay_exact_when_it_is_killed(place: Place) -> None:
    doc = AlertDoc.model_validate({"id": "a", "file": "/x", "on": "query", "query": "app:gallery"})
    place.consumer(Into(), doc, from_now=True).run(once=True)
    place.write(30)
    killed = place.consumer(Into(), doc)
    killed._begin()
    killed._round(once=True)  # has counted; nothing is told, so the cursor stays
    assert killed._plan.transform.is_pending
    delivery = Into()
    place.consumer(delivery, doc).run(once=True)
    assert [told(message)["count"] for message in delivery.got] == [1, 29]
    again = Into()
    place.consumer(again, doc).run(once=True)
    assert again.got == []


def test_an_alert_whose_counts_could_not_be_told_counts_again(place: Place) -> None:
    doc = AlertDoc.model_validate({"id": "a", "file": "/x", "on": "query", "query": "app:gallery"})
    place.write(30)
    delivery = Into()
    calls = []

    def refuse_second(_messages: Sequence[Message]) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise DeliveryError("dead")

    delivery.before = refuse_second
    place.consumer(delivery, doc).run(once=True)
    place.consumer(delivery, doc).run(once=True)
    assert [told(message)["count"] for message in delivery.got] == [1, 1, 29]


def test_a_trail_that_was_removed_is_let_go(place: Place) -> None:
    paths = place.write(20)
    consumer = place.consumer(Into())
    while consumer._round(once=True):
        pass
    assert consumer._followers
    (place.trail / MOUNT_ID).rename(place.trail.parent / "away")
    consumer._round(once=True)
    assert not consumer._followers
    (place.trail.parent / "away").rename(place.trail / MOUNT_ID)
    delivery = Into()
    consumer._save(at_end=True)
    place.consumer(delivery).run(once=True)
    assert delivery.got == []
    assert len(paths) == 20


def test_a_trail_that_comes_later_is_followed(place: Place) -> None:
    place.trail.rmdir()
    delivery = Into()
    consumer = place.consumer(delivery, from_now=True)
    consumer.begin()
    with running(consumer), a_journal(place.trail) as journal:
        journal.record(an_event(), Audit.REQUIRED)
        wait_for(lambda: delivery.paths() == ["/DCIM/a.jpg"], "the line")


def test_a_new_alert_that_began_without_a_trail_has_begun(place: Place) -> None:
    """Lines that are written while the forwarder does not run come after its beginning."""
    place.consumer(Into(), from_now=True).begin()
    place.write(3)
    assert len(place.once(Into(), from_now=True).paths()) == 3

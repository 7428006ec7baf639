"""What was found in files outlives the process, and nothing but speed depends on it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Hashable
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.content import disk_cache, plan_threads
from policyfs.content.cache import RACY_NS, KindCache, KindKey
from policyfs.content.disk_cache import Remembered
from policyfs.domain import Patch
from policyfs.redact.core.values import PlanSize
from policyfs.redact.plan import Outcome, Plan, RemovedPart

NOW = 10**18
LANE = "gallery"
KEY = KindKey(dev=1, ino=2**63 + 5, btime_ns=7, size=100, mtime_ns=NOW - 10**9, ctime_ns=NOW - 10**9)
DEADLINE_S = 10.0
PATIENCE_S = disk_cache._PATIENCE_S
WHAT = frozenset({"location", "time"})
PLAN = Plan(
    Outcome.PATCH,
    (Patch(3, b"ab"), Patch(50, zeros=40)),
    (RemovedPart(3, 2, "EXIF", "GPS", "location"),),
    "x",
)


def plan_in(
    memory: Remembered, key: KindKey, what: frozenset[str], lane: Hashable = LANE
) -> tuple[str, Plan] | None:
    return trio.run(memory.plan, key, lane, what)


def kind_in(memory: Remembered, key: KindKey = KEY, lane: Hashable = LANE) -> str | None:
    return trio.run(memory.kind, key, lane)


class Warned(list[str]):
    """What people were told."""

    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def told() -> Warned:
    return Warned()


@pytest.fixture
def opened(tmp_path: Path, told: Warned, monkeypatch: pytest.MonkeyPatch):
    """`opened()`: answers kept in one database. A read may last as long as a busy machine lets it."""
    monkeypatch.setattr(disk_cache, "_PATIENCE_S", DEADLINE_S)
    made: list[Remembered] = []

    def open_it(
        file_system: int = 2**64 - 9, detector: str = "2/544", identify: Callable[[Hashable], str] = repr
    ) -> Remembered:
        path, named = str(tmp_path / "found.sqlite"), {"detector": detector, "identify": identify}
        made.append(Remembered(path, file_system=file_system, warn=told, clock_ns=lambda: NOW, **named))
        return made[-1]

    yield open_it
    for each in made:
        each.close()


def test_an_answer_is_not_for_an_app_of_this_name_in_another_policy(opened) -> None:
    ours, theirs = opened(), opened(identify=lambda lane: f"{lane} of others")
    ours.put_kind(KEY, LANE, "image/jpeg")
    ours.put_plan(KEY, LANE, WHAT, "image/jpeg", PLAN)
    ours.flush()
    assert kind_in(theirs) is plan_in(theirs, KEY, WHAT) is None


def test_what_was_put_is_there_at_once_and_after_a_restart(opened, told: Warned) -> None:
    first = opened()
    first.put_kind(KEY, LANE, "image/jpeg")
    first.put_plan(KEY, LANE, WHAT, "image/jpeg", PLAN)
    assert kind_in(first) == "image/jpeg"
    assert plan_in(first, KEY, WHAT) == ("image/jpeg", PLAN)
    first.close()
    again = opened()
    assert kind_in(again) == "image/jpeg"
    assert plan_in(again, KEY, WHAT) == ("image/jpeg", PLAN)
    assert (again.stats().hits, again.stats().misses, told) == (2, 0, [])


@pytest.mark.parametrize("written", [False, True], ids=["waiting", "on disk"])
def test_what_was_found_for_one_lane_serves_no_other(opened, written: bool) -> None:
    memory = opened()
    memory.put_kind(KEY, LANE, "image/jpeg")
    memory.put_plan(KEY, LANE, WHAT, "image/jpeg", PLAN)
    memory.put_plan(KEY, (LANE, 10011), WHAT, "image/png", PLAN)
    if written:
        memory.flush()
    for lane in ("maps", 10011, (LANE, 10012), None, f"{LANE}\nlocation", f"'{LANE}'"):
        assert kind_in(memory, KEY, lane) is None
        assert plan_in(memory, KEY, WHAT, lane) is None
    assert plan_in(memory, KEY, WHAT, (LANE, 10011)) == ("image/png", PLAN)


@pytest.mark.parametrize("field", ["ino", "btime_ns", "size", "mtime_ns", "ctime_ns"])
def test_another_version_is_another_file(opened, field: str) -> None:
    memory = opened()
    memory.put_plan(KEY, LANE, WHAT, "image/jpeg", PLAN)
    memory.flush()
    assert plan_in(memory, KEY._replace(**{field: getattr(KEY, field) + 1}), WHAT) is None


def test_other_words_another_store_another_detector(opened) -> None:
    memory = opened()
    memory.put_plan(KEY, LANE, WHAT, "image/jpeg", PLAN)
    memory.flush()
    assert plan_in(memory, KEY, frozenset({"location"})) is None
    assert kind_in(memory) is None
    assert plan_in(opened(file_system=5), KEY, WHAT) is None
    assert plan_in(opened(detector="3/544"), KEY, WHAT) is None


def test_the_answers_of_an_older_detector_are_dropped(opened, tmp_path: Path) -> None:
    memory = opened()
    memory.put_plan(KEY, LANE, WHAT, "image/jpeg", PLAN)
    memory.close()
    opened(detector="3/544").close()
    with contextlib.closing(sqlite3.connect(tmp_path / "found.sqlite")) as database, database:
        assert database.execute("SELECT count(*) FROM found").fetchone() == (0,)


@pytest.mark.parametrize("field", ["mtime_ns", "ctime_ns"])
@pytest.mark.parametrize("age_ns", [0, RACY_NS - 1, -(10**9)])
def test_what_may_change_within_one_tick_is_not_kept(opened, field: str, age_ns: int) -> None:
    memory = opened()
    key = KEY._replace(**{field: NOW - age_ns})
    memory.put_plan(key, LANE, WHAT, "image/jpeg", PLAN)
    assert plan_in(memory, key, WHAT) is None


def test_an_inode_that_may_come_again_is_not_kept(opened) -> None:
    memory = opened()
    memory.put_kind(KEY._replace(btime_ns=0), LANE, "image/jpeg")
    assert kind_in(memory, KEY._replace(btime_ns=0)) is None


@pytest.mark.parametrize("damage", [b"no database at all" * 500, b"SQLite format 3\0" + bytes(5000)])
def test_a_database_that_is_none_is_begun_anew(opened, tmp_path: Path, told: Warned, damage: bytes) -> None:
    (tmp_path / "found.sqlite").write_bytes(damage)
    memory = opened()
    memory.put_kind(KEY, LANE, "image/jpeg")
    memory.close()
    assert kind_in(opened()) == "image/jpeg"
    assert memory.stats().begun_anew == 1
    assert "was damaged and is created again" in told[0]


@pytest.mark.parametrize("bit", [0, 6, 13])
def test_a_flipped_bit_in_a_plan_is_damage(opened, tmp_path: Path, told: Warned, bit: int) -> None:
    """SQLite has no checksums: the patch would lie elsewhere, and the place would be readable."""
    plan = dataclasses.replace(PLAN, patches=(Patch(0x1234, zeros=120),))
    key = KEY._replace(size=500_000)
    first = opened()
    first.put_plan(key, LANE, WHAT, "image/jpeg", plan)
    first.close()
    path = tmp_path / "found.sqlite"
    data = bytearray(path.read_bytes())
    at = data.index((0x1234).to_bytes(8, "little") + (120).to_bytes(8, "little"))
    data[at + bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    memory = opened()
    assert plan_in(memory, key, WHAT) is None
    assert memory.is_waiting, "the next flush begins anew"
    memory.flush()
    memory.put_plan(key, LANE, WHAT, "image/jpeg", plan)
    memory.close()
    assert plan_in(opened(), key, WHAT) == ("image/jpeg", plan)
    assert memory.stats().begun_anew == 1
    assert "was damaged and is created again" in told[0]


def test_an_answer_in_the_row_of_another_file_is_damage(opened, tmp_path: Path) -> None:
    memory = opened()
    memory.put_kind(KEY, LANE, "image/jpeg")
    memory.flush()
    with contextlib.closing(sqlite3.connect(tmp_path / "found.sqlite")) as database, database:
        database.execute("UPDATE found SET size = size + 1")
    assert kind_in(memory, KEY._replace(size=KEY.size + 1)) is None
    memory.flush()
    assert memory.stats().begun_anew == 1


def test_damage_that_comes_later_costs_nothing_but_the_answers(opened, tmp_path: Path) -> None:
    first = opened()
    for number in range(300):
        first.put_plan(KEY._replace(ino=number), LANE, WHAT, "image/jpeg", PLAN)
    first.close()
    path = tmp_path / "found.sqlite"
    data = bytearray(path.read_bytes())
    data[2048:] = os.urandom(len(data) - 2048)
    path.write_bytes(data)
    memory = opened()
    for number in range(300):
        assert plan_in(memory, KEY._replace(ino=number), WHAT) in (None, ("image/jpeg", PLAN))
    memory.flush()
    memory.put_kind(KEY, LANE, "image/jpeg")
    memory.flush()
    assert kind_in(memory) == "image/jpeg"


def test_damage_in_the_name_of_a_table_costs_nothing_but_the_answers(opened, tmp_path: Path) -> None:
    """SQLite's message then has bytes that are no UTF-8."""
    opened().close()
    path = tmp_path / "found.sqlite"
    data = path.read_bytes()
    name = re.search(rb"CREATE TABLE (?:IF NOT EXISTS )?(\w+)", data)
    assert name is not None
    path.write_bytes(data.replace(name[1], b"\xff" * len(name[1])).replace(b"CREATE", b"\xfe" * 6))
    memory = opened()
    memory.put_kind(KEY, LANE, "image/jpeg")
    memory.flush()
    assert kind_in(memory) == "image/jpeg"
    assert memory.stats().begun_anew == 1


def test_nobody_waits_while_a_damaged_database_is_made_anew(opened, tmp_path: Path, monkeypatch) -> None:
    memory = opened()
    memory._damaged = True
    begun, go_on, connect = threading.Event(), threading.Event(), Remembered._connect

    def slowly(self: Remembered) -> None:
        begun.set()
        assert go_on.wait(DEADLINE_S)
        connect(self)

    monkeypatch.setattr(Remembered, "_connect", slowly)
    flush = threading.Thread(target=memory.flush)
    flush.start()
    assert begun.wait(DEADLINE_S)
    asked = threading.Thread(target=lambda: (memory.put_kind(KEY, LANE, "image/jpeg"), kind_in(memory)))
    asked.start()
    asked.join(1.0)
    waits = asked.is_alive()
    go_on.set()
    flush.join()
    asked.join()
    assert not waits
    memory.flush()
    memory.close()
    assert kind_in(opened()) == "image/jpeg"


def test_a_disk_that_does_not_answer_holds_up_nobody(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop serves all apps, and the first read from a disk that hangs stopped all of them."""
    memory = opened()
    memory.put_kind(KEY, LANE, "image/jpeg")
    memory.flush()
    go_on, reads, row = threading.Event(), [], Remembered._row

    def hangs(self: Remembered, key) -> bytes | None:
        reads.append(key)
        assert go_on.wait(DEADLINE_S)
        return row(self, key)

    monkeypatch.setattr(Remembered, "_row", hangs)
    monkeypatch.setattr(disk_cache, "_PATIENCE_S", PATIENCE_S)
    other = KEY._replace(ino=7)

    async def others_go_on() -> None:
        with trio.fail_after(DEADLINE_S):
            begun = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(memory.kind, KEY, LANE)
                nursery.start_soon(memory.kind, other, LANE)
                await trio.testing.wait_all_tasks_blocked()
                memory.put_kind(other, LANE, "image/png")
                assert await memory.kind(other, LANE) == "image/png"
            assert await memory.kind(KEY, LANE) is None, "a worker finds it again"
            assert trio.current_time() - begun < 4 * PATIENCE_S
            assert len(reads) == 1, "one thread waits, whoever comes later does not"
            go_on.set()
            async with memory._one_read:  # the late read has ended
                pass
            assert await memory.kind(KEY, LANE) == "image/jpeg"

    trio.run(others_go_on)


BYTES = bytes(range(256)) * (1 << 15)
LARGE = Plan(Outcome.PATCH, (Patch(0, BYTES),), plan_size=PlanSize(8 << 20, 8 << 20))
FITTING = disk_cache.MAX_PENDING_BYTES // LARGE.plan_size.memory_bytes


def waiting_plans(memory: Remembered, numbers: range, plan: Plan = LARGE) -> int:
    keys = [KEY._replace(ino=number) for number in numbers]
    for key in keys:
        memory.put_plan(key, LANE, WHAT, "image/jpeg", plan)
    return sum(plan_in(memory, key, WHAT) is not None for key in keys)


def test_plans_that_wait_for_the_disk_have_a_limit_of_memory(opened) -> None:
    memory = opened()
    assert waiting_plans(memory, range(1, 101)) == FITTING == 8
    assert memory.stats().lost == 100 - FITTING
    memory.flush()
    assert waiting_plans(memory, range(201, 301)) == FITTING, "what was written takes no memory any more"


def test_findings_take_memory_too(opened) -> None:
    plan = dataclasses.replace(PLAN, findings=PLAN.findings * 1024)
    assert 0 < waiting_plans(opened(), range(1, 101), plan) <= 64


def test_a_plan_put_twice_takes_its_memory_once(opened) -> None:
    memory = opened()
    for _ in range(100):
        memory.put_plan(KEY, LANE, WHAT, "image/jpeg", LARGE)
    assert memory.stats().lost == 0
    assert waiting_plans(memory, range(1, 101)) == FITTING - 1


def test_plans_that_are_being_written_still_take_their_memory(
    opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = opened()
    pack, meanwhile = disk_cache._packed, []

    def packed(answer: tuple[str, Plan]) -> bytes:
        meanwhile.append(waiting_plans(memory, range(101, 103)))
        return pack(answer)

    monkeypatch.setattr(disk_cache, "_packed", packed)
    waiting_plans(memory, range(1, FITTING + 1))
    memory.flush()
    assert meanwhile == [0] * FITTING


def test_a_second_close_leaves_a_database_alone_that_the_first_found_damaged(
    opened, tmp_path: Path, told: Warned
) -> None:
    memory = opened()
    path = tmp_path / "found.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA writable_schema = ON")
        database.execute("UPDATE sqlite_master SET sql = 'no table'")
        database.execute("PRAGMA schema_version = 1000")
    memory.put_kind(KEY, LANE, "image/jpeg")
    memory.close()
    assert memory.stats().lost == 1, "the damage shows only now"
    inode = path.stat().st_ino
    memory.close()
    assert (path.stat().st_ino, memory.is_waiting, told) == (inode, False, [])
    again = opened()
    again.put_kind(KEY, LANE, "image/jpeg")
    again.close()
    assert kind_in(opened()) == "image/jpeg"
    assert len(told) == 1


def test_an_answer_that_was_tampered_with_is_none(opened, tmp_path: Path) -> None:
    memory = opened()
    memory.put_plan(KEY, LANE, WHAT, "image/jpeg", PLAN)
    memory.put_kind(KEY, LANE, "image/jpeg")
    memory.flush()
    with contextlib.closing(sqlite3.connect(tmp_path / "found.sqlite")) as database, database:
        database.execute("UPDATE found SET answer = ?", (b"\xff" * 30,))
    assert plan_in(memory, KEY, WHAT) is None
    assert kind_in(memory) is None


def test_a_place_that_cannot_be_written_is_done_without(tmp_path: Path, told: Warned) -> None:
    memory = Remembered(
        str(tmp_path / "none" / "found.sqlite"), file_system=1, detector="d", warn=told, clock_ns=lambda: NOW
    )
    memory.put_kind(KEY, LANE, "image/jpeg")
    assert kind_in(memory) == "image/jpeg"
    memory.flush()
    assert kind_in(memory) is None
    assert "are kept for the next start" in told[0]
    memory.close()
    memory.close()


def test_a_symlink_in_its_place_is_not_followed(opened, tmp_path: Path, told: Warned) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "found.sqlite").symlink_to(victim)
    opened()
    assert victim.read_text() == "precious"
    assert told


def test_kinds_in_memory_come_from_beneath_and_go_there(opened) -> None:
    beneath = opened()
    cache = KindCache(3, clock_ns=lambda: NOW, beneath=beneath)
    cache.put(KEY, "image/png", LANE)
    assert kind_in(beneath) == "image/png"
    fresh = KindCache(3, clock_ns=lambda: NOW, beneath=beneath)
    assert fresh.get(KEY) is None
    assert trio.run(fresh.recall, KEY, LANE) == fresh.get(KEY, LANE) == "image/png"
    assert fresh.stats().entries == 1


def test_a_large_plan_costs_the_event_loop_nothing(opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """All apps would wait: 60,000 patches took it 20 ms to pack, and 90 ms to unpack, at each open."""
    here, threads = threading.get_ident(), []

    def noted(function):
        def run(*arguments):
            threads.append((function.__name__, threading.get_ident() == here))
            return function(*arguments)

        return run

    for function in (disk_cache.pack_plan, disk_cache.unpack_plan):
        monkeypatch.setattr(disk_cache, function.__name__, noted(function))
    monkeypatch.setattr(plan_threads, "unpack_plan", noted(plan_threads.unpack_plan))
    memory, key = opened(), KEY._replace(size=1 << 20)
    small = Plan(Outcome.PATCH, tuple(Patch(8 * at, zeros=4) for at in range(100)))
    large = Plan(Outcome.PATCH, tuple(Patch(8 * at, zeros=4) for at in range(1000)))
    for what, plan in ((WHAT, small), (frozenset({"time"}), large)):
        memory.put_plan(key, LANE, what, "video/mp4", plan)
        assert plan_in(memory, key, what) == ("video/mp4", plan)
    assert threads == []
    memory.flush()
    assert [name for name, _ in threads] == ["pack_plan"] * 2, "by flush(), which a thread calls"
    for what, plan in ((WHAT, small), (frozenset({"time"}), large)):
        assert plan_in(memory, key, what) == ("video/mp4", plan)
    assert threads[2:] == [("unpack_plan", True), ("unpack_plan", False)]

"""Tests of the batches in which a film is looked at, and of the plan that is made from the answers."""

from __future__ import annotations

import dataclasses
import threading

import pytest
import trio

from policyfs.content import whole_plans
from policyfs.content.whole_plans import batches, is_short, whole_plan
from policyfs.content.workers.frame_requests import FrameRequest
from policyfs.domain import Patch
from policyfs.fs.redacted.windows import MAX_WINDOW_BYTES
from policyfs.redact.core.frame_table import FrameTable
from policyfs.redact.core.values import Outcome, Plan, PlanSize, RemovedPart
from tests.unit.test_content_workers_frame_requests import WORDS, table


def found(*patches: Patch) -> Plan:
    outcome = Outcome.PATCH if patches else Outcome.CLEAN
    notes = tuple(RemovedPart(patch.offset, patch.size, "SEI", "5", "location") for patch in patches)
    size = PlanSize(sum(patch.size for patch in patches), 160 * len(patches))
    return Plan(outcome, patches, notes, "", size)


def whole(index: Plan, *answers: Plan) -> tuple[Plan, list[list[int]]]:
    asked: list[list[int]] = []
    left = list(answers)

    async def look(frames: FrameTable) -> Plan:
        asked.append(list(frames.starts))
        return left.pop(0)

    return trio.run(whole_plan, index, look), asked


def test_a_full_batch_fits_into_a_request() -> None:
    count = whole_plans.BATCH_FRAMES
    full = table(*((at, at + 1) for at in range(count + 1)))
    parts = list(batches(full))
    assert [len(part) for part in parts] == [count, 1]
    assert FrameRequest("video/mp4", WORDS, parts[0]).pack()


def test_batches_have_each_frame_once_and_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_plans, "BATCH_BYTES", 10)
    frames = table((0, 4), (4, 10), (10, 50), (50, 51), (60, 61))
    assert [list(part.starts) for part in batches(frames)] == [[0, 4], [10], [50], [60]]
    assert list(batches(table())) == []


def test_a_short_film_is_one_whose_frames_lie_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_plans, "SHORT_BYTES", 10)
    assert is_short(found())
    assert is_short(dataclasses.replace(found(), frames=table((90, 100))))
    assert not is_short(dataclasses.replace(found(), frames=table((90, 95), (95, 101))))


def test_a_film_with_a_frame_too_long_for_a_window_is_looked_at_as_a_whole() -> None:
    most = whole_plans.LONG_FRAME_BYTES
    assert 2 * most + (1 << 20) <= MAX_WINDOW_BYTES
    frames = [(at * most, (at + 1) * most) for at in range(9)]
    assert not is_short(dataclasses.replace(found(), frames=table(*frames)))
    assert is_short(dataclasses.replace(found(), frames=table(*frames, (9 * most, 10 * most + 1))))


def test_checksums_over_changed_bytes_become_void() -> None:
    frames = table((10, 20), (40, 50), (70, 80))
    frames.sums.extend((0, 30, 60, 90))
    frames.covered.extend((30, 60, 90, 99))
    index = dataclasses.replace(found(Patch(66, zeros=2)), frames=frames)
    plan, _ = whole(index, found(Patch(12, zeros=3)))
    void = [(Patch(at, b"\xec\x84"), Patch(at + 2, zeros=4)) for at in (0, 60)]
    assert plan.patches == (*void[0], Patch(12, zeros=3), *void[1], Patch(66, zeros=2))
    assert plan.plan_size.replaced_bytes == 17
    assert whole(dataclasses.replace(found(), frames=frames), found())[0].outcome is Outcome.CLEAN


def test_a_plan_that_leaves_no_frame_is_whole() -> None:
    index = found(Patch(3, zeros=4))
    assert whole(index) == (index, [])


def test_the_plan_of_a_film_is_of_its_index_and_of_all_its_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_plans, "BATCH_BYTES", 10)
    frames = table((0, 8), (8, 16), (16, 30))
    index = dataclasses.replace(found(Patch(90, zeros=4)), frames=frames)
    plan, asked = whole(index, found(), found(Patch(9, zeros=2)), found())
    assert asked == [[0], [8], [16]]
    assert (plan.outcome, plan.frames) == (Outcome.PATCH, None)
    assert plan.patches == (Patch(9, zeros=2), Patch(90, zeros=4))
    assert [one.offset for one in plan.findings] == [90, 9]
    assert plan.plan_size == PlanSize(6, 320)


def test_a_film_of_which_nothing_is_hidden_is_clean() -> None:
    index = Plan(Outcome.PATCH, reason="0 ranges changed", frames=table((0, 8)))
    plan, _ = whole(index, Plan(Outcome.CLEAN, reason="no part of it"))
    assert (plan.outcome, plan.reason) == (Outcome.CLEAN, "no part of it")


def test_one_frame_that_is_refused_refuses_the_film(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_plans, "BATCH_BYTES", 10)
    index = dataclasses.replace(found(), frames=table((0, 8), (8, 16), (16, 30)))
    plan, asked = whole(index, found(), Plan(Outcome.REFUSE, reason="why"))
    assert (plan.outcome, plan.reason, len(asked)) == (Outcome.REFUSE, "why", 2)


def test_patches_that_overlap_refuse_the_film() -> None:
    index = dataclasses.replace(found(Patch(3, zeros=4)), frames=table((0, 8)))
    assert whole(index, found(Patch(5, zeros=4)))[0].outcome is Outcome.REFUSE


def test_more_patches_than_the_daemon_keeps_refuse_the_film(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_plans, "MAX_PATCHES", 1)
    index = dataclasses.replace(found(Patch(30, zeros=4)), frames=table((0, 8)))
    assert "more hidden parts" in whole(index, found(Patch(5, zeros=1)))[0].reason


def test_a_thread_joins_plans_with_many_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    joined = whole_plans._joined

    def seen(plans: list[Plan], frames: FrameTable) -> Plan:
        threads.append(threading.current_thread())
        return joined(plans, frames)

    monkeypatch.setattr(whole_plans, "_joined", seen)
    monkeypatch.setattr(whole_plans, "_AT_ONCE", 2)
    index = dataclasses.replace(found(Patch(90, zeros=4)), frames=table((0, 80)))
    for patches in ((Patch(5, zeros=1),), (Patch(5, zeros=1), Patch(7, zeros=1))):
        assert whole(index, found(*patches))[0].patches == (*patches, Patch(90, zeros=4))
    main = threading.main_thread()
    assert [thread is main for thread in threads] == [True, False]

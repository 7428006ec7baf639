"""Reads of the files of other processes, some of which hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from policyfs.linux import bounded_reads
from policyfs.linux.bounded_reads import MOST, each, is_full, one


@pytest.fixture(autouse=True)
def let_go(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What the reads that hang wait for. All of them end with the test."""
    monkeypatch.setattr(bounded_reads, "WAIT_S", 0.1)
    event = threading.Event()
    yield event
    event.set()
    for thread in readers():
        thread.join(10)
    assert not bounded_reads._under_way


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "policyfs-proc"]


def test_results_are_passed_on() -> None:
    assert list(each(1, lambda: "ab")) == ["a", "b"]
    assert one(1, lambda: "a", "") == "a"
    assert list(each(1, list[str])) == []


def test_an_error_ends_the_results() -> None:
    def read() -> Iterator[str]:
        yield "a"
        raise ProcessLookupError

    assert list(each(1, read)) == ["a"]
    assert one(1, lambda: next(iter(read())), "") == "a"


def test_a_read_that_hangs_gets_one_thread_and_others_are_read(let_go: threading.Event) -> None:
    def hang() -> Iterator[str]:
        yield "a"
        let_go.wait()
        yield "b"

    assert list(each(1, hang)) == ["a"], "what came before the hang"
    began_s = time.monotonic()
    for _ in range(50):
        assert one(1, lambda: "never read", "") == ""
    assert time.monotonic() - began_s < 50 * bounded_reads.WAIT_S / 2, "none of these waits"
    assert len(readers()) == 1
    assert one(2, lambda: "a", "") == "a"
    let_go.set()
    readers()[0].join(10)
    assert one(1, lambda: "a", "") == "a", "it is read again once the earlier read has ended"


def test_results_that_come_slowly_are_no_hang() -> None:
    def read() -> Iterator[int]:
        for number in range(5):
            time.sleep(bounded_reads.WAIT_S / 2)
            yield number

    assert list(each(1, read)) == [0, 1, 2, 3, 4]


def test_the_threads_are_few(let_go: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_reads, "WAIT_S", 0.001)
    for pid in range(MOST):
        assert not is_full()
        assert not one(pid, let_go.wait, otherwise=False)
    assert is_full()
    assert one(MOST, lambda: "never read", "") == ""
    assert len(readers()) == MOST


def test_without_a_thread_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        assert one(1, lambda: "a", "") == ""
    assert one(1, lambda: "a", "") == "a"

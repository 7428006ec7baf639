"""The mode of a node: one backing id while any handle lives, and no mix of modes."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from policyfs.fs.inodes.node import BytePath
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.opening import passthrough as module
from policyfs.fs.opening.passthrough import Passthrough
from policyfs.kernel.backing import BackingRefused
from tests.support.machine.processes import wait_for


class Kernel:
    """Gives backing ids one after the other, or refuses."""

    def __init__(self) -> None:
        self.refuses = ""
        self.given: list[int] = []
        self.released: list[int] = []
        self.forgotten: set[int] = set()
        self.threads: list[threading.Thread] = []
        self.reserve: list[bool] = []

    @property
    def live(self) -> int:
        return len(self.given) - len(self.released)

    def register(self, fd: int) -> int | BackingRefused:
        self.reserve.append(Reserve.given_up)
        if self.refuses:
            return BackingRefused(1, self.refuses)
        self.given.append(len(self.given) + 1)
        return self.given[-1]

    def release(self, backing_id: int) -> None:
        assert backing_id in self.given
        assert backing_id not in self.released
        self.released.append(backing_id)

    def forget(self, backing_id: int) -> None:
        assert backing_id in self.given
        assert backing_id not in self.forgotten
        self.forgotten.add(backing_id)

    def release_forgotten(self, backing_ids: list[int]) -> None:
        assert self.forgotten.issuperset(backing_ids)
        self.threads.append(threading.current_thread())
        self.released += backing_ids

    def has_released(self, *backing_ids: int) -> None:
        """Wait until a thread has released ids: all that were released so far are *backing_ids*."""
        wait_for(lambda: self.released == [*backing_ids], "the ids are released")
        assert threading.main_thread() not in self.threads


class Reserve:
    """Stands in for NoReserve, which gives up a capability of the thread."""

    given_up = False

    def __enter__(self) -> None:
        Reserve.given_up = True

    def __exit__(self, *_: object) -> None:
        Reserve.given_up = False


def a_node(number: int = 1, byte_path: BytePath = BytePath.RAW) -> Any:
    return SimpleNamespace(
        nodeid=number, byte_path=byte_path, mediated=False, parent=object(), open=a_state(),
    )  # fmt: skip


def a_state() -> Any:
    return SimpleNamespace(backing_id=0, mode=None)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setattr(module, "NoReserve", Reserve)
    return Kernel()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return clock


def test_a_node_has_one_id_while_it_is_open(kernel: Kernel) -> None:
    passthrough, node = Passthrough(kernel), a_node()  # type: ignore[arg-type]
    for _ in range(2):
        passthrough.choose(node, node.open, 5)
        assert (node.open.mode, node.open.backing_id) == (Mode.PASSTHROUGH, 1)
    assert passthrough.has(node)
    assert passthrough.live == 1


def test_a_mediated_node_stays_mediated(kernel: Kernel) -> None:
    """The kernel forbids a mix of both modes: the app would get EIO."""
    passthrough, node = Passthrough(kernel), a_node()  # type: ignore[arg-type]
    kernel.refuses = "stacked"
    passthrough.choose(node, node.open, 5)
    kernel.refuses = ""
    for state in (node.open, a_state()):
        passthrough.choose(node, state, 5)
        assert (state.mode, state.backing_id) == (Mode.MEDIATED, 0)
    assert node.mediated
    assert not kernel.given
    assert passthrough.report()["refused"] == {"stacked": 1}


def test_without_passthrough_all_is_mediated_and_the_reason_is_told(kernel: Kernel) -> None:
    off, switched = Passthrough(None), Passthrough(kernel)  # type: ignore[arg-type]
    node = a_node()
    switched.choose(node, node.open, 5)
    switched.release(node, node.open)
    switched.switch_off("the kernel did not agree")
    kernel.has_released(1)
    for passthrough, why in ((off, "--no-passthrough"), (switched, "did not agree")):
        node = a_node(2)
        passthrough.choose(node, node.open, 5)
        assert node.open.mode is Mode.MEDIATED
        assert not passthrough.enabled
        assert why in str(passthrough.report()["why_not"])
        assert passthrough.live == 0


def test_a_store_that_tells_write_errors_to_the_writer_only_is_not_passed_through(kernel: Kernel) -> None:
    passthrough = Passthrough(kernel, tells_each=True)  # type: ignore[arg-type]
    raw, copy = a_node(1), a_node(2, BytePath.COPY)
    passthrough.choose(raw, raw.open, 5)
    passthrough.choose(copy, copy.open, 5)
    assert raw.open.mode is Mode.MEDIATED
    assert copy.open.mode is Mode.PASSTHROUGH


@pytest.mark.parametrize("reserves", [True, False])
def test_a_file_is_registered_without_the_right_to_reserved_blocks(kernel: Kernel, reserves: bool) -> None:
    passthrough, node = Passthrough(kernel, reserves=reserves), a_node()  # type: ignore[arg-type]
    passthrough.choose(node, node.open, 5)
    assert kernel.reserve == [reserves]


def test_an_id_is_kept_for_a_second(kernel: Kernel, now: list[float]) -> None:
    passthrough, node = Passthrough(kernel), a_node()  # type: ignore[arg-type]
    passthrough.choose(node, node.open, 5)
    passthrough.release(node, node.open)
    assert node.open.backing_id == 0
    now[0] += 0.5
    passthrough.expire()
    assert passthrough.has(node)
    passthrough.choose(node, node.open, 5)
    assert kernel.given == [1], "it was used again"
    passthrough.release(node, node.open)
    now[0] += 1.5
    passthrough.expire()
    kernel.has_released(1)
    assert not passthrough.has(node)


def test_an_id_of_a_removed_file_is_given_back_at_once(kernel: Kernel) -> None:
    passthrough, node = Passthrough(kernel), a_node()  # type: ignore[arg-type]
    passthrough.choose(node, node.open, 5)
    passthrough.release(node, node.open)
    passthrough.drop(node)
    passthrough.drop(node)
    assert kernel.released == [1]


@pytest.mark.parametrize(
    ("byte_path", "parent"), [(BytePath.LIVE, "parent"), (BytePath.RAW, None)], ids=["live", "no name"]
)
def test_only_a_named_file_of_the_store_is_worth_keeping(
    kernel: Kernel, byte_path: BytePath, parent: object
) -> None:
    passthrough, node = Passthrough(kernel), a_node(byte_path=byte_path)  # type: ignore[arg-type]
    node.parent = parent
    passthrough.choose(node, node.open, 5)
    passthrough.release(node, node.open)
    assert not passthrough.has(node)
    assert not kernel.released, "with the id of a removed file, the kernel frees its bytes: not on the loop"
    passthrough.expire()
    kernel.has_released(1)


def test_of_too_many_idle_ids_the_oldest_goes(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_MAX", 2)
    passthrough = Passthrough(kernel)  # type: ignore[arg-type]
    for number in (1, 2, 3):
        node = a_node(number)
        passthrough.choose(node, node.open, 5)
        passthrough.release(node, node.open)
    passthrough.expire()
    kernel.has_released(1)
    wait_for(lambda: not passthrough._is_releasing, "the thread is done")
    passthrough.expire(everything=True)
    kernel.has_released(1, 2, 3)


def test_ids_are_released_here_if_no_thread_can_start(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", refuse)
    passthrough, node = Passthrough(kernel), a_node()  # type: ignore[arg-type]
    passthrough.choose(node, node.open, 5)
    passthrough.release(node, node.open)
    passthrough.drop_later(node)
    passthrough.drop_later(node)
    for _ in range(2):
        passthrough.expire()
        assert kernel.released == [1]


def test_a_copy_has_one_id_for_all_its_nodes_and_its_whole_life(kernel: Kernel) -> None:
    passthrough = Passthrough(kernel)  # type: ignore[arg-type]
    copy: Any = SimpleNamespace(backing_id=0, frozen=SimpleNamespace(fd=5))
    one, other = a_node(1, BytePath.COPY), a_node(2, BytePath.COPY)
    for node in (one, other):
        passthrough.choose_copy(node, node.open, copy)
        assert (node.open.mode, node.open.backing_id) == (Mode.PASSTHROUGH, 1)
        passthrough.release(node, node.open)
    assert copy.backing_id == 1
    assert not kernel.released, "its copy gives it back"
    mediated = a_node(3, BytePath.COPY)
    mediated.mediated = True
    passthrough.choose_copy(mediated, mediated.open, copy)
    assert mediated.open.backing_id == 0

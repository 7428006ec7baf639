"""The pool of workers, with real processes: what it answers, and what it survives."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from policyfs.content.kinds import SNIFF_BYTES
from policyfs.content.sniffer import _PAUSES_S, Sniffer
from policyfs.content.workers.connection import WorkerLink
from policyfs.content.workers.execution import SnifferError
from policyfs.content.workers.pool import NoWorkerError, Pool
from policyfs.content.workers.protocol import Reply, Status
from policyfs.content.workers.time_limit import Look
from policyfs.domain import WORKER_UIDS, Lane
from policyfs.linux.scheduling import SERVING_NICE
from policyfs.redact.plan import Outcome
from tests.support.machine.processes import wait_for
from tests.support.machine.turns import SLICES, turns_of
from tests.support.samples import jpegs

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + b"\xff\xd9"
WHAT = frozenset({"location"})


@pytest.fixture
def start_executed():
    """Starts sniffers, whose launchers execute an interpreter, and ends them."""
    with contextlib.ExitStack() as stack:

        def make(**options) -> Sniffer:
            sniffer = Sniffer.start(**options)
            stack.callback(sniffer.close)
            return sniffer

        yield make


@pytest.fixture
def start(forked_launchers, start_executed):
    """Starts sniffers, whose launchers are forked off a prepared interpreter, and ends them."""
    return start_executed


@pytest.fixture
def sniffer(start):
    return start(workers=2, deadline_s=20)


@pytest.fixture
def executed(start_executed):
    """A sniffer with all processes as a daemon has them."""
    return start_executed(workers=2, deadline_s=20)


@pytest.fixture
def jpeg_fd(tmp_path):
    path = tmp_path / "photo"
    path.write_bytes(JPEG)
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def file_of(tmp_path: Path, data: bytes) -> io.FileIO:
    path = tmp_path / "file"
    path.write_bytes(data)
    return io.FileIO(path, "r")


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def is_gone(pid: int) -> bool:
    """No such process, or one that only waits to be reaped (an orphan's zombie is init's)."""
    try:
        return status_of(pid)["State"].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def kinds(sniffer: Sniffer, fd: int, times: int = 1) -> list[str | None]:
    """Ask for a kind several times, one after the other."""

    async def main() -> list[str | None]:
        return [await sniffer.kind_of_fd(fd) for _ in range(times)]

    return trio.run(main)


async def until(condition) -> None:
    """Let the other tasks run until a condition holds."""
    with trio.fail_after(10):
        while not condition():
            await trio.lowlevel.checkpoint()


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (JPEG, "image/jpeg"),
        (b"", "inode/x-empty"),
        (b"hello there\n", "text/plain"),
        (b"\0", "application/octet-stream"),
    ],
)
def test_kinds(sniffer, tmp_path, data, kind):
    async def main() -> tuple[str | None, str | None]:
        return await sniffer.kind_of_fd(file.fileno()), await sniffer.kind_of_head(data)

    with file_of(tmp_path, data) as file:
        file.seek(1)
        assert trio.run(main) == (kind, kind)
        assert file.tell() == 1
    assert sniffer.stats().failed == {}


def test_a_whole_head_fits(sniffer):
    head = JPEG.ljust(SNIFF_BYTES, b"\0")
    assert trio.run(sniffer.kind_of_head, head) == "image/jpeg"
    with pytest.raises(ValueError, match="at most 65536 are allowed"):
        trio.run(sniffer.kind_of_head, head + b"\0")


def test_no_worker_is_asked_about_a_head_that_decides_its_kind(sniffer):
    asked = sniffer.stats().requests
    head = b"SQLite format 3\0".ljust(SNIFF_BYTES, b"x")
    assert trio.run(sniffer.kind_of_head, head) == "application/vnd.sqlite3"
    assert sniffer.stats().requests == asked


def test_a_contradictory_file_is_unknown_and_the_worker_stays(sniffer):
    pids = sniffer.stats().worker_pids
    assert trio.run(sniffer.kind_of_head, JPEG[:3]) is None
    stats = sniffer.stats()
    assert stats.failed == {"refused": 1}
    assert "first bytes of the file differ" in stats.last_error
    assert sorted(stats.worker_pids) == sorted(pids)


def test_only_read_only_descriptors_are_handed_over(sniffer, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(JPEG)
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_PATH):
        fd = os.open(path, flags)
        try:
            with pytest.raises(ValueError, match="not read-only"):
                trio.run(sniffer.kind_of_fd, fd)
            with pytest.raises(ValueError, match="not read-only"):
                trio.run(sniffer.locate, fd, WHAT)
        finally:
            os.close(fd)


def test_a_directory_has_no_content(sniffer, tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert trio.run(sniffer.kind_of_fd, fd) is None
    finally:
        os.close(fd)
    assert "IsADirectoryError" in sniffer.stats().last_error


def test_a_sealed_memfd_can_be_looked_into(sniffer):
    fd = os.memfd_create("copy")
    os.write(fd, JPEG)
    read_only = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    try:
        assert kinds(sniffer, read_only) == ["image/jpeg"]
    finally:
        os.close(fd)
        os.close(read_only)


def test_the_plan_of_a_copy_in_memory_is_unpacked_without_a_thread(sniffer, monkeypatch):
    """Before, each photo took one, since files in memory have no RWF_NOWAIT."""
    monkeypatch.setattr("policyfs.content.sniffer.unpacked_on_thread", None)
    with os.fdopen(os.memfd_create("copy"), "wb", buffering=0) as copy:
        copy.write(jpegs.photo_with(jpegs.exif()))
        fd = os.open(f"/proc/self/fd/{copy.fileno()}", os.O_RDONLY)
    try:
        _, plan = trio.run(sniffer.locate, fd, frozenset({"location"}))
    finally:
        os.close(fd)
    assert plan.patches


def test_a_kind_without_a_locator_is_refused(sniffer, tmp_path):
    with file_of(tmp_path, b"\0" * 256) as file:
        kind, plan = trio.run(sniffer.locate, file.fileno(), WHAT)
    assert kind == "application/octet-stream"
    assert plan.outcome is Outcome.REFUSE
    assert plan.reason


def test_a_failed_sniff_refuses_with_the_reason(sniffer, tmp_path):
    with file_of(tmp_path, JPEG[:3]) as file:
        kind, plan = trio.run(sniffer.locate, file.fileno(), WHAT)
    assert kind is None
    assert plan.outcome is Outcome.REFUSE
    assert plan.patches == ()
    assert "first bytes of the file differ" in plan.reason


# ---------------------------------------------------------------- what the workers are


def test_workers_have_no_rights(executed, jpeg_fd):
    kinds(executed, jpeg_fd, 5)
    pids = executed.stats().worker_pids
    assert len(pids) == 2
    uids = set()
    for pid in pids:
        status = status_of(pid)
        uids.add(status["Uid"])
        assert status["Uid"] == status["Gid"]
        assert int(status["Uid"].split()[0]) in WORKER_UIDS
        assert len(set(status["Uid"].split())) == 1
        assert status["Groups"].split() == []
        for kind in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(status[kind], 16) == 0
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert status["Threads"] == "1"
        descriptors = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        assert descriptors.pop("3").startswith("socket:")
        assert descriptors == dict.fromkeys("012", "/dev/null")
        assert os.readlink(f"/proc/{pid}/root") == f"/proc/{pid}/fdinfo"
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
        for limit in ("core file size", "file size", "processes"):
            assert [
                line.split()[-3:-1] for line in limits.splitlines() if line.startswith(f"Max {limit}")
            ] == [["0", "0"]]
    assert len(uids) == 2, "each has a uid of its own, so that none can signal another"
    assert executed.stats().confinement.startswith("chroot, uid 21000")
    assert "no_new_privs, limits, landlock" in executed.stats().confinement


def test_workers_take_the_uid_they_are_given(start_executed):
    sniffer = start_executed(workers=1, uid=10_999, gid=10_998)
    status = status_of(sniffer.stats().worker_pids[0])
    assert status["Uid"].split() == ["10999"] * 4
    assert status["Gid"].split() == ["10998"] * 4


def test_the_zygote_has_nothing_of_the_daemon(executed, monkeypatch):
    pid = executed.stats().zygote_pid
    environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    names = {entry.partition(b"=")[0] for entry in environment if entry}
    assert names == {b"PATH", b"LC_ALL", b"PYTHONPATH"}
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    own = ["/dev/null", "/dev/null", "/memfd", "anon_inode", "anon_inode", "pipe", "pipe", "socket"]

    def links() -> list[str]:
        found = []
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/{pid}/fd/{fd}").partition(":")[0])
        return sorted(found)

    wait_for(lambda: links() == own, "a spare worker is made, and its ends are given away")


# ---------------------------------------------------------------- what can happen to them


async def during_a_request(sniffer: Sniffer, fd: int, happens) -> tuple[str | None, float]:
    """Have something happen to the one worker, which is stopped on a request; the answer and the time."""
    result: list[str | None] = []
    (pid,) = sniffer.stats().worker_pids
    os.kill(pid, signal.SIGSTOP)

    async def ask() -> None:
        result.append(await sniffer.kind_of_fd(fd))

    begin = time.monotonic()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await until(lambda: sniffer.stats().in_flight)
        happens(pid)
    return result[0], time.monotonic() - begin


def test_a_worker_killed_in_the_middle_costs_nothing(start, jpeg_fd):
    sniffer = start(workers=1, deadline_s=30)
    kind, seconds = trio.run(during_a_request, sniffer, jpeg_fd, lambda pid: os.kill(pid, signal.SIGKILL))
    assert kind == "image/jpeg"
    assert seconds < 10
    stats = sniffer.stats()
    assert (stats.failed, stats.repeated) == ({}, 1)
    assert (stats.workers_started, stats.zygotes_started) == (2, 1)


def test_a_file_at_which_two_workers_die_is_unknown_and_costs_no_other(start, jpeg_fd, monkeypatch):
    sniffer = start(workers=1, deadline_s=30)
    honest = WorkerLink.ask

    async def dies(self, command, fd, size, payload):
        os.kill(self.pid, signal.SIGSEGV)
        return await honest(self, command, fd, size, payload)

    monkeypatch.setattr(WorkerLink, "ask", dies)
    assert kinds(sniffer, jpeg_fd) == [None]
    monkeypatch.undo()
    assert kinds(sniffer, jpeg_fd) == ["image/jpeg"]
    stats = sniffer.stats()
    assert (stats.failed, stats.repeated, stats.workers_started) == ({"died": 1}, 1, 3)
    assert time.time_ns() - stats.last_loss_ns < 60 * 10**9


def test_a_worker_killed_while_idle_costs_nothing(start, jpeg_fd):
    sniffer = start(workers=1)
    (pid,) = sniffer.stats().worker_pids
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: is_gone(pid), "the worker's end")
    assert kinds(sniffer, jpeg_fd) == ["image/jpeg"]
    assert sniffer.stats().failed == {}


def test_workers_killed_together_cost_nothing(start, jpeg_fd, monkeypatch):
    """All die at a time that says nothing of any file, and it is not seen before they are asked."""
    sniffer = start(workers=3)
    pids = sniffer.stats().worker_pids
    monkeypatch.setattr(WorkerLink, "fit", lambda self: True)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(map(is_gone, pids)), "the workers' end")
    assert kinds(sniffer, jpeg_fd, 3) == ["image/jpeg"] * 3
    stats = sniffer.stats()
    assert stats.failed == {}
    assert len(stats.worker_pids) == 3


def test_a_worker_that_is_stopped_costs_a_moment(start, jpeg_fd):
    """Whoever did it: a worker cannot stop itself, so that this says nothing of the file."""
    sniffer = start(workers=1, deadline_s=60)
    kind, seconds = trio.run(during_a_request, sniffer, jpeg_fd, lambda pid: None)
    assert kind == "image/jpeg"
    assert seconds < 30
    assert (sniffer.stats().failed, sniffer.stats().repeated) == ({}, 1)


def test_workers_killed_again_and_again_from_outside_are_replaced(start, jpeg_fd, monkeypatch):
    sniffer = start(workers=1, deadline_s=60)
    honest, killed = WorkerLink.ask, []

    async def killed_often(self, command, fd, size, payload):
        if len(killed) < 6:
            killed.append(self.pid)
            os.kill(self.pid, signal.SIGKILL)
        return await honest(self, command, fd, size, payload)

    monkeypatch.setattr(WorkerLink, "ask", killed_often)
    assert kinds(sniffer, jpeg_fd) == ["image/jpeg"]
    assert (sniffer.stats().failed, sniffer.stats().repeated) == ({}, 6)


def test_a_file_whose_workers_somebody_always_kills_is_unknown_at_the_deadline(start, jpeg_fd, monkeypatch):
    sniffer = start(workers=1, deadline_s=1)
    honest = WorkerLink.ask

    async def killed_always(self, command, fd, size, payload):
        os.kill(self.pid, signal.SIGKILL)
        return await honest(self, command, fd, size, payload)

    monkeypatch.setattr(WorkerLink, "ask", killed_always)
    assert kinds(sniffer, jpeg_fd) == [None]
    assert sniffer.stats().failed == {"deadline": 1}


def test_a_worker_serves_one_lane_in_all_its_life(start, jpeg_fd):
    sniffer = start(workers=2, deadline_s=60)

    async def main() -> None:
        served: dict[int, str] = {}
        for lane in ["a", "a", "b", "a", "c", "d", "e", "f", "g", "b", "a"]:
            assert await sniffer.kind_of_fd(jpeg_fd, lane=lane) == "image/jpeg"
            pid = sniffer._pool.idle[-1].pid
            assert served.setdefault(pid, lane) == lane
        assert len(sniffer.stats().worker_pids) <= 5

    trio.run(main)


@pytest.mark.parametrize("ask", ["kind_of_fd", "locate"])
def test_a_worker_whose_kind_is_no_mime_type_has_lied_and_does_not_go_on(start, jpeg_fd, monkeypatch, ask):
    sniffer = start(workers=1, deadline_s=30)
    honest = WorkerLink.ask

    async def lies(self, command, fd, size, payload):
        reply = await honest(self, command, fd, size, payload)
        return reply._replace(payload=reply.payload.replace(b"image/jpeg", b"image jpeg"))

    async def main() -> None:
        more = (frozenset({"location"}),) if ask == "locate" else ()
        assert await sniffer.kind_of_fd(jpeg_fd, lane="a") == "image/jpeg"
        [liar] = sniffer._pool.idle
        monkeypatch.setattr(WorkerLink, "ask", lies)
        answer = await getattr(sniffer, ask)(jpeg_fd, *more, lane="a")
        assert (answer if ask == "kind_of_fd" else answer[0]) is None
        assert liar not in sniffer._pool.workers
        assert sniffer.stats().failed == {"lied": 1}
        monkeypatch.undo()
        assert await sniffer.kind_of_fd(jpeg_fd, lane="a") == "image/jpeg"

    trio.run(main)


def test_a_spare_always_waits(start, jpeg_fd):
    sniffer = start(workers=2, deadline_s=60)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sniffer.tend)
            for lane in range(4):
                await until(lambda: sniffer._pool.fresh)
                [spare, *_] = sniffer._pool.fresh
                assert await sniffer.kind_of_fd(jpeg_fd, lane=lane) == "image/jpeg"
                assert sniffer._pool.idle[-1] is spare, "an open waited for a fork"
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_hanging_worker_is_replaced_at_the_deadline(start, jpeg_fd, monkeypatch):
    blocked = Look("D", 0.0, 0.0)  # the worker is stopped, and stands for one that hangs
    monkeypatch.setattr(WorkerLink, "_look", lambda self: blocked)
    sniffer = start(workers=1, deadline_s=0.5)
    (pid,) = sniffer.stats().worker_pids
    kind, seconds = trio.run(during_a_request, sniffer, jpeg_fd, lambda pid: None)
    assert kind is None
    assert 0.5 <= seconds < 5
    wait_for(lambda: is_gone(pid), "the hanging worker's end")
    wait_for(lambda: kinds(sniffer, jpeg_fd) == ["image/jpeg"], "a new worker")
    assert sniffer.stats().failed["deadline"] >= 1


def test_a_cancelled_request_leaves_a_working_pool(start, jpeg_fd):
    sniffer = start(workers=1, deadline_s=30)

    async def main() -> str | None:
        (pid,) = sniffer.stats().worker_pids
        os.kill(pid, signal.SIGSTOP)
        with trio.move_on_after(0.05):
            await sniffer.kind_of_fd(jpeg_fd)
        return await sniffer.kind_of_fd(jpeg_fd)

    assert trio.run(main) == "image/jpeg"


def test_workers_without_memory_fail_and_the_pool_stays(start, tmp_path):
    sniffer = start(workers=1, deadline_s=30, address_space=1 << 20)

    async def main() -> list[str | None]:
        return [(await sniffer.locate(file.fileno(), WHAT))[0] for _ in range(3)]

    with file_of(tmp_path, JPEG.ljust(3 << 20, b"\0")) as file:
        assert trio.run(main) == [None] * 3
    stats = sniffer.stats()
    assert sum(stats.failed.values()) == 3
    assert stats.zygotes_started == 1


@pytest.mark.parametrize(("retire", "failed"), [(True, {"refused": 1, "missed": 1}), (False, {"refused": 2})])
def test_a_file_at_which_a_worker_gives_up_is_not_tried_again_at_once(
    start, jpeg_fd, monkeypatch, retire, failed
):
    """As at one for which its memory is not enough. A file with a read error may be read the next time."""
    sniffer = start(workers=1, deadline_s=30)

    async def gives_up(self, command, fd, size, payload):
        return Reply(1, Status.FAILED, retire, b"MemoryError: ")

    async def main() -> list[str]:
        return [(await sniffer.locate(jpeg_fd, WHAT, version=version))[1].reason for version in (1, 1)]

    monkeypatch.setattr(WorkerLink, "ask", gives_up)
    first, second = trio.run(main)
    assert first == "no plan could be made: MemoryError: "
    assert ("not tried again for 1 s" in second) == retire
    assert sniffer.stats().failed == failed


def test_a_file_whose_workers_somebody_always_kills_is_not_tried_again_at_once(start, jpeg_fd, monkeypatch):
    """The kernel, for instance, when memory runs out at this file."""
    sniffer = start(workers=1, deadline_s=1)
    honest = WorkerLink.ask

    async def killed_always(self, command, fd, size, payload):
        os.kill(self.pid, signal.SIGKILL)
        return await honest(self, command, fd, size, payload)

    async def main() -> None:
        for _ in range(3):
            await sniffer.locate(jpeg_fd, WHAT, version=1)

    monkeypatch.setattr(WorkerLink, "ask", killed_always)
    trio.run(main)
    assert sniffer.stats().failed == {"deadline": 1, "missed": 2}


def test_the_zygote_killed_comes_back_and_takes_its_workers_along(sniffer, jpeg_fd):
    before = sniffer.stats()
    os.kill(before.zygote_pid, signal.SIGKILL)
    for pid in before.worker_pids:
        wait_for(lambda pid=pid: is_gone(pid), "the end of a worker whose zygote is dead")
    assert kinds(sniffer, jpeg_fd, 3) == ["image/jpeg"] * 3
    after = sniffer.stats()
    assert after.zygotes_started == 2
    assert after.zygote_pid != before.zygote_pid
    assert after.failed == {}


def test_workers_that_die_with_their_zygote_say_nothing_of_the_file(start, jpeg_fd, monkeypatch):
    sniffer = start(workers=3, deadline_s=20)
    before = sniffer.stats()
    os.kill(before.zygote_pid, signal.SIGKILL)
    for pid in before.worker_pids:
        wait_for(lambda pid=pid: is_gone(pid), "the end of a worker whose zygote is dead")
    # As in the moment before their end is seen, when a request may well meet one of them.
    monkeypatch.setattr(WorkerLink, "fit", lambda self: True)
    assert kinds(sniffer, jpeg_fd) == ["image/jpeg"]
    stats = sniffer.stats()
    assert (stats.failed, stats.repeated, stats.zygotes_started) == ({}, 1, 2)


@pytest.mark.parametrize("outside", [True, False])
def test_losses_that_other_processes_cause_are_repeated_any_number_of_times(
    sniffer, jpeg_fd, monkeypatch, outside
):
    losses = iter([NoWorkerError("died", "the zygote is gone", outside=outside)] * 5)
    another = Pool.another

    async def after_losses(pool: Pool, lane: object) -> WorkerLink:
        for loss in losses:
            raise loss
        return await another(pool, lane)

    monkeypatch.setattr(Pool, "take", after_losses)
    monkeypatch.setattr(Pool, "another", after_losses)
    begun_s = time.monotonic()
    assert kinds(sniffer, jpeg_fd) == ["image/jpeg" if outside else None]
    assert sniffer.stats().failed == ({} if outside else {"died": 1})
    if outside:
        assert time.monotonic() - begun_s >= sum(_PAUSES_S), "who ends all workers costs no processor"


def test_a_mount_that_nobody_would_end_is_no_mount(sniffer):
    trio.run(sniffer.aclose)
    with pytest.raises(SnifferError, match="its mount would stay"):
        sniffer.guard(0)


def test_a_zygote_that_keeps_dying_is_started_less_and_less_often(start, jpeg_fd):
    sniffer = start(workers=1, deadline_s=20)
    begin = time.monotonic()
    for _ in range(3):
        stats = sniffer.stats()
        os.kill(stats.zygote_pid, signal.SIGKILL)
        for pid in stats.worker_pids:
            wait_for(lambda pid=pid: is_gone(pid), "the worker's end")
        assert kinds(sniffer, jpeg_fd) == ["image/jpeg"]
    assert time.monotonic() - begin >= 0.25 + 0.5
    assert sniffer.stats().zygotes_started == 4


def test_a_stopped_zygote_costs_deadlines_only(start, jpeg_fd):
    sniffer = start(workers=1, deadline_s=0.5)
    stats = sniffer.stats()
    os.kill(stats.zygote_pid, signal.SIGSTOP)
    os.kill(stats.worker_pids[0], signal.SIGKILL)
    wait_for(lambda: is_gone(stats.worker_pids[0]), "the worker's end")
    assert kinds(sniffer, jpeg_fd, 2) == [None, None]
    os.kill(stats.zygote_pid, signal.SIGCONT)
    wait_for(lambda: kinds(sniffer, jpeg_fd) == ["image/jpeg"], "the zygote to go on")
    assert sniffer.stats().zygotes_started == 1


class Undead:
    """A killed worker that hangs in a disk read."""

    served = 0

    def gone(self) -> bool:
        return False


def test_workers_that_will_not_die_stop_the_forking(start, jpeg_fd):
    sniffer = start(workers=1)
    (pid,) = sniffer.stats().worker_pids
    sniffer._pool.killed += [Undead()] * 9
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: is_gone(pid), "the worker's end")
    assert kinds(sniffer, jpeg_fd) == [None]
    assert "killed workers do not end" in sniffer.stats().last_error
    sniffer._pool.killed = [worker for worker in sniffer._pool.killed if not isinstance(worker, Undead)]


def test_where_no_worker_may_be_forked_one_that_waits_is_asked(start, jpeg_fd, monkeypatch):
    """Also where the zygote is dead, too: the loop must not turn for ever over a worker that cannot come."""
    sniffer = start(workers=2)
    monkeypatch.setattr(WorkerLink, "fit", lambda self: True)
    last = sniffer._pool.fresh[0].pid
    os.kill(last, signal.SIGKILL)
    wait_for(lambda: is_gone(last), "the worker's end")
    sniffer._pool.killed += [Undead()] * 9
    assert kinds(sniffer, jpeg_fd) == ["image/jpeg"]
    stats = sniffer.stats()
    os.kill(stats.zygote_pid, signal.SIGKILL)
    wait_for(lambda: all(map(is_gone, stats.worker_pids)), "the end of all workers")
    assert kinds(sniffer, jpeg_fd) == [None]
    assert "killed workers do not end" in sniffer.stats().last_error
    sniffer._pool.killed = [worker for worker in sniffer._pool.killed if not isinstance(worker, Undead)]


# ---------------------------------------------------------------- many


def test_200_at_once(sniffer, jpeg_fd):
    results: list[str | None] = []

    async def one() -> None:
        results.append(await sniffer.kind_of_fd(jpeg_fd))
        assert sniffer.stats().in_flight <= 2

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(one)

    trio.run(main)
    assert results == ["image/jpeg"] * 200
    assert sniffer.stats().workers_started == 2


def test_more_than_may_wait_are_sent_away(start, jpeg_fd):
    sniffer = start(workers=1, queue=10, deadline_s=20)
    results: list[str | None] = []

    async def one(lane: int) -> None:
        results.append(await sniffer.kind_of_fd(jpeg_fd, lane=lane))

    async def main() -> None:
        [worker] = sniffer.stats().worker_pids
        os.kill(worker, signal.SIGSTOP)  # nothing is done before all have asked
        async with trio.open_nursery() as nursery:
            for lane in range(30):
                nursery.start_soon(one, lane)
            with trio.fail_after(10):
                while len(results) < 19:  # noqa: ASYNC110 - each one counts
                    await trio.sleep(0.01)
            os.kill(worker, signal.SIGCONT)

    trio.run(main)
    assert results.count("image/jpeg") == 11  # one under way, ten waiting
    assert sniffer.stats().failed == {"busy": 19}


@pytest.mark.parametrize("uids", [1, 10])
def test_an_app_whose_files_hang_does_not_hold_up_another(start, jpeg_fd, uids):
    """Ten requests of one app each meet a stopped worker; the other app waits for one of them. Each uid of an
    app has a lane if rules tell them apart."""
    sniffer = start(workers=1, deadline_s=1)
    order: list[Lane] = []

    async def ask(lane: Lane) -> None:
        await sniffer.kind_of_fd(jpeg_fd, lane=lane)
        order.append(lane)

    async def main() -> None:
        os.kill(sniffer.stats().worker_pids[0], signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(ask, ("bad", number) if uids > 1 else "bad")
            await until(lambda: sniffer.stats().queued == 9)
            nursery.start_soon(ask, "good")
            await until(lambda: sniffer.stats().queued == 10)

    trio.run(main)
    assert order.index("good") <= 2


def test_nothing_leaks_in_1000_requests(executed, jpeg_fd):
    async def main() -> None:
        for number in range(1000):
            if number % 100 == 50:
                os.kill(executed.stats().worker_pids[-1], signal.SIGKILL)
            await executed.kind_of_fd(jpeg_fd)
            await executed.kind_of_head(JPEG)
            if number % 10 == 0:
                await executed.locate(jpeg_fd, WHAT)

    kinds(executed, jpeg_fd, 3)
    before = sorted(os.listdir("/proc/self/fd"))
    trio.run(main)
    wait_for(lambda: all(worker.gone() for worker in executed._pool.killed), "the end of killed workers")
    assert len(os.listdir("/proc/self/fd")) <= len(before)
    zygote, workers = executed.stats().zygote_pid, executed.stats().worker_pids
    wait_for(
        lambda: len(os.listdir(f"/proc/{zygote}/fd")) == 4 + 2 * len(workers), "the zygote to forget the dead"
    )
    children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text(encoding="ascii").split()
    assert sorted(map(int, children)) == sorted(workers)
    for pid in workers:
        assert len(os.listdir(f"/proc/{pid}/fd")) == 4


def test_a_worker_weighs_as_much_as_an_app_and_the_launcher_as_a_daemon(executed):
    """An app waits for a worker. If a daemon is killed, all apps wait until the launcher has noticed it."""
    own, launcher = os.getpriority(os.PRIO_PROCESS, 0), executed._pool._launcher.pid
    for pid in executed.stats().worker_pids:
        assert turns_of(pid) == (own, 50_000_000 if SLICES else 0)
    assert os.getpriority(os.PRIO_PROCESS, launcher) == SERVING_NICE
    for pid, nice in (*((pid, 0) for pid in executed.stats().worker_pids), (launcher, SERVING_NICE)):
        weight = Path(f"/proc/{pid}/autogroup")
        if weight.exists():  # kernels without CONFIG_SCHED_AUTOGROUP know no sessions' weights
            assert weight.read_text(encoding="ascii").split()[1:] == ["nice", str(nice)]


# ---------------------------------------------------------------- start and end


def test_closing_leaves_no_process(jpeg_fd):
    before = len(os.listdir("/proc/self/fd"))
    sniffer = Sniffer.start()
    stats = sniffer.stats()
    assert kinds(sniffer, jpeg_fd) == ["image/jpeg"]
    sniffer.close()
    for pid in (stats.zygote_pid, *stats.worker_pids):
        assert not Path(f"/proc/{pid}").exists()
    assert len(os.listdir("/proc/self/fd")) == before
    sniffer.close()
    assert kinds(sniffer, jpeg_fd) == [None]


def test_closing_ends_requests_under_way(jpeg_fd):
    sniffer = Sniffer.start(workers=1, deadline_s=60)
    results: list[str | None] = []

    async def one() -> None:
        results.append(await sniffer.kind_of_fd(jpeg_fd))

    async def main() -> None:
        os.kill(sniffer.stats().worker_pids[0], signal.SIGSTOP)
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
            await until(lambda: sniffer.stats().queued == 4)
            await sniffer.aclose()

    begin = time.monotonic()
    trio.run(main)
    assert results == [None] * 5
    assert time.monotonic() - begin < 20
    sniffer.close()


DAEMON = """
import os, sys, time
from policyfs.content.sniffer import Sniffer
sniffer = Sniffer.start()
stats = sniffer.stats()
print(stats.zygote_pid, *stats.worker_pids, flush=True)
time.sleep(300)
"""


def test_nothing_outlives_a_killed_daemon():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    with subprocess.Popen([sys.executable, "-c", DAEMON], stdout=subprocess.PIPE, env=environment) as daemon:
        pids = [int(pid) for pid in daemon.stdout.readline().split()]
        assert len(pids) == 2, "the zygote and a worker that waits"
        assert not any(is_gone(pid) for pid in pids)
        daemon.kill()
        daemon.wait(10)
        for pid in pids:
            wait_for(lambda pid=pid: is_gone(pid), "the end of a process whose daemon was killed")


@pytest.mark.parametrize("options", [{"uid": 0}, {"gid": 0}])
def test_workers_that_would_be_root_do_not_start(options):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SnifferError, match="cannot start the sniffing workers: a worker could not give up"):
        Sniffer.start(**options)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_zygote_that_cannot_import_says_so(monkeypatch, tmp_path):
    (tmp_path / "html.py").write_text("raise ImportError('no html')")
    (tmp_path / "policyfs").symlink_to(Path(sys.modules["policyfs"].__file__).parent)
    monkeypatch.setattr(sys.modules["policyfs"], "__file__", str(tmp_path / "policyfs/__init__.py"))
    with pytest.raises(SnifferError, match="ImportError: no html"):
        Sniffer.start()

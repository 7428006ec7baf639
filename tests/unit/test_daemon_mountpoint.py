"""The mount of a daemon in the tree of mounts: whom it admits, how it ends, and who is told."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from policyfs.daemon import mountpoint
from policyfs.daemon.end import DETACHED, EndOfMount, MountEnd
from policyfs.daemon.kills import Kills
from policyfs.daemon.lock_circle import UNKNOWN
from policyfs.daemon.log import configure
from policyfs.daemon.mountpoint import Mountpoint
from policyfs.daemon.options import MountOptions
from policyfs.journal.files.retention import Retention
from policyfs.kernel import session
from policyfs.kernel.session import Device, MountError
from policyfs.linux import bounded_reads
from policyfs.linux.mountinfo import mounts_at
from policyfs.store.locking.holders import Holder
from tests.support.mount.file_system import on_trio

PLACE = "/proc"
"""Something is mounted there on every machine."""
VI = Holder(7, 0, "vi", "cwd", b"/proc/self", elsewhere=False)
OPTIONS = MountOptions(
    store="/srv/store", mountpoint=PLACE, app=None, any_uid=False, user_id=None, group_ids=(),
    trail=Path("/trail"), posix=False, read_only=False, passthrough=True, copy_bytes=1, cache_bytes=1,
    segment_bytes=1, keep=Retention(),
)  # fmt: skip


class Nothing:
    """Stands in for the journal."""

    def tell(self, kind: str, *records: dict[str, object]) -> None:
        raise AssertionError(kind)


class Kernel:
    """Stands in for mounts and sessions. The device is a pipe: it is in error once its reader is closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: dict[str, object] = {}
        self.unmounts: list[tuple[str, bool, bool]] = []
        self.refuses: dict[bool, int] = {}
        self.ends_with_mount = True
        self.terminated = 0
        self.aborted: list[int] = []
        self.aborts = True
        self.guarded: list[tuple[int, bytes]] = []
        self.reader = -1
        self.here = True
        self.binds: list[str] = []
        monkeypatch.setattr(session, "mount_device", self.mount_device)
        monkeypatch.setattr(session, "unmount", self.unmount)
        monkeypatch.setattr(mountpoint.pyfuse3, "terminate", self.terminate)
        monkeypatch.setattr(mountpoint, "ControlFiles", lambda: self)
        monkeypatch.setattr(mountpoint, "mounts_of_device", lambda _: self.binds)
        for name in ("_LAST_MOUNT_S", "_TABLE_PAUSE_S", "_TABLE_LOOK_S"):
            monkeypatch.setattr(mountpoint, name, 0.01)

    def mount_device(self, path: str, **asked: object) -> Device:
        self.asked = asked
        self.reader, writer = os.pipe()
        return Device(writer, path, mounts_at(PLACE)[-1].device if self.here else 1 << 30)

    def unmount(self, path: str, *, lazy: bool = False, force: bool = False) -> None:
        self.unmounts.append((path, lazy, force))
        if lazy in self.refuses:
            raise MountError("refused", self.refuses[lazy])
        if self.ends_with_mount:
            self.end()

    def end(self) -> None:
        """End the session."""
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def terminate(self) -> None:
        self.terminated += 1

    def abort(self, conn_id: int) -> bool:
        """Of the control files."""
        self.aborted.append(conn_id)
        return self.aborts

    def open_abort(self, conn_id: int) -> int:
        """Of the control files."""
        reader, writer = os.pipe()
        os.write(writer, b"%d" % conn_id)
        os.close(writer)
        return reader

    def guard(self, abort_fd: int) -> None:
        """Of the process that ends the connection of a killed daemon."""
        self.guarded.append((abort_fd, os.read(abort_fd, 20)))

    def close(self) -> None:
        """Of the control files."""
        self.aborted.append(-1)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


class Said:
    """The log of a daemon."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.log = configure(self.text, as_json=True)

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.text.getvalue().splitlines()]


@contextmanager
def mounted(kernel: Kernel, said: Said | None = None, **options) -> Iterator[Mountpoint]:
    before = len(os.listdir("/proc/self/fd"))
    log = (said or Said()).log
    kills = Kills(Nothing())
    made = Mountpoint(
        replace(OPTIONS, **options), EndOfMount(), log, kills, read_only=False, guard=kernel.guard
    )
    with closing(made):
        yield made
    kernel.end()
    assert len(os.listdir("/proc/self/fd")) == before


# -- the mount ---------------------------------------------------------------------------------------


def test_another_process_gets_what_ends_the_connection(kernel: Kernel) -> None:
    with mounted(kernel) as made:
        [(abort_fd, number)] = kernel.guarded
        assert int(number) == made.device.conn_id
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(abort_fd)


@pytest.mark.parametrize(
    ("options", "user", "group", "allow_other"),
    [
        ({}, 0, 0, True),
        ({"user_id": 7, "group_ids": (8,)}, 7, 8, False),
        ({"user_id": 0, "group_ids": (8,)}, 0, 8, False),
        ({"user_id": 7, "group_ids": (8, 9)}, 0, 0, True),  # the kernel admits one group or everybody
    ],
)
def test_the_kernel_keeps_others_out_if_it_can(
    kernel: Kernel, options: dict, user: int, group: int, allow_other: bool
) -> None:
    with mounted(kernel, **options):
        asked = kernel.asked
    assert (asked["user_id"], asked["group_id"], asked["allow_other"]) == (user, group, allow_other)
    assert (asked["source"], asked["control"]) == ("/srv/store", kernel)


def test_options_come_to_the_mount(kernel: Kernel) -> None:
    with mounted(kernel):
        assert (kernel.asked["default_permissions"], kernel.asked["place_fd"]) == (False, None)
    with mounted(kernel, posix=True):
        assert kernel.asked["default_permissions"]


@pytest.mark.parametrize("fails", [False, True])
def test_the_mountpoint_is_not_kept_open(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """It would keep the file system below busy."""
    place_fd = os.open(tmp_path, os.O_PATH)
    if fails:
        monkeypatch.setattr(session, "mount_device", refused)
    with pytest.raises(MountError) if fails else nullcontext():
        options = replace(OPTIONS, place_fd=place_fd)
        made = Mountpoint(
            options, EndOfMount(), Said().log, Kills(Nothing()), read_only=True, guard=kernel.guard
        )
        assert kernel.asked["place_fd"] == place_fd
        made.close()
    assert tmp_path not in [fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]


def refused(path: str, **_: object) -> Device:
    raise MountError(f"cannot mount on {path}")


def test_a_mount_that_fails_leaves_nothing_open(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "mount_device", refused)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MountError, match="cannot mount"):
        Mountpoint(OPTIONS, EndOfMount(), Said().log, Kills(Nothing()), read_only=True, guard=kernel.guard)
    assert len(os.listdir("/proc/self/fd")) == before
    assert (kernel.aborted, kernel.unmounts) == ([-1], [])


def test_without_control_files_an_app_is_mounted_with_a_warning(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none() -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(mountpoint, "ControlFiles", none)
    said = Said()
    with mounted(kernel, said) as made:
        assert kernel.asked["control"] is None
        made.cut_off()
        assert kernel.unmounts == [(PLACE, True, True)]
    (line,) = said.lines()
    assert (line["level"], line["reason"]) == ("warning", "Operation not permitted")


# -- its end ------------------------------------------------------------------------------------------


@on_trio
async def test_it_is_unmounted_and_the_session_ends_by_itself(kernel: Kernel) -> None:
    said = Said()
    with mounted(kernel, said) as made:
        await made.finish()
        assert kernel.unmounts == [(PLACE, False, False)]
        assert (kernel.terminated, said.lines()) == (0, [])
        assert made.detached() is None


@on_trio
async def test_a_session_with_targets_of_a_site_is_ended_at_once(kernel: Kernel) -> None:
    said = Said()
    kernel.ends_with_mount = False
    kernel.binds = ["/run/policyfs/mounts/home/tv/targets/films"]
    with mounted(kernel, said) as made:
        await made.finish()
        assert (kernel.terminated, said.lines()) == (1, [])


@on_trio
async def test_a_session_that_goes_on_elsewhere_is_ended(kernel: Kernel) -> None:
    said = Said()
    kernel.ends_with_mount = False
    with mounted(kernel, said) as made:
        await made.finish()
        assert kernel.terminated == 1
        assert "another mount namespace" in said.lines()[0]["event"]


@pytest.mark.parametrize("known", [True, False])
def test_a_busy_mount_is_detached_by_force_and_its_users_are_logged(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    def holders(path: bytes) -> list[Holder]:
        assert path == os.fsencode(PLACE)
        if not known:
            raise OSError(errno.EMFILE, "too many")
        return [VI]

    monkeypatch.setattr(mountpoint, "holders", holders)
    kernel.refuses = {False: errno.EBUSY}

    @on_trio
    async def run() -> None:
        said = Said()
        with mounted(kernel, said) as made:
            await made.finish()
            assert kernel.unmounts == [(PLACE, False, False), (PLACE, True, True)]
            assert kernel.terminated == 1
        (line,) = said.lines()
        assert line["holders"] == ([str(VI)] if known else [])

    run()


def test_a_process_whose_tables_cannot_be_read_keeps_no_mount_from_its_end(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read of /proc/PID/maps waits for a lock of the process (before Linux 6.17)."""
    answered = threading.Event()

    def holders(_path: bytes) -> list[Holder]:
        answered.wait(5)
        answered.set()
        return [VI]

    monkeypatch.setattr(mountpoint, "holders", holders)
    monkeypatch.setattr(mountpoint, "_HOLDERS_S", 0.05, raising=False)
    kernel.refuses = {False: errno.EBUSY}

    @on_trio
    async def run() -> None:
        said = Said()
        with mounted(kernel, said) as made:
            await made.finish()
            assert not answered.is_set(), "the daemon has not waited"
            assert kernel.unmounts == [(PLACE, False, False), (PLACE, True, True)]
        (line,) = said.lines()
        assert line["holders"] == []

    try:
        run()
    finally:
        answered.set()


@on_trio
async def test_a_disk_that_is_mounted_over_a_busy_mount_stays(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for users takes up to five seconds. The unmount by force then took the topmost mount."""
    kernel.refuses = {False: errno.EBUSY}
    with mounted(kernel, Said()) as made:

        def holders(_path: bytes) -> list[Holder]:
            made.device = replace(made.device, conn_id=1 << 30)  # something else is topmost now
            return [VI]

        monkeypatch.setattr(mountpoint, "holders", holders)
        await made.finish()
        assert (kernel.unmounts, kernel.terminated) == ([(PLACE, False, False)], 1)


@pytest.mark.parametrize("at", ["unmount", "search"])
def test_a_mount_ends_although_no_thread_can_be_started(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    run_sync, calls = trio.to_thread.run_sync, []

    async def refused(function, *arguments, **options):
        calls.append(function)
        if at == "unmount" or len(calls) > 1:
            raise RuntimeError("can't start new thread")
        return await run_sync(function, *arguments, **options)

    monkeypatch.setattr(trio.to_thread, "run_sync", refused)
    kernel.refuses = {False: errno.EBUSY}

    @on_trio
    async def run() -> None:
        with mounted(kernel, Said()) as made:
            await made.finish()
            assert kernel.unmounts[-1] == (PLACE, True, True)
            assert kernel.terminated == 1

    run()


@on_trio
async def test_a_mount_that_cannot_be_removed_at_all_ends_its_session(kernel: Kernel) -> None:
    said = Said()
    kernel.refuses = {False: errno.EPERM, True: errno.EPERM}
    with mounted(kernel, said) as made:
        await made.finish()
        assert (kernel.terminated, said.lines()) == (1, [])


@on_trio
async def test_the_mount_of_another_daemon_at_the_place_stays(kernel: Kernel) -> None:
    kernel.here = False
    ended: list[str] = []

    class Waits:
        def end(self) -> None:
            ended.append("readiness")

    with mounted(kernel) as made:
        made.readiness = Waits()  # type: ignore[assignment]
        assert not made.is_mounted
        await made.finish()
        made.cut_off()
        assert (kernel.unmounts, kernel.terminated, ended) == ([], 1, ["readiness"])
    assert kernel.unmounts == []


@on_trio
async def test_it_is_gone_once_the_table_has_it_no_more(kernel: Kernel) -> None:
    with mounted(kernel) as made:
        with trio.move_on_after(0.1) as waited:
            await made.gone()
        assert waited.cancelled_caught
        made.device = replace(made.device, conn_id=1 << 30)
        with trio.fail_after(5):
            await made.gone()
        assert made.detached() == MountEnd("outside", DETACHED)


@pytest.mark.parametrize("ordered", [True, False])
def test_at_the_end_it_is_removed_wherever_it_still_is(kernel: Kernel, ordered: bool) -> None:
    kernel.refuses = {} if ordered else {True: errno.EPERM}
    with mounted(kernel) as made:
        made.close()
        assert kernel.unmounts == [(PLACE, True, False)]
        made.close()
        assert len(kernel.unmounts) == 1
        assert kernel.aborted == [-1], "the control files are closed"


# -- cutting off ---------------------------------------------------------------------------------------


def test_who_still_waits_is_cut_off_without_the_mount_if_possible(kernel: Kernel) -> None:
    with mounted(kernel) as made:
        made.cut_off()
        assert (kernel.aborted, kernel.unmounts) == ([made.device.conn_id], [])
        kernel.aborts = False
        kernel.refuses = {True: errno.EPERM}
        made.cut_off()
        assert kernel.unmounts == [(PLACE, True, True)]
        kernel.end()
        made.cut_off()
        assert len(kernel.aborted) == 2, "nobody waits for a session that has ended"


def test_control_files_that_fail_end_nothing(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> bool:
        raise OSError(errno.EIO, "fusectl")

    monkeypatch.setattr(kernel, "abort", fails)
    with mounted(kernel) as made:
        made.cut_off()
    assert kernel.unmounts == [(PLACE, True, False)], "of the end"


# -- a circle of locks -------------------------------------------------------------------------------


@pytest.fixture
def let_go(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """What a look at the executable of any process waits for."""
    event = threading.Event()

    def wait(pid: int) -> str:
        event.wait()
        return "late"

    monkeypatch.setattr(mountpoint, "executable", wait)
    monkeypatch.setattr(bounded_reads, "WAIT_S", 0.05)
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "policyfs-proc":
            thread.join(10)


@pytest.mark.timeout(20)
def test_a_process_that_hides_its_program_is_killed(kernel: Kernel, let_go: threading.Event) -> None:
    said = Said()
    with mounted(kernel, said) as made, subprocess.Popen(["/bin/sleep", "20"]) as process:
        assert made._kill_writer(process.pid, 1.0)
        assert process.wait(10) == -signal.SIGKILL
    assert [(line["pid"], line["exe"]) for line in said.lines()] == [(process.pid, "")]


@pytest.mark.timeout(20)
def test_the_mount_ends_though_the_program_of_the_writer_is_unknown(
    kernel: Kernel, let_go: threading.Event
) -> None:
    with mounted(kernel) as made:
        made._end_circle(os.getpid())
        assert kernel.aborted == [made.device.conn_id]


@pytest.mark.timeout(20)
def test_the_mount_ends_if_no_writer_is_known(kernel: Kernel) -> None:
    with mounted(kernel) as made:
        assert not made._kill_writer(UNKNOWN, 1.0)
        made._end_circle(UNKNOWN)
        assert kernel.aborted == [made.device.conn_id]
        end = made._end.by(MountEnd("command", "later"))
        assert (end.cause, end.pid, end.uid, end.exe) == ("error", None, None, "")


@pytest.mark.timeout(20)
def test_a_process_that_hides_its_files_is_no_user(
    kernel: Kernel, let_go: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mountpoint, "has_open", lambda pid, device: let_go.wait())
    with mounted(kernel) as made:
        assert not made._is_user(1)

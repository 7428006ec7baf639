"""The fork that shares descriptors."""

from __future__ import annotations

import os
import signal
import threading
from fcntl import F_GETFD, fcntl
from types import SimpleNamespace

from policyfs.daemon.keeper.clone import close_others, fork_sharing_descriptors, is_possible, now_open
from policyfs.domain import RAW_VIEW
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import BytePath
from policyfs.fs.inodes.open_state import Mode
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.saved.saved_handle import Setup
from tests.support.machine.inchild import in_child


def test_what_a_killed_child_opened_stays_open_under_its_number() -> None:
    def process() -> tuple[str, int]:
        number, told = os.pipe()
        pid = fork_sharing_descriptors()
        if pid == 0:
            fd = os.memfd_create("outlives")
            os.write(fd, b"kept")
            os.write(told, b"%d" % fd)
            os.kill(os.getpid(), signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return os.pread(int(os.read(number, 10)), 10, 0).decode(), os.waitstatus_to_exitcode(status)

    assert is_possible()
    assert in_child(process) == ["kept", -signal.SIGKILL]


def test_the_child_is_a_whole_process() -> None:
    """libc and Python know the child's own number, also for its threads."""

    def process() -> int:
        pid = fork_sharing_descriptors()
        if pid == 0:
            thread = threading.Thread(target=lambda: None)
            thread.start()
            thread.join()
            right = threading.get_native_id() == os.getpid() and os.getppid() != os.getpid()
            os._exit(7 if right else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_child(process) == 7


def handle(fh: int, fd: int) -> object:
    caller = Caller(lambda _uid: None, 1, 1, 1, 0)  # type: ignore[arg-type, return-value]
    node = SimpleNamespace(nodeid=5, byte_path=BytePath.RAW, view=RAW_VIEW)
    return SimpleNamespace(
        fh=fh, node=node, caller=caller, fd=fd, flags=0, mode=Mode.MEDIATED, copy=None, writable=False,
        by_kind=False, facts=None, created=False, changed=False,
    )  # fmt: skip


def is_open(fd: int) -> bool:
    try:
        fcntl(fd, F_GETFD)
    except OSError:
        return False
    return True


def test_all_others_are_closed() -> None:
    def process() -> list[object]:
        known, replaced = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
        before, state = now_open(), SavedState(4)
        device, saved, other = (os.memfd_create(name) for name in ("device", "saved", "other"))
        os.dup2(other, replaced)  # the keeper's descriptor was closed, and another file has its number
        if (dead := os.fork()) == 0:
            signal.pause()
        of_dead = os.open(f"/proc/{dead}/fd", os.O_PATH)  # as each daemon has its own
        os.kill(dead, signal.SIGKILL)
        os.waitpid(dead, 0)
        state.set_up(Setup(device, 1, b"", ""))
        gone = 900
        for number, fd in enumerate((saved, device, 2, gone)):
            state.opened(handle(number, fd))  # type: ignore[arg-type]
        close_others(before, state)
        numbers = (known, device, saved, 0, 1, 2, replaced, other, of_dead)
        return [[is_open(fd) for fd in numbers], [one.fh for one in state.handles()]]

    assert in_child(process) == [[True] * 6 + [False] * 3, [0]]

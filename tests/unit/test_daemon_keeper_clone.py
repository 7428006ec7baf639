"""The fork that shares descriptors."""

from __future__ import annotations

import os
import signal
import threading

from policyfs.daemon.keeper.clone import fork_sharing_descriptors, is_possible
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

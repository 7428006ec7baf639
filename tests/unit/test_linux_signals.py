"""Signals that name another sender."""

from __future__ import annotations

import os
import signal

from policyfs.linux.signals import send_as
from tests.support.machine.inchild import in_child


def test_the_receiver_sees_the_named_sender() -> None:
    def process() -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid == 0:
            info = signal.sigwaitinfo({signal.SIGTERM})
            os._exit(9 if (info.si_pid, info.si_uid) == (4711, 12) else 1)
        send_as(pid, signal.SIGTERM, pid=4711, uid=12)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert in_child(process) == 9

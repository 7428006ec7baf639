"""kill -9 of a daemon with a thread that waits for an app, which waits for the daemon's answer."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import Child, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import WEAKENED, Mounts

EDITOR: Final = 10010
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  editor: {{uid: {EDITOR}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
"""
ENDS_WITHIN_S: Final = 5.0
WAITS_S: Final = 2.0


def _remove(channel: object, path: Path) -> str:
    del channel
    return code_of(path.unlink)


def notifies(pid: int) -> bool:
    """True if a thread of a process waits in the kernel for a directory's lock, to drop a name."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            if "fuse_reverse_inval_entry" in (task / "stack").read_text():
                return True
    return False


def killed(
    mounts: Mounts, store: Path, *guards: str, number: signal.Signals = signal.SIGKILL
) -> tuple[Mount, Child]:
    """A mount whose daemon was killed in a notification, and the app whose removal it did not answer. number:
    what the daemon gets."""
    (store / "a").write_text("bytes")
    mount = mounts.prepare(POLICY, store)
    mount.program = (WEAKENED, ",".join(("removal-unanswered", *guards)))
    mount.executed = True  # its launcher is its child
    mount.start()
    app = start_as(EDITOR, _remove, mount / "a")
    wait_for(lambda: notifies(mount.pid), "the daemon waits for the app")
    mount.expected_exit = -signal.SIGKILL
    if number != signal.SIGKILL:
        mount.expected_log.append("Fatal Python error")  # of faulthandler
    os.kill(mount.pid, number)
    return mount, app


def _gone(mount: Mount, code: int = -signal.SIGKILL) -> None:
    """Wait for the end of the daemon, and remove its dead mount."""
    assert mount.process is not None
    assert mount.process.wait(ENDS_WITHIN_S) == code
    mount.force_away()
    mount.control_socket.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "number",
    first(2, zip([signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGQUIT, signal.SIGXCPU])),
)
def test_the_app_gets_an_error_and_the_daemon_is_gone(
    mounts: Mounts, empty_store: Path, number: signal.Signals
) -> None:
    mount, app = killed(mounts, empty_store, number=number)
    assert app.result(ENDS_WITHIN_S) in {"ECONNABORTED", "ENOTCONN"}
    _gone(mount)
    assert (empty_store / "a").read_text() == "bytes"


def test_both_wait_where_nobody_ends_the_connection(mounts: Mounts, empty_store: Path) -> None:
    mount, app = killed(mounts, empty_store, "connection-unguarded")
    assert not app.channel.poll(WAITS_S)
    assert notifies(mount.pid)
    mount.abort()
    assert app.result(ENDS_WITHIN_S) in {"ECONNABORTED", "ENOTCONN"}
    _gone(mount)


def test_both_wait_where_a_fault_waits_for_all_threads(mounts: Mounts, empty_store: Path) -> None:
    """The kernel wants to dump the core: all threads must have ended before."""
    mount, app = killed(mounts, empty_store, "faults-dumped", number=signal.SIGSEGV)
    mount.expected_exit = -signal.SIGSEGV
    assert not app.channel.poll(WAITS_S)
    assert notifies(mount.pid)
    mount.abort()
    assert app.result(ENDS_WITHIN_S) in {"ECONNABORTED", "ENOTCONN"}
    _gone(mount, -signal.SIGSEGV)

"""`policyfs`, and a look for memory that nobody can reach any more when it has ended.

    python -m tests.sanitize.daemon mount --foreground ...

To be run with AddressSanitizer in the process (see __main__.py). The daemon's filter of system calls
is left out: the search for leaks attaches to its own threads. It is made by this process alone, after
the interpreter has given up what it had (what only a running frame holds would look lost before), and
by none of those that it starts.
"""

from __future__ import annotations

import os
import sys
import time

_OPTIONS = "ASAN_OPTIONS"
_THREADS_S = 30.0
_NOT_AT_EXIT, _AT_EXIT = "leak_check_at_exit=0", "leak_check_at_exit=1"


def start_again_and_look() -> None:
    """The sanitizer reads its options when the process starts: start again with others."""
    options = os.environ[_OPTIONS]
    if _NOT_AT_EXIT in options:
        changed = os.environ | {_OPTIONS: options.replace(_NOT_AT_EXIT, _AT_EXIT)}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], changed)
    os.environ[_OPTIONS] = options.replace(_AT_EXIT, _NOT_AT_EXIT)


def wait_for_threads() -> None:
    """Trio's worker threads go when they have had nothing to do; one that is still there when the interpreter
    ends keeps for ever what it holds. (The log's thread never ends: there is none here.)"""
    until = time.monotonic() + _THREADS_S
    while len(os.listdir("/proc/self/task")) > 1 and time.monotonic() < until:
        time.sleep(0.05)


if __name__ == "__main__":
    start_again_and_look()

    import trio._core._thread_cache as trio_threads

    import policyfs.daemon.daemon
    import policyfs.daemon.log_writer
    from policyfs.cli.main import main

    assert hasattr(policyfs.daemon.daemon, "close_door")
    policyfs.daemon.daemon.close_door = lambda **_: True
    policyfs.daemon.log_writer.LogWriter.write_on_thread = lambda _: None  # type: ignore[assignment,method-assign]
    trio_threads.IDLE_TIMEOUT = 0.2  # type: ignore[assignment]
    code = main()
    wait_for_threads()
    raise SystemExit(code)

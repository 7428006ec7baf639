"""What a function does to the process that calls it, seen from outside."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any


def in_child(function: Callable[[], Any]) -> Any:
    """Run a function in a forked child and return its JSON-able result ("killed by N" if so)."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(20)
            os.write(write_end, json.dumps(function()).encode())
        except BaseException as error:
            os.write(write_end, json.dumps(f"{type(error).__name__}: {error}").encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(said) if said else f"killed by {-status}"


def child(work: Callable[[], int]) -> int:
    """Fork a process that ends with the exit code that a function returns. Return its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(work())
        finally:
            os._exit(99)
    return pid


def exit_code(pid: int) -> int:
    """Wait for a process to end. Return its exit code, or the negative number of the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

"""One computation over hostile bytes, in a child with the rights of a worker (content/workers/sandbox.py)."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from policyfs.cli.common.looking import opened
from policyfs.cli.common.processes import own_instance
from policyfs.content.workers.execution import worker_limits
from policyfs.content.workers.sandbox import Limits, confine
from policyfs.errors import PolicyfsError
from policyfs.linux.child import answer_of
from policyfs.linux.memory import mapped_bytes
from policyfs.trail.lines.table import shown

_MEMORY: Final = 128 << 20
_CPU_S: Final = 2
_WAIT_S: Final = 60.0
_MAX_ANSWER: Final = 16 << 20


def in_confined_child(
    function: Callable[[bytes], object], path: str, most: int, *, regular: bool = False
) -> object:
    """Read a file of at most *most* bytes, and return what *function* makes of its bytes in a confined child.
    regular: True if nothing but a regular file is read (else also a pipe, for example /dev/stdin).

    The result passes through JSON. An exception of the function is its text in a PolicyfsError. Raises
    PolicyfsError, also if the file cannot be read or the child exceeds its memory or time.
    """
    try:
        with (
            opened(path) if regular else contextlib.nullcontext(path) as source,
            open(source, "rb", closefd=not regular) as file,
        ):
            data = file.read(most + 1)
    except OSError as error:
        raise PolicyfsError(f"cannot read {shown(path)}: {error.strerror}") from error
    if len(data) > most:
        raise PolicyfsError(f"cannot read {shown(path)}: it is larger than {most:,} bytes")
    with own_instance():
        limits = worker_limits()
    limits = replace(limits, address_space=mapped_bytes() + _MEMORY, cpu_s=_CPU_S)
    parent = os.getpid()
    answer = answer_of(lambda: _outcome(function, data, limits, parent), timeout_s=_WAIT_S, most=_MAX_ANSWER)
    try:
        result, told = json.loads(answer or b"")
    except (ValueError, TypeError, RecursionError):
        raise PolicyfsError(f"cannot read {shown(path)}: it needs too much time or memory") from None
    if told is not None:
        raise PolicyfsError(f"cannot read {shown(path)}: {told}")
    return result


def _outcome(function: Callable[[bytes], object], data: bytes, limits: Limits, parent: int) -> bytes:
    confine(limits, parent)
    try:
        text = json.dumps((function(data), None))
    except Exception as error:  # noqa: BLE001 - the command prints it
        text = json.dumps((None, str(error) or type(error).__name__))
    return text.encode()

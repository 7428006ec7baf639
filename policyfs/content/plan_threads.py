"""Threads that unpack large redaction plans, so that the event loop goes on.

This module is apart from plans.py, because workers need no event loop.
"""

from __future__ import annotations

from typing import Final

import trio

from policyfs.content.pieces import Read
from policyfs.content.plans import unpack_plan
from policyfs.redact.core.values import Plan

_AT_ONCE: Final = trio.CapacityLimiter(2)
"""The limit of these threads: each of them makes the event loop wait for the interpreter lock."""


async def unpacked_on_thread(payload: bytes, file_size: int, read: Read | None = None) -> tuple[str, Plan]:
    """Do the same as unpack_plan(), on a thread. Raises its errors."""
    return await trio.to_thread.run_sync(unpack_plan, payload, file_size, read, limiter=_AT_ONCE)

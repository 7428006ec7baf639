"""First opens that the bridge answers: no name has another's decision, and no decision lasts too long."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from tests.mount.test_raw_tree import CLOSED, ONE, POLICY, listed, read, read_all, refusal, store
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

__all__ = ["store"]


def excepted(mount: Mount) -> int | None:
    """The error for a hidden name among names that the bridge answers for."""
    call_as(ONE, read_all, str(mount / "d"))
    answer: int | None = call_as(ONE, refusal, lambda: os.stat(mount / "d/secret"))
    return answer


def after_a_reload(mount: Mount) -> int | None:
    """The error for a file that was known, but not open, when a reload closed it."""
    call_as(ONE, listed, str(mount / "d"))
    mount.policy.write_text(CLOSED)
    assert mount.reload().returncode == 0
    answer: int | None = call_as(ONE, refusal, lambda: read(str(mount / "d/f2")))
    return answer


def test_a_hidden_name_among_open_ones_stays_hidden(mounts: Mounts, store: Path) -> None:
    assert excepted(mounts.prepare(POLICY, store, "--app", "one").start()) == errno.ENOENT


def test_it_is_seen_without_the_guard(without, store: Path) -> None:
    assert excepted(without("names-without-exceptions", POLICY, store, "--app", "one")) is None


def test_a_reload_ends_the_decision(mounts: Mounts, store: Path) -> None:
    assert after_a_reload(mounts.prepare(POLICY, store, "--app", "one").start()) == errno.EACCES

"""Whom a mount admits: the kernel itself where it can tell them, else the daemon."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.daemon.options import MountOptions
from policyfs.fs.inodes.caller import Admitted
from policyfs.journal.files.retention import Retention


def options(user_id: int | None, group_ids: tuple[int, ...]) -> MountOptions:
    return MountOptions(
        store="/store", mountpoint="/mnt", app="camera", any_uid=user_id is None, user_id=user_id,
        group_ids=group_ids, trail=Path("/trail"), posix=False, read_only=False, passthrough=True,
        copy_bytes=1, cache_bytes=1, segment_bytes=1, keep=Retention(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("user_id", "group_ids", "kernel", "admitted"),
    [
        (10010, (10010,), True, None),
        (0, (0,), True, None),  # root is a uid like any other here
        (10010, (10010, 44), False, Admitted(10010, frozenset({10010, 44}))),
        (10010, (), False, Admitted(10010, frozenset())),
        (None, (), False, None),
        (None, (44,), False, None),
    ],
)
def test_the_kernel_tells_one_uid_and_one_group(
    user_id: int | None, group_ids: tuple[int, ...], kernel: bool, admitted: Admitted | None
) -> None:
    made = options(user_id, group_ids)
    assert made.kernel_admits is kernel
    assert made.admitted == admitted


def test_whoever_is_not_admitted_by_the_kernel_is_told_to_the_daemon() -> None:
    """One of both keeps others out, unless all are admitted."""
    for user_id in (None, 0, 10010):
        for groups in ((), (5,), (5, 6)):
            made = options(user_id, groups)
            assert made.kernel_admits + (made.admitted is not None) == (user_id is not None)

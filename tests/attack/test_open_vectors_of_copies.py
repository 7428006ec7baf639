"""B4: redacted copies that the bridge opens by itself: of the present version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.test_open_vectors_of_copies import (
    GALLERY,
    NEW,
    OLD,
    POLICY,
    answered,
    is_redacted,
    read,
    rewrite,
    store,
)
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount

__all__ = ["store"]

Start = Callable[..., Mount]


def shown_after_a_change(mount: Mount) -> bytes:
    """What an app reads of a photo that the bridge opens for it, right after the store's file was changed."""
    assert is_redacted(answered(mount), OLD)
    rewrite(mount.store / "a.jpg", NEW)
    return call_as(GALLERY, read, str(mount / "a.jpg"), 5)


@pytest.mark.parametrize(
    ("guards", "outdated"),
    [("changes-not-told", False), ("changes-not-told,copies-of-any-version", True)],
    ids=["by its version", "by any version"],
)
def test_a_copy_of_an_older_version_is_opened_no_more(
    guards: str, outdated: bool, without: Start, store: Path
) -> None:
    """Also before the watch has told of the change, while the kernel keeps the file's name.

    Attack B4.10: Have the bridge open a redacted copy of an older version of the file
    Guard: policyfs/kernel/answers/_opens.c::is_current, policyfs/fs/redacted/copies.py::Redactor.is_final
    Also: tests/mount/test_open_vectors_of_copies.py
    """
    shown = shown_after_a_change(without(guards, POLICY, store, "--avc", "--app", "gallery"))
    assert is_redacted(shown, OLD if outdated else NEW)

"""The store has a quota: EDQUOT for what it does not give, and nothing lost of what write(2) took.

Of the file systems here btrfs has quotas in every kernel, for a subvolume. Quotas by user or project
need CONFIG_QFMT_V2 or CONFIG_XFS_QUOTA; who would pay under them is the owner of the file.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.linux.confinement.capabilities import rights_of
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as
from tests.support.mount import faulty
from tests.support.mount.daemons import Mount
from tests.support.mount.faulty import CAMERA, GALLERY, LARGE, PHOTO, written
from tests.support.mount.stores import Mounts

LIMIT = 4 << 20


@pytest.fixture
def limited(arena: Path, mounts: Mounts) -> Iterator[tuple[Mount, Path]]:
    """A mount of a subvolume that may hold LIMIT bytes, on a disk with room."""
    directory = arena / "disk"
    directory.mkdir()
    with file_system("btrfs", directory) as root:
        store = root / "store"
        for words in (
            ("quota", "enable", root),
            ("subvolume", "create", store),
            ("qgroup", "limit", str(LIMIT), store),
        ):
            subprocess.run(["btrfs", *map(os.fspath, words)], check=True, capture_output=True, timeout=30)
        store.chmod(0o700)
        faulty.furnish(store)
        mount = mounts.start(faulty.POLICY, store)
        yield mount, store
        assert mount.stop() == []


@pytest.mark.parametrize("place", ["DCIM", "Checked"])
def test_a_write_beyond_the_quota_is_edquot(limited, place: str) -> None:
    """Fault store.10: Quota (btrfs, of a subvolume)
    App: EDQUOT, as without policyfs. Readers of copies continue
    Store: accepted bytes
    Trail: `release` with the number of accepted bytes
    """
    mount, store = limited
    data = LARGE[:-2] + bytes(LIMIT)
    took, error = call_as(CAMERA, lambda: written(mount / place / "new.jpg", data, sync=True))
    assert error == "EDQUOT"
    assert 0 < took < len(data)
    assert (store / place / "new.jpg").read_bytes() == data[:took]
    # Readers of copies are not stopped by it, and removing helps.
    shown = call_as(GALLERY, (mount / "DCIM/a.jpg").read_bytes)
    assert len(shown) == len(PHOTO) and shown != PHOTO
    call_as(CAMERA, (mount / place / "new.jpg").unlink)
    subprocess.run(["sync", "-f", store], check=True, timeout=30)
    assert call_as(CAMERA, written, mount / place / "new.jpg", LARGE) == (len(LARGE), "")
    assert mount.status()["bugs"] == 0


def test_who_makes_a_file_pays_for_it(limited) -> None:
    """A quota by user or group goes by the inode's owner, and the daemon cannot exceed a hard limit: that
    takes CAP_SYS_RESOURCE, which it gives up.

    Fault store.11: Quota by user or group
    App: A file counts for the caller that created it, a draft for its writer. Hard limits apply to the
    daemon, too
    Also: tests/faults/test_reserve.py::test_a_draft_is_its_writers_and_so_is_its_quota
    """
    mount, store = limited
    call_as(CAMERA, written, mount / "DCIM/new.jpg", LARGE)
    status = (store / "DCIM/new.jpg").stat()
    assert (status.st_uid, status.st_gid) == (CAMERA, CAMERA)
    assert 24 not in {int(one) for one in rights_of(mount.pid).effective}  # linux/capability.h

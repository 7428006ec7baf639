"""The one binding of the C library."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from policyfs.linux.libc import LIBC, sync_file_system
from tests.support.machine.documents import CHECKOUT


def test_it_is_the_only_one() -> None:
    sources = (CHECKOUT / "policyfs").rglob("*.py")
    own = [path.name for path in sources if re.search(r"CDLL\(None", path.read_text("utf-8"))]
    assert own == ["libc.py"]


def test_a_bound_function_binds_nobody_else() -> None:
    """Functions by name are one object for all, so a signature on one would hold for other modules' calls."""
    assert LIBC.syscall.argtypes is LIBC.statx.argtypes is None


def test_a_file_system_is_synced(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    sync_file_system(fd)
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        sync_file_system(fd)

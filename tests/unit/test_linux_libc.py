"""The one binding of the C library."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from policyfs.linux.libc import LIBC, Identity, keep_capabilities, sync_file_system
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.processes import call_as

UID = 10051


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


def _as_caller(directory: str, uid: int, keeps: bool) -> list[str]:
    """Make a file as *uid*. Return the thread's ids and capabilities before, then, and after."""
    if keeps:
        assert keep_capabilities()
    seen = [_rights()]
    with Identity(uid, uid, 0o027):
        seen.append(_rights())
        os.close(os.open(f"{directory}/{uid}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return [*seen, _rights(), oct(os.umask(0o077))]


def _rights() -> str:
    status = Path("/proc/thread-self/status").read_text(encoding="ascii")
    return " ".join(re.findall(r"^(?:Uid|Gid|CapPrm|CapEff):\t(.*)$", status, re.MULTILINE))


@pytest.mark.parametrize("uid", [0, UID])
@pytest.mark.parametrize("keeps", [False, True])
def test_a_caller_makes_files_without_the_loss_of_a_capability(tmp_path: Path, uid: int, keeps: bool) -> None:
    tmp_path.chmod(0o700)
    os.umask(umask := os.umask(0o022))
    before, inside, after, mask = call_as(0, _as_caller, str(tmp_path), uid, keeps)
    made = (tmp_path / str(uid)).stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (uid, uid, 0o640)
    assert before == after == inside.replace(str(UID), "0")
    assert inside.count(str(UID)) == (2 if uid else 0)
    assert mask == oct(umask)

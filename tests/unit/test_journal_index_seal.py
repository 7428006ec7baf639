"""The key that seals kept indexes: one for each user, which others can neither read nor choose."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policyfs.journal.index.seal import SEAL_BYTES, IndexSeal


def test_a_seal_fits_its_bytes_under_its_name(tmp_path: Path) -> None:
    seal = IndexSeal(tmp_path / "keys")
    made = seal.of("name", b"data")
    assert (len(made), made[-1:]) == (SEAL_BYTES, b"\n")
    assert IndexSeal(tmp_path / "keys").fits(made, "name", b"data")
    for name, data, given in (
        ("other", b"data", made), ("name", b"date", made), ("name", b"data", b""), ("nam", b"e\ndata", made),
    ):  # fmt: skip
        assert not seal.fits(given, name, data)
    assert not IndexSeal(tmp_path / "others").fits(made, "name", b"data")


def test_the_key_is_its_users_alone(tmp_path: Path) -> None:
    IndexSeal(tmp_path / "keys")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert [(path.name, path.stat().st_mode & 0o777) for path in (tmp_path / "keys").iterdir()] == [
        ("index.key", 0o600)
    ]


def test_a_key_that_others_could_know_is_not_used(tmp_path: Path) -> None:
    key = tmp_path / "keys/index.key"
    IndexSeal(key.parent)
    for path, mode in ((key, 0o640), (key.parent, 0o750)):
        before = path.stat().st_mode & 0o777
        path.chmod(mode)
        with pytest.raises(PermissionError, match=r"others could read or change .*: chmod go= "):
            IndexSeal(key.parent)
        path.chmod(before)
    os.chown(key, 1234, -1)
    with pytest.raises(PermissionError, match="others could read"):
        IndexSeal(key.parent)
    os.chown(key, 0, -1)
    key.rename(key.parent / "there")
    key.symlink_to("there")
    with pytest.raises(OSError, match="symbolic"):
        IndexSeal(key.parent)
    key.unlink()
    key.write_bytes(b"")
    key.chmod(0o600)
    with pytest.raises(OSError, match="not a key: remove this file"):
        IndexSeal(key.parent)


def test_processes_that_begin_at_once_have_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        seals = list(pool.map(lambda _: IndexSeal(tmp_path / "keys").of("a", b""), range(8)))
    assert len(set(seals)) == 1
    assert os.listdir(tmp_path / "keys") == ["index.key"]

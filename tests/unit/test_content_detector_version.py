"""The detector's version: it changes with any code that a finding hangs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import policyfs
from policyfs.content import disk_cache
from policyfs.content.cache import KindKey
from policyfs.content.detector_version import (
    DATABASE_VERSION,
    DETECTOR_VERSION,
    digest_of_code,
    digest_of_database,
)
from policyfs.content.disk_cache import remembered_for

KEY = KindKey(dev=1, ino=2, btime_ns=3, size=4, mtime_ns=5, ctime_ns=6)
PACKAGE = Path(policyfs.__file__).parent


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(
        PACKAGE, tmp_path / "policyfs", ignore=shutil.ignore_patterns("__pycache__", "_bridge*.so")
    )


def test_it_is_that_of_the_code_in_force(copied: Path) -> None:
    assert digest_of_code(copied) == DETECTOR_VERSION


@pytest.mark.parametrize(
    "module",
    [
        "formats.py",
        "domain.py",
        "content/kinds.py",
        "content/plans.py",
        "redact/registry.py",
        "redact/images/gif.py",
    ],
)
def test_one_byte_more_is_another_version(copied: Path, module: str) -> None:
    with (copied / module).open("a") as file:
        file.write("#")
    assert digest_of_code(copied) != DETECTOR_VERSION


def test_another_search_in_c_is_another_version(copied: Path) -> None:
    (built,) = (copied / "redact/jpeg").glob("_scan.*.so")
    with built.open("ab") as file:
        file.write(b"\0")
    assert digest_of_code(copied) != DETECTOR_VERSION


def test_a_new_module_is_another_version(copied: Path) -> None:
    (copied / "redact/images/pcx.py").touch()
    assert digest_of_code(copied) != DETECTOR_VERSION


def test_code_that_is_missing_has_no_version(copied: Path) -> None:
    shutil.rmtree(copied / "redact")
    with pytest.raises(FileNotFoundError, match="not installed as a whole"):
        digest_of_code(copied)


def test_every_module_of_a_worker_is_in_it() -> None:
    """Else a mend there would leave the findings from before it in force."""
    loaded = "import sys, policyfs.content.workers.worker as w; w.Detector(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    ours = set(re.findall(r"policyfs\.[\w.]+", done.stdout))
    inside = {name for name in ours if re.match(r"policyfs\.(content|redact|formats|domain)\b", name)}
    assert {name.split(".")[1] for name in ours - inside} <= {"linux", "errors"}


def test_another_database_of_libmagic_is_another_version(tmp_path: Path) -> None:
    """It decides kinds, and comes in a package of its own. Administrators edit /etc/magic."""
    paths = f"{tmp_path}/etc:{tmp_path}/all:{tmp_path}/none"
    (tmp_path / "all").mkdir()
    found = {digest_of_database(paths)}
    for name in ("etc", "all.mgc", "all/extra"):
        (tmp_path / name).write_bytes(b"0 string x y")
        found.add(digest_of_database(paths))
    (tmp_path / "etc").write_bytes(b"0 string x z")
    found.add(digest_of_database(paths))
    assert len(found) == 5


def test_it_is_the_database_that_libmagic_reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = digest_of_database()
    assert before == DATABASE_VERSION
    (tmp_path / "magic").write_bytes(b"0 string x y")
    monkeypatch.setenv("MAGIC", str(tmp_path / "magic"))
    assert digest_of_database() not in (before, digest_of_database(""))


def test_what_another_database_found_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It can call a photo a text, and a policy may let an app read texts."""
    root, found = os.open(tmp_path, os.O_RDONLY), []
    for version in "112":
        monkeypatch.setattr(disk_cache, "DATABASE_VERSION", version)
        memory = remembered_for(str(tmp_path / "found.sqlite"), root, print)
        found.append(trio.run(memory.kind, KEY, "gallery"))
        memory.put_kind(KEY, "gallery", "text/plain")
        memory.close()
    os.close(root)
    assert found == [None, "text/plain", None]

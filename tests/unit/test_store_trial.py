"""The trial of a store finds each promise that the store breaks, also those broken only at the close."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from policyfs.errors import PolicyfsError
from policyfs.store import trial
from policyfs.store.facts import StoreFacts
from policyfs.store.trial import ROWS, TRIAL, probe
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.images import file_system
from tests.support.mount.untrue import untrue

pytestmark = pytest.mark.mount

BROKEN = {
    "unnamed": {"unnamed"},
    "no-unnamed": {"unnamed"},
    "no-flags": {"noreplace", "exchange"},
    "exchange": {"exchange"},
    "links": {"hard_links"},
    "no-links": {"hard_links"},
    "trusted": {"trusted_xattr"},
    "user": {"user_xattr"},
    "no-xattrs": {"trusted_xattr", "user_xattr"},
    "birth": {"birth_times"},
    "range-locks": {"range_locks"},
    "flock": {"file_locks"},
    "unlocks": {"range_locks"},
    "bytes": {"keeps", "unnamed", "noreplace", "exchange", "hard_links"},
    "size": {"keeps", "unnamed", "noreplace", "exchange", "hard_links"},
    "folds": set(),
    "folds-apart": set(),
}
"""What a store breaks (lying.py), and what of it the trial then takes for absent."""
TRIED = {row.field for row in ROWS if row.works is not None} | {"keeps"}


def facts_of(path: Path) -> StoreFacts:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY)
    try:
        return probe(fd)
    finally:
        os.close(fd)


@pytest.fixture(autouse=True)
def _look_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_AGAIN_S", 0.01)


def test_a_store_that_keeps_all_has_all(tmp_path: Path) -> None:
    with untrue(tmp_path) as (store,):
        facts = facts_of(store)
        assert os.listdir(store) == [], "no trace is left"
    assert facts.name == "fuse.lying"
    assert facts.tried
    assert [name for name in TRIED if not getattr(facts, name)] == []
    assert not facts.casefold


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_broken_counts_as_absent(tmp_path: Path, broken: str) -> None:
    with untrue(tmp_path, broken) as (store,):
        facts = facts_of(store)
        assert os.listdir(store) == [], "no trace is left"
    assert {name for name in TRIED if not getattr(facts, name)} == BROKEN[broken]
    assert facts.casefold is broken.startswith("folds")
    if broken in {"bytes", "size", "folds", "folds-apart"}:
        with pytest.raises(PolicyfsError, match=r"loses what is written|ignores the case"):
            facts.check("/store")
    else:
        facts.check("/store")


def test_nothing_is_known_of_a_store_that_is_full(tmp_path: Path) -> None:
    with untrue(tmp_path, "full") as (store,):
        facts = facts_of(store)
    assert {name for name in TRIED if getattr(facts, name)} == {"keeps", "trusted_xattr", "user_xattr"}
    assert not facts.tried
    facts.check("/store")


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_the_type_of_a_local_store_stands_for_the_trial(tmp_path: Path, kind: str) -> None:
    """No mount changes its root. On a disk that is full when the machine starts, hard links and drafts work
    as soon as there is room."""
    with file_system(kind, tmp_path) as root:
        before = os.stat(root)
        facts_of(root)
        assert os.stat(root) == before
        with contextlib.suppress(OSError), (root / "large").open("wb", buffering=0) as large:
            while True:
                large.write(bytes(4096))
        facts = facts_of(root)
    assert facts.tried
    assert {name for name in TRIED if not getattr(facts, name)} == set()


def test_a_store_that_becomes_full_in_the_middle_is_not_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_OF_THE_KERNEL", frozenset())
    with file_system("tmpfs", tmp_path) as root:
        room = os.statvfs(root).f_bavail * os.statvfs(root).f_frsize
        (root / "large").write_bytes(bytes(room))
        facts = facts_of(root)
        assert os.listdir(root) == ["large"], "no trace is left"
    assert (facts.tried, facts.keeps, facts.unnamed, facts.trusted_xattr) == (False, True, False, True)


def test_the_next_trial_removes_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "_OF_THE_KERNEL", frozenset())
    names = [os.fsdecode(TRIAL) + which for which in ("old", "new", "other")]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / names[0] / "f-1234").write_bytes(b"policyfs")
    (tmp_path / names[2] / "a photo").write_bytes(b"of somebody")
    for name in (names[0], names[2]):
        os.utime(tmp_path / name, (time.time() - 3600,) * 2)
    assert facts_of(tmp_path).tried
    assert sorted(os.listdir(tmp_path)) == sorted(names[1:]), "not that of another machine, nor a user's file"


def test_a_name_that_stays_of_a_lost_file_is_taken_by_a_rename(tmp_path: Path) -> None:
    """JuiceFS: the name is not listed, cannot be removed, and its directory is not empty."""
    fd = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "trial").mkdir()
    refused = iter([True])
    rmdir = os.rmdir

    def not_empty(*words: object, **more: int) -> None:
        if next(refused, False):
            raise OSError(39, "not empty")
        rmdir(*words, **more)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rmdir", not_empty)
        trial._remove(fd, b"trial")
    os.close(fd)
    assert os.listdir(tmp_path) == []


def test_the_page_has_the_table_of_features() -> None:
    page, begin = CHECKOUT / "docs/operations.md", "| feature | policyfs uses it for |"
    table = [f"{begin} it is tried by | without it |", "|-|-|-|-|"]
    table += [f"| {row.name} | {row.used} | {row.tried} | {row.without} |" for row in ROWS]
    before, _, rest = page.read_text("utf-8").partition(begin)
    shown, _, after = rest.partition("\n\n")
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        page.write_text(before + "\n".join(table) + "\n\n" + after, "utf-8")
        pytest.fail("the page was written: read it, then run without updating")
    assert (begin + shown).splitlines() == table

"""The record of a store: which file systems are told apart, what each keeps over a remount, what is named."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from policyfs.errors import PolicyfsError
from policyfs.store.store_record import MARKER, StoreAbsentError, accept_store, check_store
from tests.support.machine.images import file_system, loop_devices
from tests.support.mount import layers


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYFS_STATE_DIR", str(tmp_path / "state"))


def refused(store: Path) -> str:
    """What is said of a store that is refused; empty if it is not."""
    try:
        check_store(str(store))
    except StoreAbsentError as error:
        return str(error)
    return ""


def test_a_store_that_is_missing_is_refused_and_one_that_was_emptied_is_not(tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert "does not exist" in refused(store)
    store.touch()
    assert "is not a directory" in refused(store)
    store.unlink()
    store.mkdir()
    assert refused(store) == "", "the first time it may be empty"
    for _ in range(2):
        (store / "a").touch()
        assert refused(store) == ""
        (store / "a").unlink()
        assert refused(store) == "", "it is the same directory"
    (store / "a").touch()
    assert refused(store) == ""
    store.rename(tmp_path / "away")
    store.mkdir()
    (store / "lost+found").mkdir()
    assert "an empty directory is there" in refused(store)
    assert f"`policyfs accept {store}`" in refused(store)
    assert accept_store(str(store)) == ["an empty directory is there, and it was another, with files"]
    assert refused(store) == ""
    assert accept_store(str(store)) == []


def test_a_record_of_an_older_version_tells_no_directory(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / "a").touch()
    check_store(str(store))
    (record,) = (tmp_path / "state").iterdir()
    fields = json.loads(record.read_bytes())
    del fields["root"]
    record.write_text(json.dumps(fields))
    (store / "a").unlink()
    assert "an empty directory is there" in refused(store)
    (store / "a").touch()
    assert refused(store) == ""
    (store / "a").unlink()
    assert refused(store) == ""


def test_a_record_that_cannot_be_read_is_no_reason_to_mount(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    check_store(str(store))
    (record,) = (tmp_path / "state").iterdir()
    for text in ("", "[]", "{}"):
        record.write_text(text)
        with pytest.raises(PolicyfsError, match="cannot be read"):
            check_store(str(store))
    accept_store(str(store))
    assert refused(store) == ""
    record.parent.chmod(0o700)
    record.unlink()
    record.parent.rmdir()
    record.parent.touch()
    with pytest.raises(PolicyfsError, match="cannot be"):
        check_store(str(store))


@contextmanager
def disk(kind: str, store: Path, place: Path) -> Iterator[None]:
    """Mount a new disk of a kind at the store's path, twice: the test looks at it before and after."""
    place.mkdir()
    with ExitStack() as stack:
        root = stack.enter_context(file_system(kind, place))
        layers.mount("--bind", root, store)
        stack.callback(subprocess.run, ["umount", store], check=True)
        yield


KEPT = [("ext4", False), ("xfs", True), ("btrfs", False)]
"""File systems, and if they need a marker."""


@pytest.mark.mount
@pytest.mark.parametrize(("kind", "marked"), KEPT)
def test_a_disk_is_known_again_and_another_one_is_not(tmp_path: Path, kind: str, marked: bool) -> None:
    store = tmp_path / "store"
    store.mkdir()
    with disk(kind, store, tmp_path / "one"):
        (store / "photo").touch()
        assert refused(store) == ""
        assert bool([*store.glob(f"{MARKER}*")]) == marked
        image = next((tmp_path / "one").rglob("*.img"))
        (device,) = loop_devices(image)
        subprocess.run(["umount", store], check=True)
        assert "another file system is there; an empty directory is there" in refused(store)
        # Its device has another number from now on.
        subprocess.run(["umount", tmp_path / "one" / kind], check=True)
        other = ["losetup", "--find", "--show", image]
        taken = subprocess.run(other, capture_output=True, text=True, check=True)
        try:
            layers.mount("-o", "loop", image, tmp_path / "one" / kind)
            layers.mount("--bind", tmp_path / "one" / kind, store)
        finally:
            subprocess.run(["losetup", "--detach", taken.stdout.strip()], check=True)
        assert device
        assert refused(store) == ""
        (store / "photo").unlink()
        assert refused(store) == "", "it was emptied"
    with disk(kind, store, tmp_path / "two"):
        (store / "photo").touch()
        assert "another file system is there" in refused(store)
        assert not [*store.glob(f"{MARKER}*")], "what is refused is not marked"
        accept_store(str(store))
        assert refused(store) == ""


@pytest.mark.mount
def test_files_in_memory_are_another_store_after_a_remount(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    for number in range(2):
        layers.mount("-t", "tmpfs", "store", store)
        try:
            (store / "photo").touch()
            assert ("another file system" in refused(store)) == bool(number)
        finally:
            layers.unmount(store)


@pytest.mark.mount
def test_half_a_library_is_refused_and_the_missing_half_is_named(tmp_path: Path) -> None:
    store = tmp_path / "store"
    (store / "films").mkdir(parents=True)
    (store / "photo").touch()
    layers.mount("-t", "tmpfs", "films", store / "films")
    assert refused(store) == ""
    layers.unmount(store / "films")
    assert f"nothing is mounted on {store}/films" in refused(store)
    layers.mount("-t", "tmpfs", "others", store / "films")
    assert f"another file system is on {store}/films" in refused(store)
    layers.unmount(store / "films")


@pytest.mark.mount
def test_a_pool_without_one_of_its_disks_is_refused(tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    layers.mount("-t", "tmpfs", "first", first)
    (first / "photo").touch()
    (tmp_path / "layer").mkdir()
    with layers.mergerfs(first, tmp_path / "layer") as pool:
        assert refused(pool) == ""
        assert refused(pool) == ""
        assert [*Path(pool).glob(f"{MARKER}*")]
    layers.unmount(first)
    (tmp_path / "layer/second-branch/MARKER").touch()
    for left in ("second-branch", "pool"):
        for name in (tmp_path / "layer" / left).iterdir():
            name.unlink()
        (tmp_path / "layer" / left).rmdir()
    with layers.mergerfs(first, tmp_path / "layer") as pool:
        assert f"another file system is on {first}" in refused(pool)
        first.rmdir()
        assert f"nothing is mounted on {first}" in refused(pool)


@pytest.mark.mount
def test_two_machines_that_mark_a_store_at_once_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On NFS the second machine may list the store as it was a minute ago."""
    listdir, listings = os.listdir, list[int]()

    def late(fd: int) -> list[str]:
        listings.append(fd)
        return listdir(fd) if listings[1:] else []

    (tmp_path / "base").mkdir()
    with layers.bindfs(tmp_path / "base", tmp_path) as store:
        for machine in ("one", "two", "two", "one"):
            monkeypatch.setenv("POLICYFS_STATE_DIR", str(tmp_path / machine))
            with monkeypatch.context() as patch:
                if machine == "two" and not listings:
                    patch.setattr("policyfs.store.store_record.os.listdir", late)
                assert refused(store) == "", machine
        assert len([*store.glob(f"{MARKER}*")]) == 2


def test_an_apps_file_in_a_store_that_is_no_pool_names_no_branches(tmp_path: Path) -> None:
    """root marks each branch: an app could have let it make files in other directories."""
    store, other = tmp_path / "store", tmp_path / "other"
    for made in (store, other):
        made.mkdir()
    (store / ".mergerfs").touch()
    os.setxattr(store / ".mergerfs", "user.mergerfs.branches", bytes(other))
    assert refused(store) == ""
    assert [*other.iterdir()] == []
    other.rmdir()
    assert refused(store) == ""


@pytest.mark.mount
def test_an_overlay_and_a_read_only_store_are_known_as_far_as_they_can_be(tmp_path: Path) -> None:
    lower = tmp_path / "lower"
    lower.mkdir()
    (lower / "photo").touch()
    with layers.overlay(lower, tmp_path) as merged:
        assert refused(merged) == ""
        assert [*merged.glob(f"{MARKER}*")]
    assert "another file system is there" in refused(merged)
    with layers.read_only(lower, tmp_path) as store:
        assert refused(store) == ""
    assert "an empty directory is there" in refused(store)
    (tmp_path / "other").mkdir()
    with (
        layers.bindfs(lower, tmp_path) as bound,
        layers.read_only(bound, tmp_path / "other") as store,
    ):
        assert refused(store) == ""
        assert not [*lower.glob(f"{MARKER}*")]
        (lower / "photo").unlink()
        assert "an empty directory is there" in refused(store), "nothing tells the file system"


@pytest.mark.mount
def test_a_bind_that_is_missing_is_refused_though_the_file_system_is_the_same(tmp_path: Path) -> None:
    library, store = tmp_path / "library", tmp_path / "store"
    for made in (library, store):
        made.mkdir()
    (library / "photo").touch()
    layers.mount("--bind", library, store)
    assert refused(store) == ""
    layers.unmount(store)
    assert "an empty directory is there" in refused(store)

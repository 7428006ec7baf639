"""What is left in sight of a file whose content was refused."""

from __future__ import annotations

import os
from pathlib import Path

from tests.attack.test_drafts import CAMERA, PLACED, POLICY, shares
from tests.support.machine.processes import call_as, code_of, wait_for
from tests.support.mount.daemons import Mount


def _refused(path: Path) -> tuple[str, str, list[str]]:
    """What close() says of one of two descriptors, and what is seen of the file then."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, PLACED)
    said = code_of(os.close, os.dup(fd))
    return said, code_of(os.stat, path), os.listdir(path.parent)


def seen(mount: Mount, store: Path) -> tuple[str, str, list[str]]:
    _, share = shares(store, mount)
    answer: tuple[str, str, list[str]] = call_as(CAMERA, _refused, share / "a.jpg")
    return answer


def test_a_refused_file_is_out_of_sight_while_its_writer_has_it_open(mounts_on, store_on) -> None:
    """Attack C2.3: See or use the name of a new file whose content was refused, while the writer still has
    the file open
    Guard: policyfs/fs/checked/withheld_names.py::WithheldNames.hide,
    policyfs/fs/checked/withheld_names.py::WithheldNames.free
    Also: tests/mount/test_refused_names.py
    Without: ::test_it_is_in_sight_where_names_are_not_withheld
    """
    store = store_on("ext4")
    assert seen(mounts_on.start(POLICY, store), store) == ("EPERM", "ENOENT", [])


def test_it_is_in_sight_where_names_are_not_withheld(without, store_on) -> None:
    store = store_on("ext4")
    assert seen(without("shown-while-refused", POLICY, store), store) == ("EPERM", "", ["a.jpg"])


KEEPING = POLICY.replace('"/Share/**"}', '"/Share/**", on_refused: quarantine}')


def refused(mount: Mount, store: Path, count: int) -> list[Path]:
    """What is kept once so many files were refused, and each is on record."""
    _, share = shares(store, mount)
    for number in range(count):
        said = call_as(CAMERA, _refused, share / f"{number}.jpg")
        assert said[0] == "EPERM"
        wait_for(lambda n=number: len(mount.events(operation="quarantine")) == n + 1, "one more on record")
    return sorted((mount.trail_dir / "quarantine").rglob("bytes"))


def read_by_app(mount: Mount, store: Path) -> str:
    """What an app reads that knows where refused files are kept, where nothing above keeps it out."""
    [kept] = refused(mount, store, 1)
    for above in (mount.trail_dir, mount.trail, mount.trail.parent):
        above.chmod(0o755)
    return str(call_as(CAMERA, lambda: code_of(kept.read_bytes) or "read"))


def test_no_app_reads_what_was_refused(mounts_on, store_on) -> None:
    """Attack C2.6: Read refused files, one's own or another app's, in the quarantine
    Guard: policyfs/store/quarantine.py::Quarantine.keep
    Also: tests/mount/test_quarantine.py::test_nobody_but_root_reads_it
    Without: ::test_it_is_read_where_it_lies_open
    """
    store = store_on("ext4")
    mount = mounts_on.start(KEEPING, store)
    assert read_by_app(mount, store) == "EACCES"
    # nor by way of the mount: nothing of it is below the store
    assert not [path for path in store.rglob("*") if path.is_file()]


def test_it_is_read_where_it_lies_open(without, store_on) -> None:
    store = store_on("ext4")
    assert read_by_app(without("kept-in-the-open", KEEPING, store), store) == "read"


def test_who_is_refused_without_end_fills_no_disk(mounts_on, store_on) -> None:
    """Attack E5.1: Write refused content without end under `on_refused: quarantine`, so that refused files
    fill the disk of the trail
    Guard: policyfs/store/quarantine.py::Quarantine.keep,
    policyfs/fs/checked/quarantine_queue.py::QuarantineQueue.take
    Also: tests/unit/test_store_quarantine.py::test_the_newest_is_dropped_where_there_is_no_room,
    tests/unit/test_store_quarantine.py::test_the_trail_keeps_room_on_its_disk
    Without: ::test_it_grows_where_nobody_counts
    """
    store = store_on("ext4")
    mount = mounts_on.start(KEEPING, store, "--quarantine-files", "3")
    assert len(refused(mount, store, 6)) == 3
    lost = mount.events(operation="quarantine", decision="deny")
    assert len(lost) == 3
    assert all("the quarantine is full" in event["note"] for event in lost)


def test_it_grows_where_nobody_counts(without, store_on) -> None:
    store = store_on("ext4")
    mount = without("kept-without-end", KEEPING, store, "--quarantine-files", "3")
    assert len(refused(mount, store, 6)) == 6

"""Opens of redacted copies that the bridge answers by itself: always of the file's present version."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.mount.test_open_vectors import begin, said
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs.changes import replace, rewrite
from tests.support.samples import jpegs

EDITOR, GALLERY, OTHER = 10010, 10011, 10012
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: copies}}
defaults: {{audit_denied: best_effort}}
apps:
  editor: {{uid: {EDITOR}, grants: [media.location]}}
  gallery: {{uid: {GALLERY}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: read, allow: [see, read], paths: "/**"}}
  - {{id: editor, allow: [all], who: {{app: editor}}, paths: "/**"}}
  - id: no-location
    require: {{redact: location}}
    who: {{not: {{grant: media.location}}}}
    paths: "/**"
"""
CLOSED = POLICY + '  - {id: shut, deny: [read], who: {app: gallery}, paths: "/**"}\n'
KINDS = {"shared": (), "app": ("--app", "gallery")}
OLD, NEW = (
    jpegs.with_segments(jpegs.plain(seed, 64), jpegs.exif_segment(jpegs.exif(order)))
    for seed, order in ((1, "II"), (2, "MM"))
)
OWN = {"time", "handle", "seq", "chain", "pid"}
"""What differs from open to open on the trail."""
FILL: Final = b"\0" * (240 << 10)
PHOTOS: Final = 20


@pytest.fixture
def store(empty_store: Path) -> Path:
    empty_store.chmod(0o755)
    (empty_store / "a.jpg").write_bytes(OLD)
    (empty_store / "a.jpg").chmod(0o666)
    return empty_store


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def mount(request: pytest.FixtureRequest, mounts: Mounts, store: Path) -> Mount:
    return begin(mounts, POLICY, store, *request.param)


def read(path: str, times: int = 1) -> bytes:
    for _ in range(times):
        fd = os.open(path, os.O_RDONLY)
        content = os.read(fd, 1 << 20)
        os.close(fd)
    return content


def answered(mount: Mount, uid: int = GALLERY, name: str = "a.jpg", least: int = 8) -> bytes:
    """What an app reads of a photo, once the bridge answers its opens."""
    shown: list[bytes] = []

    def are_answered() -> bool:
        before = said(mount)["opens"]
        shown.append(call_as(uid, read, str(mount / name), 10))
        return bool(said(mount)["opens"] >= before + least)

    wait_for(are_answered, "the bridge answers", 20.0)
    return shown[-1]


def is_redacted(shown: bytes, photo: bytes) -> bool:
    return not jpegs.leaks(shown) and jpegs.pixels(shown) == jpegs.pixels(photo) and len(shown) == len(photo)


def test_repeats_of_the_open_of_a_copy_need_no_python(mount: Mount) -> None:
    shown = answered(mount)
    assert is_redacted(shown, OLD)
    before = said(mount)["opens"]
    assert call_as(GALLERY, read, str(mount / "a.jpg"), 200) == shown
    assert said(mount)["opens"] >= before + 195
    copies = mount.status()["copies"]
    assert (copies["count"], copies["misses"], mount.fuse("READ")) == (1, 1, 0)


def test_each_open_is_on_the_trail_as_python_would_have_put_it(mount: Mount) -> None:
    answered(mount)
    known = len(mount.events(operation="open"))
    call_as(GALLERY, read, str(mount / "a.jpg"), 50)
    wait_for(lambda: len(mount.events(operation="open")) >= known + 50, "all are on the trail")
    events = [
        {name: value for name, value in event.items() if name not in OWN}
        for event in mount.events(operation="open")
    ]
    assert all(event == events[0] for event in events), (events[0], events[-1])
    assert events[0]["redacted"]
    assert (events[0]["kind"], events[0]["io"], events[0]["size_before"]) == (
        "image/jpeg", "passthrough", len(OLD),
    )  # fmt: skip


@pytest.mark.parametrize("change", [rewrite, replace])
def test_an_open_after_a_change_shows_the_new_version(mount: Mount, change: Callable[..., None]) -> None:
    """At once, also if the watch has not told yet; a handle from before keeps its version."""
    for old, new in ((OLD, NEW), (NEW, OLD), (OLD, NEW)):
        answered(mount)
        child = start_as(GALLERY, keep, str(mount / "a.jpg"))
        child.receive()
        assert said(mount)["opens"] > 0
        change(mount.store / "a.jpg", new)
        if change is rewrite:
            assert is_redacted(call_as(GALLERY, read, str(mount / "a.jpg")), new)
        else:  # the kernel may keep a name until it is told
            wait_for(lambda new=new: is_redacted(call_as(GALLERY, read, str(mount / "a.jpg")), new), "seen")
        wait_for(lambda new=new: call_as(GALLERY, size, mount / "a.jpg") == len(new), "so is the size")
        child.send("read")
        assert is_redacted(child.receive(), old)
        child.send(None)
        child.result()


def size(path: Path) -> int:
    return path.stat().st_size


def keep(channel: Any, path: str) -> None:
    """Hold a photo open, by the bridge, and read it when told to."""
    read(path, 5)
    fd = os.open(path, os.O_RDONLY)
    channel.send("open")
    while channel.recv() is not None:
        channel.send(os.pread(fd, 1 << 20, 0))
    os.close(fd)


def test_a_changed_file_has_its_new_size_though_the_bridge_had_it_open(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, POLICY, store)
    answered(mount)
    with (mount.store / "a.jpg").open("ab") as file:
        file.write(FILL)
    assert call_as(GALLERY, size, mount / "a.jpg") == len(OLD) + len(FILL)


def test_a_reload_ends_them_and_finds_what_is_open(mount: Mount) -> None:
    answered(mount)
    child = start_as(GALLERY, keep, str(mount / "a.jpg"))
    child.receive()
    mount.policy.write_text(CLOSED)
    assert mount.reload().returncode == 0
    stale = mount.status()["stale_handles"]
    assert (stale["count"], stale["apps"]) == (1, {"gallery": 1})
    with pytest.raises(PermissionError):
        call_as(GALLERY, read, str(mount / "a.jpg"))
    child.send("read")
    assert is_redacted(child.receive(), OLD), "what is open stays open, as it was"
    child.send(None)
    child.result()
    wait_for(lambda: mount.status()["stale_handles"]["count"] == 0, "it is closed")


def test_a_writer_ends_them_and_readers_see_what_it_wrote(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, POLICY, store)
    answered(mount)
    writer = start_as(EDITOR, write_slowly, mount / "a.jpg")
    writer.receive()
    before = said(mount)["opens"]
    call_as(GALLERY, read, str(mount / "a.jpg"), 20)
    assert said(mount)["opens"] == before, "none is answered beside a writer"
    writer.send("write")
    writer.receive()
    assert is_redacted(call_as(GALLERY, read, str(mount / "a.jpg")), NEW)
    writer.send("end")
    writer.result()
    assert is_redacted(call_as(GALLERY, read, str(mount / "a.jpg"), 20), NEW)


def write_slowly(channel: Any, path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        channel.send("open")
        channel.recv()
        file.write(NEW)
        file.truncate()
        channel.send("written")
        channel.recv()


def test_each_app_has_its_own(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, POLICY, store)
    shown = answered(mount)
    for _ in range(3):
        assert call_as(EDITOR, read, str(mount / "a.jpg")) == OLD
        assert call_as(GALLERY, read, str(mount / "a.jpg")) == shown
    # Its own rule decides, whoever answers: the bridge may, as for any file of the directory.
    editors = wait_for(lambda: mount.events(operation="open", uid=EDITOR)[2:], "its opens are on record")
    assert not any(event.get("redacted") for event in editors)
    assert all(event["rules"] == editors[0]["rules"] for event in editors)
    assert answered(mount, OTHER) == shown
    assert mount.status()["copies"]["count"] == 2


def test_copies_that_only_the_bridge_has_open_leave_room_for_others(mounts: Mounts, store: Path) -> None:
    """In a cache with room for eight photos, each of twenty gets a copy in its turn, for two apps."""
    photo = OLD + FILL
    for number in range(PHOTOS):
        (store / f"{number}.jpg").write_bytes(photo)
        (store / f"{number}.jpg").chmod(0o644)
    mount = begin(mounts, POLICY, store, "--copies-max", f"{8 * len(photo)}")
    for number in range(PHOTOS):
        for uid in (GALLERY, OTHER):
            assert is_redacted(answered(mount, uid, f"{number}.jpg"), photo)
    assert {event["io"] for event in mount.events(operation="open")} == {"passthrough"}
    assert mount.status()["copies"]["bytes"] <= 8 * len(photo)


def test_the_copy_of_a_removed_file_is_free_at_once(mount: Mount) -> None:
    """Also while an app keeps the kernel from forgetting the file."""
    answered(mount)
    assert mount.status()["copies"]["pinned"] == 1
    child = start_as(GALLERY, keep_name, str(mount / "a.jpg"))
    child.receive()
    (mount.store / "a.jpg").unlink()
    wait_for(lambda: mount.status()["copies"]["pinned"] == 0, "it is free", 10.0)
    child.send("end")
    child.result()


def keep_name(channel: Any, path: str) -> None:
    fd = os.open(path, os.O_PATH)
    channel.send("open")
    channel.recv()
    os.close(fd)

"""Apps read on in redacted files whose daemon is killed: each byte as before, and no byte of a place."""

from __future__ import annotations

import hashlib
import mmap
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.mount.test_long_films import film_of, shown_of
from tests.mount.test_takeover import REST_S, kept, kill_daemon, let_live
from tests.support.machine.counts import count
from tests.support.machine.images import file_system
from tests.support.machine.processes import code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples import jpegs
from tests.support.samples.jpegs import leaks

APP = 10110
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  viewer: {{uid: {APP}}}
rules:
  - {{id: viewer, allow: [see, read], who: {{app: viewer}}, paths: ["/DCIM/**", "/Inbox/**"]}}
  - {{id: no-location, require: {{redact: location}}, who: {{app: viewer}}, paths: "/DCIM/**"}}
  - {{id: fill, allow: [write, create], who: {{app: viewer}}, paths: "/Inbox/**"}}
  - {{id: checked, require: {{no: [location]}}, paths: "/Inbox/**"}}
"""
WAYS = {"passthrough": (), "mediated": ("--no-passthrough",), "leased": ("--copy-max", "4K")}


def photo(filling: bytes = b"") -> bytes:
    """A photo of some 200 KiB with a place near its end."""
    comments = [jpegs.segment(0xFE, bytes([65 + number]) * 60000 + filling) for number in range(3)]
    return jpegs.with_segments(jpegs.plain(), *comments, jpegs.exif_segment(jpegs.exif()))


@pytest.fixture
def filled(empty_store: Path) -> Path:
    for name in ("DCIM", "Inbox"):
        (empty_store / name).mkdir()
        (empty_store / name / "a.jpg").write_bytes(photo())
    return empty_store


def drop_pages(fd: int) -> None:
    """Make the kernel ask for the bytes again."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def reader(path: Path) -> Callable[[Any], None]:
    """An app that reads a file on, and through a mapping, after each word that it gets."""

    def app(channel: Any) -> None:
        with open(path, "rb", buffering=0) as file, open(path, "rb") as other:
            mapped = mmap.mmap(other.fileno(), 0, prot=mmap.PROT_READ)
            head = file.read(5000)
            channel.send(hashlib.sha256(path.read_bytes()).digest())
            for _ in iter(channel.recv, "end"):
                drop_pages(file.fileno())
                file.seek(5000)
                whole = head + (file.readall() or b"")
                assert os.fstat(file.fileno()).st_size == len(whole)
                channel.send((hashlib.sha256(whole).digest(), hashlib.sha256(mapped).digest(), leaks(whole)))
            mapped.close()

    return app


def asked(child: Any, word: str = "read") -> Any:
    child.send(word)
    return child.receive()


@pytest.mark.parametrize("way", WAYS)
def test_files_are_read_on(mounts, filled: Path, way: str) -> None:
    """Inbox: files whose writes are checked, so that their readers are mediated."""
    mount = kept(mounts, filled, *WAYS[way], policy=POLICY)
    paths = [mount.mountpoint / place / "a.jpg" for place in ("DCIM", "Inbox")]
    children = [start_as(APP, reader(path)) for path in paths]
    before = [child.receive() for child in children]
    assert before[0] != before[1]
    for number in range(count(2, 20)):
        kill_daemon(mount)
        for path, child, digest in zip(paths, children, before, strict=True):
            whole, mapped, told = asked(child)
            assert (whole, mapped, bool(told)) == (digest, digest, path is paths[1])
        if number == 0:  # further ones may show what the daemon before has made
            children += [start_as(APP, reader(path)) for path in paths]
            assert [child.receive() for child in children[2:]] == before
            paths, before = paths * 2, before * 2
    for child in children:
        child.send("end")
        child.result()
    status = mount.status()
    assert (status["bugs"], status["handles"]["open"]) == (0, 0)


def in_the_pause(mount: Mount, change: Callable[[], object]) -> None:
    """Kill the daemon, and begin a change before the next one takes over. A lease of the dead one's may make
    it wait until then."""
    before = mount.status()["takeover"]["count"]
    let_live()
    assert mount.process is not None
    changing = Thread(target=change)
    os.kill(mount.process.pid, signal.SIGSTOP)  # the keeper
    try:
        os.kill(mount.status()["pid"], signal.SIGKILL)
        changing.start()
        changing.join(0.2)
    finally:
        os.kill(mount.process.pid, signal.SIGCONT)

    def follows() -> bool:
        try:
            return mount.status()["takeover"]["count"] == before + 1
        except AssertionError:
            return False

    wait_for(follows, "another daemon", 20)
    changing.join(20)
    assert not changing.is_alive()


def written(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)


def replaced(path: Path, data: bytes) -> None:
    path.with_name("new").write_bytes(data)
    path.with_name("new").rename(path)


def removed(path: Path, _data: bytes) -> None:
    path.unlink()


@pytest.mark.parametrize("way", WAYS)
def test_files_changed_in_the_pause_tell_no_place(mounts, filled: Path, way: str) -> None:
    """A copy goes on as it was. Under a lease, apps get the new bytes redacted, or an error."""
    changes = written, replaced, removed
    stored = [filled / f"DCIM/{change.__name__}.jpg" for change in changes]
    for path in stored:
        path.write_bytes(photo())
    mount = kept(mounts, filled, *WAYS[way], policy=POLICY)
    other = photo(b"more")

    def change_all() -> None:
        for change, path in zip(changes, stored, strict=True):
            change(path, other)

    def app(path: Path, channel: Any) -> None:
        before = path.read_bytes()
        with open(path, "rb", buffering=0) as file:
            file.read(5000)
            channel.send("open")
            channel.recv()
            drop_pages(file.fileno())
            found: list[bytes] = []
            code = code_of(lambda: found.extend(iter(lambda: file.read(70000), b"")))
            channel.send((code, before[5000:] == b"".join(found), leaks(b"".join(found))))
            again: list[bytes] = []
            code = code_of(lambda: again.append(path.read_bytes()))
            channel.send((code, [len(one) for one in again], leaks(b"".join(again))))

    children = [start_as(APP, partial(app, mount.mountpoint / "DCIM" / path.name)) for path in stored]
    assert [child.receive() for child in children] == ["open"] * 3
    in_the_pause(mount, change_all)
    for child, change in zip(children, changes, strict=True):
        code, as_before, told = asked(child)
        assert not told
        assert code in {"", *(() if way != "leased" else ("EIO", "ESTALE", "EBUSY"))}
        assert as_before or way == "leased"
        code, sizes, told = child.receive()
        assert (code, sizes) == (("ENOENT", []) if change is removed else ("", [len(other)]))
        assert not told
        child.result()
    assert mount.status()["bugs"] == 0


@pytest.mark.soak
@pytest.mark.parametrize("way", ["cloned", "leased"])
def test_a_long_film_is_read_on(mounts, way: str, tmp_path: Path) -> None:
    """Its frames are looked at while it is read. A clone of it is located again by the next daemon."""
    film = film_of()
    with file_system("xfs", tmp_path) as top:
        (top / "store/DCIM").mkdir(parents=True, mode=0o755)
        (top / "store/DCIM/a.mp4").write_bytes(film)
        mount = kept(mounts, top / "store", *["--copy-max", "1M"] * (way == "leased"), policy=POLICY)
        child = start_as(APP, reader(mount.mountpoint / "DCIM/a.mp4"))
        wanted = hashlib.sha256(shown_of(film)).digest()
        assert child.receive() == wanted
        kill_daemon(mount)
        assert asked(child)[:2] == (wanted, wanted)
        child.send("end")
        child.result()
        assert mount.status()["bugs"] == 0
        mount.stop()


SCAN = 24


def scan(
    top: Path, wrong_in: Callable[[bytes], list[str]] = lambda _data: []
) -> tuple[list[str], list[str], bytes]:
    """Walk, stat and read all below a directory. What failed, the names, and a digest of all bytes.
    wrong_in: what is wrong in a file's bytes."""
    failed, names, whole = [], [], hashlib.sha256()
    for where, _, files in os.walk(top, onerror=lambda error: failed.append(repr(error))):
        for name in sorted(files):
            path = Path(where, name)
            try:
                size, data = path.stat().st_size, path.read_bytes()
            except OSError as error:
                failed.append(repr(error))
                continue
            names.append(name)
            whole.update(data)
            if len(data) != size or wrong_in(data):
                failed.append(f"{name}: {len(data)} of {size} bytes, {wrong_in(data)}")
            time.sleep(REST_S / 10)
    return failed, sorted(names), whole.digest()


def test_a_scan_of_a_redacted_library_sees_no_kill(mounts, filled: Path) -> None:
    """Walk, stat and read all, again and again, as a photo library does. No call fails."""
    for number in range(SCAN):
        (filled / f"DCIM/{number}.jpg").write_bytes(photo(str(number).encode()))
    mount = kept(mounts, filled, policy=POLICY)
    top = mount.mountpoint

    def app(channel: Any) -> None:
        wanted = scan(top / "DCIM", leaks)[1:]
        channel.send("ready")
        rounds, found = 0, []
        while not channel.poll():
            failed, *now = scan(top / "DCIM", leaks)
            found += failed + ["other bytes"] * (tuple(now) != wanted)
            rounds += 1
        channel.recv()
        channel.send((rounds, found[:5]))

    child = start_as(APP, app)
    assert child.receive() == "ready"
    for _ in range(count(2, 30)):
        kill_daemon(mount)
    rounds, failed = asked(child)
    child.result()
    assert rounds > 0
    assert failed == []
    assert mount.status()["bugs"] == 0

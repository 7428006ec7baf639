"""Small writes under `content`: databases and logs, in app and shared mounts. Few looks, and right bytes."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs import databases

WRITER, READER = 10035, 10036
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  writer: {{uid: {WRITER}}}
  reader: {{uid: {READER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
  - id: kind
    require: {{content: ["application/*", "text/*"]}}
    who: {{app: writer}}
    paths: ["/checked/**"]
"""
LINE: Final = "%d a line that a program appends to its log, as programs do\n"


@pytest.fixture(params=first(1, [("app",), ("shared",)]))
def mount(request: pytest.FixtureRequest, mounts: Mounts, empty_store: Path) -> Mount:
    """A mount with a directory for checked files."""
    (empty_store / "checked").mkdir()
    (empty_store / "checked").chmod(0o777)
    return mounts.start(POLICY, empty_store, *(["--app", "writer"] if request.param == "app" else []))


def looks(mount: Mount, work: Callable[..., Any], *arguments: object) -> tuple[int, Any]:
    """Return the looks of workers at bytes while the writer does some work, and what the work returns."""
    before = mount.status()["sniffer"]["requests"]
    done = call_as(WRITER, work, *arguments, deadline_s=60)
    return mount.status()["sniffer"]["requests"] - before, done


def append(path: Path, count: int) -> None:
    """Append lines through one descriptor."""
    with path.open("ab", buffering=0) as log:
        for number in range(count):
            assert log.write(LINE.encode() % number)
            if number % 100 == 50:
                text = path.read_text()
                assert text.endswith(LINE % number), "a program reads its own lines at once"
                assert path.stat().st_size == len(text)


def test_appended_lines(mount: Mount) -> None:
    number, _ = looks(mount, append, mount / "checked/log", 600)
    assert number < 60, "at most one look a second, at the close, and at the first line"
    text = (mount.store / "checked/log").read_text()
    assert text == "".join(LINE % number for number in range(600))


def change_in_place(channel: Any, path: Path) -> bytes:
    """Write, change a few bytes behind the beginning, and read them by another open after a reload: so ffmpeg
    moves the index of a film to its front."""
    with path.open("wb", buffering=0) as file:
        file.write(LINE.encode() % 1 * 1200)
        channel.send("written")
        channel.recv()
        os.pwrite(file.fileno(), b"CHANGED", 40)
        return path.read_bytes()[40:47]


def test_a_program_reads_its_own_small_write_after_a_reload(mount: Mount) -> None:
    """Then it opens another node of the file."""
    child = start_as(WRITER, change_in_place, mount / "checked/text")
    assert child.receive() == "written"
    mount.policy.write_text(POLICY.replace("id: all", "id: everything"))
    assert mount.reload().returncode == 0
    child.send("go")
    assert child.result(20) == b"CHANGED"


def page_by_page(path: Path, commits: int) -> None:
    """Write as LMDB does: pages, fdatasync, one of two meta pages, fsync; read through a mapping."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    magic = bytes(10) + b"\x08" + bytes(5) + b"\xde\xc0\xef\xbe\x01\0\0\0"
    os.pwrite(fd, (magic.ljust(4096, b"\0")) * 2, 0)
    os.ftruncate(fd, 128 << 10)
    memory = mmap.mmap(fd, 128 << 10, prot=mmap.PROT_READ)
    for commit in range(commits):
        for page in (2 + commit % 10, 14 + commit % 16):
            os.pwrite(fd, b"%4d words of a value" % commit * 100, page * 4096)
        os.fdatasync(fd)
        os.pwrite(fd, magic + b"%4d" % commit, commit % 2 * 4096)
        os.fsync(fd)
        assert memory[commit % 2 * 4096 :][24:28] == b"%4d" % commit
        assert memory[(2 + commit % 10) * 4096 :][:4] == b"%4d" % commit
    os.close(fd)


def test_pages_of_lmdb(mount: Mount) -> None:
    number, _ = looks(mount, page_by_page, mount / "checked/data.mdb", 60)
    assert number <= 4
    stored = (mount.store / "checked/data.mdb").read_bytes()
    assert len(stored) == 128 << 10
    assert stored[4096 + 24 : 4096 + 28] == b"  59"


@pytest.mark.parametrize(("journal", "most"), [("delete", 0.5), ("wal", 0.5)])
def test_transactions_of_sqlite(mount: Mount, journal: str, most: float) -> None:
    path = mount / "checked/base.sqlite"
    assert call_as(WRITER, databases.create, path, journal) == journal
    number, done = looks(mount, databases.transfer, path, 1, 40)
    assert number <= most * done + 8
    verdict = call_as(WRITER, databases.verdict, path)
    assert verdict == ("ok", databases.ACCOUNTS * databases.BALANCE, 40)
    with contextlib.closing(sqlite3.connect(mount.store / "checked/base.sqlite")) as stored:
        assert stored.execute("SELECT count(*) FROM transfer").fetchone() == (40,)


def keep_open(channel: Any, path: Path, first: bytes, *later: tuple[int, bytes]) -> None:
    """Write a file, and when told, each later part; then call fsync and close. Send the answers."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.write(fd, first)
    channel.send("written")
    for offset, data in later:
        channel.recv()
        os.pwrite(fd, data, offset)
        channel.send(os.pread(fd, 1 << 20, 0))
    channel.recv()
    for call in (os.fsync, os.close):
        try:
            call(fd)
            channel.send("done")
        except OSError as error:
            channel.send(errno.errorcode[error.errno or 0])


def test_other_views_see_a_line_after_a_second(mounts: Mounts, empty_store: Path) -> None:
    (empty_store / "checked").mkdir()
    (empty_store / "checked").chmod(0o777)
    mount = mounts.start(POLICY, empty_store)
    path, first, more = mount / "checked/log", b"the first line of a log\n", b"and another\n"
    writer = start_as(WRITER, keep_open, path, first, (len(first), more))
    try:
        assert writer.receive() == "written"
        writer.send("go on")
        assert writer.receive() == first + more
        wait_for(lambda: call_as(READER, path.read_bytes) == first + more, "the line in another view", 20)
        writer.send("go on")
        assert [writer.receive(), writer.receive()] == ["done", "done"]
    finally:
        writer.kill()


def test_two_views_lose_no_appended_line(mounts: Mounts, empty_store: Path) -> None:
    (empty_store / "checked").mkdir()
    (empty_store / "checked").chmod(0o777)
    mount = mounts.start(POLICY, empty_store)
    path = mount / "checked/log"
    call_as(READER, path.write_bytes, b"the first line of a log\n")
    call_as(READER, path.chmod, 0o666)
    crew = [start_as(uid, _append_apart, path, uid) for uid in (WRITER, READER)]
    for child in crew:
        child.result(60)
    lines = (mount.store / "checked/log").read_bytes().splitlines()
    assert len(lines) == 401
    assert sorted(lines[1:]) == sorted(b"%d %d" % (uid, n) for uid in (WRITER, READER) for n in range(200))


def _append_apart(_channel: Any, path: Path, uid: int) -> None:
    with path.open("ab", buffering=0) as log:
        for number in range(200):
            log.write(b"%d %d\n" % (uid, number))

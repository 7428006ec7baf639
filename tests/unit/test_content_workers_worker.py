"""What a worker answers, in this process and confined in its own: the same."""

from __future__ import annotations

import errno
import os
import random
import socket
import subprocess
from pathlib import Path

import magic
import pytest
import trio

from policyfs.content.kinds import SNIFF_BYTES
from policyfs.content.plans import unpack_plan
from policyfs.content.sniffer import Sniffer
from policyfs.content.workers.protocol import Command, Request
from policyfs.content.workers.worker import BUG, Detector, Passed, SniffError, exit_code, run
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, Plan, locate
from tests.support.machine.counts import count
from tests.support.samples.media import HOME, write_tags

WHAT = frozenset({"location"})


@pytest.fixture(scope="module")
def detector():
    return Detector()


@pytest.fixture(scope="module")
def sniffer():
    started = Sniffer.start(deadline_s=30)
    yield started
    started.close()


def test_a_kind_is_the_one_that_file_prints(detector):
    for head in (b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01", b"plain text\n", b"\0" * 100, b"%PDF-1.4\n", b"x\0y"):
        said = subprocess.run(
            ["file", "--brief", "--mime-type", "-"], input=head, capture_output=True, timeout=30, check=True
        )
        assert detector._named(head) == said.stdout.decode().strip()


def test_a_failure_of_libmagic_is_no_kind(detector, monkeypatch):
    """magic.Magic would call the file application/octet-stream."""
    monkeypatch.setattr(detector, "_magic", magic.magic_open(magic.MAGIC_MIME_TYPE))  # without a database
    with pytest.raises(SniffError, match="libmagic"):
        detector.kind(b"text")


@pytest.fixture
def passed(tmp_path):
    """A file's descriptor, and the file to play with."""
    path = tmp_path / "f"
    path.write_bytes(bytes(range(256)) * 400)
    fd = os.open(path, os.O_RDONLY)
    yield fd, path
    os.close(fd)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENFILE, "full"), errno.ENFILE),
        (MemoryError(), errno.ENOMEM),
        (OSError(), BUG),
        (OSError(4000, "no errno"), BUG),
        (ValueError("bug"), BUG),
        (KeyboardInterrupt(), BUG),
    ],
)
def test_the_exit_code_of_a_worker_tells_its_error(error, code):
    assert exit_code(error) == code


def test_a_worker_without_a_socket_ends_with_the_errno():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.fork()
        if pid == 0:
            os.close(theirs.fileno())
            run(theirs, None, None, os.getppid())
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == errno.EBADF


def test_a_passed_file_is_read_by_range(passed):
    fd, path = passed
    source = Passed(fd, 102_400)
    data = path.read_bytes()
    assert source.size == 102_400
    for offset, size in ((0, 10), (100_000, 5000), (102_399, 1), (102_400, 10), (200_000, 10), (0, 1 << 30)):
        assert source.read(offset, size) == data[offset : offset + size]


def test_a_file_that_grew_ends_where_it_did(passed):
    fd, path = passed
    with path.open("ab") as file:
        file.write(b"more")
    assert len(Passed(fd, 102_400).read(102_390, 100)) == 10


def test_a_file_that_shrank_is_no_answer(passed, detector):
    fd, path = passed
    os.truncate(path, 100)
    with pytest.raises(SniffError, match="shrank"):
        Passed(fd, 102_400).read(0, 1000)
    os.truncate(path, 0)
    with pytest.raises(SniffError, match="shrank"):
        detector.answer(Request(1, Command.KIND_FD, 102_400, b"", fd))


def located(sniffer: Sniffer, path: Path) -> tuple[str | None, Plan]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return trio.run(sniffer.locate, fd, WHAT)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "name",
    [
        "photo_with_place.jpg",
        "photo_without_place.jpg",
        "photo_8mb.jpg",
        "drawing.png",
        "video.mp4",
        "video_with_place.mp4",
        "song.mp3",
        "song.flac",
        "hike.gpx",
    ],
)
def test_confined_it_finds_what_it_finds_here(sniffer, detector, media, name):
    """Nothing is imported or opened late: a confined worker would fail at that."""
    data = media[name].read_bytes()
    kind = detector.kind(data[:SNIFF_BYTES])
    plan = locate(kind, WHAT, MemorySource(data))
    assert located(sniffer, media[name]) == (kind, plan)


def test_a_photo_loses_its_place(sniffer, media):
    kind, plan = located(sniffer, media["photo_with_place.jpg"])
    assert kind == "image/jpeg"
    assert plan.outcome is Outcome.PATCH
    assert plan.findings
    data = media["photo_with_place.jpg"].read_bytes()
    redacted = apply(data, plan.patches)
    assert len(redacted) == len(data)
    for word in HOME.names:
        assert word.encode() in data
        assert word.encode() not in redacted


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
)
@pytest.mark.parametrize(
    "text", ["<?xml version='1.0'?><gpx><trkpt lat='1'/></gpx>", '{"latitude": 48.1}', "é"]
)
def test_every_codec_is_at_hand(sniffer, detector, encoding, text):
    head = text.encode(encoding) * 3
    try:
        expected = detector.kind(head)
    except SniffError:
        expected = None
    assert trio.run(sniffer.kind_of_head, head) == expected
    assert "Error" not in sniffer.stats().last_error


def test_what_cannot_be_hidden_is_refused(sniffer, media):
    fd = os.open(media["photo_with_place.jpg"], os.O_RDONLY)
    try:
        _, plan = trio.run(sniffer.locate, fd, frozenset({"faces", "location"}))
    finally:
        os.close(fd)
    assert plan.outcome is Outcome.REFUSE


def test_a_reply_is_what_the_daemon_unpacks(passed, detector):
    fd, _ = passed
    kind, plan = unpack_plan(detector.answer(Request(1, Command.LOCATE, 102_400, b"location", fd)), 102_400)
    assert kind
    assert plan.outcome is Outcome.REFUSE


@pytest.fixture(scope="module")
def rich_photo(media, tmp_path_factory) -> bytes:
    """Metadata in every form that takes a locator to another library: extended XMP, UTF-16, IPTC."""
    path = tmp_path_factory.mktemp("rich") / "photo.jpg"
    path.write_bytes(media["photo_with_place.jpg"].read_bytes())
    tags = {
        "XMP-dc:Description": "quince " * 13_000,
        "EXIF:UserComment": "h\xe9llo \u65e5\u672c",
        "IPTC:Keywords": "\xe9",
        "Comment": "at 47.8 N 13.0 E",
    }
    write_tags(path, tags)
    data = path.read_bytes()
    assert b"http://ns.adobe.com/xmp/extension/" in data
    return data


def memfd_of(data: bytes) -> int:
    """A read-only descriptor of a file in memory."""
    fd = os.memfd_create("photo")
    os.write(fd, data)
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    os.close(fd)
    return reader


def test_confined_it_finds_what_it_finds_here_in_damaged_photos(sniffer, detector, rich_photo):
    """Damage leads into every corner of the locators; none may need what a worker does not have."""
    rng = random.Random(7)

    async def main() -> None:
        for number in range(count(40, 2000)):
            data = bytearray(rich_photo)
            for _ in range(rng.choice((1, 3, 10, 50)) if number else 0):
                data[rng.randrange(min(len(data), rng.choice((200, 4000, 150_000))))] = rng.randrange(256)
            fd = memfd_of(data)
            kind, plan = await sniffer.locate(fd, WHAT)
            os.close(fd)
            if kind is None:
                with pytest.raises(SniffError):
                    detector.kind(bytes(data))
            else:
                assert (kind, plan) == (kind, locate(kind, WHAT, MemorySource(bytes(data))))
            assert "Error" not in sniffer.stats().last_error

    trio.run(main)

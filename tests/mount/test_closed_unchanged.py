"""An app opens a checked file for writing, and writes nothing, while another app writes the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import Child, call_as, code_of, start_as, wait_for
from tests.support.mount.stores import wait_until_closed
from tests.support.samples import jpegs

WRITER, OTHER = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: closed unchanged}}
apps:
  writer: {{uid: {WRITER}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/**"}}
"""
NO: Final = HEAD + '  - {id: no, require: {no: [location]}, paths: "/**", on_refused: quarantine}\n'
KINDS: Final = HEAD + '  - {id: kinds, require: {content: [image/jpeg]}, paths: "/**"}\n'
PLACED: Final = jpegs.photo_with(jpegs.exif())
PHOTO: Final = jpegs.plain(1, 64)


def _write(channel, path: Path, first: bytes, rest: bytes) -> str:
    """Write a new file in two steps; what close answered."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.fchmod(fd, 0o666)
    os.write(fd, first)
    channel.send("written")
    channel.recv()
    os.write(fd, rest)
    return code_of(os.close, fd)


def _open_and_close(channel, path: Path) -> str:
    fd = os.open(path, os.O_RDWR)
    channel.send("open")
    channel.recv()
    return code_of(os.close, fd)


def _ended(child: Child) -> str:
    child.send("go on")
    return child.result()


@pytest.mark.parametrize(
    ("policy", "first", "rest"),
    [(NO, PLACED, b""), (KINDS, b"\xff", b""), (NO, PHOTO[:-2], PHOTO[-2:]), (KINDS, PHOTO[:2], PHOTO[2:])],
    ids=["draft refused", "head refused", "draft allowed", "head allowed"],
)
@pytest.mark.parametrize("is_last", [False, True])
def test_only_the_writer_answers_for_what_is_written(
    corner_of, policy: str, first: bytes, rest: bytes, is_last: bool
) -> None:
    """A file that is not finished is not judged, nor is its name hidden, because another app closes it."""
    mount = corner_of(policy)
    mount.mount.expected_mediated = True
    writer = start_as(WRITER, _write, mount / "a.jpg", first, rest)
    assert writer.receive() == "written"
    other = start_as(OTHER, _open_and_close, mount / "a.jpg")
    assert other.receive() == "open"
    if not is_last:
        assert _ended(other) == ""
        assert call_as(OTHER, os.listdir, mount.mountpoint) == ["a.jpg"]
    assert _ended(writer) == ("" if rest else "EPERM")
    if is_last:
        assert _ended(other) == ""
    wait_until_closed(mount.mount)
    assert os.listdir(mount.store) == (["a.jpg"] if rest else [])
    if policy == NO and not rest:
        wait_for(lambda: mount.events(operation="quarantine"), "the refused file is kept")
    told = [event for event in mount.events() if event.get("operation") in {"write", "quarantine"}]
    assert {event["app"] for event in told} == (set() if rest else {"writer"})

"""The name of a new file whose content was refused at a close: nobody is shown it until it is accepted."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.corners import Corner, Corners
from tests.support.samples import jpegs

CAMERA, GALLERY = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/**"}}
  - {{id: share, require: {{no: [location]}}, paths: "/*/Share/**"}}
  - {{id: typed, require: {{content: [image/jpeg]}}, paths: "/*/Typed/**"}}
"""
GOOD = jpegs.plain(3, 64)
HALF = 2
"""So many bytes of a photo are no photo yet, and nobody can look through them."""
PLACES = ["Share", "Typed"]


@pytest.fixture(params=first(1, [(False,), (True,)]))
def mount(request, mounts, empty_store: Path, corner_of) -> Corner:
    if request.param:
        return Corners(mounts.start(POLICY, empty_store, "--app", "camera")).new(*PLACES)
    return corner_of(POLICY, *PLACES)


@pytest.fixture
def store(mount: Corner) -> Path:
    return mount.store


def others(mount: Corner) -> list[int]:
    """Uids that look through a mount: the writer's own, and another app's where there is one."""
    return [CAMERA] if "--app" in mount.mount.options else [CAMERA, GALLERY]


def seen(path: Path) -> tuple[str, list[str]]:
    """What stat says, and the names in the directory."""
    return code_of(os.stat, path), os.listdir(path.parent)


def _writer(channel, path: Path) -> None:
    """Does what it is told, and says what it ended in."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    channel.send("open")
    while (told := channel.recv()) != "end":
        if told == "dup":
            channel.send(code_of(os.close, os.dup(fd)))
        elif told == "sync":
            channel.send(code_of(os.fsync, fd))
        elif told == "close":
            channel.send(code_of(os.close, fd))
        else:
            channel.send(code_of(os.write, fd, told))


def said(writer, *told) -> list[str]:
    answers = []
    for each in told:
        writer.send(each)
        answers.append(writer.receive())
    return answers


@pytest.mark.parametrize("where", PLACES)
def test_a_name_is_hidden_by_a_refused_close_and_comes_back_with_an_accepted_one(
    mount: Corner, store: Path, where: str
) -> None:
    path = mount.mountpoint / where / "new.jpg"
    writer = start_as(CAMERA, _writer, path)
    writer.receive()
    for uid in others(mount):
        assert call_as(uid, seen, path) == ("", ["new.jpg"])
    assert said(writer, GOOD[:HALF], "dup") == ["", "EPERM"]
    for uid in others(mount):
        assert call_as(uid, seen, path) == ("ENOENT", [])
        assert call_as(uid, code_of, os.unlink, path) == "ENOENT"
        assert call_as(uid, code_of, os.rename, path, path.with_name("b.jpg")) == "ENOENT"
    assert os.listdir(store / where) == ["new.jpg"]  # hidden, not removed
    assert said(writer, GOOD[HALF:], "dup") == ["", ""]
    for uid in others(mount):
        assert call_as(uid, seen, path) == ("", ["new.jpg"])
    assert said(writer, "close") == [""]
    writer.send("end")
    writer.result()
    assert (store / where / "new.jpg").read_bytes() == GOOD
    assert call_as(CAMERA, seen, path) == ("", ["new.jpg"])
    assert mount.status()["bugs"] == 0


def test_an_accepted_fsync_brings_it_back_too(mount: Corner) -> None:
    path = mount.mountpoint / "Share/new.jpg"
    writer = start_as(CAMERA, _writer, path)
    writer.receive()
    assert said(writer, GOOD[:HALF], "dup", GOOD[HALF:], "sync") == ["", "EPERM", "", ""]
    assert call_as(CAMERA, seen, path) == ("", ["new.jpg"])
    writer.send("end")
    writer.result()


@pytest.mark.parametrize("where", PLACES)
def test_it_goes_at_the_last_release(mount: Corner, store: Path, where: str) -> None:
    path = mount.mountpoint / where / "new.jpg"
    writer = start_as(CAMERA, _writer, path)
    writer.receive()
    assert said(writer, GOOD[:HALF], "close") == ["", "EPERM"]
    assert call_as(CAMERA, seen, path) == ("ENOENT", [])
    wait_for(lambda: os.listdir(store / where) == [], "the refused file to go")
    writer.send("end")
    writer.result()


def test_what_was_there_before_stays_in_sight(mount: Corner, store: Path) -> None:
    (store / "Share/old.jpg").write_bytes(GOOD)
    path = mount.mountpoint / "Share/old.jpg"

    def overwrite() -> str:
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, GOOD[:HALF])
        answer = code_of(os.close, os.dup(fd))
        assert seen(path) == ("", ["old.jpg"])
        os.close(os.open(os.devnull, os.O_RDONLY))
        return answer + code_of(os.close, fd)

    assert call_as(CAMERA, overwrite) == "EPERMEPERM"
    assert (store / "Share/old.jpg").read_bytes() == GOOD


def _again(path: Path) -> list[str]:
    answers = []
    for data in (GOOD[:HALF], GOOD[:HALF], GOOD):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, data)
        answers.append(code_of(os.close, fd))
    return answers


@pytest.mark.parametrize("where", PLACES)
def test_who_was_refused_can_try_again_at_once(mount: Corner, store: Path, where: str) -> None:
    """close() answers before the kernel has released the file."""
    path = mount.mountpoint / where / "new.jpg"
    assert call_as(CAMERA, _again, path) == ["EPERM", "EPERM", ""]
    assert (store / where / "new.jpg").read_bytes() == GOOD


def _made(path: Path, flags: int) -> tuple[str, float]:
    began = time.monotonic()
    return code_of(os.open, path, os.O_WRONLY | os.O_CREAT | flags, 0o644), time.monotonic() - began


def test_a_hidden_name_is_taken(mount: Corner, store: Path) -> None:
    """Whoever makes or moves something there would take the file of the one who may still mend it."""
    path, other = mount.mountpoint / "Share/new.jpg", mount.mountpoint / "Share/other.jpg"
    (store / "Share/other.jpg").write_bytes(GOOD)
    writer = start_as(CAMERA, _writer, path)
    writer.receive()
    assert said(writer, GOOD[:HALF], "dup") == ["", "EPERM"]
    code, took_s = call_as(CAMERA, _made, path, 0)
    assert code == "EBUSY"
    assert took_s < 5
    assert call_as(CAMERA, _made, path, os.O_EXCL)[0] == "EEXIST"
    assert call_as(CAMERA, code_of, os.rename, other, path) in {"EBUSY", "EXDEV"}  # it has waited before
    assert call_as(CAMERA, code_of, os.link, other, path) == "EEXIST"
    assert said(writer, GOOD[HALF:], "close") == ["", ""]
    writer.send("end")
    writer.result()
    assert (store / "Share/new.jpg").read_bytes() == GOOD


def test_a_refused_write_hides_it_from_its_close_on(mount: Corner, store: Path) -> None:
    path = mount.mountpoint / "Typed/new.jpg"
    writer = start_as(CAMERA, _writer, path)
    writer.receive()
    assert said(writer, b"words, and not a photo\n", "dup") == ["EPERM", ""]
    assert call_as(CAMERA, seen, path) == ("ENOENT", [])
    assert said(writer, GOOD, "dup") == ["", ""]
    assert call_as(CAMERA, seen, path) == ("", ["new.jpg"])
    writer.send("end")
    writer.result()
    assert (store / "Typed/new.jpg").read_bytes() == GOOD


def _linked(path: Path, *others: Path) -> list[str]:
    """A new file that gets other names before its content is refused."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    answers = [code_of(os.link, path, other) for other in others]
    os.write(fd, GOOD[:HALF])
    return [*answers, code_of(os.close, fd)]


@pytest.mark.parametrize("where", PLACES)
def test_a_refused_new_file_leaves_none_of_its_names(mount: Corner, store: Path, where: str) -> None:
    (store / where / "sub").mkdir(mode=0o777)
    (store / where / "sub").chmod(0o777)
    path = mount.mountpoint / where / "new.jpg"
    others = [path.with_name("b.jpg"), path.with_name("c.jpg"), path.parent / "sub/d.jpg"]
    assert call_as(CAMERA, _linked, path, *others) == ["", "", "", "EPERM"]
    wait_for(lambda: os.listdir(store / where) == ["sub"], "the refused file to go")
    assert os.listdir(store / where / "sub") == []
    for name in (path, *others):
        assert call_as(CAMERA, code_of, os.stat, name) == "ENOENT"
    assert mount.status()["bugs"] == 0

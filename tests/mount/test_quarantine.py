"""`on_refused: quarantine`: what is refused is kept for the administrator, where no app gets at it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import tarfile
import zipfile
from pathlib import Path

import pytest

from policyfs.errors import PolicyfsError
from tests.support.machine.processes import call_as, code_of, start_as, tool_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.samples import jpegs

CAMERA, GALLERY, STRANGER = 10010, 10011, 10099
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: quarantine}}
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: [camera, gallery, stranger]}}, paths: "/**"}}
  - {{id: share, require: {{no: [location]}}, paths: "/Share/**", on_refused: quarantine}}
  - {{id: typed, require: {{content: [image/jpeg]}}, paths: "/Typed/**", on_refused: quarantine}}
  - {{id: clean, require: {{clean: [location]}}, paths: "/Clean/**", on_refused: quarantine}}
  - {{id: gone, require: {{no: [location]}}, paths: "/Gone/**"}}
"""
PLACED = jpegs.photo_with(jpegs.exif())
GOOD = jpegs.plain(3, 64)


def folders(store: Path) -> None:
    for name in ("Share", "Typed", "Clean", "Gone"):
        (store / name).mkdir()
        (store / name).chmod(0o777)


@pytest.fixture
def mount(mounts, store: Path) -> Mount:
    folders(store)
    return mounts.start(POLICY, store)


def save(path: Path, data: bytes, mode: int = 0o644) -> str:
    """What close() says."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    os.write(fd, data)
    return code_of(os.close, fd)


def kept(mount: Mount) -> list[dict]:
    said = policyfs("quarantine", "list", "--json", "--trail", mount.trail)
    assert said.returncode == 0, said
    return [json.loads(line) for line in said.stdout.splitlines()]


def wait_kept(mount: Mount, count: int) -> list[dict]:
    """Once so many files are kept, and on record."""
    on_record = {"operation": "quarantine", "decision": "allow"}
    wait_for(lambda: len(mount.events(**on_record)) == count, f"{count} files in the quarantine")
    return kept(mount)


def ask(mount: Mount, *words: object):
    return policyfs("quarantine", *map(str, words), "--trail", mount.trail)


@pytest.mark.parametrize(
    ("where", "data", "kind"),
    [("Share", PLACED, "image/jpeg"), ("Typed", b"words " * 30_000, "text/plain"),
     ("Clean", b"not to be cleaned", "text/plain")],
)  # fmt: skip
def test_all_of_a_refused_file_is_kept(mount: Mount, store: Path, where: str, data: bytes, kind: str) -> None:
    path = mount.mountpoint / where / "a b.jpg"
    assert call_as(CAMERA, save, path, data, 0o640) == "EPERM"
    [one] = wait_kept(mount, 1)
    assert os.listdir(store / where) == []
    assert (one["app"], one["path"], one["kind"]) == ("camera", f"/{where}/a b.jpg", kind)
    assert (one["size"], one["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert (one["uid"], one["mode"], one["rules"]) == (CAMERA, 0o640, [where.lower()])
    [event] = mount.events(operation="quarantine")
    assert event["note"].startswith(f"kept as {one['id']}, {len(data)} bytes")
    assert (event["path"], event["app"], event["rules"]) == (one["path"], "camera", [where.lower()])
    assert mount.status()["quarantine"] == {"kept": 1, "dropped": 0, "waiting": 0}
    assert mount.status()["bugs"] == 0


def test_nobody_but_root_reads_it(mount: Mount) -> None:
    call_as(CAMERA, save, mount.mountpoint / "Share/a.jpg", PLACED)
    wait_kept(mount, 1)
    top = mount.trail_dir / "quarantine"
    for path in (top, *top.rglob("*")):
        status = path.lstat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o077) == (0, 0, 0), path
    [content] = top.rglob("bytes")
    assert content.read_bytes() == PLACED
    assert call_as(CAMERA, code_of, os.stat, content) == "EACCES"


def test_what_an_overwritten_file_was_to_become_is_kept(mount: Mount, store: Path) -> None:
    (store / "Share/a.jpg").write_bytes(GOOD)
    (store / "Share/a.jpg").chmod(0o666)
    assert call_as(CAMERA, save, mount.mountpoint / "Share/a.jpg", PLACED) == "EPERM"
    [one] = wait_kept(mount, 1)
    assert (store / "Share/a.jpg").read_bytes() == GOOD
    said = ask(mount, "release", one["id"])
    assert said.returncode == 1
    assert "exists already" in said.stderr
    assert (store / "Share/a.jpg").read_bytes() == GOOD
    assert len(kept(mount)) == 1


def test_without_the_option_it_is_gone(mount: Mount) -> None:
    assert call_as(CAMERA, save, mount.mountpoint / "Gone/a.jpg", PLACED) == "EPERM"
    assert call_as(CAMERA, save, mount.mountpoint / "Share/a.jpg", PLACED) == "EPERM"
    assert [one["path"] for one in wait_kept(mount, 1)] == ["/Share/a.jpg"]


def _mended(path: Path) -> list[str]:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, GOOD[:2])
    said = [code_of(os.close, os.dup(fd))]
    os.write(fd, GOOD[2:])
    return [*said, code_of(os.close, fd)]


def test_what_is_mended_before_the_last_close_is_not_kept(mount: Mount, store: Path) -> None:
    assert call_as(CAMERA, _mended, mount.mountpoint / "Share/a.jpg") == ["EPERM", ""]
    assert (store / "Share/a.jpg").read_bytes() == GOOD
    assert call_as(CAMERA, save, mount.mountpoint / "Share/b.jpg", PLACED) == "EPERM"
    assert [one["path"] for one in wait_kept(mount, 1)] == ["/Share/b.jpg"]


def test_programs_that_do_not_look_at_close(mount: Mount, arena: Path) -> None:
    """As the documentation says of them: unzip and an old ffmpeg end with 0, cp, rsync, tar and mv do not."""
    work = arena / "files"
    work.mkdir(mode=0o755)
    (work / "placed.jpg").write_bytes(PLACED)
    os.chmod(work / "placed.jpg", 0o644)
    with zipfile.ZipFile(work / "a.zip", "w") as archive:
        archive.write(work / "placed.jpg", "placed.jpg")
    with tarfile.open(work / "a.tar", "w") as archive:
        archive.add(work / "placed.jpg", "placed.jpg")
    share, own = mount.mountpoint / "Share", mount.mountpoint / "own.jpg"
    call_as(CAMERA, save, own, PLACED)
    said = {
        "unzip": tool_as(CAMERA, "unzip", "-q", work / "a.zip", "-d", share),
        "ffmpeg": tool_as(
            CAMERA, "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=s=32x32:d=0.2", "-metadata",
            "location=+47.8045+013.0422/", "-movflags", "use_metadata_tags", share / "film.mp4",
        ),
        "cp": tool_as(CAMERA, "cp", work / "placed.jpg", share / "cp.jpg"),
        "rsync": tool_as(CAMERA, "rsync", work / "placed.jpg", share / "rsync.jpg"),
        "tar": tool_as(CAMERA, "tar", "-C", share, "-xf", work / "a.tar"),
        "mv": tool_as(CAMERA, "mv", own, share / "mv.jpg"),
    }  # fmt: skip
    version = re.search(rb"ffmpeg version n?(\d+)", tool_as(CAMERA, "ffmpeg", "-version").stdout)
    assert version is not None
    looks = int(version[1]) >= 7
    assert {name for name, each in said.items() if each.returncode == 0} == {"unzip", "ffmpeg"} - (
        {"ffmpeg"} if looks else set()
    )
    wait_for(lambda: len(mount.events(operation="quarantine")) >= 5, "the refused files in the quarantine")
    assert call_as(CAMERA, os.listdir, share) == []
    names = {os.path.basename(one["path"]) for one in kept(mount)}
    assert {"placed.jpg", "film.mp4", "cp.jpg"} <= names


def on_record(mount: Mount) -> list[dict]:
    """What the trail root has of files that root released or dropped, in the order of time."""
    lines = [line for file in mount.trail.rglob("*.jsonl") for line in file.read_text().splitlines()]
    return sorted(
        (one for one in map(json.loads, lines) if one["type"] == "quarantine"), key=lambda one: one["time"]
    )


def test_it_is_kept_over_a_restart_and_released_to_where_it_was_to_be(mount: Mount, store: Path) -> None:
    assert call_as(CAMERA, save, mount.mountpoint / "Share/a.jpg", PLACED, 0o640) == "EPERM"
    [one] = wait_kept(mount, 1)
    assert mount.stop() == []
    mount.start()
    assert kept(mount) == [one]
    assert ask(mount, "show", one["id"]).returncode == 0
    said = ask(mount, "release", one["id"])
    assert said.returncode == 0, said
    released = store / "Share/a.jpg"
    assert released.read_bytes() == PLACED
    status = released.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (CAMERA, 0o640)
    assert kept(mount) == []
    assert call_as(CAMERA, Path(mount.mountpoint / "Share/a.jpg").read_bytes) == PLACED


def test_it_is_released_to_elsewhere_and_dropped(mount: Mount, arena: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        call_as(CAMERA, save, mount.mountpoint / "Share" / name, PLACED)
    first, second, third = wait_kept(mount, 3)
    out = arena / "out.jpg"
    assert ask(mount, "release", first["id"], "--to", out).returncode == 0
    assert out.read_bytes() == PLACED
    assert (out.stat().st_uid, out.stat().st_mode & 0o777) == (0, 0o600)
    again = ask(mount, "release", second["id"], "--to", out)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert ask(mount, "drop", second["id"], third["id"]).returncode == 0
    assert kept(mount) == []
    gone = ask(mount, "drop", second["id"])
    assert gone.returncode == 1
    assert "no refused file" in gone.stderr
    told = [(one["done"], one["id"], one.get("to")) for one in on_record(mount)]
    assert told == [
        ("release", first["id"], str(out)),
        ("release", second["id"], str(out)),  # refused after it was put on record
        ("drop", second["id"], None),
        ("drop", third["id"], None),
    ]
    [one, *_] = on_record(mount)
    assert (one["path"], one["app"], one["sha256"]) == ("/Share/a.jpg", "camera", first["sha256"])
    assert (one["cause"], one["how"], one["uid"]) == ("command", "policyfs quarantine release", 0)
    assert policyfs("audit", "verify", "--trail", mount.trail).returncode == 0
    said = policyfs("audit", "search", "-n", "50", "--trail", mount.trail).stdout
    assert f"refused file {first['id']} (/Share/a.jpg) released to {out}" in " ".join(said.split())


@pytest.mark.parametrize("done", ["release", "drop"])
def test_what_cannot_be_put_on_record_is_not_done(mount: Mount, store: Path, monkeypatch, done: str) -> None:
    def full(*_: object, **__: object) -> None:
        raise PolicyfsError("the trail could not be written: no space left on device")

    call_as(CAMERA, save, mount.mountpoint / "Share/a.jpg", PLACED)
    [one] = wait_kept(mount, 1)
    monkeypatch.setattr("policyfs.cli.quarantine.record", full)
    said = ask(mount, done, one["id"])
    assert said.returncode == 1
    assert "no space left" in said.stderr
    assert kept(mount) == [one]
    assert not (store / "Share/a.jpg").exists()


def _save_many(channel, directory: Path, count: int) -> set[str]:
    del channel
    return {save(directory / f"{number}.jpg", PLACED) for number in range(count)}


def test_a_program_that_writes_many_refused_files_loses_none_on_a_slow_disk(mounts, store: Path) -> None:
    """Its next file waits until the quarantine has taken some."""
    folders(store)
    mount = mounts.prepare(POLICY, store)
    mount.program = ("tests.support.mount.slow_quarantine",)
    mount.start()
    assert start_as(CAMERA, _save_many, mount.mountpoint / "Share", 40).result() == {"EPERM"}
    assert len(wait_kept(mount, 40)) == 40
    assert mount.status()["quarantine"] == {"kept": 40, "dropped": 0, "waiting": 0}


def test_a_full_quarantine_drops_the_newest_on_record(mounts, store: Path) -> None:
    folders(store)
    mount = mounts.start(POLICY, store, "--quarantine-files", "2", "--quarantine-max", "20K")
    share = mount.mountpoint / "Share"
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        assert call_as(CAMERA, save, share / name, PLACED) == "EPERM"
        wait_for(lambda n=name: mount.events(operation="quarantine", path=f"/Share/{n}"), "an event")
    assert [one["path"] for one in kept(mount)] == ["/Share/1.jpg", "/Share/2.jpg"]
    [event] = mount.events(operation="quarantine", path="/Share/3.jpg")
    assert (event["decision"], event["errno"]) == ("deny", "ENOSPC")
    assert "the refused file is lost: the quarantine is full: camera has 2 files" in event["note"]
    # of each app: another's has room still, but not for so much
    assert call_as(GALLERY, save, share / "4.jpg", PLACED + bytes(20_000)) == "EPERM"
    wait_for(lambda: mount.events(operation="quarantine", path="/Share/4.jpg"), "an event")
    assert "bytes in the quarantine" in mount.events(operation="quarantine", path="/Share/4.jpg")[0]["note"]
    assert call_as(STRANGER, save, share / "5.jpg", PLACED) == "EPERM"
    wait_for(lambda: mount.events(operation="quarantine", path="/Share/5.jpg"), "an event")
    assert mount.status()["quarantine"] == {"kept": 3, "dropped": 2, "waiting": 0}


def _left_open(channel, path: Path) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, PLACED)
    channel.send(code_of(os.close, os.dup(fd)))
    channel.recv()


def test_a_daemon_that_ends_in_order_keeps_what_was_refused(mount: Mount) -> None:
    writer = start_as(CAMERA, _left_open, mount.mountpoint / "Share/a.jpg")
    assert writer.receive() == "EPERM"
    mount.stop()
    assert [one["path"] for one in kept(mount)] == ["/Share/a.jpg"]
    writer.send("end")
    writer.result()


def test_a_daemon_that_is_killed_leaves_nothing_half_kept(mount: Mount) -> None:
    call_as(CAMERA, save, mount.mountpoint / "Share/a.jpg", PLACED)
    [one] = wait_kept(mount, 1)
    assert mount.process is not None
    mount.expected_exit = -signal.SIGKILL
    mount.process.send_signal(signal.SIGKILL)
    mount.process.wait(10)
    with mount.as_environment():
        assert policyfs("umount", mount.mountpoint).returncode == 0
    part = mount.trail_dir / "quarantine/camera/.0123abcd.part"
    part.mkdir(mode=0o700)
    (part / "bytes").write_bytes(PLACED[:100])
    assert "a crash interrupted the copy" in ask(mount, "list").stdout
    assert "incomplete" in ask(mount, "release", "0123abcd").stderr
    mount.control_socket.unlink(missing_ok=True)
    mount.expected_exit = 0
    mount.start()
    wait_for(lambda: not part.exists(), "what was left half made to go")
    assert kept(mount) == [one]

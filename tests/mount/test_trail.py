"""What a mount leaves on its trail: every operation, with the right fields, or no access."""

from __future__ import annotations

import base64
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.trail.chain.restarts import NOT_CLOSED
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, start_as, tool_as, wait_for
from tests.support.models.twins import attempt, content, error, fd_of
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts, populate

ALL, GALLERY, STRANGER = 10010, 10011, 10099
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: trail}}
apps:
  all: {{uid: {ALL}, gid: {ALL}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: everything, allow: [all], who: {{app: all}}, paths: "/**"}}
  - {{id: guarded, deny: [write, delete, attr, create], paths: "/guarded/**", errno: EPERM}}
  - {{id: look, allow: [see, read], who: {{app: gallery}}, paths: "/**"}}
  - {{id: no-place, require: {{redact: [location]}}, who: {{app: gallery}}}}
  - {{id: photos, require: {{content: image/*}}, paths: "/photos/**"}}
  - {{id: quiet, allow: [see, read], who: {{app: all}}, paths: "/quiet/**", audit: off}}
  - {{id: strict, allow: [see, read], who: {{app: all}}, paths: "/strict/**", audit: required}}
  - {{id: dry, deny: [read], who: {{app: all}}, paths: "/dry/**", mode: monitor}}
"""
PLACES = ("work", "guarded", "photos", "quiet", "strict", "dry")


def _furnish(store: Path) -> None:
    for place in PLACES:
        (store / place / "dir").mkdir(parents=True)
        for name in ("file", "second", "dir/inner"):
            (store / place / name).write_text("some text\n")
        (store / place / "link").symlink_to("file")
        (store / place / "vacant").mkdir()
        for path in (store / place, *(store / place).rglob("*")):
            os.chown(path, ALL, ALL, follow_symlinks=False)


@pytest.fixture(scope="module")
def mount(module_mounts: Mounts, module_arena: Path, media: dict[str, Path]) -> Mount:
    store = module_arena / "store"
    store.mkdir(mode=0o700)
    populate(store, media)
    _furnish(store)
    return module_mounts.start(POLICY, store)


@pytest.fixture
def work(mount: Mount) -> Path:
    """A furnished /work, made anew."""
    shutil.rmtree(mount.store / "work")
    (mount.store / "work").mkdir()
    shutil.copytree(mount.store / "guarded", mount.store / "work", symlinks=True, dirs_exist_ok=True)
    for path in (mount.store / "work", *(mount.store / "work").rglob("*")):
        os.chown(path, ALL, ALL, follow_symlinks=False)
    return mount / "work"


def _as(uid: int, call: Callable[[], object]) -> tuple[int, str]:
    """pid and outcome of a call by a uid."""
    child = start_as(uid, lambda _channel: str(attempt(call)))
    return child.pid, child.result()


def events_of(mount: Mount, pid: int, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
    """The events of one process, once there are so many."""

    def found() -> list[dict[str, Any]] | None:
        events = [event for event in mount.events(pid=pid, **fields) if event["operation"] != "lookup"]
        return events if len(events) >= count else None

    return wait_for(found, f"{count} events of pid {pid} with {fields}")


def _open_close(path: Path, flags: int) -> None:
    with fd_of(path, flags):
        pass


def _exchange(one: Path, two: Path) -> None:
    from policyfs.linux import libc

    with fd_of(one.parent, os.O_PATH) as at:
        libc.rename2(at, os.fsencode(one.name), at, os.fsencode(two.name), libc.RENAME_EXCHANGE)


CALLS: dict[str, tuple[Callable[[Path], object], str, str, dict[str, Any]]] = {
    # name: (the call on a furnished directory, operation, system call, more fields)
    "open": (lambda d: _open_close(d / "file", os.O_RDONLY), "open", "open(O_RDONLY)", {"path": "file"}),
    "open both": (lambda d: _open_close(d / "file", os.O_RDWR), "open", "open(O_RDWR)", {"path": "file"}),
    "append": (
        lambda d: _open_close(d / "file", os.O_WRONLY | os.O_APPEND),
        "open", "open(O_WRONLY|O_APPEND)", {"path": "file"},
    ),
    "empty": (
        lambda d: _open_close(d / "file", os.O_WRONLY | os.O_TRUNC),
        "open", "open(O_WRONLY|O_TRUNC)", {"path": "file"},
    ),
    "create": (
        lambda d: _open_close(d / "new", os.O_RDWR | os.O_CREAT | os.O_EXCL),
        "create", "open(O_RDWR|O_CREAT|O_EXCL)", {"path": "new"},
    ),
    "mkdir": (lambda d: os.mkdir(d / "new"), "mkdir", "mkdir", {"path": "new"}),
    "mknod": (lambda d: os.mknod(d / "new"), "mknod", "mknod", {"path": "new"}),
    "symlink": (lambda d: os.symlink("x", d / "new"), "symlink", "symlink", {"path": "new"}),
    "link": (lambda d: os.link(d / "file", d / "new"), "link", "link", {"path": "file", "new_path": "new"}),
    "rename": (
        lambda d: os.rename(d / "file", d / "new"), "rename", "rename", {"path": "file", "new_path": "new"},
    ),
    "exchange": (
        lambda d: _exchange(d / "file", d / "second"),
        "rename", "renameat2(RENAME_EXCHANGE)", {"path": "file", "new_path": "second"},
    ),
    "unlink": (lambda d: os.unlink(d / "file"), "unlink", "unlink", {"path": "file"}),
    "rmdir": (lambda d: os.rmdir(d / "vacant"), "rmdir", "rmdir", {"path": "vacant"}),
    "list": (lambda d: os.listdir(d / "dir"), "list", "opendir", {"path": "dir"}),
    "truncate": (lambda d: os.truncate(d / "file", 2), "truncate", "truncate", {"path": "file"}),
    "chmod": (lambda d: os.chmod(d / "file", 0o600), "attr", "chmod", {"path": "file"}),
    "chown": (lambda d: os.chown(d / "file", ALL, ALL), "attr", "chown", {"path": "file"}),
    "utimens": (lambda d: os.utime(d / "file"), "attr", "utimens", {"path": "file"}),
    "setxattr": (lambda d: os.setxattr(d / "file", "user.a", b""), "xattr", "setxattr", {"path": "file"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_each_operation_is_on_record(mount: Mount, work: Path, name: str) -> None:
    call, operation, syscall, fields = CALLS[name]
    pid, said = _as(ALL, lambda: call(work))
    assert said == "None" or name == "list"
    (event,) = events_of(mount, pid, operation=operation)
    assert event["syscall"] == syscall
    for field, value in fields.items():
        assert event[field] == f"/work/{value}"
    assert (event["app"], event["uid"], event["gid"], event["pid"]) == ("all", ALL, ALL, pid)
    assert event["exe"] == os.path.realpath(sys.executable)
    assert event["mount"] == str(mount.mountpoint)
    assert event["generation"] == 1
    assert event["policy"] == mount.status()["policy"]["digest"]
    assert (event["decision"], event.get("errno")) == ("allow", None)
    assert event["rules"] == ["everything"]


DENIED = (
    "open both", "append", "empty", "create", "mkdir", "mknod", "symlink", "rename", "exchange", "unlink",
    "rmdir", "truncate", "chmod", "chown", "utimens", "setxattr", "link",
)  # fmt: skip


@pytest.mark.parametrize("name", DENIED)
def test_each_denial_is_on_record_before_it_is_answered(mount: Mount, name: str) -> None:
    call, operation, syscall, fields = CALLS[name]
    pid, said = _as(ALL, lambda: call(mount / "guarded"))
    assert said == "EPERM"
    (event,) = [event for event in mount.events(pid=pid) if event["operation"] == operation]
    assert (event["decision"], event["errno"], event["syscall"]) == ("deny", "EPERM", syscall)
    assert event["rules"] == ["guarded"]
    for field, value in fields.items():
        assert event[field] == f"/guarded/{value}"


def test_whom_nothing_is_allowed(mount: Mount) -> None:
    pid, said = _as(STRANGER, lambda: os.stat(mount / "work"))
    assert said == "ENOENT"
    (event,) = mount.events(pid=pid)
    assert (event["app"], event["uid"]) == ("stranger", STRANGER)
    assert event["operation"] in {"lookup", "stat"}
    assert (event["decision"], event["errno"], event["rules"]) == ("deny", "ENOENT", [])
    assert event["path"] == "/work"


def test_special_files_are_refused_on_record(mount: Mount, work: Path) -> None:
    pid, said = _as(ALL, lambda: os.mkfifo(work / "fifo"))
    assert said == "EPERM"
    (event,) = mount.events(pid=pid, operation="mknod")
    assert (event["decision"], event["errno"]) == ("deny", "EPERM")
    assert "only regular files" in event["note"]


# ---------------------------------------------------------------- handles


def test_a_release_tells_what_became_of_the_file(mount: Mount, work: Path) -> None:
    def write_some() -> None:
        with fd_of(work / "file", os.O_RDWR) as fd:
            os.pwrite(fd, b"x" * 5000, 0)

    before = (mount.store / "work/file").stat()
    pid, _ = _as(ALL, write_some)
    opened, released = (events_of(mount, pid, operation=name)[0] for name in ("open", "release"))
    assert opened["handle"] == released["handle"]
    assert (opened["io"], opened["view"]) == ("passthrough", "raw")
    assert (released["size_before"], released["size_after"]) == (10, 5000)
    assert released["mtime_before_ns"] == before.st_mtime_ns
    assert released["mtime_after_ns"] == (mount.store / "work/file").stat().st_mtime_ns
    assert "bytes_written" not in released


def test_a_mediated_release_counts_bytes(mount: Mount, media: dict[str, Path]) -> None:
    photo = media["photo_without_place.jpg"].read_bytes()

    def write_photo() -> None:
        with fd_of(mount / "photos/new.jpg", os.O_RDWR | os.O_CREAT) as fd:
            os.write(fd, photo)
            os.pread(fd, 1000, 0)

    pid, said = _as(ALL, write_photo)
    assert said == "None"
    created, released = (events_of(mount, pid, operation=name)[0] for name in ("create", "release"))
    assert created["handle"] == released["handle"]
    assert (created["io"], created["view"]) == ("mediated", "checked")
    assert released["bytes_written"] == len(photo)
    assert released["bytes_read"] >= 1000
    assert released["size_after"] == len(photo)


def test_a_refused_content_says_what_it_was(mount: Mount) -> None:
    def write_text() -> None:
        with fd_of(mount / "photos/text.jpg", os.O_WRONLY | os.O_CREAT) as fd:
            os.write(fd, b"words and words\n" * 100)

    pid, said = _as(ALL, write_text)
    assert said == "EPERM"
    denied = mount.events(pid=pid, decision="deny")
    assert denied
    assert (denied[0]["operation"], denied[0]["errno"], denied[0]["kind"]) == ("write", "EPERM", "text/plain")
    assert denied[0]["rules"] == ["photos"]
    assert denied[0]["path"] == "/photos/text.jpg"


def test_a_redacted_open_names_its_ranges(mount: Mount) -> None:
    photo = mount / "DCIM/Camera/a.jpg"
    pid, _ = _as(GALLERY, lambda: content(str(photo)))
    opened = mount.events(pid=pid, operation="open")  # required: there before the app had an answer
    assert len(opened) == 1
    assert (opened[0]["kind"], opened[0]["view"]) == ("image/jpeg", "redacted(location)")
    assert opened[0]["rules"] == ["look", "no-place"]
    size = (mount.store / "DCIM/Camera/a.jpg").stat().st_size
    assert all(0 <= offset < offset + length <= size for offset, length in opened[0]["redacted"])


def test_an_unlinked_file_keeps_its_path_on_record(mount: Mount, work: Path) -> None:
    def use_after_unlink() -> None:
        with fd_of(work / "file", os.O_RDWR) as fd:
            os.unlink(work / "file")
            os.fchmod(fd, 0o600)
            os.ftruncate(fd, 3)

    pid, said = _as(ALL, use_after_unlink)
    assert said == "None"
    found = events_of(mount, pid, 4, path="/work/file")
    assert [event["operation"] for event in found] == ["open", "unlink", "attr", "release"]


# ---------------------------------------------------------------- audit levels


def test_off_is_off_unless_a_monitored_rule_has_something_to_say(mount: Mount) -> None:
    pid, _ = _as(ALL, lambda: (content(str(mount / "quiet/file")), content(str(mount / "dry/file"))))
    events_of(mount, pid, path="/dry/file", operation="open")
    (dry,) = mount.events(pid=pid, path="/dry/file", operation="open")
    assert (dry["decision"], dry["would_deny"]) == ("would_deny", ["dry"])
    pid, _ = _as(ALL, lambda: content(str(mount / "strict/file")))
    assert len(mount.events(pid=pid, path="/strict/file", operation="open")) == 1  # at once


def test_denials_that_repeat_are_counted(mount: Mount) -> None:
    def try_often() -> list[str]:
        return [error(os.truncate, mount / "guarded/file", 0) for _ in range(300)]

    child = start_as(ALL, lambda _channel: try_often())
    pid = child.pid
    assert child.result() == ["EPERM"] * 300
    wait_for(
        lambda: sum(event.get("repeats", 1) for event in mount.events(pid=pid, operation="truncate")) == 300,
        "all 300 are accounted for",
    )
    assert len(mount.events(pid=pid, operation="truncate")) < 20


# ---------------------------------------------------------------- names that attack the reader


EVIL = (
    b"red \x1b[31m.txt", b'new\nline {"type":"event"}', b"bell\x07\x08\x7f", b"\xff\xfe not utf-8",
    "\u202egpj.exe".encode(), "\u2028sep\u2029".encode(), b"\x9b31m", b'quote"\\back', b"\ttab\r",
)  # fmt: skip


def test_names_do_no_harm_to_who_reads(mount: Mount, work: Path) -> None:
    def make() -> None:
        for name in EVIL:
            os.mkdir(os.fsencode(work) + b"/" + name)

    pid, said = _as(ALL, make)
    assert said == "None"
    events = events_of(mount, pid, len(EVIL), operation="mkdir")
    exact = [
        base64.b64decode(event["path_b64"]) if "path_b64" in event else event["path"].encode()
        for event in events
    ]
    assert exact == [b"/work/" + name for name in EVIL]
    with mount.as_environment():
        for arguments in (
            ("search", "-n", "40"), ("search", "--json", "-n", "40"), ("search", "--op", "mkdir"),
            ("summary",),
            ("show", events_id(mount, events[0])),
        ):  # fmt: skip
            said_by = policyfs("audit", *arguments)
            assert said_by.returncode == 0, said_by
            text = said_by.stdout + said_by.stderr
            assert all(character.isprintable() or character == "\n" for character in text), arguments
    for segment in mount.trail_dir.glob("*.jsonl"):
        assert all(32 <= byte < 127 or byte == 10 for byte in segment.read_bytes())


def events_id(mount: Mount, event: dict[str, Any]) -> str:
    """The ID of a record, as `audit show` takes it."""
    return f"{mount.trail_dir.name[:8]}:{event['seq']}"


def test_searching_the_trail_of_a_mount(mount: Mount, work: Path) -> None:
    pid, _ = _as(GALLERY, lambda: [error(os.mkdir, work / "no"), error(content, str(work / "file"))])
    events_of(mount, pid, 2)
    with mount.as_environment():
        for arguments, wanted in (
            (("--app", "gallery", "--decision", "deny", "--op", "mkdir"), 1),
            (("--uid", str(GALLERY), "--path", "/work/no"), 1),
            (("--path", "no", "--since", "10m", "--app", "gallery"), 1),
            (("--app", "gallery", "--rule", "no-place", "--path", "/work/**", "--op", "open"), 1),
        ):
            said = policyfs("audit", "search", "--json", *arguments)
            mine = [line for line in said.stdout.splitlines() if f'"pid":{pid},' in line.replace(" ", "")]
            assert (said.returncode, len(mine)) == (0, wanted), (arguments, said)
        assert policyfs("audit", "search", "--app", "nobody").returncode == 2


# ---------------------------------------------------------------- no record, no access


FULL = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: full}
apps:
  all: {uid: 10010}
rules:
  - {id: most, allow: [all], who: {app: all}, paths: ["/", "/best/***"], audit: best_effort}
  - {id: strict, allow: [all], who: {app: all}, paths: "/strict/***", audit: required}
"""


@pytest.fixture
def tight(mounts: Mounts, arena: Path) -> Iterator[tuple[Mount, Path]]:
    """A mount whose trail lies on a disk of 64 MiB, and a file on it to fill the disk with."""
    disk = arena / "disk"
    disk.mkdir()
    with file_system("tmpfs", disk) as root:
        store = arena / "store"
        store.mkdir(mode=0o700)
        for place in ("strict", "best"):
            (store / place).mkdir()
            (store / place / "file").write_text("text\n")
        mount = mounts.prepare(FULL, store)
        mount.trail = root / "trail"
        mount.environment["POLICYFS_TRAIL_DIR"] = str(mount.trail)
        mount.start()
        yield mount, root / "ballast"
        assert mount.stop() == []


def _fill_up(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            while True:
                try:
                    file.write(b"\0" * size)
                except OSError:
                    break


STRICT_CALLS: dict[str, Callable[[Path], object]] = {
    "open": lambda d: _open_close(d / "file", os.O_RDONLY),
    "empty": lambda d: _open_close(d / "file", os.O_WRONLY | os.O_TRUNC),
    "create": lambda d: _open_close(d / "new", os.O_WRONLY | os.O_CREAT),
    "mkdir": lambda d: os.mkdir(d / "new"),
    "mknod": lambda d: os.mknod(d / "new"),
    "symlink": lambda d: os.symlink("x", d / "new"),
    "link": lambda d: os.link(d / "file", d / "new"),
    "rename": lambda d: os.rename(d / "file", d / "new"),
    "unlink": lambda d: os.unlink(d / "file"),
    "list": os.listdir,
    "truncate": lambda d: os.truncate(d / "file", 0),
    "chmod": lambda d: os.chmod(d / "file", 0o777),
    "setxattr": lambda d: os.setxattr(d / "file", "user.a", b""),
}


def _all_of(directory: Path, calls: dict[str, Callable[[Path], object]]) -> dict[str, str]:
    return {name: attempt(lambda call=call: call(directory)).error for name, call in calls.items()}


def _until_refused(path: Path) -> None:
    for _ in range(100):
        if error(_open_close, path, os.O_RDONLY) == "EIO":
            return
    raise AssertionError("a hundred opens had room")


def test_what_must_be_on_record_and_cannot_be_does_not_happen(tight: tuple[Mount, Path]) -> None:
    """Fault trail.1: No room for the trail
    App: EIO for requests that must be on record: the daemon does not carry them out. All other requests
    continue
    Store: unchanged
    Trail: a `gap` with the number of missing events, once there is room
    Also: tests/unit/test_journal_journal_full.py::test_recording_resumes_with_a_gap_once_there_is_room
    """
    mount, ballast = tight
    assert set(call_as(10010, _all_of, mount / "best", {"open": STRICT_CALLS["open"]}).values()) == {""}
    _fill_up(ballast)
    call_as(10010, _until_refused, mount / "strict/file")  # the last page of the segment has room for some
    before = {path: path.lstat().st_mode for path in (mount.store / "strict").rglob("*")}
    assert call_as(10010, _all_of, mount / "strict", STRICT_CALLS) == dict.fromkeys(STRICT_CALLS, "EIO")
    # A denial is required too, and refused all the same.
    assert call_as(STRANGER, lambda: error(os.stat, mount / "best")) in {"ENOENT", "EIO"}
    assert {path: path.lstat().st_mode for path in (mount.store / "strict").rglob("*")} == before
    assert (mount.store / "strict/file").read_text() == "text\n"
    assert (mount.store / "strict/file").stat().st_nlink == 1
    # Best effort goes on, and counts.
    assert set(call_as(10010, _all_of, mount / "best", STRICT_CALLS).values()) <= {"", "EEXIST", "ENOENT"}
    assert (mount.store / "best/new").exists() or (mount.store / "best/file").exists()
    status = wait_for(lambda: s if (s := mount.status())["trail"]["failing"] else None, "status says so")
    assert status["trail"]["last_error"]
    assert status["bugs"] == 0
    wait_for(lambda: mount.notices("trail-failing") == ["warning"], "an administrator is told")
    # There is room again: it goes on by itself, and says what is missing.
    ballast.unlink()
    wait_for(lambda: call_as(10010, lambda: error(os.listdir, mount / "strict")) != "EIO", "room again")
    assert call_as(10010, lambda: error(os.mkdir, mount / "strict/after")) == "None"
    assert not mount.status()["trail"]["failing"]
    wait_for(lambda: mount.notices("trail-failing")[-1] == "info", "that it is over")
    gaps = wait_for(lambda: mount.events(type="gap"), "a gap is on record")
    assert sum(gap.get("refused", 0) for gap in gaps) >= len(STRICT_CALLS)
    with mount.as_environment():
        assert policyfs("audit", "verify").returncode == 0
    strict = [event for event in mount.events(decision="allow", type="event") if "/strict" in event["path"]]
    assert {event["operation"] for event in strict} <= {"open", "list", "mkdir"}


def test_umount_says_what_will_not_be_on_record(tight: tuple[Mount, Path]) -> None:
    mount, ballast = tight
    _fill_up(ballast)
    call_as(10010, _until_refused, mount / "strict/file")
    with mount.as_environment():
        ended = policyfs("umount", str(mount.mountpoint))
    assert ended.returncode == 0
    assert "cannot be written" in ended.stderr
    assert "refused requests are not on record" in ended.stderr


# ---------------------------------------------------------------- restarts and rotation


def _make_many(directory: Path, count: int) -> None:
    for number in range(count):
        os.mkdir(directory / f"d{number}")


def test_a_killed_daemon_loses_nothing_that_was_required(
    mounts: Mounts, arena: Path, empty_store: Path
) -> None:
    (empty_store / "strict").mkdir()
    mount = mounts.start(FULL, empty_store)
    call_as(10010, _make_many, mount / "strict", 50)
    mount.start_after_kill()
    call_as(10010, lambda: os.mkdir(mount / "strict/again"))
    made = [event["path"] for event in mount.events(operation="mkdir", decision="allow")]
    assert made == [*(f"/strict/d{number}" for number in range(50)), "/strict/again"]
    kinds = [event["type"] for event in mount.events() if event["type"] not in {"event", "others", "mount"}]
    assert kinds[:2] == ["header", "resume"] or kinds.count("header") == 2
    assert mount.status()["trail"]["last_end"] == NOT_CLOSED
    wait_for(lambda: NOT_CLOSED in mount.log.read_text(), "the daemon's log says it, too")
    with mount.as_environment():
        assert NOT_CLOSED in policyfs("status", mount.mountpoint).stdout
        assert policyfs("audit", "verify").returncode == 0


def test_segments_turn_over_and_the_chain_holds(mounts: Mounts, empty_store: Path) -> None:
    (empty_store / "strict").mkdir()
    mount = mounts.start(FULL, empty_store, "--trail-segment", "64K", "--trail-keep", "3")
    call_as(10010, _make_many, mount / "strict", 600)
    wait_for(lambda: 2 <= len(list(mount.trail_dir.glob("*.jsonl"))) <= 4, "old segments are removed")
    segments = sorted(mount.trail_dir.glob("*.jsonl"))
    assert all(segment.stat().st_size < 80 << 10 for segment in segments)
    assert stat.S_IMODE(mount.trail_dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(segment.stat().st_mode) for segment in segments} == {0o600}
    with mount.as_environment():
        said = policyfs("audit", "verify")
    assert said.returncode == 0, said
    assert mount.events(type="pruned")


def test_the_trail_of_all_this_is_whole(mount: Mount) -> None:
    """After whatever was done above: verify finds every line, and a changed one."""
    call_as(ALL, os.mkdir, mount / "work/genuine")
    wait_for(lambda: mount.status()["trail"]["queued"] == 0, "nothing waits to be written")
    with mount.as_environment():
        said = policyfs("audit", "verify")
        assert said.returncode == 0, said
    assert mount.status()["trail"]["dropped"] == 0
    copy = mount.trail.parent / "copy"
    shutil.copytree(mount.trail, copy)
    segment = max((copy / mount.trail_dir.name).glob("*.jsonl"))
    genuine = segment.read_bytes()
    assert b"/work/genuine" in genuine
    segment.write_bytes(genuine.replace(b"/work/genuine", b"/work/9enuine", 1))
    assert policyfs("audit", "verify", "--trail", str(copy)).returncode == 1


def test_tail_follows(mount: Mount, work: Path) -> None:
    with mount.as_environment():
        follower = subprocess.Popen(
            [sys.executable, "-m", "policyfs.cli.main", "audit", "search", "-f", "-n", "1", "--json"],
            stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
    assert follower.stdout is not None
    try:
        follower.stdout.readline()
        pid, _ = _as(ALL, lambda: os.mkdir(work / "followed"))
        for line in follower.stdout:
            if "/work/followed" in line and str(pid) in line:
                break
    finally:
        follower.send_signal(signal.SIGINT)
        assert follower.wait(10) == 0
        follower.stdout.close()


def test_what_programs_try_again_is_one_row_of_a_listing(mount: Mount, arena: Path) -> None:
    unknown = mount.store / "quiet/unknown.bin"
    unknown.write_bytes(b"\x7fELF" + bytes(range(256)))
    path = mount / "quiet/unknown.bin"
    for words in (["cat", path], ["cp", path, arena / "copy"], ["dd", "status=none", f"if={path}"]):
        assert tool_as(GALLERY, *words).returncode != 0
    with mount.as_environment():
        said = policyfs("audit", "search", "--app", "gallery", "--path", "unknown.bin")
    _, row = said.stdout.splitlines()
    assert " deny " in row
    assert "3 times until" in row
    assert "cannot be redacted" in row


BY_KIND = """
apiVersion: policyfs/v1
kind: Policy
metadata: {name: kinds}
apps: {gallery: {uid: 10011}}
rules:
  - {id: sees, allow: [see], paths: "/***"}
  - {id: photos, allow: [read, write], paths: "/***", when: {type: "image/*"}}
"""


@pytest.mark.parametrize("options", [(), ("--app", "gallery")])
def test_an_open_under_a_rule_that_knows_the_kind_records_it(
    mounts: Mounts, empty_store: Path, options: tuple[str, ...]
) -> None:
    """Also in passthrough, where the daemon shows no byte: `kind:image/jpeg` found no such open."""
    photo = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffd9")
    for name, data in (("a.jpg", photo), ("b.jpg", b"words\n")):
        (empty_store / name).write_bytes(data)
        (empty_store / name).chmod(0o666)
    mount = mounts.start(BY_KIND, empty_store, *options)

    def look() -> list[str]:
        for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY):
            os.close(os.open(mount.mountpoint / "a.jpg", flags))
        return [error(os.open, mount.mountpoint / "b.jpg", os.O_RDONLY)]

    assert call_as(10011, look) == ["EACCES"]
    wait_for(lambda: len(mount.events(operation="open")) >= 4, "four opens on record")
    opens = mount.events(operation="open")
    assert [one.get("kind") for one in opens if one["decision"] == "allow"] == ["image/jpeg"] * 3
    assert {one.get("kind") for one in opens if one["decision"] == "deny"} == {"text/plain"}

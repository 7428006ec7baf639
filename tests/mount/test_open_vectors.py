"""Opens that the bridge answers by itself: every part of the daemon sees them as any other handle."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.counts import count, first
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.open_pairs import TEXTS, OpenPair, compare
from tests.support.mount.daemons import Mount
from tests.support.mount.steps import PHOTO
from tests.support.mount.stores import Mounts

ONE, TWO = 10041, 10042
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: opens}}
apps:
  one: {{uid: {ONE}, gid: {ONE}}}
  two: {{uid: {TWO}, gid: {TWO}}}
defaults: {{audit: "off"}}
rules:
  - {{id: all, allow: [all], who: {{app: one}}}}
  - {{id: some, allow: [all], who: {{app: two}}, paths: ["/**"]}}
  - {{id: not, deny: [all], who: {{app: two}}, paths: ["/shut/***"], errno: ENOENT}}
"""
CLOSED = POLICY + '  - {id: shut, deny: [read], paths: ["/file"]}\n'
RECORDED = POLICY.replace('"off"', "best_effort")
KINDS = {"shared": (), "app": ("--app", "one")}
SEQUENCES = count(5, 3_000)
SECONDS = count(250, 3500)
AGES_S = 4.0
"""The time in which the daemon looks twice at what the bridge has open."""
READING = ("tests.support.mount.readers_on",)


@pytest.fixture
def store(empty_store: Path) -> Path:
    empty_store.chmod(0o777)
    (empty_store / "file").write_bytes(b"text")
    (empty_store / "file").chmod(0o666)
    return empty_store


@pytest.fixture(params=first(1, zip(KINDS.values())))
def mount(request: pytest.FixtureRequest, mounts: Mounts, store: Path) -> Mount:
    return begin(mounts, POLICY, store, *request.param)


def begin(
    mounts: Mounts, policy: str, store: Path, *options: str, program: tuple[str, ...] = READING
) -> Mount:
    """A mount whose readers read from the first request on."""
    mount = mounts.prepare(policy, store, "--avc", *options)
    mount.program = program or mount.program
    return mount.start()


ACTS: dict[str, Callable[[int], object]] = {
    "bytes": lambda fd: os.pread(fd, 9, 0),
    "links": lambda fd: os.fstat(fd).st_nlink,
    "size": lambda fd: os.fstat(fd).st_size,
    "fsync": os.fsync,
    "data": lambda fd: os.lseek(fd, 0, os.SEEK_DATA),
    "dup": lambda fd: os.pread(os.dup(fd), 9, 0),
    "flock": lambda fd: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
    "lockf": lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
    "xattrs": lambda fd: [name for name in os.listxattr(fd) if name.startswith("user.")],
    "chmod": lambda fd: os.fchmod(fd, 0o600),
}
ANSWERS = {
    "fsync": None, "data": 0, "size": 4, "dup": b"text", "flock": None, "lockf": None, "xattrs": [],
    "chmod": None,
}  # fmt: skip


def said(mount: Mount) -> dict[str, Any]:
    found: dict[str, Any] = mount.status()["vectors"]
    return found


def read(path: str, times: int = 1, flags: int = os.O_RDONLY) -> bytes:
    """Open, read and close a file, again and again."""
    for _ in range(times):
        fd = os.open(path, flags)
        content = os.read(fd, 100)
        os.close(fd)
    return content


READ = partial(read, times=3)


def hold(
    mount: Mount, flags: int = os.O_RDONLY, name: str = "file", *,
    warm: Callable[[str], object] = READ, acts: dict[str, Callable[[int], object]] = ACTS,
) -> Any:  # fmt: skip
    """A process that has a file open by the bridge, and does with it what it is told. warm: opens the path so
    often that the bridge opens it from then on. acts: what the process can be told."""

    def life(channel: Any) -> None:
        warm(str(mount / name))
        fd = os.open(mount / name, flags)
        channel.send("open")
        while (asked := channel.recv()) is not None:
            try:
                channel.send(acts[asked](fd))
            except OSError as error:
                channel.send(error.errno)
        os.close(fd)

    child = start_as(ONE, life)
    assert child.receive() == "open"
    return child


def ask(child: Any, act: str) -> Any:
    """The answer to one of ACTS, or its errno."""
    child.send(act)
    return child.receive()


def end(child: Any) -> None:
    child.send(None)
    child.result()


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("app_mount", first(1, [(False,), (True,)]))
def test_calls_on_open_files_come_to_the_same_with_and_without(arena: Path, app_mount: bool) -> None:
    with file_system("tmpfs", arena) as disk:
        mounts = Mounts(arena)
        try:
            for number, options in enumerate(((), ("--no-avc",))):
                store = disk / f"store-{number}"
                store.mkdir(mode=0o700)
                mount = mounts.prepare(TEXTS[0], store, *options, *(("--app", "one") if app_mount else ()))
                mount.program = mount.program if options else READING
                mount.expected_mediated = True
                mount.start()
            with contextlib.closing(OpenPair(mounts.all, (0,) if app_mount else (0, 1, 2), 4)) as pair:
                compare(pair, SEQUENCES, 60)
                now = said(mounts.all[0])
                assert now["opens"] > 10 * SEQUENCES, now
                assert now["releases"] > 5 * SEQUENCES, now
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong
        ours, theirs = pair.trails()
        assert ours == theirs


def test_repeats_of_an_open_and_their_releases_need_no_python(mount: Mount) -> None:
    assert call_as(ONE, read, str(mount / "file"), 200) == b"text"
    now = said(mount)
    assert now["opens"] >= 190, now
    assert now["releases"] >= 190, now
    assert now["lost"] == 0
    assert mount.fuse("OPEN") == 200


REDACTED = POLICY + '  - {id: clean, require: {redact: location}, who: {app: two}, paths: ["/own/*"]}\n'


def test_an_app_whose_opens_are_tried_again_leaves_those_of_others_in_the_bridge(
    mounts: Mounts, store: Path
) -> None:
    """A file of its own: to read it and to write it, the app gets different nodes, so ESTALE between."""
    mount = begin(mounts, REDACTED, store)
    (store / "own").mkdir(mode=0o777)
    (store / "own").chmod(0o777)

    def restless() -> None:
        path = mount / "own/mine.jpg"
        path.write_bytes(PHOTO)
        for _ in range(60):
            path.read_bytes()
            path.write_bytes(PHOTO)

    call_as(ONE, read, str(mount / "file"), 5)
    dropped, opens = said(mount)["dropped"], said(mount)["opens"]
    call_as(TWO, restless)
    call_as(ONE, read, str(mount / "file"), 5)
    assert said(mount)["dropped"] - dropped > 20, "the app did not cause what this is about"
    assert said(mount)["opens"] - opens == 5


def test_recorded_opens_need_python_no_more_than_others(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, RECORDED, store, "--app", "one")
    many = 2_560  # 20 times the places for events; the daemon flushes its trail every 0.1 s, too
    asked = []
    while len(asked) < 20 and min(asked, default=many) > 8:  # where the daemon has a processor
        before = said(mount)["opens"]
        call_as(ONE, read, str(mount / "file"), many)
        asked.append(many - (said(mount)["opens"] - before))
    assert min(asked) <= 8, asked


def test_an_open_handle_is_in_the_status(mount: Mount) -> None:
    child = hold(mount)
    assert said(mount)["opens"] > 0
    assert mount.status()["handles"]["files"] == 1
    assert said(mount)["handles"] == 1, "a look leaves it to the bridge"
    assert ask(child, "bytes") == b"text"
    end(child)
    wait_for(lambda: mount.status()["handles"]["files"] == 0, "its release is seen")


def test_a_handle_that_stays_open_stays_in_the_bridge(mount: Mount) -> None:
    child = hold(mount)
    for _ in range(round(8 * AGES_S)):
        (mount.store / "another").touch()  # a daemon without work rests
        time.sleep(0.25)
    assert said(mount)["handles"] == 1
    assert ask(child, "bytes") == b"text"
    assert mount.status()["handles"]["files"] == 1
    end(child)


def test_many_handles_that_stay_open_make_room_for_others(mount: Mount) -> None:
    """Python then counts them in the app's share."""

    def life(channel: Any) -> None:
        READ(str(mount / "file"))
        fds = [os.open(mount / "file", os.O_RDONLY) for _ in range(600)]
        channel.send(len(fds))
        channel.recv()

    child = start_as(ONE, life)
    assert child.receive() == 600
    for _ in range(round(8 * AGES_S)):
        (mount.store / "another").touch()
        time.sleep(0.25)
    assert said(mount)["handles"] <= 128 * min(4, len(os.sched_getaffinity(0)))  # half a reader's room
    assert mount.status()["handles"]["files"] == 600
    child.send("end")
    child.result()


def test_other_calls_find_the_handle(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, POLICY, store)
    for act, answer in ANSWERS.items():
        file = store / act
        file.write_bytes(b"text")
        file.chmod(0o666)
        os.chown(file, ONE, ONE)
        before = said(mount)["opens"]
        child = hold(mount, name=act)
        assert ask(child, act) == answer, act
        assert said(mount)["opens"] > before, act
        end(child)
        wait_for(lambda: mount.status()["handles"]["files"] == 0, "its release is seen")


def test_locks_end_with_their_handles(mount: Mount) -> None:
    first, second = hold(mount), hold(mount)
    assert ask(first, "flock") is None
    assert ask(second, "flock") == errno.EAGAIN
    end(first)
    assert ask(second, "flock") is None
    end(second)
    assert said(mount)["opens"] > 0


@pytest.mark.parametrize("in_store", [False, True], ids=["through the mount", "in the store"])
def test_an_unlinked_file_stays_readable_until_it_is_closed(mount: Mount, in_store: bool) -> None:
    child = hold(mount)
    if in_store:
        (mount.store / "file").unlink()
    else:
        call_as(ONE, os.unlink, mount / "file")
    assert ask(child, "bytes") == b"text"
    wait_for(lambda: ask(child, "links") == 0, "its name is gone")
    assert ask(child, "size") == 4
    end(child)
    wait_for(lambda: mount.status()["backing_ids"] == 0, "its space is free", 1.0 if not in_store else 3.0)


def test_the_space_of_a_removed_file_is_free_at_once(mount: Mount) -> None:
    assert freed_at_once(mount)
    assert said(mount)["opens"] > 0


def freed_at_once(mount: Mount) -> bool:
    """True if the kernel holds nothing of a file after its last name was removed. A process keeps it as a
    path, so that the kernel does not forget the node by itself."""

    def life(channel: Any) -> None:
        read(str(mount / "file"), 20)
        fd = os.open(mount / "file", os.O_PATH)
        os.unlink(mount / "file")
        channel.send("gone")
        channel.recv()
        os.close(fd)

    child = start_as(ONE, life)
    child.receive()
    left = mount.status()["backing_ids"]
    child.send("end")
    child.result()
    return bool(left == 0)


def answered_beside_a_writer(mount: Mount) -> int:
    """The number of opens that the bridge answers while a writer has the file open."""
    call_as(ONE, read, str(mount / "file"), 20)
    writer = start_as(ONE, _write)
    writer.send(str(mount / "file"))
    assert writer.receive() == "open"
    before = said(mount)["opens"]
    assert before > 0
    assert call_as(ONE, read, str(mount / "file"), 20) == b"TEXT"
    count: int = said(mount)["opens"] - before
    writer.send("close")
    writer.result()
    return count


def _write(channel: Any) -> None:
    fd = os.open(channel.recv(), os.O_WRONLY)
    os.pwrite(fd, b"TEXT", 0)
    channel.send("open")
    channel.recv()
    os.close(fd)


def test_no_open_is_answered_beside_a_writer(mount: Mount) -> None:
    assert answered_beside_a_writer(mount) == 0
    call_as(ONE, read, str(mount / "file"), 20)
    wait_for(lambda: _grows(mount), "opens are answered again")


def _grows(mount: Mount) -> bool:
    before = said(mount)["opens"]
    call_as(ONE, read, str(mount / "file"), 20)
    return bool(said(mount)["opens"] > before)


def test_a_reload_ends_them_and_finds_what_is_open(mount: Mount) -> None:
    child = hold(mount)
    mount.policy.write_text(CLOSED)
    assert mount.reload().returncode == 0
    stale = mount.status()["stale_handles"]
    assert (stale["count"], stale["apps"]) == (1, {"one": 1})
    assert stale["files"][0]["path"] == "/file"
    with pytest.raises(PermissionError):
        call_as(ONE, read, str(mount / "file"))
    end(child)
    wait_for(lambda: mount.status()["stale_handles"]["count"] == 0, "it is closed")


def test_a_file_that_takes_the_name_is_another_file(mount: Mount) -> None:
    assert call_as(ONE, read, str(mount / "file"), 20) == b"text"
    (mount.store / "new").write_bytes(b"other")
    (mount.store / "new").chmod(0o666)
    (mount.store / "new").rename(mount.store / "file")
    wait_for(lambda: call_as(ONE, read, str(mount / "file")) == b"other", "it is seen")
    assert call_as(ONE, read, str(mount / "file"), 20) == b"other"


def test_other_flags_uids_and_gids_are_decided(mounts: Mounts, store: Path) -> None:
    (store / "shut").mkdir(mode=0o777)
    (store / "shut").chmod(0o777)
    (store / "shut/file").write_bytes(b"text")
    mount = begin(mounts, POLICY, store)
    path = str(mount / "shut/file")
    call_as(ONE, read, path, 20)
    before = said(mount)["opens"]
    assert before > 0
    with pytest.raises(FileNotFoundError):
        call_as(TWO, read, path)
    for flags in (os.O_RDONLY | os.O_TRUNC, os.O_RDONLY | os.O_DIRECT, os.O_RDONLY | os.O_APPEND):
        (store / "shut/file").chmod(0o666)
        call_as(ONE, _opened, path, flags)
        assert said(mount)["opens"] == before
    call_as(ONE, read, path, 2)
    before = said(mount)["opens"]
    call_as(ONE, read, path, 20, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    assert said(mount)["opens"] >= before + 19


def _opened(path: str, flags: int) -> None:
    os.close(os.open(path, flags))


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_each_recorded_open_is_on_the_trail_once(
    mounts: Mounts, store: Path, options: tuple[str, ...]
) -> None:
    mount = begin(mounts, RECORDED, store, *options)
    program = os.readlink("/proc/self/exe")
    pids = [call_as(ONE, _read_often, str(mount / "file"), 300) for _ in range(2)]
    assert said(mount)["opens"] > 500, said(mount)
    events = opens_on_trail(mount, 600)
    assert [event["pid"] for event in events] == [pids[0]] * 300 + [pids[1]] * 300
    assert len({event["handle"] for event in events}) == 600
    times = [event["time"] for event in events]
    assert times == sorted(times)
    for event in events:
        assert (event["path"], event["uid"], event["gid"], event["app"]) == ("/file", ONE, ONE, "one")
        assert (event["exe"], event["syscall"], event["io"]) == (program, "open(O_RDONLY)", "passthrough")
        assert (event["decision"], event["rules"], event["size_before"]) == ("allow", ["all"], 4)


def _read_often(path: str, times: int) -> int:
    read(path, times)
    return os.getpid()


def opens_on_trail(mount: Mount, count: int) -> list[dict[str, Any]]:
    """The opens on the trail, once there are so many; no more come."""
    wait_for(lambda: len(mount.events(operation="open")) >= count, f"{count} opens are on the trail", 10.0)
    time.sleep(0.3)
    events = mount.events(operation="open")
    assert len(events) == count
    return events


def test_a_recorded_open_differs_in_nothing_from_the_one_that_python_answered(
    mounts: Mounts, store: Path
) -> None:
    mount = begin(mounts, RECORDED, store)
    call_as(ONE, read, str(mount / "file"), 50)
    events = [
        {name: value for name, value in event.items() if name not in {"time", "handle", "seq", "chain"}}
        for event in opens_on_trail(mount, 50)
    ]
    assert said(mount)["opens"] > 30
    assert all(event == events[0] for event in events), (events[0], events[-1])


def test_what_must_be_on_record_goes_to_python(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, POLICY.replace('"off"', "required"), store)
    call_as(ONE, read, str(mount / "file"), 20)
    assert said(mount)["opens"] == 0
    assert len(opens_on_trail(mount, 20)) == 20


def test_recorded_opens_are_in_their_place_among_other_events(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, RECORDED, store)
    call_as(ONE, read, str(mount / "file"), 4)
    call_as(ONE, _in_turn, str(mount.mountpoint), 30)
    assert said(mount)["opens"] > 60
    opens_on_trail(mount, 4 + 90)
    made = [
        event["operation"] for event in mount.events() if event.get("operation") in {"open", "mkdir"}
    ]  # fmt: skip
    assert made[4:] == ["open", "open", "open", "mkdir"] * 30


def _in_turn(directory: str, times: int) -> None:
    for number in range(times):
        read(f"{directory}/file", 3)
        os.mkdir(f"{directory}/d{number}")


def test_recorded_opens_have_the_path_and_the_policy_of_their_time(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, RECORDED, store)
    directory = mount.mountpoint

    def opens(name: str) -> None:
        before = said(mount)["opens"]
        call_as(ONE, read, str(directory / name), 20)
        assert said(mount)["opens"] > before

    opens("file")
    call_as(ONE, os.rename, directory / "file", directory / "other")
    opens("other")
    mount.policy.write_text(RECORDED.replace("id: all,", "id: every,"))
    assert mount.reload().returncode == 0
    opens("other")
    found = [(event["path"], *event["rules"]) for event in opens_on_trail(mount, 60)]
    assert found == [("/file", "all")] * 20 + [("/other", "all")] * 20 + [("/other", "every")] * 20


def test_more_opens_than_the_bridge_has_room_for_are_all_on_the_trail(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, RECORDED, store)
    for name in "abcd":
        (store / name).write_bytes(b"x")
        (store / name).chmod(0o644)
    crowd = [start_as(ONE, _crowd) for _ in range(4)]
    for child, name in zip(crowd, "abcd", strict=True):
        child.send((str(mount / name), 1500))
    for child in crowd:
        child.result()
    wait_for(lambda: _weight(mount) >= 6000, "all are on the trail", 20.0)
    assert _weight(mount) == 6000
    assert said(mount)["opens"] > 1000, said(mount)


def _crowd(channel: Any) -> None:
    read(*channel.recv())


def _weight(mount: Mount) -> int:
    """The number of opens on the trail, with those that were counted together."""
    return sum(event.get("repeats") or 1 for event in mount.events(operation="open"))


def test_recorded_opens_outlive_the_daemon(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, RECORDED, store)
    call_as(ONE, read, str(mount / "file"), 40)
    assert said(mount)["opens"] > 20
    mount.stop()
    assert len(mount.events(operation="open")) == 40


def test_in_an_app_mount_only_opens_are_answered(mounts: Mounts, store: Path) -> None:
    mount = begin(mounts, POLICY, store, "--app", "one")
    for _ in range(20):
        call_as(ONE, os.stat, mount / "file")
        call_as(ONE, os.access, mount / "file", os.R_OK)
    call_as(ONE, read, str(mount / "file"), 20)
    now = said(mount)
    assert (now["lookups"], now["getattrs"], now["accesses"]) == (0, 0, 0)
    assert now["opens"] > 0


def test_a_mapping_outlives_its_handle(mount: Mount) -> None:
    def life(channel: Any) -> bytes:
        read(str(mount / "file"), 3)
        fd = os.open(mount / "file", os.O_RDONLY)
        mapped = mmap.mmap(fd, 4, prot=mmap.PROT_READ)
        os.close(fd)
        channel.send("mapped")
        channel.recv()
        return bytes(mapped)

    child = start_as(ONE, life)
    child.receive()
    assert mount.status()["handles"]["files"] == 1, "the kernel releases it with the mapping"
    call_as(ONE, os.unlink, mount / "file")
    child.send("look")
    assert child.result() == b"text"


MANY = [f"f{number}" for number in range(600)]


@pytest.fixture
def many(store: Path) -> Path:
    for name in MANY:
        (store / name).write_bytes(b"x")
        (store / name).chmod(0o644)
    return store


def test_many_files_in_turn_are_kept_for_a_while(mounts: Mounts, many: Path) -> None:
    mount = begin(mounts, POLICY, many)
    for _ in range(2):  # the bridge answers from the third open on
        call_as(ONE, _each, str(mount.mountpoint), MANY)

    def answered_later() -> bool:
        """In a raw directory an id ends with its first release, and is kept from the second open on."""
        time.sleep(2)
        before, kept = said(mount)["opens"], mount.status()["backing_ids"]
        call_as(ONE, _each, str(mount.mountpoint), MANY)
        return bool(said(mount)["opens"] - before == kept == len(MANY))

    # Python has to answer what comes while the table changes, as it does for a moment every two seconds.
    wait_for(answered_later, "two seconds later the bridge has each id, and answers each open", 30)
    assert mount.status()["backing_ids"] == len(MANY)
    for name in MANY[:300]:
        (mount.store / name).unlink()
    wait_for(lambda: mount.status()["backing_ids"] == 300, "removed files take no space", 5.0)
    assert mount.reload().returncode == 0
    wait_for(lambda: mount.status()["backing_ids"] == 0, "a reload ends all", 5.0)


@pytest.mark.parametrize("kind", first(1, zip(KINDS.values())), ids=KINDS)
def test_ids_that_are_not_used_are_given_back(mounts: Mounts, many: Path, kind: tuple[str, ...]) -> None:
    mount = begin(mounts, POLICY, many, *kind, program=("tests.support.mount.short_ages",))
    for _ in range(4):
        call_as(ONE, _each, str(mount.mountpoint), MANY)
    assert said(mount)["opens"] > len(MANY), said(mount)
    held = call_as(ONE, _all_at_once, str(mount.mountpoint), MANY)
    assert held == len(MANY)
    call_as(ONE, read, str(mount / "file"), 200)
    wait_for(lambda: mount.status()["backing_ids"] == 0, "all ids are given back", 10.0)


def _each(directory: str, names: list[str]) -> None:
    for name in names:
        read(f"{directory}/{name}")


def _all_at_once(directory: str, names: list[str]) -> int:
    fds = [os.open(f"{directory}/{name}", os.O_RDONLY) for name in names]
    for fd in fds:
        os.close(fd)
    return len(fds)

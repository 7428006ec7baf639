"""Files in directories where one decision holds for every name: the bridge looks them up, and opens them for
the first time, by itself. Each change of the decision, and each change elsewhere, counts at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import select
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.counts import count
from tests.support.machine.images import file_system
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.open_pairs import TEXTS, OpenPair
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

ONE = 10041
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: tree}}
apps: {{one: {{uid: {ONE}, gid: {ONE}}}}}
defaults: {{audit: best_effort}}
rules:
  - {{id: all, allow: [all], who: {{app: one}}}}
  - {{id: shut, deny: [all], paths: ["/shut/***", "/*/secret"], errno: ENOENT}}
  - {{id: kept, deny: [write], paths: ["/kept/*.txt"]}}
"""
WIDE = POLICY[: POLICY.index("  - {id: shut")]
CLOSED = POLICY + '  - {id: closed, deny: [read], paths: ["/d/**"]}\n'
FILES = 20
RAW = (TEXTS[0], TEXTS[len(TEXTS) // 2])
"""Policies with the same rules; by the second one, opens are on record."""
SEQUENCES = count(4, 2_000)
SECONDS = count(120, 3_500)
AGE_S = 8
Named = Callable[[str], Any]


@pytest.fixture
def store(empty_store: Path) -> Path:
    empty_store.chmod(0o777)
    for directory in ("d", "e", "kept", "shut"):
        (empty_store / directory).mkdir(mode=0o777)
        (empty_store / directory).chmod(0o777)
        for number in range(FILES):
            (empty_store / directory / f"f{number}").write_text(f"{directory}{number}")
            (empty_store / directory / f"f{number}").chmod(0o666)
    (empty_store / "d" / "secret").write_text("hidden")
    return empty_store


@pytest.fixture
def mount(mounts: Mounts, store: Path) -> Mount:
    return mounts.prepare(POLICY, store, "--app", "one").start()


def said(mount: Mount) -> dict[str, Any]:
    found: dict[str, Any] = mount.status()["vectors"]
    return found


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def read_all(directory: str) -> list[bytes]:
    return [read(f"{directory}/f{number}") for number in range(FILES)]


def listed(directory: str) -> dict[str, int]:
    return {entry.name: entry.stat().st_size for entry in os.scandir(directory)}


def refusal(do: Callable[[], object]) -> int | None:
    try:
        do()
    except OSError as error:
        return error.errno
    return None


def walk(root: str) -> int:
    """Read all files below a directory for the first time, as find(1) and md5sum(1) do."""
    files = [os.path.join(above, name) for above, _, names in os.walk(root) for name in names]
    return len([read(path) for path in files])


def test_first_look_ups_and_opens_need_no_python(mount: Mount) -> None:
    assert call_as(ONE, read_all, str(mount / "d")) == [f"d{number}".encode() for number in range(FILES)]
    first = said(mount)
    assert first["lookups"] >= FILES - 2, first
    assert first["opens"] >= FILES - 2, first
    assert first["releases"] >= FILES - 3, first
    assert call_as(ONE, walk, str(mount / "e")) == FILES  # listed first, so that there is no LOOKUP
    then = said(mount)
    assert then["opens"] - first["opens"] == FILES, then
    assert then["lost"] == 0
    assert call_as(ONE, walk, str(mount / "kept")) == FILES  # one decision on reading for all names


def make(directory: str) -> None:
    os.mkdir(directory)
    for number in range(FILES):
        Path(directory, f"{number}").write_text("new")


def test_new_files_need_python_neither_for_their_names_nor_for_capabilities(
    mounts: Mounts, store: Path
) -> None:
    mount = mounts.prepare(WIDE, store, "--app", "one").start()
    call_as(ONE, make, str(mount / "d/new"))
    found = said(mount)
    assert (found["absences"], found["getxattrs"]) == (FILES - 1, FILES), found


def test_an_absent_name_is_asked_for_twice_until_it_comes(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(WIDE, store, "--app", "one").start()
    call_as(ONE, listed, str(mount / "d"))
    stat, before = partial(os.stat, mount / "d/none"), mount.fuse_counters()["LOOKUP"]
    assert [call_as(ONE, refusal, stat) for _ in range(4)] == [errno.ENOENT] * 4
    assert (said(mount)["absences"], mount.fuse_counters()["LOOKUP"] - before) == (1, 2)
    (store / "d/none").write_text("here")
    wait_for(lambda: call_as(ONE, refusal, stat) is None, "it is there")


def test_absent_names_beside_hidden_ones_take_as_long_as_these(mount: Mount) -> None:
    call_as(ONE, listed, str(mount / "d"))
    for name in ("none", "secret") * 2:
        assert call_as(ONE, refusal, partial(os.stat, mount / "d" / name)) == errno.ENOENT
    assert said(mount)["absences"] == 0


def test_each_first_open_is_on_record(mount: Mount) -> None:
    call_as(ONE, read_all, str(mount / "d"))
    call_as(ONE, walk, str(mount / "e"))
    mount.stop()
    opened = mount.events(operation="open")
    expected = [f"/{directory}/f{number}" for directory in "de" for number in range(FILES)]
    assert sorted(event["path"] for event in opened) == sorted(expected)
    assert {(event["app"], event["uid"], event["io"], event["size_before"] > 1) for event in opened} == {
        ("one", ONE, "passthrough", True)
    }
    assert len({event["handle"] for event in opened}) == len(opened)


def test_a_hidden_name_among_them_stays_hidden(mount: Mount) -> None:
    assert sorted(call_as(ONE, listed, str(mount / "d"))) == sorted(f"f{number}" for number in range(FILES))
    call_as(ONE, read_all, str(mount / "d"))
    assert call_as(ONE, refusal, lambda: read(str(mount / "d/secret"))) == errno.ENOENT
    assert call_as(ONE, refusal, lambda: os.stat(mount / "shut/f1")) == errno.ENOENT


def test_a_reload_ends_it(mount: Mount) -> None:
    call_as(ONE, listed, str(mount / "d"))
    call_as(ONE, read, str(mount / "d/f1"))
    mount.policy.write_text(CLOSED)
    assert mount.reload().returncode == 0
    for name in ("f1", "f2"):  # one opened before, one only known
        assert call_as(ONE, refusal, lambda name=name: read(str(mount / "d" / name))) == errno.EACCES
    assert call_as(ONE, read, str(mount / "e/f1")) == b"e1"


def _gone(mount: Mount, store: Path) -> None:
    os.unlink(mount / "d/f1")


def _replaced(mount: Mount, store: Path) -> None:
    os.rename(mount / "e/f1", mount / "d/f1")


def _moved_out_of_sight(mount: Mount, store: Path) -> None:
    (store / "d").rename(store / "shut" / "d")


def _hidden_elsewhere(mount: Mount, store: Path) -> None:
    (store / "d/f1").rename(store / "shut/moved")


def _linked_elsewhere(mount: Mount, store: Path) -> None:
    (store / "shut/linked").hardlink_to(store / "d/f1")


def _a_pipe(mount: Mount, store: Path) -> None:
    (store / "d/f1").unlink()
    os.mkfifo(store / "d/f1")


CHANGES: dict[Callable[[Mount, Path], None], tuple[bool, bytes | int]] = {
    _gone: (True, errno.ENOENT),
    _replaced: (True, b"e1"),
    _moved_out_of_sight: (False, errno.ENOENT),
    _hidden_elsewhere: (False, errno.ENOENT),
    _linked_elsewhere: (False, b"d1"),
    _a_pipe: (False, errno.ENOENT),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("warm", [listed, read_all])
def test_a_change_counts_at_once(
    mount: Mount, store: Path, change: Callable[[Mount, Path], None], warm: Named
) -> None:
    by_app, after = CHANGES[change]
    call_as(ONE, warm, str(mount / "d"))
    call_as(ONE if by_app else 0, change, mount, store)

    def answer() -> bytes | int | None:
        try:
            return call_as(ONE, read, str(mount / "d/f1"))
        except OSError as error:
            return error.errno

    wait_for(lambda: answer() == after, f"the app gets {after!r}", 10)


def hold(channel: Any, path: str) -> None:
    """Open a file, and answer with its bytes and link count until told to end."""
    fd = os.open(path, os.O_RDONLY)
    channel.send(None)
    while channel.recv() is not None:
        channel.send((os.pread(fd, 9, 0), os.fstat(fd).st_nlink))


def test_an_open_file_goes_on_when_python_takes_it_over(mount: Mount, store: Path) -> None:
    call_as(ONE, listed, str(mount / "d"))
    child = start_as(ONE, hold, str(mount / "d/f1"))
    assert child.receive() is None
    assert mount.status()["handles"]["files"] == 1
    call_as(ONE, os.unlink, str(mount / "d/f1"))
    child.send("look")
    assert child.receive() == (b"d1", 0)
    (store / "d/f1").write_text("other")
    assert call_as(ONE, read, str(mount / "d/f1")) == b"other"
    child.send("look")
    assert child.receive() == (b"d1", 0)
    child.send(None)
    child.result()
    wait_for(lambda: mount.status()["handles"]["files"] == 0, "the file is closed", 10)


def append(path: str) -> bytes:
    with open(path, "ab") as file:
        file.write(b"!")
    return read(path)


def test_files_are_written_and_read_again(mount: Mount) -> None:
    call_as(ONE, read_all, str(mount / "d"))
    assert call_as(ONE, append, str(mount / "d/f1")) == b"d1!"
    assert call_as(ONE, read, str(mount / "d/f1")) == b"d1!"
    assert call_as(ONE, listed, str(mount / "d"))["f1"] == 3
    assert call_as(ONE, refusal, lambda: append(str(mount / "kept/f1"))) is None


def test_the_kernel_forgets_the_nodes(mount: Mount) -> None:
    call_as(ONE, read_all, str(mount / "d"))
    call_as(ONE, listed, str(mount / "e"))
    assert mount.status()["nodes"] >= 2 * FILES
    Path("/proc/sys/vm/drop_caches").write_text("2")
    wait_for(lambda: mount.status()["nodes"] < FILES, "only directories are known", 10)
    assert call_as(ONE, read_all, str(mount / "d"))[1] == b"d1"


def test_beyond_the_limit_the_kernel_forgets_whole_directories(mounts: Mounts, store: Path) -> None:
    """Of other directories it would keep the listing, and look up each forgotten name in it alone."""
    mount = mounts.prepare(WIDE, store, "--app", "one", "--nodes-max", "1000").start()
    for number in range(2000):
        (directory := store / f"x{number % 20}").mkdir(mode=0o755, exist_ok=True)
        (directory / f"{number}").touch()
    for number in range(2 * 20):
        assert len(call_as(ONE, listed, str(mount / f"x{number % 20}"))) == 100
    assert mount.fuse("LOOKUP") < 700  # 1,250, if forgotten by chance


def test_no_node_has_the_number_of_an_announcement(mounts: Mounts, store: Path) -> None:
    """The kernel gives the announcer's nodes up at once, and must not give up the app's."""
    mount = mounts.prepare(POLICY, store, "--app", "one", "--inotify").start()
    wait_for(lambda: mount.status()["inotify"]["pid"], "the announcer runs")
    for directory in "de":
        call_as(ONE, listed, str(mount / directory))
    for number in range(FILES):
        (store / "e" / f"f{number}").write_text("other")
    wait_for(lambda: mount.status()["inotify"]["told"] >= 2 * FILES, "all changes are told")
    for number in range(FILES):
        assert call_as(ONE, refusal, lambda name=f"d/f{number}": os.chmod(mount / name, 0o640)) is None
    assert mount.status()["bugs"] == 0


def test_a_write_by_a_name_elsewhere_is_seen(mount: Mount, store: Path) -> None:
    """The watch does not know the other name's directory, and the kernel keeps attributes of old files."""
    (store / "shut/other").hardlink_to(store / "d/f1")
    time.sleep(AGE_S)
    for name in ("d/f1", "d/f1", "d/f2", "d/f1"):
        call_as(ONE, os.stat, mount / name)
    with (store / "shut/other").open("w") as file:
        file.write("longer than before")
    wait_for(lambda: call_as(ONE, os.stat, mount / "d/f1").st_size > 9, "the app sees the size", AGE_S / 2)


def _hold_link(channel: Any, path: str) -> None:
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    channel.send(os.fstat(fd).st_size)
    channel.recv()


def test_a_file_has_the_inode_number_of_a_symlink_that_is_still_known(arena: Path) -> None:
    with file_system("ext4", arena) as disk:
        mounts = Mounts(arena)
        (store := disk / "store").mkdir(mode=0o700)
        (store / "link").symlink_to("any")
        number = (store / "link").lstat().st_ino
        try:
            mount = mounts.prepare(WIDE, store, "--app", "one").start()
            child = start_as(ONE, _hold_link, str(mount / "link"))
            assert child.receive() == 3
            (store / "link").unlink()
            (store / "file").write_text("one")
            assert (store / "file").stat().st_ino == number
            time.sleep(AGE_S)
            assert call_as(ONE, listed, str(mount / ".")) == {"file": 3}
            with (store / "file").open("a") as file:
                file.write(" and more")
            wait_for(lambda: call_as(ONE, os.stat, mount / "file").st_size > 3, "it is seen", AGE_S / 2)
            child.send(None)
            child.result()
        finally:
            assert not mounts.stop_all()


def _reopened(path: str, flags: int) -> bytes:
    with open(path, "rb") as file:
        fd = os.open(f"/proc/self/fd/{file.fileno()}", flags)
        try:
            return os.read(fd, 9)
        finally:
            os.close(fd)


def _copied(path: str) -> bytes:
    with open(path, "rb") as source, open(path + "-copy", "w+b") as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), 9) > 0
        return os.pread(target.fileno(), 9, 0)


def _of_open(path: str, call: Callable[[int], object]) -> object:
    with open(path, "rb") as file:
        return call(file.fileno())


CALLS: dict[str, Callable[[str], object]] = {
    "chmod": lambda path: os.chmod(path, 0o600),
    "fchmod": lambda path: _of_open(path, lambda fd: os.fchmod(fd, 0o600)),
    "utime": lambda path: os.utime(path, (1, 2)),
    "truncate": lambda path: os.truncate(path, 1),
    "setxattr": lambda path: os.setxattr(path, "user.one", b"1"),
    "getxattr": lambda path: os.getxattr(path, "user.one"),
    "listxattr": os.listxattr,
    "removexattr": lambda path: os.removexattr(path, "user.one"),
    "readlink": os.readlink,
    "link": lambda path: os.link(path, path + "-link"),
    "unlink": os.unlink,
    "rename": lambda path: os.rename(path, path + "-new"),
    "rename over": lambda path: os.rename(path[:-1] + "9", path),
    "rename elsewhere": lambda path: os.rename(path, os.path.dirname(path) + "-beside/1"),
    "access": lambda path: os.access(path, os.R_OK | os.W_OK),
    "execute": lambda path: os.access(path, os.X_OK),
    "write": lambda path: Path(path).write_bytes(b"other"),
    "append": append,
    "read again": lambda path: _reopened(path, os.O_RDONLY),
    "write again": lambda path: _reopened(path, os.O_RDWR),
    "copy": _copied,
    "flags": lambda path: _of_open(path, lambda fd: len(fcntl.ioctl(fd, 0x80086601, bytes(8)))),
    "seek": lambda path: _of_open(path, lambda fd: os.lseek(fd, 0, os.SEEK_HOLE)),
    "fallocate": lambda path: _of_open(path, lambda fd: os.posix_fallocate(fd, 0, 9)),
    "fsync": lambda path: _of_open(path, os.fsync),
    "flock": lambda path: _of_open(path, lambda fd: fcntl.flock(fd, fcntl.LOCK_EX)),
    "lockf": lambda path: _of_open(path, lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH)),
    "poll": lambda path: _of_open(path, lambda fd: select.select([fd], [], [], 0)[0] == [fd]),
    "map": lambda path: _of_open(path, lambda fd: mmap.mmap(fd, 0, prot=mmap.PROT_READ)[:]),
    "statx": lambda path: subprocess.check_output(["stat", "-c", "%s %h", path]),
}  # fmt: skip


def place(root: Path) -> Path:
    """Make, for each call, a directory of the app with files of the app, and one beside it."""
    for number in range(len(CALLS)):
        for directory, names in ((root / f"{number}", "19"), (root / f"{number}-beside", "")):
            directory.mkdir(parents=True)
            os.chown(directory, ONE, ONE)
            for name in names:
                (directory / name).write_text(f"bytes {number}")
                os.chown(directory / name, ONE, ONE)
    return root


def answers(root: str, *, is_open: bool) -> dict[str, object]:
    """What each call comes to on a file that was listed before, and is open or not: a result or an error."""
    found: dict[str, object] = {}
    for number, (name, call) in enumerate(CALLS.items()):
        path = f"{root}/{number}/1"
        listed(os.path.dirname(path))
        with open(path, "rb") if is_open else contextlib.nullcontext() as file:
            try:
                found[name] = call(path)
            except OSError as error:
                found[name] = errno.errorcode[error.errno or 0]
            found[f"{name}: handle"] = (
                None if file is None else (file.read(), os.fstat(file.fileno()).st_nlink)
            )
        found[f"{name}: names"] = sorted(os.listdir(os.path.dirname(path)))
        found[f"{name}: bytes"] = read(path) if os.path.exists(path) else None
    return found


@pytest.mark.parametrize("is_open", [False, True])
def test_each_request_finds_a_node_of_the_bridge(
    mount: Mount, store: Path, arena: Path, is_open: bool
) -> None:
    native = place(arena / "native")
    place(store / "calls")
    expected = call_as(ONE, partial(answers, is_open=is_open), str(native))
    assert call_as(ONE, partial(answers, is_open=is_open), str(mount / "calls")) == expected
    assert mount.status()["bugs"] == 0


@pytest.mark.timeout(SECONDS)
def test_random_calls_come_to_the_same_with_and_without(arena: Path) -> None:
    with file_system("tmpfs", arena) as disk:
        mounts = Mounts(arena)
        try:
            for number, options in enumerate(((), ("--no-avc",))):
                store = disk / f"store-{number}"
                store.mkdir(mode=0o700)
                mount = mounts.prepare(TEXTS[0], store, *options, "--app", "one")
                mount.expected_mediated = True
                mount.start()
            with contextlib.closing(OpenPair(mounts.all, (0,), 7)) as pair:
                for number in range(SEQUENCES):
                    pair.use(RAW[number % 2])
                    pair.run(number, 60)
                pair.settle()
                found = said(mounts.all[0])
                assert found["opens"] > 5 * SEQUENCES
                assert min(found["creates"], found["setattrs"], 2 * found["unlinks"]) > SEQUENCES, found
                assert found["renames"] >= SEQUENCES // 10, found  # of four, none may be the bridge's
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong
        ours, theirs = pair.trails()
        assert ours == theirs

"""The access vector cache: its answers are those that the daemon would have given, at any moment."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.kernel.vectors import MAX_READERS
from tests.mount.test_model import world_on
from tests.support.machine.counts import count, first
from tests.support.machine.images import file_system
from tests.support.machine.namespace import forget_unused
from tests.support.machine.processes import Child, call_as, code_of, start_as, tool_as, wait_for
from tests.support.models.pairs import Pair, compare
from tests.support.models.sequence_policies import POLICIES, UIDS
from tests.support.models.sequenced import campaign
from tests.support.mount.daemons import Mount
from tests.support.mount.small_table import DIRECTORIES, SMALL
from tests.support.mount.stores import Mounts

SEQUENCES = count(60, 10_000)
PAIRS = count(2, 5_000)
SECONDS = count(200, 3500)
LENGTH = 14
BLOCK = 20
PAIRS_BLOCK = count(2, 20)
READING = ("tests.support.mount.readers_on",)


@pytest.mark.timeout(SECONDS)
def test_calls_come_to_what_policy_and_twin_say_where_repeats_are_answered(arena: Path) -> None:
    with world_on(arena, app_mount=False, options=("--avc",), program=READING) as world:
        campaign(world, 1, SEQUENCES, LENGTH, BLOCK)
        said = [mount.status()["vectors"] for mount in world.mounts]
        assert all(one["reading"] for one in said)
        # One of the mounts has fewer repeats than the other: some 60 in 60 sequences, and 99.
        assert sum(one["lookups"] for one in said) > 2 * SEQUENCES, said


@pytest.mark.timeout(SECONDS)
@pytest.mark.parametrize("app_mount", [False, True], ids=["shared mounts", "app mounts"])
def test_answers_attributes_and_trails_are_the_same_with_and_without(arena: Path, app_mount: bool) -> None:
    with file_system("tmpfs", arena) as disk:
        mounts = Mounts(arena)
        try:
            for number, options in enumerate(((), ("--no-avc",))):
                store = disk / f"store-{number}"
                store.mkdir(mode=0o700)
                mount = mounts.prepare(POLICIES[0], store, *options, *(("--app", "one") if app_mount else ()))
                mount.program = mount.program if options else READING
                mount.start()
            with contextlib.closing(Pair(mounts.all)) as pair:
                compare(pair, 1, PAIRS, 2 * LENGTH, PAIRS_BLOCK)
                said = mounts.all[0].status()["vectors"]
                if app_mount:
                    assert min(said["opendirs"], said["releasedirs"]) > 2 * PAIRS, said
                else:
                    kinds = ("lookups", "getattrs", "accesses")
                    assert min(said[kind] for kind in kinds) > 2 * PAIRS, said
                    assert said["absences"] > PAIRS // 4, said  # seldom are all names shown
                assert said["lost"] < (said["lookups"] + said["getxattrs"]) // 100, said
            mounts.assert_idle()
        finally:
            wrong = mounts.stop_all()
        assert not wrong, wrong
        ours, theirs = pair.trails()
        assert ours == theirs


def _furnish(store: Path) -> None:
    """One file, two directories below the root."""
    (store / "top/one").mkdir(parents=True)
    (store / "top/one/a").touch(0o644)
    for directory in (store / "top", store / "top/one"):
        directory.chmod(0o755)


def _stats(directory: str, count: int, name: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    for number in range(count):
        with contextlib.suppress(FileNotFoundError):
            os.stat(name or f"absent-{number}", dir_fd=fd)
    os.close(fd)


LISTED = 501
TWO_APPS = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {uid: 10011}
  notes: {uid: 10012}
rules:
  - {id: all, allow: [all], who: {app: gallery}, paths: "/***"}
  - {id: texts, allow: [see, read], who: {app: notes}, paths: "/many/*.txt"}
"""


def _look_at_each(directory: str) -> tuple[int, int]:
    """How many names are listed, and how many of all are found (as `ls -l`: each when it is read)."""
    with os.scandir(directory) as entries:
        listed = [os.lstat(entry.path) for entry in entries]
    found = 0
    for number in range(LISTED):
        with contextlib.suppress(FileNotFoundError):
            os.lstat(f"{directory}/name-{number:04}.jpg")
            found += 1
    return len(listed), found


def test_files_that_are_listed_and_looked_at_are_answered_from_the_first_time_on(
    mounts: Mounts, empty_store: Path
) -> None:
    many = empty_store / "many"
    many.mkdir()
    for number in range(LISTED):
        (many / f"name-{number:04}.jpg").touch(0o644)
    mount = mounts.start(TWO_APPS, empty_store, "--avc")
    assert call_as(10011, _look_at_each, str(mount / "many")) == (LISTED, LISTED)
    said, asked = mount.status()["vectors"], mount.fuse_counters()
    first = asked["GETATTR"] - LISTED  # the second ones are repeats in any case
    assert said["getattrs"] > LISTED + first // 2, (said, asked)
    assert call_as(10012, _look_at_each, str(mount / "many")) == (0, 0), "what one sees is no other's"
    assert call_as(10011, _look_at_each, str(mount / "many")) == (LISTED, LISTED)
    for number in range(0, LISTED, 3):
        (many / f"name-{number:04}.jpg").unlink()
    assert call_as(10011, _look_at_each, str(mount / "many")) == (LISTED - LISTED // 3,) * 2


def _found(directory: str, names: tuple[str, ...]) -> list[str]:
    """Which of these names can be looked up: each is tried twice."""
    found = []
    for name in names * 2:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(f"{directory}/{name}")
            found.append(name)
    return found


GONE = tuple(f"gone-{number}.txt" for number in range(50))


@pytest.fixture(params=first(1, [("ext4",), ("tmpfs",)]))
def many(request: pytest.FixtureRequest, arena: Path) -> Iterator[Path]:
    with file_system(request.param, arena) as disk:
        store = disk / "store"
        for directory in (store, store / "many", store / "hidden"):
            directory.mkdir(mode=0o755)
        yield store


def _looked_up(mount: Mount) -> tuple[int, int]:
    """LOOKUPs that Python has answered, and LOOKUPs of absent names that the bridge has."""
    said = mount.status()["vectors"]
    return mount.fuse_counters()["LOOKUP"] - said["lookups"] - said["absences"], said["absences"]


def test_absent_names_need_no_python_where_nothing_is_hidden(many: Path, mounts: Mounts) -> None:
    mount = mounts.start(TWO_APPS, many)
    assert call_as(10011, _found, str(mount / "many"), GONE) == []  # ext4 has to learn of them
    before, _ = _looked_up(mount)
    assert call_as(10011, _found, str(mount / "many"), GONE) == []
    by_python, by_bridge = _looked_up(mount)
    assert by_python - before <= 5
    assert by_bridge >= 2 * len(GONE)
    assert call_as(10012, _found, str(mount / "many"), GONE) == []
    assert _looked_up(mount)[1] == by_bridge, "some names are hidden from it, and time must not tell which"
    assert _looked_up(mount)[0] >= by_python + 2 * len(GONE)


HIDING = TWO_APPS + """\
  - {id: not, deny: [all], paths: ["/hidden/***", "/many/gone-1*"], errno: ENOENT}
"""


SOME_HIDDEN = {
    "an exception": """paths: "/***", unless: {path: "/many/gone-1*/***"}""",
    "a letter": """paths: ["/", "/*", "/many/*n*"]""",
    "a length": """paths: ["/", "/*", "/many/???????????*"]""",
}


@pytest.mark.parametrize("rule", SOME_HIDDEN.values(), ids=SOME_HIDDEN)
def test_absent_names_are_pythons_where_some_are_not_allowed(many: Path, mounts: Mounts, rule: str) -> None:
    start, end = TWO_APPS.index("paths:"), TWO_APPS.index("}\n", TWO_APPS.index('"/***"'))
    mount = mounts.start(TWO_APPS[:start] + rule + TWO_APPS[end:], many)
    for _ in range(4):
        assert call_as(10011, _found, str(mount / "many"), (*GONE, "x", "no", "hidden")) == []
    assert _looked_up(mount)[1] == 0


def test_a_fifth_caller_takes_the_place_of_the_first(many: Path, mounts: Mounts) -> None:
    policy = TWO_APPS.replace("{uid: 10011}", "{uid: [10011, 10021, 10022, 10023, 10024]}")
    mount = mounts.start(policy, many)
    for uid in (10011, 10021, 10022, 10023, 10024):
        for _ in range(2):
            assert call_as(uid, _found, str(mount / "many"), GONE) == []
        before = _looked_up(mount)[1]
        assert call_as(uid, _found, str(mount / "many"), GONE) == []
        # A look-up in the store without waiting may fail now and then: a rename elsewhere in the same chain
        # of the kernel's hash table is enough. Python answers then.
        assert _looked_up(mount)[1] >= before + 2 * len(GONE) - 5, uid


def test_names_that_come_and_go_are_found_at_once(many: Path, mounts: Mounts) -> None:
    mount = mounts.start(TWO_APPS, many)
    for _ in range(3):
        assert call_as(10011, _found, str(mount / "many"), GONE) == []
        assert _looked_up(mount)[1] > 0
        (many / "many" / GONE[7]).touch(0o644)
        assert call_as(10011, _found, str(mount / "many"), GONE) == [GONE[7]] * 2
        call_as(10011, os.mkdir, str(mount / "many" / GONE[8]))
        assert call_as(10011, _found, str(mount / "many"), GONE) == [GONE[7], GONE[8]] * 2
        (many / "many" / GONE[7]).unlink()
        call_as(10011, os.rmdir, str(mount / "many" / GONE[8]))


def _inside(channel: Any, directory: str) -> None:
    """One that is in the directory, and looks for names there each time that it is asked."""
    os.chdir(directory)
    while channel.recv():
        try:
            channel.send(_found(".", GONE))
        except OSError as error:
            channel.send(error.errno)


def _ask(child: Child) -> object:
    child.send(True)
    return child.receive()


@pytest.mark.parametrize("change", ["a reload", "a move in the store"])
def test_where_names_become_hidden_absent_ones_are_pythons(many: Path, mounts: Mounts, change: str) -> None:
    moved = change != "a reload"
    mount = mounts.start(HIDING if moved else TWO_APPS, many)
    place = "many/sub" if moved else "many"
    (many / place).mkdir(mode=0o755, exist_ok=True)
    child = start_as(10011, _inside, str(mount / place))
    assert [_ask(child), _ask(child)] == [[], []]
    assert _looked_up(mount)[1] > 0
    if not moved:
        mount.policy.write_text(HIDING)
        assert mount.reload().returncode == 0
    else:
        events = mount.status()["watch"]["events"]
        (many / place).rename(many / "hidden/sub")
        wait_for(lambda: mount.status()["watch"]["events"] > events, "the watch has told")
    before = _looked_up(mount)[1]
    assert {str(_ask(child)) for _ in range(3)} <= {"[]", str(errno.ESTALE)}
    assert _looked_up(mount)[1] == before
    child.kill()


UNSUPPORTED = errno.errorcode[errno.EOPNOTSUPP]
ABSENT = ("security.selinux", "system.posix_acl_access", "security.capability", "user.policyfs.owner", "odd")
FEW = 40
NOBODY = (1 << 32) - 1
"""The id in entries of an ACL that name nobody (acl(5))."""


def _none(names: tuple[str, ...], *, acls: str = UNSUPPORTED) -> set[tuple[str, str]]:
    """What _xattrs() returns of names that nothing has."""
    errors = {"security.selinux": UNSUPPORTED, "system.posix_acl_access": acls}
    return {(name, errors.get(name, "ENODATA")) for name in names}


def _xattrs(directory: str, names: tuple[str, ...]) -> set[tuple[str, str]]:
    """What the extended attributes of each file come to, by name: values and errors."""
    found = set()
    for place in (f"{directory}/name-{number:04}.jpg" for number in range(FEW)):
        for name in names:
            try:
                found.add((name, os.getxattr(place, name).decode()))
            except OSError as error:
                found.add((name, errno.errorcode[error.errno or 0]))
    return found


def _asked(mount: Mount) -> tuple[int, int]:
    """The GETXATTRs that Python has answered, and the bridge."""
    said = mount.status()["vectors"]
    answered = 0 if said is None else said["getxattrs"]
    return mount.fuse_counters()["GETXATTR"] - answered, answered


@pytest.fixture
def few(empty_store: Path) -> Path:
    (empty_store / "many").mkdir()
    (empty_store / "many").chmod(0o755)
    empty_store.chmod(0o755)
    for number in range(FEW):
        (empty_store / f"many/name-{number:04}.jpg").touch(0o644)
        os.setxattr(empty_store / f"many/name-{number:04}.jpg", "user.note", b"a value")
    os.setxattr(empty_store / "many/name-0000.jpg", "security.selinux", b"a label")
    return empty_store


KINDS = {"shared": (), "app": ("--app", "gallery")}


@pytest.mark.parametrize("kind", first(1, zip(KINDS.values())))
def test_for_absent_attributes_of_the_bridges_files_the_kernel_need_not_ask_python(
    mounts: Mounts, few: Path, kind: tuple[str, ...]
) -> None:
    mount = mounts.start(TWO_APPS, few, *kind)
    assert call_as(10011, _xattrs, str(mount / "many"), ABSENT[:3]) == _none(ABSENT[:3])
    of_python, of_bridge = _asked(mount)
    assert of_python + of_bridge == 3 * FEW
    assert of_python <= 4  # of the first file
    if not kind:
        hidden = {(name, "ENOENT") for name in ABSENT}
        assert call_as(10012, _xattrs, str(mount / "many"), ABSENT) == hidden


@pytest.mark.parametrize("options", [(), ("--no-avc",)])
@pytest.mark.parametrize("kind", first(1, zip(KINDS.values())))
def test_ls_asks_for_labels_and_acls_once_a_mount(
    mounts: Mounts, few: Path, kind: tuple[str, ...], options: tuple[str, ...]
) -> None:
    mount = mounts.start(TWO_APPS, few, *kind, *options)
    for _ in range(3):
        before = sum(_asked(mount))
        tool_as(10011, "ls", "-la", mount / "many", check=True)
        assert sum(_asked(mount)) - before <= 2, "of 40 files"
    assert call_as(10011, _xattrs, str(mount / "many"), ABSENT) == _none(ABSENT)


@pytest.mark.parametrize("kind", first(1, zip(KINDS.values())))
def test_attributes_of_users_are_always_read_anew(mounts: Mounts, few: Path, kind: tuple[str, ...]) -> None:
    mount = mounts.start(TWO_APPS, few, *kind)
    for value in (b"a value", b"another"):
        for number in range(FEW):
            os.setxattr(few / f"many/name-{number:04}.jpg", "user.note", value)
        for _ in range(3):
            names = ("user.note", "security.selinux", "user.none")
            shown = {("user.note", value.decode()), *_none(names[1:])}
            assert call_as(10011, _xattrs, str(mount / "many"), names) == shown
    for number in range(FEW):
        os.removexattr(few / f"many/name-{number:04}.jpg", "user.note")
    assert call_as(10011, _xattrs, str(mount / "many"), ("user.note",)) == _none(("user.note",))


def test_an_acl_is_shown_where_the_kernel_checks_them(mounts: Mounts, few: Path) -> None:
    mount = mounts.start(TWO_APPS, few, "--posix")
    file = mount / "many/name-0001.jpg"
    entries = ((1, 6, NOBODY), (2, 4, 10011), (4, 4, NOBODY), (0x10, 4, NOBODY), (0x20, 0, NOBODY))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    assert call_as(10011, _xattrs, str(mount / "many"), ABSENT) == _none(ABSENT, acls="ENODATA")
    os.setxattr(few / "many/name-0001.jpg", "system.posix_acl_access", acl)
    wait_for(lambda: call_as(10011, _has_acl, str(file)), "the ACL is shown")


def _has_acl(path: str) -> bool:
    with contextlib.suppress(OSError):
        return len(os.getxattr(path, "system.posix_acl_access")) > 4
    return False


@pytest.mark.parametrize("options", [("--no-avc",), ("--no-xattrs",)])
def test_the_bridge_answers_none_where_it_is_not_to(
    mounts: Mounts, few: Path, options: tuple[str, ...]
) -> None:
    mount = mounts.start(TWO_APPS, few, *options)
    python, names = options == ("--no-avc",), ABSENT[2:3]
    errors = _none(names) if python else {(names[0], UNSUPPORTED)}
    assert call_as(10011, _xattrs, str(mount / "many"), names) == errors
    assert _asked(mount) == (FEW if python else 1, 0)


FS_IOC_GETFLAGS = 0x80086601
FS_IOC_FSGETXATTR = 0x801C581F


def _commands(path: str, numbers: tuple[int, ...]) -> list[str]:
    """The errors of these ioctls of a file; empty for those that succeed."""
    with open(path, "rb", buffering=0) as file:
        return [code_of(fcntl.ioctl, file, number, bytearray(64)) for number in numbers]


@pytest.mark.parametrize("options", [(), ("--no-avc",)])
@pytest.mark.parametrize("kind", first(1, zip(KINDS.values())))
def test_commands_other_than_one_are_refused_without_python(
    mounts: Mounts, few: Path, kind: tuple[str, ...], options: tuple[str, ...]
) -> None:
    """A program that opens a text (Python, Perl) sends TCGETS first."""
    mount = mounts.start(TWO_APPS, few, *kind, *options)
    numbers = (termios.TCGETS, FS_IOC_FSGETXATTR, FS_IOC_GETFLAGS)
    for number in range(FEW):
        path = str(mount / f"many/name-{number:04}.jpg")
        assert call_as(10011, _commands, path, numbers) == ["ENOTTY", "ENOTTY", ""]
    assert mount.fuse_counters()["IOCTL"] == 3 * FEW
    if not options:
        assert mount.status()["vectors"]["ioctls"] == 2 * FEW


def test_the_readers_read_only_while_enough_requests_are_repeats(mounts: Mounts, empty_store: Path) -> None:
    _furnish(empty_store)
    mount = mounts.start(POLICIES[1], empty_store, "--avc")
    assert not mount.status()["vectors"]["reading"]
    call_as(UIDS[0], _stats, str(mount / "top/one"), 1000, "a")
    said = mount.status()["vectors"]
    assert said["reading"]
    assert said["lookups"] + said["getattrs"] > 1500, said
    call_as(UIDS[0], _stats, str(mount / "top/one"), 1000, "")
    assert not mount.status()["vectors"]["reading"]
    call_as(UIDS[0], _stats, str(mount / "top/one"), 1000, "a")
    assert mount.status()["vectors"]["began"] == 2


@pytest.mark.parametrize("options", [(), ("--app", "one")])
def test_mounts_have_vectors_unless_told_otherwise(
    mounts: Mounts, empty_store: Path, options: tuple[str, ...]
) -> None:
    assert mounts.start(POLICIES[1], empty_store, *options).status()["vectors"]["readers"] > 0
    assert mounts.start(POLICIES[1], empty_store, "--no-avc", *options).status()["vectors"] is None


@pytest.mark.parametrize("in_store", [False, True], ids=["through the mount", "in the store"])
def test_a_removed_directory_does_not_stay_on_the_disk(
    mounts: Mounts, empty_store: Path, in_store: bool
) -> None:
    gone = empty_store / "top/one/gone"
    gone.mkdir(parents=True)
    for directory in (empty_store / "top", empty_store / "top/one", gone):
        directory.chmod(0o777)
    (gone / "a").touch(0o666)
    mount = mounts.start(POLICIES[1], empty_store)
    call_as(UIDS[0], _stats, str(mount / "top/one/gone"), 3, "a")
    assert mount.status()["vectors"]["directories"] > 0
    if in_store:
        (gone / "a").unlink()
        gone.rmdir()
    else:
        call_as(UIDS[0], os.unlink, mount / "top/one/gone/a")
        call_as(UIDS[0], os.rmdir, mount / "top/one/gone")

    def is_free() -> bool:
        forget_unused(mount)
        found = []
        for link in Path(f"/proc/{mount.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(link))
        return not any("gone" in path for path in found)

    wait_for(is_free, "the daemon has it open no more", 10.0)


def _switches(mount: Mount) -> dict[str, int]:
    """How often each reader was switched to another thread: it sleeps and wakes up so."""
    found = {}
    for task in Path(f"/proc/{mount.pid}/task").iterdir():
        if (task / "comm").read_text() == "policyfs-reader\n":
            lines = (task / "status").read_text().splitlines()
            found[task.name] = sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    return found


def test_readers_share_the_processors_and_sleep_while_there_is_nothing_to_do(
    mounts: Mounts, empty_store: Path
) -> None:
    _furnish(empty_store)
    mount = mounts.start(POLICIES[1], empty_store)
    ours = os.sched_getaffinity(0)
    taken = [os.sched_getaffinity(int(task)) for task in _switches(mount)]
    assert len(taken) == min(MAX_READERS, len(ours))
    assert sorted(cpu for cpus in taken for cpu in cpus) == sorted(ours)
    for reading in (False, True):
        if reading:
            call_as(UIDS[0], _stats, str(mount / "top/one"), 1000, "a")
        assert mount.status()["vectors"]["reading"] == reading
        wait_for(lambda: _sleep(mount), "the readers sleep", 20.0)


def _sleep(mount: Mount) -> bool:
    """Whether no reader runs for a second."""
    before = _switches(mount)
    time.sleep(1.0)
    return _switches(mount) == before


def _pinned(processor: int, directory: str, count: int, name: str) -> None:
    os.sched_setaffinity(0, {processor})
    _stats(directory, count, name)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor has one reader")
def test_the_reader_on_the_callers_processor_answers(mounts: Mounts, empty_store: Path) -> None:
    _furnish(empty_store)
    mount = mounts.start(POLICIES[1], empty_store)
    call_as(UIDS[0], _stats, str(mount / "top/one"), 1000, "a")
    for processor in sorted(os.sched_getaffinity(0))[:2] * 2:
        tries: list[tuple[float, float]] = []
        while len(tries) < 10 and not any(map(_is_near, tries)):  # where others leave it its processor
            before, asked = _switches(mount), _repeats(mount)
            call_as(UIDS[0], _pinned, processor, str(mount / "top/one"), 3000, "a")
            woken = {task: switches - before[task] for task, switches in _switches(mount).items()}
            near = sum(woken[task] for task in woken if processor in os.sched_getaffinity(int(task)))
            requests = _repeats(mount) - asked
            tries.append((near / requests, (sum(woken.values()) - near) / requests))
        assert any(map(_is_near, tries)), (processor, tries)


def _repeats(mount: Mount) -> int:
    """The requests that the bridge has answered."""
    said = mount.status()["vectors"]
    return sum(said[name] for name in ("lookups", "getattrs", "accesses", "opens", "releases"))


def _is_near(woken: tuple[float, float]) -> bool:
    """True if each request wakes the reader on its processor, and the other one only now and then. The other
    one is woken where the scheduler lets the caller go on before the near one waits again."""
    near, far = woken
    return near >= 0.9 and far <= 0.75


def test_a_small_table_forgets_and_counts_references_all_the_same(mounts: Mounts, empty_store: Path) -> None:
    names = [f"top/one/{number}/{name}" for number in range(24) for name in "abcdef"]
    for name in names:
        (empty_store / name).parent.mkdir(parents=True, exist_ok=True)
        (empty_store / name).touch(0o644)
    for directory in (empty_store / "top", empty_store / "top/one", *(empty_store / "top/one").iterdir()):
        directory.chmod(0o755)
    mount = mounts.prepare(POLICIES[1], empty_store)
    mount.program = ("tests.support.mount.small_table",)
    mount.start()
    for uid in (UIDS[0], UIDS[2]) * 3:
        call_as(uid, _each, str(mount.mountpoint), names)
        said = mount.status()["vectors"]
        assert said["nodes"] <= SMALL
        assert said["directories"] <= DIRECTORIES
    assert said["lookups"] > 0
    assert said["installed"] > 4 * len(names) > SMALL

    def is_forgotten() -> bool:
        forget_unused(mount)
        return bool(mount.status()["nodes"] == 1)

    wait_for(is_forgotten, "each reference was counted", 20.0)


def _each(directory: str, names: list[str]) -> None:
    for name in names:
        for _ in range(3):
            os.stat(f"{directory}/{name}")

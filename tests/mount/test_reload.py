"""A new policy in a running mount: in force at once for what comes, without disturbing anybody."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from policyfs.linux.libc import fallocate
from policyfs.store.ranges import ZERO_RANGE
from tests.support.machine.counts import count, first
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount, policyfs_process
from tests.support.mount.stores import Mounts, wait_until_closed

ONE, TWO = 10010, 10011
_THREADS = 40
"""More than the requests of one uid that may be under way."""
HEAD = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: reloaded}}
apps:
  one: {{uid: {ONE}}}
  two: {{uid: {TWO}}}
rules:
"""
OPEN = (
    HEAD
    + """\
  - {id: all, allow: [all], who: {app: any}, paths: "/***"}
"""
)
CLOSED = (
    HEAD
    + """\
  - {id: all, allow: [all], who: {app: one}, paths: "/***"}
  - {id: some, allow: [see, read], who: {app: two}, paths: "/Documents/***"}
"""
)
HIDDEN = (
    HEAD
    + """\
  - {id: all, allow: [all], who: {app: any}, paths: "/***"}
  - {id: hide, deny: [all], paths: "/Music/***", errno: ENOENT}
"""
)
READ_ONLY = (
    HEAD
    + """\
  - {id: read, allow: [see, read], who: {app: any}, paths: "/***"}
"""
)


def change(mount: Mount, policy: str) -> None:
    """Put another policy in force."""
    generation = mount.status()["policy"]["generation"]
    mount.policy.write_text(policy)
    said = mount.reload()
    assert said.returncode == 0, said
    assert f"generation {generation + 1}" in said.stdout


@pytest.fixture(params=first(1, [("shared",), ("app",)]))
def mount(request, mounts: Mounts, store: Path) -> Mount:
    return mounts.start(OPEN, store, *(("--app", "two") if request.param == "app" else ()))


def test_what_is_forbidden_now_is_gone_at_once(mount: Mount) -> None:
    """Whatever the kernel was allowed to keep: names, attributes, listings, pages."""
    song, notes = mount / "Music/song.mp3", mount / "Documents/notes.txt"

    def look(channel) -> list[object]:
        seen: list[object] = []
        while channel.recv() != "end":
            seen.append([
                error(os.stat, song).partition("(")[0], error(os.listdir, mount / "Music"),
                sorted(os.listdir(mount)), error(content, str(song))[:20],
                error(content, str(notes)), os.access(song, os.R_OK),
            ])  # fmt: skip
            channel.send("looked")
        return seen

    child = start_as(TWO, look)
    for policy in (None, HIDDEN, OPEN, CLOSED, OPEN):
        if policy is not None:
            change(mount, policy)
        child.send("look")
        child.receive()
    child.send("end")
    first, hidden, again, closed, last = child.result()
    assert first == again == last
    assert hidden[:2] == closed[:2] == ["ENOENT", "ENOENT"]
    assert "Music" not in hidden[2]
    assert closed[2] == ["Documents"]
    assert (hidden[3], hidden[5]) == ("ENOENT", False)
    assert hidden[4] == closed[4] == first[4] == "b'plain words\\n'"


def test_negative_answers_are_forgotten_too(mount: Mount) -> None:
    change(mount, HIDDEN)

    def ask(channel) -> str:
        before = [error(os.stat, mount / "Music/song.mp3") for _ in range(3)]
        channel.send(before)
        channel.recv()
        return error(os.stat, mount / "Music/song.mp3")

    child = start_as(TWO, ask)
    assert child.receive() == ["ENOENT"] * 3
    change(mount, OPEN)
    child.send("again")
    assert child.result().startswith("os.stat_result")


def _ask_by_descriptor(channel, path: Path) -> list[str]:
    """Open a file as a path only, and ask for its attributes after a reload: also by a chown of nothing,
    whose reply has them."""
    fd = os.open(path, os.O_PATH)
    channel.send("open")
    channel.recv()
    changed = error(os.chown, f"/proc/self/fd/{fd}", -1, -1)
    return [changed, error(os.stat, f"/proc/self/fd/{fd}")]


def test_a_file_that_is_hidden_now_tells_no_attributes_by_a_change_of_nothing(mount: Mount) -> None:
    child = start_as(TWO, _ask_by_descriptor, mount / "Music/song.mp3")
    assert child.receive() == "open"
    change(mount, HIDDEN)
    child.send("ask")
    assert child.result() == ["ENOENT", "ENOENT"]


def test_open_files_keep_the_rights_they_were_opened_with(mounts: Mounts, store: Path) -> None:
    """Passthrough: the kernel asks nobody. Mediated: each read and write is decided again."""
    answers = {}
    for options in ((), ("--no-passthrough",)):
        mount = mounts.start(OPEN, store, *options)

        def use(channel, mount=mount) -> list[str]:
            said = []
            with fd_of(mount / "Documents/notes.txt", os.O_RDWR) as fd:
                for _ in range(3):
                    channel.recv()
                    said += [error(os.pwrite, fd, b"PLAIN", 0)]
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                    channel.send("used")
            return said

        child = start_as(TWO, use)
        for policy in (None, READ_ONLY, OPEN):
            if policy is not None:
                change(mount, policy)
            child.send("use")
            child.receive()
        answers[options] = child.result()
        assert call_as(
            TWO, lambda mount=mount: error(os.open, mount / "Documents/notes.txt", os.O_RDWR)
        ).isdigit()
    assert answers == {(): ["5", "5", "5"], ("--no-passthrough",): ["5", "EACCES", "5"]}


def _zero_and_write(channel, path: Path) -> list[str]:
    fd = os.open(path, os.O_RDWR)
    channel.send("open")
    channel.recv()
    said = [error(fallocate, fd, ZERO_RANGE, 0, 4), error(os.pwrite, fd, b"end", 20)]
    return [*said, error(os.fsync, fd), error(os.close, fd)]


def test_space_is_zeroed_in_the_file_that_passthrough_writes(mounts: Mounts, store: Path) -> None:
    """The new policy checks what is written to other open files. This file must not get in two halves."""
    mount = mounts.start(OPEN, store)
    child = start_as(TWO, _zero_and_write, mount / "Documents/notes.txt")
    child.receive()
    kinds = "[text/plain, application/octet-stream]"
    change(mount, OPEN + f'  - {{id: no, require: {{no: [location]}}, paths: "/**", raw_types: {kinds}}}\n')
    before = (store / "Documents/notes.txt").read_bytes()
    child.send("go on")
    assert child.result() == ["None", "3", "None", "None"]
    assert (store / "Documents/notes.txt").read_bytes() == bytes(4) + before[4:].ljust(16, b"\0") + b"end"
    wait_until_closed(mount)
    assert not mount.events(decision="deny")
    assert not mount.events(operation="quarantine")


def _write_later(channel, path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    channel.send("open")
    channel.recv()
    channel.send((error(os.write, fd, data), error(os.close, fd)))


@pytest.mark.parametrize("required", ["{content: [image/jpeg]}", "{no: [location]}"])
def test_who_has_a_file_open_hears_of_content_that_the_new_policy_refuses(
    mounts: Mounts, store: Path, required: str
) -> None:
    """Whatever was open before: what write(2) took and is not to stay is an error of close(2)."""
    mount = mounts.start(OPEN, store, "--no-passthrough")
    mount.expected_mediated = True
    (store / "Documents").chmod(0o777)
    writer = start_as(ONE, _write_later, mount.mountpoint / "Documents/new", b"\xff\xd8\xff")
    writer.receive()
    change(mount, OPEN + f'  - {{id: asked, require: {required}, paths: "/**"}}\n')
    writer.send("go on")
    assert writer.receive() == ("3", "EPERM")
    writer.result()
    assert not (store / "Documents/new").exists() or (store / "Documents/new").read_bytes() == b""


def _change_a_byte(channel, path: Path) -> None:
    fd = os.open(path, os.O_WRONLY)
    channel.send("open")
    channel.recv()
    for call, argument in ((os.pwrite, b"x"), (os.ftruncate, 5), (os.ftruncate, 0), (os.pwrite, b"x")):
        channel.send(error(call, fd, argument, *([0] if call is os.pwrite else [])))
    os.close(fd)


def test_who_writes_a_file_in_which_the_new_policy_hides_something_may_only_empty_it(
    mounts: Mounts, store: Path
) -> None:
    """Or one byte of it would make it look like a kind that is shown as it is."""
    photo = store / "DCIM/Camera/a.jpg"
    photo.chmod(0o666)
    mount = mounts.start(OPEN, store, "--no-passthrough")
    writer = start_as(ONE, _change_a_byte, mount / "DCIM/Camera/a.jpg")
    assert writer.receive() == "open"
    change(mount, OPEN + '  - {id: places, require: {redact: location}, paths: "/DCIM/***"}\n')
    writer.send("go on")
    assert [writer.receive() for _ in range(2)] == ["EACCES", "EACCES"]
    assert [writer.receive() for _ in range(2)] == ["None", "1"]
    writer.result()


def test_events_name_the_policy_that_decided(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(OPEN, store)
    digests = []
    for policy in (OPEN, READ_ONLY, CLOSED):
        if digests:
            change(mount, policy)
        digests.append(mount.status()["policy"]["digest"])
        call_as(TWO, content, str(mount / "Documents/notes.txt"))
    opens = wait_for(
        lambda: found if len(found := mount.events(operation="open", app="two")) == 3 else None, "three opens"
    )
    assert [event["generation"] for event in opens] == [1, 2, 3]
    assert [event["policy"] for event in opens] == digests
    assert [event["rules"] for event in opens] == [["all"], ["read"], ["some"]]
    assert len(set(digests)) == 3


def _wait_for_two_rounds(done: mmap.mmap) -> None:
    before = done[:]
    wait_for(lambda: all((n - then) % 256 >= 2 for n, then in zip(done[:], before, strict=True)), "rounds")


def test_nobody_is_disturbed_by_twenty_reloads(mounts: Mounts, store: Path) -> None:
    """What both policies allow never fails, in the middle of a reload either."""
    mount = mounts.start(OPEN, store)
    done = mmap.mmap(-1, 2)  # rounds of each worker, modulo 256

    def work(channel, number: int) -> tuple[int, list[str]]:
        rounds, wrong = 0, []
        os.chdir(mount / "Documents")
        name = f"work-{number}"
        with fd_of(name, os.O_RDWR | os.O_CREAT) as held:
            while not channel.poll():
                rounds += 1
                try:
                    data = b"%d" % rounds
                    os.pwrite(held, data, 0)
                    with open(f"{name}-{rounds}", "wb") as file:
                        file.write(data)
                    os.rename(f"{name}-{rounds}", f"{name}-done")
                    if content(f"{name}-done") != data or os.pread(held, 20, 0) != data:
                        wrong.append("bytes")
                    if name not in os.listdir("."):
                        wrong.append("listing")
                    os.getcwd()
                    os.unlink(f"{name}-done")
                except OSError as failed:
                    wrong.append(repr(failed))
                done[number] = rounds % 256
        return rounds, wrong[:5]

    workers = [start_as(ONE, work, number) for number in range(2)]
    policies = [CLOSED, OPEN, HIDDEN, OPEN]
    for step in range(20):
        change(mount, policies[step % 4])
        _wait_for_two_rounds(done)
    for worker in workers:
        worker.send("end")
    results = [worker.result() for worker in workers]
    assert [wrong for _, wrong in results] == [[], []]
    assert all(rounds > 20 for rounds, _ in results)
    assert mount.status()["policy"]["generation"] == 21
    assert mount.status()["bugs"] == 0


def test_an_app_mount_needs_its_app(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(OPEN, store, "--app", "two")
    before = mount.status()["policy"]
    mount.policy.write_text(OPEN.replace("  two:", "  three:"))
    said = mount.reload()
    assert said.returncode == 2
    assert "this mount belongs to the app two, which the new policy does not have" in said.stderr
    assert mount.status()["policy"] == before
    assert call_as(TWO, content, str(mount / "Documents/notes.txt")) == b"plain words\n"


def test_an_app_mount_needs_the_user_it_admits(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(OPEN, store, "--app", "two")
    mount.policy.write_text(OPEN.replace(f"two: {{uid: {TWO}", f"two: {{uid: {TWO + 50}"))
    assert mount.policy.read_text() != OPEN
    said = mount.reload()
    assert said.returncode == 2
    assert f"this mount admits uid {TWO}, which does not belong to the app two" in said.stderr
    assert call_as(TWO, content, str(mount / "Documents/notes.txt")) == b"plain words\n"


def test_a_directory_of_policies_is_taken_as_it_is_now(mounts: Mounts, store: Path, arena: Path) -> None:
    directory = arena / "policies"
    directory.mkdir()
    rule = '  - {id: all, allow: [all], who: {app: one}, paths: "/***"}\n'
    (directory / "10-apps.yaml").write_text(HEAD + rule)
    (directory / "README").write_text("not a policy: [")
    mount = mounts.start(directory, store)
    assert call_as(TWO, lambda: os.listdir(mount)) == []
    extra = """\
apiVersion: policyfs/v1
kind: Policy
rules:
  - {id: more, allow: [see], who: {app: two}, paths: "/***"}
"""
    (directory / "20-more.yaml").write_text(extra)
    assert mount.reload().returncode == 0
    assert "Music" in call_as(TWO, lambda: os.listdir(mount))
    (directory / "30-again.yaml").write_text(extra)  # the same rule id twice
    said = mount.reload()
    assert said.returncode == 3
    assert "30-again.yaml" in said.stderr
    (directory / "30-again.yaml").unlink()
    (directory / "20-more.yaml").unlink()
    assert mount.reload().returncode == 0
    assert call_as(TWO, lambda: os.listdir(mount)) == []


def test_a_pipe_in_the_place_of_a_policy_is_refused_at_once(mounts: Mounts, store: Path) -> None:
    """A daemon that waited for its writer could neither reload again nor end."""
    mount = mounts.start(OPEN, store)
    mount.policy.unlink()
    os.mkfifo(mount.policy)
    try:
        said = mount.reload()
        assert said.returncode == 3
        assert f"cannot read the policy {mount.policy}: it is not a regular file" in said.stderr
    finally:  # so that a daemon that waits can end
        with contextlib.suppress(OSError):
            os.close(os.open(mount.policy, os.O_WRONLY | os.O_NONBLOCK))
    mount.policy.unlink()
    change(mount, CLOSED)


def test_a_policy_that_breaks_its_invariant_comes_into_force_nowhere(
    mounts: Mounts, store: Path, tmp_path: Path
) -> None:
    promise = 'invariants:\n  - {id: two-only-reads, never: [write], who: {app: two}, paths: "/**"}\n'
    mount = mounts.start(READ_ONLY + promise, store)
    before = mount.status()["policy"]
    mount.policy.write_text(OPEN + promise)
    broken = 'invariant "two-only-reads" does not hold: two may write /x by all'
    said = mount.reload()
    assert said.returncode == 3, said
    assert broken in said.stderr
    assert mount.status()["policy"] == before
    with pytest.raises(PermissionError):
        call_as(TWO, os.open, str(mount / "Documents/notes.txt"), os.O_WRONLY)
    other = policyfs_process("mount", "--policy", mount.policy, store, tmp_path)
    assert other.returncode == 3
    assert broken in other.stderr


def test_the_same_policy_again_changes_nothing(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(OPEN, store)
    digest = mount.status()["policy"]["digest"]
    change(mount, OPEN)
    change(mount, OPEN + "\n# a comment\n")
    status = mount.status()["policy"]
    assert status["generation"] == 3
    assert status["digest"] != digest  # of the text, so that it can be compared with the file
    change(mount, OPEN)
    assert mount.status()["policy"]["digest"] == digest


REDACTED = (
    HEAD
    + """\
  - {id: all, allow: [all], who: {app: any}, paths: "/***"}
  - {id: two, require: {redact: %s}, who: {app: two}, paths: "/***"}
  - {id: one, require: {redact: %s}, who: {app: one}, paths: "/***"}
"""
)


def _rewrites(channel, directory: Path) -> dict[str, int]:
    """Make files anew until told to stop; how often each error came."""
    said = {"": 0}
    number = 0
    while not channel.poll():
        number += 1
        path = directory / f"{number % 4}.txt"
        try:
            path.write_text("words")
        except OSError as failed:
            name = errno.errorcode[failed.errno or 0]
        else:
            name = ""
        said[name] = said.get(name, 0) + 1
    return said


def _none_stale_around_reloads(
    mounts: Mounts, store: Path, work: Callable[..., dict[str, int]], writers: dict[str, int]
) -> None:
    """Reload while writers (uids by directory) make files anew; none of them may get an error."""
    policies = [REDACTED % words for words in (("location", "device"), ("device", "location"))]
    mount = mounts.start(policies[0], store)
    children = []
    for name, uid in writers.items():
        (store / name).mkdir()
        (store / name).chmod(0o777)
        children.append(start_as(uid, work, mount / name))
    for turn in range(count(5, 1_000)):
        change(mount, policies[turn % 2])
    for child in children:
        child.send("stop")
    said = [child.result() for child in children]
    assert all(set(one) == {""} for one in said), said


def test_no_open_around_reloads_is_stale(mounts: Mounts, empty_store: Path) -> None:
    """Its two tries may each meet another policy, or another app's node: a second ESTALE is the app's."""
    writers = {"a": ONE, "b": ONE, "c": TWO, "d": TWO}
    _none_stale_around_reloads(mounts, empty_store, _rewrites, writers)


def _rewrites_by_threads(channel, directory: Path) -> dict[str, int]:
    """Let many threads make files anew until told to stop; how often each error came."""
    told = threading.Event()

    class Told:
        poll = staticmethod(told.is_set)

    directories = [directory / str(number) for number in range(_THREADS)]
    for one in directories:
        one.mkdir()
    with ThreadPoolExecutor(_THREADS) as pool:
        counts = [pool.submit(_rewrites, Told, one) for one in directories]
        channel.recv()
        told.set()
        return dict(sum((Counter(one.result()) for one in counts), Counter()))


def test_no_open_of_many_threads_around_reloads_is_stale(mounts: Mounts, empty_store: Path) -> None:
    """First tries wait for a reload. Still the second try of another thread of the app must begin."""
    _none_stale_around_reloads(mounts, empty_store, _rewrites_by_threads, {"a": ONE, "b": TWO})

"""B8: inode numbers that come again, and files with several names while names and policy change."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.machine.images import file_system
from tests.support.machine.processes import Child, call_as, start_as
from tests.support.models.twins import content, error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP, OTHER = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: "/***"}}
"""
CLOSED: Final = HEAD + '  - {id: closed, deny: [all], who: {app: app}, paths: "/closed/***", errno: ENOENT}\n'
SECRET: Final = b"closed to the app"
TRIES: Final = 200


def furnish(store: Path) -> Path:
    for name in ("open", "closed"):
        (store / name).mkdir()
        (store / name).chmod(0o777)
    return store


def _hold(channel: Any, path: str, directory: str) -> list[str]:
    """Holds a file and a directory by O_PATH, which no daemon hears of, and asks again by what it holds."""
    held = os.open(path, os.O_PATH)
    os.fstat(held)
    place = os.open(directory, os.O_PATH)
    os.chdir(directory)
    channel.send("held")
    channel.recv()
    return [
        error(content, f"/proc/self/fd/{held}"), error(os.listdir, "."),
        error(content, "secret"), error(lambda: os.open("secret", os.O_RDONLY, dir_fd=place)),
        error(lambda: os.open("new", os.O_WRONLY | os.O_CREAT, dir_fd=place)),
        error(os.truncate, f"/proc/self/fd/{held}", 0),
    ]  # fmt: skip


def comes_again(store: Path, old: Path, new: Path, *, directory: bool) -> None:
    """Remove one and make the other until it has the number of the first."""
    number = old.stat().st_ino
    old.rmdir() if directory else old.unlink()
    for turn in range(TRIES):
        new.mkdir() if directory else new.write_bytes(SECRET)
        if new.stat().st_ino == number:
            return
        new.rename(store / f"aside-{directory}-{turn}")
    raise AssertionError(f"number {number} did not come again")


@pytest.fixture(params=[(), ("-I", "128")], ids=["with birth times", "without birth times"])
def numbered(request, tmp_path: Path) -> Iterator[Path]:
    """A store on ext4, which gives the number of a removed file to the next one."""
    with file_system("ext4", tmp_path, *request.param) as root:
        store = root / "store"
        store.mkdir(mode=0o700)
        yield furnish(store)


def test_an_old_number_leads_to_no_new_file(mounts: Mounts, numbered: Path) -> None:
    """The file that an app holds is gone, and a forbidden one has its number.

    Attack B8.1: Keep a file or directory open with O_PATH until a forbidden file has its inode number,
    or another file has its name
    Guard: policyfs/fs/inodes/node_table.py::NodeTable.is_same,
    policyfs/fs/opening/open_files.py::BackingFiles.open_named
    Also: ::test_a_name_that_another_file_has_now_is_not_the_file
    Without: ::test_the_closed_file_is_read_where_the_first_name_decides
    """
    mount = mounts.start(CLOSED, numbered)
    (numbered / "open/file").write_text("open")
    (numbered / "open/place").mkdir()
    holder = start_as(APP, _hold, str(mount / "open/file"), str(mount / "open/place"))
    holder.receive()
    comes_again(numbered, numbered / "open/file", numbered / "closed/secret", directory=False)
    comes_again(numbered, numbered / "open/place", numbered / "closed/place", directory=True)
    (numbered / "closed/place/secret").write_bytes(SECRET)
    for name in ("closed/secret", "closed/place/secret"):  # so that the daemon knows them, by those numbers
        assert call_as(OTHER, content, str(mount / name)) == SECRET
    holder.send("again")
    said = holder.result()
    assert set(said) <= {"ENOENT", "ESTALE", "[]"}, said
    assert (numbered / "closed/secret").read_bytes() == SECRET
    assert [path.name for path in (numbered / "closed/place").iterdir()] == ["secret"]
    assert call_as(OTHER, content, str(mount / "closed/secret")) == SECRET
    assert mounts.stop_all() == []


def replaced(mount: Mount, store: Path) -> str:
    """What an app reads through a descriptor of a file whose name another file has now."""
    (store / "open/file").write_text("open")
    holder: Child = start_as(APP, _hold, str(mount / "open/file"), str(mount / "open"))
    holder.receive()
    (store / "open/new").write_bytes(SECRET)
    (store / "open/new").rename(store / "open/file")
    holder.send("again")
    return holder.result()[0]


def test_a_name_that_another_file_has_now_is_not_the_file(mounts: Mounts, empty_store: Path) -> None:
    assert replaced(mounts.start(CLOSED, furnish(empty_store)), empty_store) in {"ESTALE", "b'open'"}


# ---------------------------------------------------------------- several names


def _two_names(channel: Any, mount: str) -> list[dict[str, str]]:
    """Holds a file that has two names, moves a third onto one of them, and asks at each word."""
    held = os.open(mount + "/open/one", os.O_PATH)
    reading = os.open(mount + "/open/one", os.O_RDONLY)
    seen = []
    channel.send("held")
    while (word := channel.recv()) != "end":
        if word == "move":
            os.rename(mount + "/open/one", mount + "/open/moved")
        seen.append({
            "by number": error(content, f"/proc/self/fd/{held}"),
            "to write": error(lambda: os.close(os.open(f"/proc/self/fd/{held}", os.O_WRONLY))),
            "attributes": error(os.chmod, f"/proc/self/fd/{held}", 0o666),
            "open one": error(content, mount + "/open/one"), "moved": error(content, mount + "/open/moved"),
            "closed two": error(content, mount + "/closed/two"),
            "still": error(os.pread, reading, 100, 0),
        })  # fmt: skip
        channel.send("asked")
    return seen


def strictest(mount: Mount) -> list[dict[str, str]]:
    """Answers before a policy closes one of two names, after it, after a rename, and when it opens again."""
    store = mount.store
    (store / "open/one").write_bytes(SECRET)
    (store / "open/one").chmod(0o666)
    os.link(store / "open/one", store / "closed/two")
    holder = start_as(APP, _two_names, str(mount.mountpoint))
    holder.receive()
    for word, policy in (("ask", HEAD), ("ask", CLOSED), ("move", CLOSED), ("ask", HEAD)):
        if mount.policy.read_text() != policy:
            mount.policy.write_text(policy)
            assert mount.reload().returncode == 0
        holder.send(word)
        holder.receive()
    holder.send("end")
    return holder.result()


READ: Final = repr(SECRET)


@pytest.mark.parametrize("options", [(), ("--app", "app")], ids=["shared", "app"])
def test_the_strictest_of_several_names_decides(mounts: Mounts, empty_store: Path, options) -> None:
    """Attack B8.3: Keep a file with two names open while a reload forbids one name, and a rename moves the
    other name
    Guard: policyfs/fs/access/gate.py::Gate.judge, policyfs/fs/inodes/node.py::Node.states
    Without: ::test_the_closed_file_is_read_where_the_first_name_decides
    """
    mount = mounts.start(HEAD, furnish(empty_store), *options)
    first, closed, moved, again = strictest(mount)
    assert {first[name] for name in ("by number", "open one", "closed two")} == {READ}
    for seen in (closed, moved):
        assert seen["by number"] in {"ENOENT", "ESTALE"}  # it could be the closed one
        assert seen["to write"] in {"ENOENT", "ESTALE"}
        assert seen["attributes"] in {"ENOENT", "ESTALE"}
        assert seen["closed two"] == "ENOENT"
    assert closed["open one"] == READ  # by its own name each is decided by itself
    assert (moved["open one"], moved["moved"]) == ("ENOENT", READ)
    assert again["closed two"] == READ
    assert {seen["still"] for seen in (first, closed, moved, again)} == {READ}  # what is open stays open
    if not options:
        assert call_as(OTHER, content, str(mount / "closed/two")) == SECRET


def test_the_closed_file_is_read_where_the_first_name_decides(without, empty_store: Path) -> None:
    mount = without("first-name-decides,any-file-of-the-name", HEAD, furnish(empty_store))
    _, closed, _, _ = strictest(mount)
    assert closed["by number"] == READ
    mount.policy.write_text(CLOSED)
    assert mount.reload().returncode == 0
    assert replaced(mount, empty_store) == READ


def _stay_below(channel: Any, directory: str) -> list[str]:
    """Reads in a directory that it is in, before and after it is moved."""
    os.chdir(directory)
    place = os.open(".", os.O_PATH)
    seen = []
    while channel.recv():
        seen.append(error(content, "secret"))
        seen.append(error(lambda: os.close(os.open("secret", os.O_RDONLY, dir_fd=place))))
        channel.send("looked")
    return seen


def moved_away(mount: Mount, store: Path) -> list[str]:
    """What an app reads in a directory below one that is moved to where it may not go."""
    (store / "open/b/c").mkdir(parents=True)
    (store / "open/b/c/secret").write_bytes(SECRET)
    child = start_as(APP, _stay_below, str(mount / "open/b/c"))
    for moved in (False, True):
        if moved:
            (store / "open/b").rename(store / "closed/b")
            call_as(OTHER, os.stat, str(mount / "closed/b"))  # now it is known where it is
        child.send(True)
        assert child.receive() == "looked"
    child.send(False)
    return child.result()


def test_who_is_below_a_directory_that_is_moved_is_decided_by_where_it_is(
    mounts: Mounts, empty_store: Path
) -> None:
    seen = moved_away(mounts.start(CLOSED, furnish(empty_store)), empty_store)
    assert seen[:2] == [READ, "None"]
    assert set(seen[2:]) == {"ENOENT"}


def test_it_is_read_on_where_states_stay_as_they_were(without, empty_store: Path) -> None:
    seen = moved_away(without("states-stay", CLOSED, furnish(empty_store)), empty_store)
    assert seen[2] == READ

"""E1, D2: an app wears the trail out, by long names, by many, by what must be on record; others go on."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import pytest

from policyfs.journal.writing import accounts
from policyfs.trail.lines.line import LINE_BYTES
from tests.attack.guards_recording import HANG, TENTH, WAITS
from tests.attack.test_flood import trail_bytes
from tests.attack.test_silenced import APP, NEIGHBOUR
from tests.support.machine.counts import count
from tests.support.machine.processes import Child, DeadlineExceeded, call_as, start_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts

pytestmark = pytest.mark.load

POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}, gid: {APP}}}
  neighbour: {{uid: {NEIGHBOUR}, gid: {NEIGHBOUR}}}
rules:
  - {{id: look, allow: [see], who: {{app: any}}, paths: "/***"}}
  - {{id: deep, allow: [create], who: {{app: app}}, paths: "/deep/***"}}
  - {{id: strict, allow: [all], who: {{app: any}}, paths: "/strict/***", audit: required}}
  - {{id: best, allow: [all], who: {{app: any}}, paths: "/best/***", audit: best_effort}}
"""
DEEP: Final = 60
"""Levels of 250 bytes: 15 KiB."""
FLOOD_S: Final = count(1, 20)
RATE: Final = accounts.RATE // TENTH
BURST: Final = accounts.BURST // TENTH
"""The budget of an app under `low-budgets`, in bytes a second and at once."""


def furnish(store: Path) -> Path:
    for name in ("deep", "strict", "best"):
        (store / name).mkdir()
        (store / name).chmod(0o777)
        (store / name / "file").write_text("text\n")
        (store / name / "file").chmod(0o666)
    return store


def _names() -> list[bytes]:
    return [b"\xff" * 246 + b"%04d" % level for level in range(DEEP)]


def _dig(root: Path) -> None:
    os.chdir(root)
    for name in _names():
        os.mkdir(name)
        os.chdir(name)


def _often(
    channel: Connection, threads: int, seconds: float, ask: Callable[[int, int], bool], least: int = 0
) -> int:
    """Ask by threads without a pause until told to stop, for these seconds and so often at least; how often
    it was True."""
    channel.send("there")
    end, told, done = time.monotonic() + seconds, threading.Event(), [0] * threads

    def run(number: int) -> None:
        while not told.is_set() or time.monotonic() < end or sum(done) < least:
            done[number] += ask(number, done[number])

    asking = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in asking:
        thread.start()
    channel.recv()
    told.set()
    for thread in asking:
        thread.join()
    return sum(done)


def _refused_below(channel: Connection, root: Path, seconds: float) -> int:
    """Be refused in a deep place, by four threads, half of the time at another name; how often it was."""
    os.chdir(root)
    for name in _names():
        os.chdir(name)

    def ask(number: int, refused: int) -> bool:
        try:
            os.mknod(b"%d-%d" % (number, refused) if refused % 2 else b"same", 0o010644)
        except PermissionError:
            return True
        return False

    return _often(channel, 4, seconds, ask, least=101)


def _work(channel: Connection, directory: Path) -> None:
    """An honest app's work until it is told to stop, which it does often."""
    done = 0
    while not channel.poll(0.002):
        (directory / "mine").write_text("mine")
        assert (directory / "mine").read_text() == "mine"
        done += 1
        if done == 11:
            channel.send("it goes on")


def flooded(
    mount: Mount, flood: Callable[..., int], place: Path, bound: int | None
) -> tuple[int, float, int]:
    """Have an app ask without a pause until an honest one has done its work beside it, and, if there is a
    bound of bytes beside RATE, the trail has grown beyond it: how often, how long it took, and how many bytes
    of trail came of it."""
    before, start = trail_bytes(mount, APP), time.monotonic()
    honest = start_as(NEIGHBOUR, _work, mount / "strict")
    hostile = start_as(APP, flood, place, FLOOD_S)
    assert hostile.receive() == "there"
    assert honest.receive() == "it goes on"
    if bound is not None:
        wait_for(lambda: _grown(mount, before, start) > bound, "the trail grows without a bound", 60)
    hostile.send("it is enough")
    asked = hostile.result(60 + FLOOD_S)
    seconds = time.monotonic() - start
    honest.send("it is over")
    honest.result()
    return asked, seconds, trail_bytes(mount, APP) - before


def _grown(mount: Mount, before: int, start: float) -> float:
    """The bytes of the trail that are more than RATE allows in a second more than it took."""
    return trail_bytes(mount, APP) - before - RATE * (time.monotonic() - start + 1)


def worn_out(mount: Mount, bound: int | None = None) -> tuple[int, float, int]:
    """Refuse an app in a deep place without a pause, as flooded() says."""
    call_as(APP, _dig, mount / "deep")
    return flooded(mount, _refused_below, mount / "deep", bound)


def _told(mount: Mount, **fields: Any) -> int:
    return sum(event.get("repeats", 1) for event in mount.events(app="app", **fields))


@pytest.mark.parametrize("apps", [False, True], ids=["shared", "app"])
def test_refusals_in_a_deep_place_cost_little_are_counted_and_told_apart(
    without, empty_store: Path, apps: bool
) -> None:
    """Attack E1.5: Cause denials deep in the tree without a pause, with a new name each time: each event
    contains the whole path
    Guard: policyfs/trail/lines/bounds.py::bounded, policyfs/journal/writing/accounts.py::Accounts.absorb
    Also: tests/unit/test_trail_lines_bounds.py::test_no_line_is_longer_than_it_may_be_whatever_is_in_it
    Without: ::test_the_trail_grows_without_end_where_nothing_bounds_it
    """
    mount = without("low-budgets", POLICY, furnish(empty_store), *(("--app", "app") if apps else ()))
    if apps:
        call_as(APP, _dig, mount / "deep")
        child = start_as(APP, _refused_below, mount / "deep", 0.5)
        assert child.receive() == "there"
        child.send("it is enough")
        refused = child.result(60)
    else:
        refused, seconds, grown = worn_out(mount)
        assert grown <= RATE * (seconds + 1) + BURST + 600_000
    wait_for(lambda: _told(mount, operation="mknod") == refused, "each is told or counted")
    whole = b"/deep/" + b"/".join(_names()) + b"/same"
    first = next(event for event in mount.events(operation="mknod") if "folded" not in event)
    recorded, cut = base64.b64decode(first["path_b64"]), first["path_cut"]
    if first["path"].endswith("/same"):
        assert cut["sha256"] == hashlib.sha256(whole).hexdigest()
    assert (cut["bytes"] > 15_000, whole.startswith(recorded[: cut["head"]])) == (True, True)
    for segment in mount.trail_dir.glob("*.jsonl"):
        assert max(map(len, segment.read_bytes().splitlines())) < LINE_BYTES
    with mount.as_environment():
        assert policyfs("audit", "verify").returncode == 0
        assert policyfs("audit", "search", "--path", "/deep/***", "--op", "mknod").returncode == 0


def test_the_trail_grows_without_end_where_nothing_bounds_it(without, empty_store: Path) -> None:
    mount = without("unbudgeted,whole-paths", POLICY, furnish(empty_store))
    refused, _, grown = worn_out(mount, BURST + 600_000)
    assert grown > refused * 10_000


# ---------------------------------------------------------------- what must be on record


def _open_often(channel: Connection, path: Path, seconds: float) -> int:
    def ask(_number: int, _done: int) -> bool:
        os.close(os.open(path, os.O_RDONLY))
        return True

    return _often(channel, 8, seconds, ask)


LONG: Final = "x" * 200
"""Of a directory and a file, so that the budget is used up by fewer requests."""


def opened_often(mount: Mount, bound: int | None = None) -> tuple[int, float, int]:
    """Open what must be on record without a pause, as flooded() says."""
    place = mount.store / "strict"
    for _ in range(4):
        place /= "\u202e" * 80
        place.mkdir()
        place.chmod(0o777)
    (place / LONG).write_text("text")
    path = mount.mountpoint / (place / LONG).relative_to(mount.store)
    return flooded(mount, _open_often, path, bound)


def test_what_must_be_on_record_is_told_each_time_and_at_its_apps_own_pace(
    without, empty_store: Path
) -> None:
    """Attack D2.2: Make allowed requests without a pause, each of which must be on record
    Guard: policyfs/journal/writing/accounts.py::Accounts.spend,
    policyfs/fs/access/ledger.py::Commits.wait
    Also: tests/unit/test_fs_access_ledger.py::test_who_is_beyond_its_budget_waits_alone
    Without: ::test_it_grows_as_fast_as_the_app_asks_where_nobody_waits
    """
    mount = without("low-budgets", POLICY, furnish(empty_store))
    opened, seconds, grown = opened_often(mount)
    assert grown <= RATE * (seconds + 1) + BURST
    told = [event for event in mount.events(operation="open", app="app") if event["path"].endswith(LONG)]
    assert len(told) == opened
    assert not any("folded" in event for event in told)


def test_it_grows_as_fast_as_the_app_asks_where_nobody_waits(without, empty_store: Path) -> None:
    mount = without("unbudgeted", POLICY, furnish(empty_store))
    opened_often(mount, BURST)


# ---------------------------------------------------------------- a trail that is slow to write


def _refuse_and_make(channel: Connection, mount: Path) -> list[str]:
    """Be refused, and make, open and remove what must be on record, each in a thread; what came of it."""
    said = {}

    def call(name: str, function: Any, *arguments: Any) -> None:
        try:
            function(*arguments)
            said[name] = ""
        except OSError as error:
            said[name] = errno.errorcode[error.errno or 0]

    calls = [
        ("refused", os.mknod, mount / "deep/fifo", 0o010644), ("made", os.mkdir, mount / "strict/a/made"),
        ("removed", os.unlink, mount / "strict/b/gone"), ("opened", open, mount / "strict/c/file", "rb"),
    ]  # fmt: skip
    threads = [threading.Thread(target=call, args=arguments) for arguments in calls]
    for thread in threads:
        thread.start()
    channel.send("asked")
    for thread in threads:
        thread.join()
    return [said[name] for name, *_ in calls]


def _go_on(_channel: Connection, directory: Path) -> None:
    for _ in range(20):
        with open(directory / "file", "rb+") as file:
            file.write(b"more")


def _there(store: Path) -> list[str]:
    return sorted(str(path.relative_to(store / "strict")) for path in (store / "strict").glob("?/*"))


def hung(mount: Mount, hang: Path, waiting: int) -> tuple[bool, list[str], list[str]]:
    """While nothing can be written to the trail, and so many requests wait for it: does a neighbour go on,
    what is in /strict meanwhile; and what the app is told when it can."""
    for name in ("a", "b/gone", "c/file"):
        path = mount.store / "strict" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("text") if "/" in name else path.mkdir()
        path.parent.chmod(0o777)
        path.chmod(0o777)
    start_as(NEIGHBOUR, _go_on, mount / "best").result()
    hang.touch()
    try:
        hostile = start_as(APP, _refuse_and_make, mount.mountpoint)
        assert hostile.receive() == "asked"
        wait_for(lambda: Path(f"{hang}{WAITS}").exists(), "something is to be written")
        wait_for(lambda: mount.waiting() >= waiting, "all of them wait")
        neighbour = start_as(NEIGHBOUR, _go_on, mount / "best")
        goes_on = _has_ended(neighbour)
        there = _there(mount.store)
    finally:
        hang.unlink()
    neighbour.result()
    return goes_on, there, hostile.result()


def _has_ended(child: Child) -> bool:
    """True as soon as it has ended, False if it has not for five seconds."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    try:
        wait_for(lambda: os.waitid(os.P_PID, child.pid, flags), "its end", 5)
    except DeadlineExceeded:
        return False
    return True


def test_who_must_be_on_record_waits_alone_where_that_is_slow(
    mounts_on: Mounts, tmp_path: Path, empty_store: Path
) -> None:
    """Attack D2.3: Make all apps wait for one app's record, while the trail's disk is slow
    Guard: policyfs/journal/writing/committer.py::Committer.at_once,
    policyfs/fs/access/ledger.py::recorded_first
    Also:
    tests/attack/test_slow_records.py::test_who_saves_a_photo_to_be_cleaned_waits_alone_for_the_record,
    tests/unit/test_fs_access_ledger.py
    Without: ::test_all_wait_where_the_loop_writes

    Fault trail.2: The trail's disk is slow, or hangs
    App: A request that must be on record waits until its own line is written. All other requests
    continue
    Store: unchanged
    Trail: the line, later
    """
    mount = mounts_on.prepare(POLICY, furnish(empty_store))
    mount.program = ("tests.attack.weakened", "slow-trail,waits-without-end")  # not EBUSY after 0.3 s
    mount.environment[HANG] = str(tmp_path / "hang")
    mount.start()
    goes_on, there, said = hung(mount, tmp_path / "hang", 4)
    assert goes_on
    assert there == ["b/gone", "c/file"], "nothing is done before it is on record"
    assert said == ["EPERM", "", "", ""]
    assert _there(empty_store) == ["a/made", "c/file"]
    told = {"mknod": "/deep/fifo", "mkdir": "/strict/a/made", "unlink": "/strict/b/gone"}
    for operation, path in told.items():
        assert len(mount.events(app="app", operation=operation, path=path)) == 1


def test_all_wait_where_the_loop_writes(mounts_on: Mounts, tmp_path: Path, empty_store: Path) -> None:
    mount = mounts_on.prepare(POLICY, furnish(empty_store))
    mount.program = ("tests.attack.weakened", "slow-trail,written-on-the-loop")
    mount.environment[HANG] = str(tmp_path / "hang")
    mount.start()
    goes_on, _, _ = hung(mount, tmp_path / "hang", 1)
    assert not goes_on

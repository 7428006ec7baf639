"""A shared mount whose daemon is killed: each uid goes on with its own view, and no call fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.mount.test_takeover import READING, kill_daemon
from tests.mount.test_takeover_views import asked, drop_pages, photo, scan
from tests.support.machine.counts import count, first
from tests.support.machine.processes import call_as, code_of, start_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.samples.jpegs import leaks

MAPS, VIEWER, STRANGER = 10110, 10111, 10112
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  maps: {{uid: {MAPS}}}
  viewer: {{uid: {VIEWER}}}
rules:
  - {{id: read, allow: [see, read], who: {{app: any}}, paths: "/DCIM/**"}}
  - {{id: maps-only, deny: [see], who: {{not: {{app: maps}}}}, paths: "/DCIM/maps/**"}}
  - {{id: no-location, require: {{redact: location}}, who: {{app: viewer}}, paths: "/DCIM/**"}}
"""
PHOTOS = 12


@pytest.fixture
def filled(empty_store: Path) -> Path:
    (empty_store / "DCIM/maps").mkdir(parents=True)
    for number in range(PHOTOS):
        (empty_store / f"DCIM/{number}.jpg").write_bytes(photo(str(number).encode()))
    (empty_store / "DCIM/maps/plan.txt").write_text("for maps alone")
    return empty_store


def shared(mounts, store: Path, *options: str) -> Mount:
    mount = mounts.prepare(POLICY, store, "--read-only", *options)
    mount.program = READING
    return mount.start()


def scan_twice(top: Path) -> tuple[list[str], list[str], bytes]:
    """Scan twice, so that the bridge answers repeats."""
    failed, *found = scan(top)
    failed_again, *again = scan(top)
    names, digest = found
    return failed + failed_again + ["another second scan"] * (again != found), names, digest


def scanning(channel: Any, top: Path) -> None:
    """Scan until a word comes. Meanwhile an open file and a working directory go on."""
    os.chdir(top / "DCIM")
    with open(top / "DCIM/0.jpg", "rb", buffering=0) as file:
        head, wanted = file.read(5000), scan_twice(top)
        channel.send((wanted[0], wanted[1], leaks((top / "DCIM/0.jpg").read_bytes())))
        rounds, found = 0, []
        while not channel.poll():
            drop_pages(file.fileno())
            whole = head + os.pread(file.fileno(), 1 << 20, 5000)
            now = scan_twice(top)
            found += now[0] + ["another tree"] * (now != wanted)
            found += [os.getcwd()] * (os.getcwd() != f"{top}/DCIM")
            found += ["other bytes"] * (whole != Path("0.jpg").read_bytes())
            rounds += 1
        channel.recv()
        channel.send((rounds, found[:5]))


@pytest.mark.parametrize(
    "options", first(1, [((),), (("--no-passthrough",),)]), ids=["passthrough", "mediated"]
)
def test_each_uid_goes_on_with_its_own_view(mounts, filled: Path, options: tuple[str, ...]) -> None:
    mount = shared(mounts, filled, *options)
    children = {uid: start_as(uid, scanning, mount.mountpoint) for uid in (MAPS, VIEWER)}
    photos = sorted(f"{number}.jpg" for number in range(PHOTOS))
    failed, names, told = children[MAPS].receive()
    assert (failed, names, bool(told)) == ([], sorted([*photos, "plan.txt"]), True)
    assert children[VIEWER].receive() == ([], photos, [])
    for _ in range(count(2, 20)):
        kill_daemon(mount)
        assert mount.status()["takeover"]["possible"] is True
        assert call_as(STRANGER, lambda: code_of(os.stat, mount.mountpoint / "DCIM")) == "ENOENT"
        for uid, code in ((VIEWER, "ENOENT"), (MAPS, "")):
            assert call_as(uid, lambda: code_of(os.stat, mount.mountpoint / "DCIM/maps/plan.txt")) == code
    for child in children.values():
        rounds, failed = asked(child)
        assert failed == []
        assert rounds > 0
        child.result()
    assert mount.status()["vectors"]["lookups"] > 0
    status = mount.status()
    assert status["bugs"] == 0
    wait_for(lambda: mount.status()["handles"]["open"] == 0, "all handles are released")


def test_look_ups_that_the_bridge_has_answered_count_for_the_next_daemon(mounts, filled: Path) -> None:
    """Too few would make the daemon forget files that the kernel knows, too many keep them for ever."""
    mount = shared(mounts, filled)
    path = mount.mountpoint / "DCIM/1.jpg"

    def look() -> None:
        for _ in range(50):
            os.stat(path)

    call_as(MAPS, look)
    assert mount.status()["vectors"]["lookups"] > 20
    kill_daemon(mount)
    call_as(MAPS, look)
    known = mount.status()["nodes"]
    Path("/proc/sys/vm/drop_caches").write_text("2")
    wait_for(lambda: mount.status()["nodes"] == 1, f"{known} nodes are forgotten")
    assert call_as(VIEWER, lambda: leaks(path.read_bytes())) == []

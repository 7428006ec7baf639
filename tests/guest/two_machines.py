"""One store on NFS, and two machines that mount it. tests/mount/test_guest.py runs it.

The machines are network namespaces with host names of their own: to the server they are two clients, with
caches, locks and leases of their own. Their daemons share no directory.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.guest.nfs import refused_lock, run, serve
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import error
from tests.support.mount import layers
from tests.support.mount.daemons import Mount, MountFailed
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

APP, KEEPER = 10020, 10021
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: two}}
apps:
  app: {{uid: {APP}}}
  keeper: {{uid: {KEEPER}}}
rules:
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/***"}}
  - {{id: keep, deny: [delete, write], who: {{app: keeper}}, paths: "/Kept/*.old"}}
  - {{id: photos, require: {{content: ["image/*"]}}, who: {{app: any}}, paths: ["/Photos/*"]}}
"""
PHOTO: Final = jpegs.photo_with(jpegs.exif())
NAMES: Final = 40
LAG_S: Final = 2.5
"""How long a change of the other machine may stay unseen: docs/operations.md, with the options tried here."""

LONG_LAG_S: Final = 70.0


class Machine(NamedTuple):
    """store: where the machine has the export. mount: its mount of policyfs."""

    store: Path
    mount: Mount


def machine(name: str, number: int, target: Path, options: str) -> None:
    """Mount the export on *target*, as another machine does."""
    net = f"/run/netns/{name}"
    if not Path(net).exists():
        run("modprobe", "veth")
        run("ip", "netns", "add", name)
        run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "addr", "add", f"10.9.{number}.1/24", "dev", f"to-{name}")
        run("ip", "link", "set", f"to-{name}", "up")
        for words in (f"addr add 10.9.{number}.2/24 dev eth0", "link set eth0 up", "link set lo up"):
            run("ip", "-n", name, *words.split())
    target.mkdir(parents=True, exist_ok=True)
    words = f"hostname {name} && mount -t nfs -o vers=4.2{options} 10.9.{number}.1:/ {target}"
    run("nsenter", f"--net={net}", "unshare", "--uts", "sh", "-c", words)


@pytest.fixture(params=["", ",lookupcache=none,actimeo=1"], ids=["default", "fresh"])
def options(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def machines(options: str, arena: Path, empty_store: Path, tmp_path: Path) -> Iterator[list[Machine]]:
    tmp_path.chmod(0o700)
    for name in ("Kept", "Photos"):
        (empty_store / name).mkdir()
    serve()
    export = f"10.9.0.0/16:{empty_store}"
    run("exportfs", "-o", "rw,no_root_squash,no_subtree_check,insecure,sec=sys,fsid=0", export)
    found, groups, wrong = [], [], []
    try:
        for number, name in enumerate(("one", "two"), 1):
            store, own = tmp_path / name, arena / name
            machine(name, number, store, options)
            own.mkdir(mode=0o711)
            groups.append(Mounts(own))
            mount = groups[-1].start(POLICY, store)
            mount.expected_mediated = True
            found.append(Machine(store, mount))
        yield found
    finally:
        for group in groups:
            wrong += group.stop_all()
        for name in ("one", "two"):
            if os.path.ismount(tmp_path / name):
                layers.unmount(tmp_path / name)
        run("exportfs", "-u", export)
    assert wrong == []


def each(channel, do: Callable[[Path], None], path: Path) -> list[str]:
    """Do something for each name, as soon as told so; the errors."""
    channel.send("ready")
    channel.recv()
    return [error(do, path / str(number)) for number in range(NAMES)]


def at_once(machines: list[Machine], *do: Callable[[Path], None]) -> list[list[str]]:
    """Let an app of each machine do something with the same names at the same time."""
    children = [
        start_as(APP, each, one, machine.mount.mountpoint) for machine, one in zip(machines, do, strict=True)
    ]
    for child in children:
        assert child.receive() == "ready"
    for child in children:
        child.send("go")
    return [child.result() for child in children]


def create(path: Path) -> None:
    with path.open("xb") as file:
        file.write(b"x")


@pytest.mark.parametrize(
    "make",
    [create, os.mkdir, lambda path: os.symlink("x", path)],
    ids=["create", "mkdir", "symlink"],
)
def test_one_machine_alone_makes_a_name(machines: list[Machine], make: Callable[[Path], None]) -> None:
    errors = at_once(machines, make, make)
    assert all(sorted(pair) == ["EEXIST", "None"] for pair in zip(*errors, strict=True)), errors


def test_one_machine_alone_links_a_name(machines: list[Machine]) -> None:
    for number, machine in enumerate(machines):
        call_as(APP, Path.write_bytes, machine.mount / f"source-{number}", b"x")

    def link(source: str, path: Path) -> None:
        os.link(path.with_name(source), path)

    errors = at_once(machines, partial(link, "source-0"), partial(link, "source-1"))
    assert all(sorted(pair) == ["EEXIST", "None"] for pair in zip(*errors, strict=True)), errors


def test_a_rename_replaces_no_file_of_the_other_machine_that_the_app_may_not_delete(
    machines: list[Machine], options: str
) -> None:
    """By default the first machine remembers for a while that the name is free."""
    first, second = (machine.mount for machine in machines)
    assert call_as(KEEPER, error, os.stat, first / "Kept/a.old") == "ENOENT"
    call_as(KEEPER, Path.write_bytes, first / "Kept/new", b"first")
    call_as(APP, Path.write_bytes, second / "Kept/a.old", b"second")
    said = call_as(KEEPER, error, os.rename, first / "Kept/new", first / "Kept/a.old")
    assert (machines[1].store / "Kept/a.old").read_bytes() == b"second", said
    assert said == "EACCES"
    assert (machines[0].store / "Kept/new").read_bytes() == b"first"
    call_as(KEEPER, os.rename, first / "Kept/new", first / "Kept/free")
    assert (machines[0].store / "Kept/free").read_bytes() == b"first"


def test_a_lock_holds_on_both_machines(machines: list[Machine]) -> None:
    first, second = (machine.mount for machine in machines)
    call_as(APP, Path.write_bytes, first / "db", b"x")

    def holds(channel, path: Path) -> None:
        with path.open("r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            channel.send("held")
            channel.recv()

    wait_for(lambda: call_as(APP, Path(second / "db").exists), "the file", LONG_LAG_S)
    holder = start_as(APP, holds, first / "db")
    assert holder.receive() == "held"
    assert call_as(APP, refused_lock, second / "db") == "held"
    holder.send("end")
    holder.result()
    assert call_as(APP, refused_lock, second / "db") == ""


def test_a_file_moves_to_no_path_with_a_content_rule(machines: list[Machine]) -> None:
    """No lease proves that the other machine does not write it. As a copy it is checked."""
    first, second = (machine.mount for machine in machines)
    call_as(APP, Path.write_bytes, first / "a.jpg", PHOTO)
    assert call_as(APP, error, os.rename, first / "a.jpg", first / "Photos/a.jpg") == "EXDEV"
    call_as(APP, Path.write_bytes, first / "Photos/a.jpg", PHOTO)
    assert call_as(APP, error, Path.write_bytes, second / "Photos/b.jpg", b"text\n") in {"EPERM", "EACCES"}


def test_what_the_other_machine_changes_is_seen(machines: list[Machine], options: str) -> None:
    first, second = (machine.mount for machine in machines)
    call_as(APP, Path.write_bytes, first / "a", b"1")
    lag = LAG_S if options else LONG_LAG_S

    def reads(path: Path) -> str:
        try:
            return path.read_text()
        except FileNotFoundError:
            return "absent"

    def is_read(path: Path, text: str) -> bool:
        return call_as(APP, reads, path) == text

    for path, text in (("a", "1"), ("a", "2"), ("b", "absent")):
        if text == "2":
            call_as(APP, Path.write_text, first / path, text)
        wait_for(partial(is_read, second / path, text), text, lag)
    call_as(APP, os.rename, first / "a", first / "b")
    wait_for(lambda: call_as(APP, reads, second / "a") == "absent", "it is gone", lag)
    wait_for(lambda: call_as(APP, reads, second / "b") == "2", "it is there", lag)


def test_a_store_is_known_after_another_mount_of_it(machines: list[Machine], options: str) -> None:
    markers = [[n for n in os.listdir(m.store) if n.startswith("policyfs-aside-store-")] for m in machines]
    assert markers[0] == markers[1]
    assert len(markers[0]) == 1
    store, mount = machines[0]
    assert mount.stop() == []
    layers.unmount(store)
    with pytest.raises(MountFailed, match="is not as it was: another file system is there"):
        mount.start()
    machine("one", 1, store, options)
    mount.start()
    assert "Kept" in call_as(APP, os.listdir, mount.mountpoint)

"""B1: what one may not read is linked, renamed or exchanged to where one may, or what is above it.

The mover may see, delete and create on both sides; only reading differs. The reader beside it may read,
and goes on reading what nobody could move away.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from policyfs.linux import libc
from tests.support.machine.processes import call_as, start_as
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

MOVER, READER = 10010, 10011
SECRET: Final = b"not for the mover"
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  mover: {{uid: {MOVER}}}
  reader: {{uid: {READER}}}
rules:
  - {{id: all, allow: [all], who: {{app: mover}}, paths: "/***"}}
  - {{id: locked, deny: [read], who: {{app: mover}}, paths: "/outer/*/locked/***"}}
  - {{id: reader, allow: [see, read], who: {{app: reader}}, paths: "/***"}}
"""


def furnish(store: Path) -> Path:
    (store / "outer/middle/locked/deep").mkdir(parents=True)
    for name in ("secret", "other", "deep/secret"):
        (store / "outer/middle/locked" / name).write_bytes(SECRET)
    (store / "free/mine").mkdir(parents=True)
    for name in ("file", "mine/file"):
        (store / "free" / name).write_text("the mover's own")
    return store


def _rename(old: str, new: str, flags: int) -> None:
    with fd_of(os.path.dirname(old), os.O_PATH) as a, fd_of(os.path.dirname(new), os.O_PATH) as b:
        libc.rename2(a, os.path.basename(old).encode(), b, os.path.basename(new).encode(), flags)


def _relink(name: str, new: str) -> None:
    """link(2) of what is only an O_PATH descriptor, through /proc."""
    with fd_of(name, os.O_PATH) as fd, fd_of(os.path.dirname(new), os.O_PATH) as directory:
        libc.link_fd(fd, directory, os.path.basename(new).encode())


WAYS: Final[dict[str, tuple[Callable[[str], object], str]]] = {
    # the attempt in the mount, and where the secret would be read then
    "link": (lambda m: os.link(m + "/outer/middle/locked/secret", m + "/free/link"), "free/link"),
    "link of a descriptor": (lambda m: _relink(m + "/outer/middle/locked/secret", m + "/free/re"), "free/re"),
    "rename": (lambda m: os.rename(m + "/outer/middle/locked/secret", m + "/free/moved"), "free/moved"),
    "noreplace": (
        lambda m: _rename(m + "/outer/middle/locked/secret", m + "/free/no", libc.RENAME_NOREPLACE),
        "free/no",
    ),
    "onto": (lambda m: os.rename(m + "/outer/middle/locked/other", m + "/free/file"), "free/file"),
    "exchange": (
        lambda m: _rename(m + "/free/file", m + "/outer/middle/locked/secret", libc.RENAME_EXCHANGE),
        "free/file",
    ),
    "its directory": (
        lambda m: os.rename(m + "/outer/middle/locked", m + "/free/directory"),
        "free/directory/secret",
    ),
    "under another name": (
        lambda m: os.rename(m + "/outer/middle/locked", m + "/outer/middle/open"),
        "outer/middle/open/secret",
    ),
    "the directory above": (
        lambda m: os.rename(m + "/outer/middle", m + "/middle"),
        "middle/locked/secret",
    ),
    "two above": (lambda m: os.rename(m + "/outer", m + "/elsewhere"), "elsewhere/middle/locked/secret"),
    "directories exchanged": (
        lambda m: _rename(m + "/free/mine", m + "/outer/middle/locked", libc.RENAME_EXCHANGE),
        "free/mine/secret",
    ),
}  # fmt: skip


def _attempt(way: str, mount: str) -> tuple[str, str]:
    """What the attempt said, and what is read where the secret should be then."""
    attempt, place = WAYS[way]
    return error(attempt, mount), error(content, f"{mount}/{place}")


def _read_on(channel, mount: Path) -> tuple[int, list[str]]:
    """The reader: opens the secret by its old name, again and again."""
    turns, wrong = 0, []
    channel.send("reading")
    while not channel.poll(0.002):
        turns += 1
        if (said := error(content, str(mount / "outer/middle/locked/secret"))) != repr(SECRET):
            wrong.append(said)
    return turns, wrong


@pytest.fixture(scope="module", params=[(), ("--app", "mover")], ids=["shared", "app"])
def mount(request, module_mounts: Mounts, module_arena: Path) -> Mount:
    store = Path(tempfile.mkdtemp(prefix="store-", dir=module_arena))  # another each time it is set up
    return module_mounts.start(POLICY, furnish(store), *request.param)


def test_nothing_is_moved_to_where_more_may_be_done_with_it(mount: Mount) -> None:
    """Attack B1.1: Link, rename or exchange a file, or a directory above it, to a path that the app may
    read
    Guard: policyfs/policy/moves/moves.py::Mover.rename, policyfs/policy/moves/moves.py::Mover.link
    Also: tests/mount/test_ops_policy.py::test_nobody_gains_by_moving,
    tests/attack/test_free_moves.py::test_an_app_gains_nothing_by_its_own_moves
    Without: ::test_all_of_it_is_read_where_moves_are_not_compared
    """
    reader = None
    if not mount.options:
        reader = start_as(READER, _read_on, mount.mountpoint)
        reader.receive()
    found = {way: call_as(MOVER, _attempt, way, str(mount.mountpoint)) for way in WAYS}
    assert {said for said, _ in found.values()} <= {"EXDEV", "EACCES"}, found
    assert not any(SECRET.decode() in read for _, read in found.values()), found
    if reader is not None:
        reader.send("enough")
        turns, wrong = reader.result()
        assert turns > 5
        assert wrong == []
    assert (mount.store / "outer/middle/locked/secret").read_bytes() == SECRET
    # What gains nobody anything is moved as ever.
    assert call_as(MOVER, lambda: error(os.rename, mount / "free/mine", mount / "free/yours")) == "None"
    assert call_as(MOVER, lambda: error(os.rename, mount / "free/yours", mount / "free/mine")) == "None"
    denied = [event for event in mount.events(decision="deny") if event["operation"] in {"link", "rename"}]
    assert len(denied) >= len(WAYS)


def test_all_of_it_is_read_where_moves_are_not_compared(without, empty_store: Path) -> None:
    mount = without("moves-not-compared", POLICY, furnish(empty_store))
    found = {}
    for way in WAYS:
        found[way] = call_as(MOVER, _attempt, way, str(mount.mountpoint))
        for name in ("outer", "free"):
            if (empty_store / name).exists():
                os.rename(empty_store / name, empty_store / f"old-{name}-{way}")
        furnish(empty_store)
    missed = {way: seen for way, seen in found.items() if SECRET.decode() not in seen[1]}
    assert missed == {}

"""B2: symlinks in the store and made through the mount, and a directory that becomes one during an open.

Outside the store lies a file that only root can read. Who resolves a symlink is the app's kernel, with the
app's rights; the daemon, which is root, never follows one. In the race something in the store is exchanged
for a symlink that leads to the secret, some thousand times a second, while an app opens it by its name.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from policyfs.linux import libc
from tests.support.machine.counts import count
from tests.support.machine.processes import call_as, start_as, wait_for
from tests.support.models.twins import content, error
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

APP, OTHER = 10010, 10011
SECRET, OWN, HIDDEN = b"root's own", b"the app's own", b"another app's own"
ENTERED: Final = count(50, 5000)
"""Opens during which the exchange happened, of each sort."""
SECONDS: Final = count(80, 900)
PAUSE_S: Final = 0.0001
"""Between two exchanges: the daemon's watch of the store is to have nothing to catch up with."""
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  app: {{uid: {APP}}}
  other: {{uid: {OTHER}}}
rules:
  - {{id: own, allow: [all], who: {{app: any}}, paths: "/{{app}}/***"}}
"""


def furnish(arena: Path, store: Path) -> Path:
    """A store, and a directory of root's outside it; the links in the store lead there."""
    outside = arena / "outside"
    (outside / "directory").mkdir(mode=0o700, parents=True)
    (outside / "directory").chmod(0o700)
    for name in ("file", "inner"):
        (outside / "directory" / name).write_bytes(SECRET)
    for name, uid in (("app", APP), ("other", OTHER)):
        (store / name / "directory").mkdir(parents=True)
        (store / name / "file").write_bytes(OWN)
        (store / name / "directory/inner").write_bytes(OWN if uid == APP else HIDDEN)
        for path in (store / name, *(store / name).rglob("*")):
            os.chown(path, uid, uid)
    for name, target in {
        "absolute": outside / "directory/file", "up": "../../outside/directory/file",
        "chain": "absolute", "to-directory": outside / "directory", "to-other": "../other/directory/inner",
        "dots": "directory/../../other/directory/inner", "loop": "loop",
    }.items():  # fmt: skip
        os.symlink(target, store / "app" / name)
    os.symlink(outside / "directory", store / "swap-directory")
    os.symlink(outside / "directory/file", store / "swap-file")
    return outside


THROUGH: Final = ("absolute", "up", "chain", "to-directory/file", "to-other", "dots", "loop")
CALLS: Final[dict[str, Callable[[str], object]]] = {
    "read": content,
    "write": lambda p: os.open(p, os.O_WRONLY),
    "empty": lambda p: os.truncate(p, 0),
    "create": lambda p: os.open(p, os.O_WRONLY | os.O_CREAT, 0o666),
    "chmod": lambda p: os.chmod(p, 0o777),
    "link": lambda p: os.link(p, os.path.dirname(p) + "/linked", follow_symlinks=True),
    "setxattr": lambda p: os.setxattr(p, "user.a", b"b"),
}


def _follow_all(directory: str) -> dict[str, str]:
    return {
        f"{call} {name}": error(function, f"{directory}/{name}")
        for name in THROUGH
        for call, function in CALLS.items()
    }


@pytest.fixture(scope="module", params=[(), ("--app", "app")], ids=["shared", "app"])
def linked(request, module_mounts: Mounts, module_arena: Path) -> tuple[Mount, Path]:
    arena = Path(tempfile.mkdtemp(prefix="arena-", dir=module_arena))  # another each time it is set up
    store = arena / "store"
    store.mkdir(mode=0o700)
    arena.chmod(0o755)
    outside = furnish(arena, store)
    return module_mounts.start(POLICY, store, *request.param), outside


def test_links_are_data_and_lead_where_the_app_may_go_anyway(linked) -> None:
    """Attack B2.1: Use symlinks, in the store or made through the mount: absolute, `..`, chains
    Guard: policyfs/store/tree.py::Tree.open_file, policyfs/fs/namespace/lookup.py::Lookup.readlink
    Also: tests/unit/test_store_tree.py
    Without: ::test_the_daemon_reads_what_only_root_may_where_it_follows
    """
    mount, outside = linked
    answers = call_as(APP, _follow_all, str(mount / "app"))
    assert set(answers.values()) <= {"EACCES", "ENOENT", "ELOOP", "EPERM"}, answers
    made = call_as(APP, lambda: [
        error(os.symlink, outside / "directory/file", mount / "app/made"),
        os.readlink(mount / "app/made"), error(content, str(mount / "app/made")),
        error(os.unlink, mount / "app/made"),
    ])  # fmt: skip
    assert made == ["None", str(outside / "directory/file"), "EACCES", "None"]
    assert (outside / "directory/file").read_bytes() == SECRET
    assert (outside / "directory/file").stat().st_nlink == 1
    assert (mount.store / "other/directory/inner").read_bytes() == HIDDEN
    assert call_as(APP, content, str(mount / "app/directory/inner")) == OWN


# ---------------------------------------------------------------- exchanged during an open


def _swap(channel, store: str, one: bytes, two: bytes, counter: mmap.mmap) -> int:
    """Exchanges two names of the store until it is told to stop; an even count: they are as they were."""
    fd = os.open(store, os.O_PATH)
    turn = 0
    channel.send("swapping")
    while turn % 2 or not channel.poll():
        libc.rename2(fd, one, fd, two, libc.RENAME_EXCHANGE)
        turn += 1
        counter[:8] = struct.pack("=Q", turn)
        time.sleep(PAUSE_S)
    return turn


def _open_all(_channel, path: str, counter: mmap.mmap, wanted: int) -> tuple[int, dict[str, int]]:
    """Opens and reads until *wanted* tries had an exchange in them: how many did, and what was read. A try
    that saw the link from the first does not count: nobody asked the daemon to open it."""
    entered, seen = 0, {}
    until = time.monotonic() + SECONDS
    while entered < wanted and time.monotonic() < until:
        (before,) = struct.unpack("=Q", counter[:8])
        said = error(content, path)
        moved = struct.unpack("=Q", counter[:8])[0] > before
        entered += moved and said != "EACCES"  # the link was seen, and followed by the app's own kernel
        seen[said] = seen.get(said, 0) + 1
        if repr(SECRET) in seen:
            break
    return entered, seen


SORTS: Final = {
    # what is exchanged for which symlink, and what is opened meanwhile
    "a directory": (b"app/directory", b"swap-directory", "app/directory/inner"),
    "a file": (b"app/file", b"swap-file", "app/file"),
}


def exchanged(mount: Mount, sort: str, wanted: int) -> tuple[int, dict[str, int]]:
    one, two, path = SORTS[sort]
    counter = mmap.mmap(-1, 8)
    swapper = start_as(0, _swap, str(mount.store), one, two, counter)
    try:
        swapper.receive()
        opener = start_as(APP, _open_all, str(mount / path), counter, wanted)
        found = opener.result(SECONDS + 30)
        swapper.send("enough")
        assert swapper.result() > 0
    finally:
        swapper.kill()
    return found


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize(
    "options", [(), pytest.param(("--app", "app"), marks=pytest.mark.soak)], ids=["shared", "app"]
)
def test_what_becomes_a_link_during_an_open_is_not_followed(
    mounts: Mounts, arena: Path, empty_store: Path, options, sort: str
) -> None:
    """In an app mount the kernel keeps names, and asks the daemon far less often.

    Attack B2.4: Replace a directory or file by a symlink during an open (500 opens during which this
    happened)
    Guard: policyfs/store/tree.py::Tree.open_dir, policyfs/store/tree.py::Tree.open_file,
    policyfs/fs/inodes/resolver.py::Resolver._step
    Without: ::test_the_daemon_reads_what_only_root_may_where_it_follows
    """
    furnish(arena, empty_store)
    arena.chmod(0o755)
    mount = mounts.start(POLICY, empty_store, *options)
    entered, seen = exchanged(mount, sort, ENTERED)
    assert entered >= ENTERED
    assert set(seen) <= {repr(OWN), "EACCES", "ENOENT", "ESTALE", "ELOOP", "ENOTDIR"}, seen
    assert seen.get(repr(OWN), 0) > 0, "the race was never won by who is in the right"
    wait_for(lambda: call_as(APP, content, str(mount / SORTS[sort][2])) == OWN, "it is as it was")


def test_the_daemon_reads_what_only_root_may_where_it_follows(
    mounts: Mounts, without, arena: Path, empty_store: Path
) -> None:
    furnish(arena, empty_store)
    arena.chmod(0o755)
    mount = without("follows-links", POLICY, empty_store)
    for sort in SORTS:
        _, seen = exchanged(mount, sort, 50 * ENTERED)
        assert repr(SECRET) in seen, (sort, seen)

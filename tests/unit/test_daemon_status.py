"""The answer to `policyfs status`, of a daemon's real parts without a kernel."""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from policyfs.content.sniffer import Sniffer
from policyfs.content.workers.sandbox import Limits
from policyfs.daemon import status
from policyfs.daemon.control import control
from policyfs.daemon.log import configure
from policyfs.daemon.options import MountOptions
from policyfs.daemon.policies.policies import Loader, Policies
from policyfs.daemon.status import describe, questions_about, root_of
from policyfs.errors import PolicyfsError
from policyfs.fs.filesystem import FileSystem
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.journal.files.retention import Retention
from policyfs.journal.writing.journal import Journal
from policyfs.policy.decide import compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.store.facts import StoreFacts
from policyfs.store.trial import probe
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, REDACTED, TYPES, errno_of
from tests.support.mount.trail import MOUNT_ID, a_journal

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: home}
apps:
  camera: {uid: 10010}
  server: {uid: 10011, modes: policy}
rules:
  - {id: all, allow: [all], paths: "/**"}
exceptions:
  - id: party
    until: %s
    approved-by: ann
    reason: photos of the party
    allow: [read]
    who: {app: camera}
    paths: "/DCIM/**"
"""
OPTIONS = MountOptions(
    store="/store", mountpoint="/mnt/media", app=None, any_uid=False, user_id=None, group_ids=(),
    trail=Path("/trail"), posix=False, read_only=False, passthrough=True, copy_bytes=5, cache_bytes=6,
    segment_bytes=7, keep=Retention(), policy="/etc/home.yaml",
)  # fmt: skip


@dataclass
class Daemon:
    """The parts that a status reports. connection and the counts are the kernel's, and the event loop's."""

    fs: FileSystem
    facts: StoreFacts
    root: dict[str, object]
    code: str
    journal: Journal
    policies: Policies
    options: MountOptions
    sniffer: Sniffer
    remembered: None = None
    inotify: None = None
    trail: Path = Path("/trail")
    started_ns: int = 1_772_352_000_000_000_000
    leaving: bool = False
    state: SavedState | None = None
    connection: int = 77
    bugs: int = 3


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "lost_replies", lambda: 4)
    monkeypatch.setattr(status, "counters", lambda: {"LOOKUP": 5})


@contextmanager
def running(
    tmp_path: Path, until: str = "2999-01-01T00:00:00Z", **options: Any
) -> Iterator[tuple[Daemon, Parts]]:
    """A mount of a policy with an exception until that instant."""
    store = tmp_path / "store"
    store.mkdir()
    (store / "a.jpg").write_bytes(PHOTO)
    loader = Loader(
        lambda: [SourceText("home.yaml", (POLICY % until).encode())],
        parse_policy,
        compile_policy,
    )
    limits = Limits(65534, 65534, address_space=1 << 29, cpu_s=60, descriptors=8)
    sniffer = Sniffer(limits, workers=2, at_first=1, deadline_s=5, queue=8)  # is not started
    policies = Policies(loader, tmp_path, configure(io.StringIO(), as_json=True))
    try:
        with a_journal(tmp_path) as journal, parts(store, policies.engine, app=options.get("app")) as made:
            policies.begin(journal, tmp_path / MOUNT_ID, {})
            daemon = Daemon(
                made.whole, probe(made.tree.root_fd), root_of(made.tree, writable=True), "0123", journal,
                policies, replace(OPTIONS, **options), sniffer,
            )  # fmt: skip
            made.whole.kernel_cache.notifier = None
            yield daemon, made
    finally:
        policies.close()


def status_of(daemon: Daemon) -> dict:
    said = describe(daemon)  # type: ignore[arg-type]
    assert json.loads(json.dumps(said)) == said, "plain JSON"
    return said


@on_trio
async def test_a_status_names_the_mount_and_what_it_was_mounted_with(tmp_path: Path) -> None:
    told = {"options": ["--posix", "--read-only"], "user": "ann"}
    with running(tmp_path, app="camera", posix=True, read_only=True, told=told) as (daemon, _):
        said = status_of(daemon)
    assert (said["mountpoint"], said["store"], said["app"]) == ("/mnt/media", "/store", "camera")
    assert said["mount_id"] == control.mount_id("/mnt/media")
    assert (said["posix"], said["read_only"], said["copy_bytes"]) == (True, True, 5)
    assert said["options"] == told["options"]
    assert said["store_fs"] == daemon.facts.name
    store = (tmp_path / "store").stat()
    assert (said["root"]["device"], said["root"]["inode"]) == (store.st_dev, store.st_ino)
    assert said["root"]["writable"]
    assert (said["pid"], said["started"]) == (os.getpid(), "2026-03-01T08:00:00.000000000Z")
    assert (said["bugs"], said["connection"], said["lost_replies"]) == (3, 77, 4)
    assert said["code"] == "0123"
    assert said["fuse"] == {"LOOKUP": 5}
    assert said["remembered"] is None
    assert said["sniffer"]["requests"] == 0
    assert "capabilities" in said["contained"]
    assert set(said["requests"]) == {"waiting", "under_way"}


@pytest.mark.parametrize(
    ("admitted", "told"),
    [
        ({}, {"any": True, "uid": None, "gids": []}),
        ({"user_id": 0, "group_ids": (5, 6)}, {"any": False, "uid": 0, "gids": [5, 6]}),
    ],
)
def test_a_status_says_whom_the_mount_admits(tmp_path: Path, admitted: dict, told: dict) -> None:
    @on_trio
    async def run() -> None:
        with running(tmp_path, **admitted) as (daemon, _):
            assert status_of(daemon)["admits"] == told

    run()


@on_trio
async def test_a_status_follows_the_policy_and_the_trail(tmp_path: Path) -> None:
    with running(tmp_path) as (daemon, made):
        before = status_of(daemon)
        assert before["policy"]["name"] == "home"
        assert before["policy"]["digest"] == daemon.policies.engine.digest
        assert (before["policy"]["file"], before["policy"]["previous"]) == ("/etc/home.yaml", "")
        assert not before["policy"]["monitor"]
        made.reload(engine_of(OPEN, monitor=True))
        daemon.journal.tell("note", {}, policy=None, previous="")
        daemon.leaving = True
        daemon.state = SavedState(1)
        now = status_of(daemon)
        assert now["policy"]["generation"] == before["policy"]["generation"] + 1
        assert (now["policy"]["name"], now["policy"]["monitor"]) == ("test", True)
        assert (now["policy"]["exceptions"], now["policy"]["modes_of"]) == ([], [])
        assert now["trail"]["seq"] == before["trail"]["seq"] + 1
        assert now["trail"]["head"] != before["trail"]["head"]
        assert now["trail"]["directory"] == "/trail"
        assert (before["leaving"], now["leaving"]) == (False, True)
        assert before["takeover"] is None
        assert now["takeover"] == {
            "possible": False, "why_not": "the keeper has ended", "unsaved": 0, "unsaved_of": None,
            "count": 0, "upgrades": 0, "pause_ms": None, "reason": None, "again": 0, "unknown": 0,
            "keeper": 0,
        }


@pytest.mark.parametrize(
    ("until", "in_force"), [("2999-01-01T00:00:00Z", True), ("2001-01-01T00:00:00Z", False)]
)
def test_a_status_says_which_exceptions_have_ended(tmp_path: Path, until: str, in_force: bool) -> None:
    @on_trio
    async def run() -> None:
        with running(tmp_path, until) as (daemon, _):
            assert status_of(daemon)["policy"]["exceptions"] == [
                {
                    "id": "party", "until": until, "approved_by": "ann", "reason": "photos of the party",
                    "in_force": in_force,
                }
            ]  # fmt: skip

    run()


@on_trio
async def test_apps_that_see_modes_by_their_rights_are_named_strangers_too(tmp_path: Path) -> None:
    with running(tmp_path) as (daemon, made):
        assert status_of(daemon)["policy"]["modes_of"] == ["server"]
        made.whole.modes.apps = frozenset({None, "server"})
        assert status_of(daemon)["policy"]["modes_of"] == ["server", "stranger"]


@on_trio
async def test_descriptors_are_counted_without_the_one_that_counts_them(tmp_path: Path) -> None:
    with running(tmp_path) as (daemon, _):
        few = status_of(daemon)["descriptors"]
        more = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
        assert status_of(daemon)["descriptors"] == few + 3
        assert few == len(os.listdir("/proc/self/fd")) - 1 - 3
        for fd in more:
            os.close(fd)


# -- questions about one path --------------------------------------------------------------------------


async def asked(made: Parts, question: str, path: str) -> dict:
    said = await questions_about(made.whole)[question](path)
    assert json.loads(json.dumps(said))
    return said


@on_trio
async def test_each_view_of_an_open_file_is_told(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        assert await asked(made, "file", "/a.jpg") == {"open": []}
        readers = [await made.open("/a.jpg", os.O_RDONLY, uid) for uid in (MAPS, MAPS, GALLERY)]
        writer = await made.open("/a.jpg", os.O_RDWR, MAPS)
        entries = (await asked(made, "file", "/a.jpg"))["open"]
        found = {one["byte_path"]: (one["mode"], one["handles"], one["writers"]) for one in entries}
        assert found == {"raw": ("mediated", 3, 1), "copy": ("mediated", 1, 0)}
        assert {one["held"] for one in entries} == {0}
        assert len({one["view"] for one in entries}) == 2
        for handle in (*readers, writer):
            await made.release(handle)
        assert await asked(made, "file", "/a.jpg") == {"open": []}


@on_trio
async def test_bytes_that_are_not_in_the_store_yet_are_counted(store: Path) -> None:
    """Of a held head, and of a draft."""
    with parts(store, engine_of(OPEN + TYPES)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(handle, 0, PHOTO[:2])
        (entry,) = (await asked(made, "file", "/new"))["open"]
        assert entry["held"] == 2
        drafted, _ = await made.creator.create(made.root, b"draft", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(drafted, 1 << 20, b"end")
        (entry,) = (await asked(made, "file", "/draft"))["open"]
        assert entry["held"] == (1 << 20) + 3
        for one in (handle, drafted):
            assert await errno_of(made.sync.flush(one)) == errno.EPERM
            await made.release(one)


@on_trio
async def test_what_is_no_file_is_not_open(store: Path) -> None:
    (store / "d").mkdir()
    os.symlink("a.jpg", store / "link")
    with parts(store, engine_of(OPEN)) as made:
        await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        for path in ("/d", "/link", "/none", "/none/below", "/"):
            assert await asked(made, "file", path) == {"open": []}
        for path in ("a.jpg", "/a/../b", "/" + "x" * 300):
            with pytest.raises(PolicyfsError, match=r"within the mount|too long"):
                await asked(made, "file", path)

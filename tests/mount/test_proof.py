"""The proof of a mount before apps are let in: `policyfs mount` without --no-proof."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli import canary_requests
from policyfs.cli.canary_requests import Identity, NoAnswerError, ask
from policyfs.domain import Op
from policyfs.kernel.bridge import pyfuse3
from policyfs.policy.analysis.canaries import Canary, Sort
from tests.faults.test_killed_moves import silent
from tests.support.machine.processes import call_as, code_of
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts
from tests.support.mount.tinyfs import TinyFs

CHECKOUT = Path(__file__).resolve().parents[2]
PHOTOS = CHECKOUT / "policies" / "family-photos.yaml"
GALLERY = 10011


def _proved(mounts: Mounts, store: Path, *options: str, policy: str | Path = PHOTOS) -> Mount:
    mount = mounts.prepare(policy, store, *options)
    mount.proved = True
    return mount.start()


def _tree(store: Path) -> Iterator[tuple[Any, ...]]:
    """All that a store shows of itself, access times too."""
    for directory, _, files in os.walk(store):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            status = os.lstat(path)
            times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
            yield (path, status.st_ino, status.st_size, status.st_mode, *times, *os.listxattr(path))


@pytest.mark.parametrize(
    ("options", "sorts"),
    [
        ((), {"hiding", "denial", "redaction", "passthrough"}),
        (("--app", "gallery"), {"hiding", "denial", "redaction", "passthrough"}),
        (("--app", "maps", "--any-uid", "--read-only", "--no-xattrs"), {"hiding", "passthrough"}),
        (("--posix", "--no-passthrough"), {"hiding", "denial", "redaction", "passthrough"}),
    ],
    ids=("shared", "app", "read-only", "posix"),
)
def test_a_sound_mount_is_proved_and_the_store_is_as_before(
    mounts: Mounts, store: Path, options: tuple[str, ...], sorts: set[str]
) -> None:
    for path in (store, *store.rglob("*")):  # times that a read would change (relatime)
        os.utime(path, ns=(1_000_000_000, 2_000_000_000))
    before = list(_tree(store))
    mount = _proved(mounts, store, *options)
    assert list(_tree(store)) == before
    status = mount.status()
    assert status["proof"]["result"] == "held"
    assert set(status["proof"]["canaries"]) == sorts
    assert status["bugs"] == 0
    (proof,) = mount.events(type="proof")
    assert {"canaries": proof["canaries"]}.items() <= status["proof"].items()
    assert not [event for event in mount.events() if event.get("type", "event") == "event"]
    said = "all test requests got the right answers before apps reached the mount: "
    assert said in _shown(mount, proof["seq"])


def test_a_file_system_in_the_store_that_does_not_answer_is_no_obstacle(mounts: Mounts, store: Path) -> None:
    (store / "Away").mkdir()
    with silent(store / "Away"):
        mount = _proved(mounts, store)
        assert mount.status()["proof"]["result"] == "held"
        assert mount.stop() == []


def test_files_that_other_programs_remove_meanwhile_are_no_obstacle(
    mounts: Mounts, empty_store: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "all.yaml"
    policy.write_text(
        "apiVersion: policyfs/v1\nkind: Policy\nmetadata: {name: all}\n"
        f"apps: {{player: {{uid: {GALLERY}}}}}\n"
        'rules: [{id: all, allow: [see, read], paths: "/***"}]\n'
    )
    over = threading.Event()

    def works() -> None:
        for number in itertools.cycle(range(7)):
            (empty_store / f"tmp-{number}").touch()
            if over.wait(0.02):
                return
            (empty_store / f"tmp-{number}").unlink()

    other = threading.Thread(target=works)
    other.start()
    try:
        for _ in range(2):
            mount = _proved(mounts, empty_store, policy=policy)
            assert mount.status()["proof"]["result"] == "held"
            assert mount.stop() == []
    finally:
        over.set()
        other.join()


@pytest.mark.parametrize("path", ["/" + "n" * 300, "/d" * 2100], ids=("name", "path"))
def test_a_rule_for_a_path_that_no_file_can_have_is_no_obstacle(
    mounts: Mounts, store: Path, tmp_path: Path, path: str
) -> None:
    policy = tmp_path / "long.yaml"
    policy.write_text(
        "apiVersion: policyfs/v1\nkind: Policy\nmetadata: {name: long}\n"
        "apps: {gallery: {uid: 10011}}\nrules:\n"
        f'  - {{id: long, allow: [see, read], who: {{app: gallery}}, paths: ["{path}", "/DCIM/***"]}}\n'
    )
    proof = _proved(mounts, store, policy=policy).status()["proof"]
    assert proof["canaries"]["hiding"] > 0


def _shown(mount: Mount, seq: int) -> str:
    with mount.as_environment():
        return policyfs("audit", "show", f"{mount.trail_dir.name}:{seq}").stdout


def test_events_are_on_record_once_apps_are_in(mounts: Mounts, store: Path) -> None:
    mount = _proved(mounts, store)
    assert call_as(GALLERY, code_of, os.unlink, mount / "DCIM/Camera/a.jpg") == "EACCES"
    assert [event["uid"] for event in mount.events(decision="deny")] == [GALLERY]


def test_a_mount_without_a_proof_says_so(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(PHOTOS, store)
    assert mount.status()["proof"] == {"result": "none", "why": "switched off (--no-proof)"}
    (started,) = mount.events(type="mount")
    assert started["options"]["no_proof"] is True
    assert not mount.events(type="proof")


def test_without_a_proof_such_a_daemon_mounts(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(PHOTOS, store)
    mount.program = ("tests.attack.weakened", "shows-hidden")
    mount.start()
    assert call_as(GALLERY, code_of, os.stat, mount / "Documents/notes.txt") == ""


def test_a_daemon_that_is_killed_during_the_proof_leaves_no_mount(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(PHOTOS, store)
    mount.proved = True
    process = mount.launch()
    until = time.monotonic() + 60
    while not mount.trail_dir.exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    time.sleep(0.5)  # for a prover that would go on
    assert not mount.is_mounted()
    mount.process = None


class SlowLookup(TinyFs):
    """A file system whose LOOKUP waits until the test calls "let_go"."""

    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        await self.gate.wait()
        return await super().lookup(parent_inode, name, ctx)


def test_the_proof_ends_though_no_signal_ends_a_request(tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel waits for the answer to a request that it has sent, whatever signal comes."""
    forked: list[int] = []
    fork = os.fork

    def noting() -> int:
        forked.append(fork())
        return forked[-1]

    fs = tiny(kind=SlowLookup)
    monkeypatch.setattr(canary_requests, "DEADLINE_S", 0.3)
    monkeypatch.setattr(os, "fork", noting)
    answers = threading.Timer(20, lambda: fs.child.send(("let_go", ())))
    answers.start()
    place = os.open(fs.mountpoint, os.O_PATH)
    began = time.monotonic()
    try:
        with pytest.raises(NoAnswerError, match=r"within 0\.3 s"):
            ask(place, Identity(0, 0), [Canary(Sort.DENIAL, b"/f", Op.READ)], reads=True)
        assert time.monotonic() - began < 10
        answers.cancel()
        fs.call("let_go")
        assert os.waitstatus_to_exitcode(os.waitpid(forked[0], 0)[1]) == -signal.SIGKILL
    finally:
        answers.cancel()
        os.close(place)

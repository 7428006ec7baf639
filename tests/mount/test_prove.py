"""`policyfs prove` on mounts: what it says of sound mounts, and whom nothing stops from starting."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from policyfs.cli.prove import canary_requests
from policyfs.cli.prove.canary_requests import Identity, NoAnswerError, ask
from policyfs.domain import Op
from policyfs.kernel.bridge import pyfuse3
from policyfs.policy.analysis.canaries import Canary, Sort
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Mount, Said, policyfs, policyfs_process, policyfs_started
from tests.support.mount.stores import Mounts
from tests.support.mount.tinyfs import TinyFs

CHECKOUT = Path(__file__).resolve().parents[2]
PHOTOS = CHECKOUT / "policies" / "family-photos.yaml"
KILLED: Final = 1_954_321_077
"""A uid that nobody else on the machine has: a test kills all processes of this uid."""
READS: Final = {"hiding", "denial", "redaction", "passthrough"}


@contextlib.contextmanager
def silent(where: Path) -> Iterator[None]:
    """A mount of a FUSE file system that answers no request."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    try:
        assert libc.mount(b"silent", bytes(where), b"fuse.silent", 0, options) == 0, ctypes.get_errno()
        yield
    finally:
        os.close(fd)
        assert libc.umount2(bytes(where), 2) == 0


def proof_of(mount: Mount, *options: str) -> tuple[Said, dict[str, Any]]:
    """What `policyfs prove` says, and what it says as JSON."""
    said = policyfs_process("prove", "--json", *options, mount.mountpoint, environment=mount.environment)
    return said, json.loads(said.stdout) if said.stdout else {}


def assert_proved(mount: Mount, *options: str) -> dict[str, Any]:
    said, proof = proof_of(mount, *options)
    assert (said.returncode, said.stderr, proof["result"]) == (0, "", "held"), said
    return proof


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
        ((), READS),
        (("--app", "gallery"), READS),
        (("--app", "maps", "--any-uid", "--read-only", "--no-xattrs"), {"hiding", "passthrough"}),
        (("--posix", "--no-passthrough"), READS),
    ],
    ids=("shared", "app", "read-only", "posix"),
)
def test_a_sound_mount_is_proved_and_the_store_is_as_before(
    mounts: Mounts, store: Path, options: tuple[str, ...], sorts: set[str]
) -> None:
    """Attack F3.6: Use a daemon that enforces less than the policy says, through a bug, an upgrade or an
    odd kernel. (Only `policyfs prove` finds it; a start does not)
    Guard: policyfs/cli/prove/prover.py::wrong_with
    Without: tests/attack/test_unproved.py::test_a_canary_finds_a_program_without_a_guard,
    tests/attack/test_unproved.py::test_a_canary_finds_a_daemon_without_a_guard,
    tests/attack/test_unproved.py::test_a_canary_finds_an_app_mount_that_admits_everybody
    """
    for path in (store, *store.rglob("*")):  # times that a read would change (relatime)
        os.utime(path, ns=(1_000_000_000, 2_000_000_000))
    before = list(_tree(store))
    mount = mounts.start(PHOTOS, store, *options)
    found = assert_proved(mount)
    assert list(_tree(store)) == before
    assert set(found["canaries"]) == sorts
    assert mount.status()["bugs"] == 0
    (proof,) = mount.events(type="proof")
    assert (proof["result"], proof["canaries"]) == ("held", found["canaries"])
    assert (proof["how"], proof["uid"]) == ("policyfs prove", 0)
    with mount.as_environment():
        shown = policyfs("audit", "show", f"{mount.trail_dir.name}:{proof['seq']}").stdout
    assert "all sample requests of `policyfs prove` got the right answers: " in shown


def test_a_start_has_no_proof(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(PHOTOS, store)
    assert "proof" not in mount.status()
    assert not mount.events(type="proof")
    with mount.as_environment():
        said = policyfs("mount", "--no-proof", "--policy", PHOTOS, store, mount.mountpoint)
    assert said.returncode == 2


EQUAL: Final = """\
apiVersion: policyfs/v1
kind: Policy
apps: {one: {uid: 10011}, two: {uid: 10012}, three: {uid: 10013}}
rules:
  - {id: all, allow: [see, read], who: {app: any}, paths: "/***"}
"""


def test_apps_with_equal_rights_are_proved(mounts: Mounts, store: Path) -> None:
    """The bridge answers an open of the third app, so that no Python code counts it."""
    mount = mounts.start(EQUAL, store)
    assert set(assert_proved(mount)["callers"]) == {"one", "two", "three", "stranger"}


def test_an_app_kills_no_start_and_only_the_proof_of_its_own_mount(mounts: Mounts, store: Path) -> None:
    """A process of the app's uid kills all others of its uid, as fast as it can.

    Attack F3.7: Kill the processes with the app's uid that test a mount, so that no mount starts, or
    none is proved
    Guard: policyfs/cli/prove/canary_requests.py::Identity.take
    Without:
    tests/unit/test_cli_prove_canary_requests.py::test_only_a_process_with_all_ids_of_the_app_can_be_killed_by_the_app
    """
    policy = EQUAL.replace("10012", str(KILLED))
    mount = mounts.prepare(policy, store, "--app", "two")
    with _Killing(KILLED):
        mount.start()
        said, proof = proof_of(mount)
        assert said.returncode == 2
        assert proof["reason"].startswith("not proved: ")
        assert f"root and the processes of uid {KILLED} and the kernel can do that" in proof["reason"]
        assert_proved(mounts.start(policy, store))
    (record,) = mount.events(type="proof")
    assert (record["result"], record["reason"]) == ("failed", proof["reason"])
    assert_proved(mount)


class _Killing:
    """A context in which a process of a user kills all other processes of this user."""

    def __init__(self, uid: int) -> None:
        self._uid, self._child = uid, 0

    def __enter__(self) -> None:
        ready, told = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            try:
                with contextlib.suppress(PermissionError):
                    # Others may run for milliseconds before an ordinary process goes on: enough for a proof.
                    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
                os.setresuid(self._uid, self._uid, self._uid)
                os.write(told, b"r")
                while True:
                    self._round()
            finally:
                os._exit(1)
        os.read(ready, 1)
        for fd in (ready, told):
            os.close(fd)

    def _round(self) -> None:
        # kill(-1): all processes that this one may signal, but not this one
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        time.sleep(0.0005)

    def __exit__(self, *_: object) -> None:
        os.kill(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)


def test_a_policy_that_changes_meanwhile_is_not_proved(
    mounts: Mounts, store: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "own.yaml"
    policy.write_text(EQUAL)
    mount = mounts.start(policy, store)
    policy.write_text(EQUAL.replace("see, read", "see"))
    over = threading.Event()

    def reloads() -> None:
        while not over.wait(0.05):
            mount.reload()

    other = threading.Thread(target=reloads)
    other.start()
    try:
        said, proof = proof_of(mount)
    finally:
        over.set()
        other.join()
    assert (said.returncode, proof["reason"]) == (
        2, "not proved: the policy in force has changed meanwhile; run this command again",
    )  # fmt: skip


def test_what_is_no_mount_is_not_proved(tmp_path: Path) -> None:
    said = policyfs_process("prove", tmp_path, environment={"POLICYFS_RUNTIME_DIR": str(tmp_path)})
    assert said.returncode == 2
    why = f"no policyfs daemon answers for {tmp_path}: there is no policyfs mount; `policyfs status` lists"
    assert f"not proved: {why}" in said.stdout


def test_a_file_system_in_the_store_that_does_not_answer_is_no_obstacle(mounts: Mounts, store: Path) -> None:
    (store / "Away").mkdir()
    with silent(store / "Away"):
        mount = mounts.start(PHOTOS, store)
        assert_proved(mount)
        assert mount.stop() == []


def test_files_that_other_programs_remove_meanwhile_are_no_obstacle(
    mounts: Mounts, empty_store: Path
) -> None:
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
        mount = mounts.start(EQUAL, empty_store)
        assert_proved(mount)
    finally:
        over.set()
        other.join()


def test_a_rule_for_a_path_that_no_file_can_have_is_no_obstacle(mounts: Mounts, store: Path) -> None:
    policy = EQUAL.replace('"/***"', f'["/{"é" * 200}", "{"/d" * 2048}", "/DCIM/***"]')
    assert assert_proved(mounts.start(policy, store))["canaries"]["hiding"] > 0


def test_a_prover_keeps_no_mount_and_leaves_nothing_if_it_is_killed(mounts: Mounts, store: Path) -> None:
    """If its processes kept a mount in their namespace, `policyfs umount` would find this mount in use."""
    mount = mounts.start(PHOTOS, store)
    process = policyfs_started("prove", mount.mountpoint, environment=mount.environment)
    wait_for(lambda: _daemons_below(process.pid), "the second daemon runs")
    left = _daemons_below(process.pid)
    places = [Path(f"/proc/{pid}/mountinfo").read_text() for pid in left]
    assert not [place for place in places if f" {mount.mountpoint} " in place]
    process.kill()
    process.wait(30)
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), "all processes have ended")


def _daemons_below(pid: int) -> list[int]:
    """All processes below a process, once there are some in a session of their own."""
    found, todo = [], [pid]
    while todo:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{todo[-1]}/task/{todo.pop()}/children").read_text().split()
            found += map(int, words)
            todo += map(int, words)
    sessions = set()
    for one in found:
        with contextlib.suppress(OSError):
            sessions.add(os.getsid(one))
    return found if len(sessions) > 1 else []


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

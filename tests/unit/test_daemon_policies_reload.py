"""A reload: in force first, then told; and without effect if the policy cannot be used."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, Final

import pytest
import trio
import trio.testing

from policyfs.daemon.daemon import Daemon
from policyfs.daemon.duties import kept
from policyfs.daemon.end import EndOfMount, MountEnd
from policyfs.daemon.log import Notice
from policyfs.daemon.policies import reload as reload_module
from policyfs.daemon.policies.reload import Reload
from policyfs.errors import PolicyfsError, UsageError
from policyfs.fs.access.ledger import PolicyRecord
from policyfs.policy.decide import Engine, as_of, compile_policy
from policyfs.policy.exceptions import ended
from policyfs.policy.model import Policy
from policyfs.policy.text.parse import SourceText, digest_of, parse_policy

BY = MountEnd("command", "policyfs reload", 7, 1000, "/bin/sh")
ONE_APP = "apps: {gallery: {uid: 10011, gid: 10011}}\nrules: []\n"
HEAD = "apiVersion: policyfs/v1\nkind: Policy\nmetadata: {name: one}\n"


def engine_of(text: str) -> Engine:
    return compile_policy(parse_policy([SourceText("p.yaml", text.encode())]))


OLD = engine_of(HEAD + ONE_APP)


class Log:
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, message: str, **_: object) -> None:
        self.said.append(message)

    warning = info


class Mount:
    """The parts of a mount that a reload changes, as a list of what happened to them."""

    def __init__(self, text: str = HEAD + ONE_APP, **options: Any) -> None:
        self.happened: list[str] = []
        self.text = text
        self.broken = ""
        self.stale: list[Any] = []
        self.log = Log()
        self.in_force: object = OLD
        self.generation = 1
        self.policy_record = PolicyRecord()
        self.written: Callable[[], None] = lambda: None
        self.names_expire = True
        self.unsaved = ""
        told = {"app": None, "user_id": None, "group_ids": (), "watch": False, "policy": "p.yaml"} | options
        self.policies = SimpleNamespace(
            read=self.read, compile=self.compile, refuse=self.note("refused"), replace=self.replace,
            save_ends=self.save_ends, tell_stale=self.note("stale told"), without_ended=lambda engine: engine,
            save_text=self.note("text saved"), has_ended=lambda engine: False, flush=self.flush,
        )  # fmt: skip
        self.fs = SimpleNamespace(
            gate=self, use=self.use,
            opener=SimpleNamespace(second_tries=SimpleNamespace(settled=self.settled)),
            kernel_cache=SimpleNamespace(notifier=None, expire_all_names=self.expire),
            stale_handles=SimpleNamespace(find=self.find), nodes=SimpleNamespace(read_all=lambda: None),
        )  # fmt: skip
        self.reload = Reload(
            SimpleNamespace(**told), self.policies, self.fs, self.log, self.parse,  # type: ignore[arg-type]
        )  # fmt: skip

    def note(self, what: str) -> Callable[..., None]:
        return lambda *_: self.happened.append(what)

    @property
    def engine(self) -> object:
        return self.in_force

    def read(self, *, previous: bool) -> list[SourceText]:
        self.happened.append("read the one before" if previous else "read")
        return [SourceText("p.yaml", self.text.encode())]

    async def parse(self, sources: Sequence[SourceText]) -> Policy:
        if self.broken:
            raise PolicyfsError(self.broken)
        return parse_policy(sources)

    def compile(self, policy: Policy) -> Any:
        return compile_policy(policy)

    def replace(self, engine: object, sources: object, by: MountEnd, generation: int, written: Any) -> None:
        assert (by, generation) == (BY, self.generation + 1)
        self.happened.append("record queued")
        self.written = written

    def flush(self) -> None:
        self.happened.append("on record")
        self.written()

    def save_ends(self) -> str:
        self.happened.append("ends saved")
        return self.unsaved

    def use(self, engine: object) -> None:
        self.in_force, self.generation = engine, self.generation + 1
        self.happened.append("in force")

    async def settled(self, most_s: float) -> None:
        self.happened.append("opens settled")

    async def expire(self) -> bool:
        self.happened.append("names dropped")
        return self.names_expire

    async def find(self) -> list[Any]:
        return self.stale

    def run(self, **how: Any) -> dict[str, Any]:
        async def main() -> Any:
            return await self.reload.reload(BY, **how)

        return trio.run(main)


def test_a_policy_is_in_force_before_anything_else_is_told() -> None:
    """What may take long comes last: the old policy would stay. Its record is the first in the queue."""
    mount = Mount(HEAD + ONE_APP + "# new\n")
    answer = mount.run()
    assert mount.happened[:5] == ["read", "text saved", "opens settled", "record queued", "in force"]
    assert sorted(mount.happened[5:7]) == ["names dropped", "on record"]
    assert mount.happened[7:] == ["ends saved"]
    assert not mount.policy_record.is_missing
    assert (answer["generation"], answer["digest"]) == (2, mount.in_force.digest)  # type: ignore[attr-defined]
    assert answer["stale_handles"]["count"] == 0


def test_a_policy_that_allows_more_counts_only_once_it_is_on_record() -> None:
    mount = Mount(HEAD + ONE_APP + "# new\n")
    mount.policies.flush = lambda: None
    mount.run()
    assert mount.policy_record.is_missing
    assert any("not on record" in said for said in mount.log.said)
    same = Mount()
    same.policies.flush = lambda: None
    same.run()
    assert not same.policy_record.is_missing


@pytest.mark.parametrize("hanging", ["save_text", "save_ends", "flush"])
def test_no_disk_keeps_a_policy_from_coming_into_force(hanging: str, monkeypatch) -> None:
    monkeypatch.setattr(reload_module, "_RECORD_S", 0.01)
    mount, answers = Mount(), threading.Event()
    setattr(mount.policies, hanging, lambda *_: answers.wait(20))
    try:
        begun = time.monotonic()
        mount.run()
        assert time.monotonic() - begun < 10
    finally:
        answers.set()
    assert mount.in_force != OLD


def test_the_policy_before_it_is_read_where_asked_for() -> None:
    mount = Mount()
    mount.run(previous=True)
    assert mount.happened[0] == "read the one before"


@pytest.mark.parametrize("expected", ["digest", None])
def test_the_very_text_that_was_looked_at_is_loaded_and_no_other(expected: str | None) -> None:
    mount = Mount()
    mount.run(expected=expected and digest_of([mount.text.encode()]))
    mount = Mount()
    with pytest.raises(PolicyfsError, match="were changed after the check"):
        mount.run(expected="0" * 64)
    assert mount.happened == ["read", "refused", "on record"]
    assert mount.in_force == OLD


def test_a_comparison_with_a_policy_that_is_no_longer_in_force_counts_for_nothing() -> None:
    """The new rights were checked against that policy. The present one may allow less."""
    mount = Mount()
    expected = digest_of([mount.text.encode()])
    with pytest.raises(PolicyfsError, match="another policy came into force after the check; try again"):
        mount.run(expected=expected, live="0" * 64)
    assert mount.happened == ["read", "text saved", "opens settled", "refused", "on record"]
    assert mount.in_force == OLD
    mount.run(expected=expected, live=OLD.digest)
    assert mount.happened[-1] == "ends saved"


def test_a_policy_that_does_not_compile_changes_nothing_and_is_on_record() -> None:
    mount = Mount()
    mount.broken = "line 3: what is that"
    with pytest.raises(PolicyfsError, match="line 3"):
        mount.run()
    assert mount.happened == ["read", "refused", "on record"]
    assert mount.in_force == OLD


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"app": "gallery", "user_id": 10011, "group_ids": (10011,)}, ""),
        ({"app": "gallery"}, ""),
        ({"app": None, "user_id": 5}, ""),
        ({"app": "maps"}, "which the new policy does not have"),
        ({"app": "gallery", "user_id": 10012}, "admits uid 10012"),
        ({"app": "gallery", "user_id": 10011, "group_ids": (10011, 44)}, "admits group 44"),
    ],
)
def test_a_mount_of_an_app_keeps_its_app_and_its_users(options: dict[str, Any], told: str) -> None:
    mount = Mount(**options)
    if not told:
        mount.run()
        assert mount.in_force != OLD
        return
    with pytest.raises(UsageError, match=told):
        mount.run()
    assert mount.happened == ["read", "refused", "on record"]
    assert mount.in_force == OLD


def test_an_app_that_loses_all_its_uids_keeps_the_policy_of_its_mount() -> None:
    """The mount would go on for a uid that belongs to no app, and could not be made again."""
    text = (HEAD + ONE_APP).replace("uid: 10011, gid: 10011", "description: without a uid")
    assert "10011" not in text
    with pytest.raises(UsageError, match="admits uid 10011"):
        Mount(text, app="gallery", user_id=10011).run()
    mount = Mount(text, app="gallery")
    mount.run()
    assert mount.in_force != OLD


def test_files_that_stay_open_are_told_and_on_record() -> None:
    mount = Mount()
    mount.stale = [SimpleNamespace(app="gallery", fields=lambda: {"path": "/a"})]
    assert mount.run()["stale_handles"] == {"count": 1, "apps": {"gallery": 1}, "files": [{"path": "/a"}]}
    assert mount.happened[-2:] == ["stale told", "on record"]


def test_a_kernel_that_dropped_all_names_at_once_is_told() -> None:
    mount = Mount()
    mount.names_expire = False
    mount.run()
    assert any("dropped all names at once" in said for said in mount.log.said)


def test_signals_while_one_waits_for_its_turn_make_one_reload() -> None:
    mount = Mount()

    async def main() -> None:
        async with mount.reload._turn, trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(mount.reload.on_signal, BY)
            await trio.testing.wait_all_tasks_blocked()
            assert mount.happened == []
            mount.reload._turn.release()
            await trio.testing.wait_all_tasks_blocked()
            await mount.reload._turn.acquire()
        await mount.reload.on_signal(BY)

    trio.run(main)
    assert mount.happened.count("read") == 2


EXCEPTION: Final = """\
exceptions:
  - {id: short, allow: [see], paths: /x, until: 2030-01-31T18:00:00Z, reason: "x", approved-by: Ann}
"""
END_NS: Final = 1_896_112_800 * 1_000_000_000


class Hanging(Mount):
    """A mount under an exception that has just ended, whose policy's file lies on a disk that hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.disk_answers, self.asked = threading.Event(), threading.Event()
        self.in_force = engine_of(HEAD + ONE_APP + EXCEPTION)
        self.policies.mark = SimpleNamespace(now_ns=lambda: END_NS)
        self.policies.next_end, self.policies.engine = END_NS, self.in_force
        self.policies.successor = lambda: as_of(self.in_force, END_NS)

    def read(self, *, previous: bool) -> list[SourceText]:
        self.asked.set()
        assert self.disk_answers.wait(10)
        return super().read(previous=previous)

    def replace(self, engine: object, sources: object, by: MountEnd, generation: int, written: Any) -> None:
        self.policies.next_end, self.policies.engine = None, engine
        self.happened.append("record queued")


def test_an_exception_ends_while_a_reload_waits_for_the_disk() -> None:
    """Both waited for one lock, so the permission went on for as long as the disk hung."""
    mount = Hanging()

    async def main() -> None:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mount.reload.on_signal, BY)
                await trio.to_thread.run_sync(mount.asked.wait, 5)
                nursery.start_soon(mount.reload.end_exceptions)
                while mount.generation == 1:  # noqa: ASYNC110 - there is no event for it
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()

    try:
        trio.run(main)
    finally:
        mount.disk_answers.set()
    assert ended(mount.in_force.policy)  # type: ignore[attr-defined] # an engine


@pytest.mark.parametrize("hanging", ["expire_all_names", "find"])
def test_an_exception_ends_while_a_reload_tells_the_kernel(hanging: str) -> None:
    """An app may hold a directory, or have many files open: the reload held the lock meanwhile."""
    mount = Hanging()
    mount.disk_answers.set()

    async def main() -> None:
        told = trio.Event()

        async def hangs() -> Any:
            told.set()
            await trio.sleep_forever()

        part = mount.fs.kernel_cache if hanging == "expire_all_names" else mount.fs.stale_handles
        setattr(part, hanging, hangs)
        mount.policies.mark.now_ns = lambda: END_NS - 1 + told.is_set()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mount.reload.end_exceptions)
                nursery.start_soon(mount.reload.on_signal, BY)
                await told.wait()
                mount.policies.next_end, mount.policies.engine = END_NS, mount.in_force
                mount.reload._in_force.set()
                while mount.generation == 2:  # noqa: ASYNC110 - there is no event for it
                    await trio.sleep(0.01)
                nursery.cancel_scope.cancel()

    trio.run(main)
    assert mount.generation == 3


def test_a_mount_ends_while_a_reload_waits_for_the_disk() -> None:
    mount = Hanging()

    async def main() -> None:
        with trio.move_on_after(0.3):
            await mount.reload.on_signal(BY)

    begun = time.monotonic()
    try:
        trio.run(main)
    finally:
        mount.disk_answers.set()
    assert time.monotonic() - begun < 5


def test_a_reload_brings_no_exception_back_that_ended_meanwhile() -> None:
    mount = Mount(HEAD + ONE_APP + EXCEPTION)
    mount.policies.without_ended = lambda engine: as_of(engine, END_NS)
    mount.run()
    assert ended(mount.in_force.policy)  # type: ignore[attr-defined] # an engine


def test_a_signal_for_a_policy_that_cannot_be_used_is_logged() -> None:
    mount = Mount()
    mount.broken = "no policy"
    trio.run(mount.reload.on_signal, BY)
    assert mount.log.said == [Notice.POLICY_REFUSED.text]
    mount.broken = ""
    trio.run(mount.reload.on_signal, BY)
    assert "policy reloaded" in mount.log.said


def test_a_bug_in_a_reload_takes_no_order_to_end_away() -> None:
    """SIGTERM comes while the reload of a SIGHUP is under way, which fails while the mount is unmounted."""
    signals = [MountEnd("signal", "SIGTERM"), MountEnd("signal", "SIGHUP")]
    bugs: list[str] = []
    ending, ended = trio.Event(), trio.Event()

    async def receive() -> MountEnd:
        await trio.lowlevel.checkpoint()
        if not signals:
            await trio.sleep_forever()
        return signals.pop()

    async def on_signal(_: MountEnd) -> None:
        await ending.wait()
        raise RuntimeError("can't start new thread")

    async def finish() -> None:
        ending.set()
        await trio.testing.wait_all_tasks_blocked()
        ended.set()

    daemon = SimpleNamespace(
        _listening=trio.Event(), _end=EndOfMount(), _signal_reader=SimpleNamespace(receive=receive),
        _reload=SimpleNamespace(on_signal=on_signal), _mountpoint=SimpleNamespace(finish=finish),
        _bugs=SimpleNamespace(bug=lambda where, _: bugs.append(where)), inotify=None,
    )  # fmt: skip

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kept, daemon._bugs, "_signals", partial(Daemon._signals, daemon))
            with trio.move_on_after(5):
                await ended.wait()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.1))
    assert ended.is_set()
    assert bugs == ["reload"]

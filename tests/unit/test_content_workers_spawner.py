"""The daemon's end of the zygote: what it starts, and what it makes of one that fails."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest
import trio

from policyfs.content.workers import execution, spawner
from policyfs.content.workers.execution import LauncherProcess
from policyfs.content.workers.sandbox import Limits
from policyfs.content.workers.spawner import Launcher, ZygoteError, ZygoteProcess
from policyfs.linux.confinement.capabilities import ZYGOTE, rights_of

LIMITS = Limits(
    uid=2_100_000_000, gid=2_100_000_000, address_space=512 << 20, cpu_s=60, descriptors=8, uids=8
)


def children_of(pid: int) -> list[str] | None:
    """The children of a process, None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None


def run(function):
    """Run an async function of one zygote, and end the zygote."""

    async def main() -> None:
        launcher = Launcher(LauncherProcess(LIMITS))
        try:
            with trio.fail_after(30):
                zygote = await launcher.zygote()
                try:
                    await function(zygote)
                finally:
                    await zygote.close(5)
                while children_of(zygote.pid) is not None:
                    await trio.lowlevel.checkpoint()
        finally:
            await launcher.close(5)

    before = len(os.listdir("/proc/self/fd"))
    trio.run(main)
    assert len(os.listdir("/proc/self/fd")) == before


async def worker_ends(worker) -> None:
    worker.kill()
    await worker.ended()


def test_a_worker_that_was_ordered_is_not_lost_when_the_order_is_cancelled():
    async def story(zygote: ZygoteProcess) -> None:
        in_time = []  # what is there at once, after all
        with trio.move_on_after(0):
            in_time.append(await zygote.worker())
        await worker_ends(await zygote.worker())
        os.kill(zygote.pid, signal.SIGSTOP)
        for _ in range(3):
            with trio.move_on_after(0.01):
                in_time.append(await zygote.worker())
        for worker in in_time:
            await worker_ends(worker)
        assert zygote.fit()
        os.kill(zygote.pid, signal.SIGCONT)
        await worker_ends(await zygote.worker())
        while children_of(zygote.pid):  # one more would never end
            await trio.lowlevel.checkpoint()

    run(story)


def test_one_that_owes_an_answer_too_long_is_not_fit(monkeypatch):
    async def story(zygote: ZygoteProcess) -> None:
        await worker_ends(await zygote.worker())
        monkeypatch.setattr(spawner, "_OVERDUE_S", 0.0)
        assert zygote.fit()
        os.kill(zygote.pid, signal.SIGSTOP)
        with trio.move_on_after(0.01):
            await zygote.worker()
        assert not zygote.fit()
        zygote.kill()
        zygote.kill()

    run(story)


def test_a_killed_one_is_not_fit_and_says_so():
    async def story(zygote: ZygoteProcess) -> None:
        await worker_ends(await zygote.worker())
        os.kill(zygote.pid, signal.SIGKILL)
        with pytest.raises(ZygoteError, match="gone") as raised:
            while True:
                await worker_ends(await zygote.worker())
        assert raised.value.outside
        while zygote.fit():
            await trio.lowlevel.checkpoint()

    run(story)


def test_an_interpreter_that_cannot_run_it_has_last_words(monkeypatch):
    monkeypatch.setattr(execution, "_module_path", lambda: ["/nowhere"])
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    with pytest.raises(ZygoteError, match="No module named 'policyfs'") as raised:
        run(nothing)
    assert not raised.value.outside


async def nothing(zygote: ZygoteProcess) -> None:
    """Of a zygote that is not used."""


def test_the_launcher_runs_nothing_but_zygotes_and_has_only_their_rights():
    async def main() -> None:
        launcher = Launcher(LauncherProcess(LIMITS))
        try:
            zygote = await launcher.zygote()
            worker = await zygote.worker()
            await worker.hello()
            for pid in (launcher.pid, zygote.pid):
                rights = rights_of(pid)
                assert rights.effective == rights.permitted == rights.bounding == ZYGOTE
                assert rights.no_new_privs
                assert not rights.handed_on
            await worker_ends(worker)
            await zygote.close(5)
            launcher._control.send(json.dumps(["/bin/true"]).encode())
            with pytest.raises(ZygoteError, match="gone"):
                await launcher.zygote()
        finally:
            await launcher.close(5)

    trio.run(main)


def test_a_launcher_that_is_gone_guards_nothing():
    launcher = Launcher(LauncherProcess(LIMITS))
    os.kill(launcher.pid, signal.SIGKILL)
    os.waitid(os.P_PID, launcher.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ZygoteError, match="the launcher is gone"):
        launcher.guard(0)
    trio.run(launcher.close, 5)


def test_a_zygote_that_nobody_waited_for_ends():
    async def main() -> None:
        launcher = Launcher(LauncherProcess(LIMITS))
        try:
            zygote = await launcher.zygote()
            in_time = []  # one that is there at once, after all
            for _ in range(3):
                with trio.move_on_after(0):
                    in_time.append(await launcher.zygote())
            for one in in_time:
                await one.close(5)
            again = await launcher.zygote()
            await worker_ends(await again.worker())
            with trio.fail_after(10):
                while len(children_of(launcher.pid) or ()) > 2:
                    await trio.lowlevel.checkpoint()
            await zygote.close(5)
            await again.close(5)
        finally:
            await launcher.close(5)

    before = len(os.listdir("/proc/self/fd"))
    trio.run(main)
    assert len(os.listdir("/proc/self/fd")) == before

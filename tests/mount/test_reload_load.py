"""Reloads while four uids work: each event is right for the policy that it names, and hidden is hidden."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from policyfs.domain import NO_FACTS, FileType, Op
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.machine.counts import count
from tests.support.machine.processes import start_as
from tests.support.mount.daemons import policyfs
from tests.support.mount.stores import Mounts

UIDS = {"one": 10010, "two": 10011, "three": 10012, "four": 10013}
HEAD = (
    "apiVersion: policyfs/v1\nkind: Policy\napps:\n"
    + "".join(f"  {name}: {{uid: {uid}}}\n" for name, uid in UIDS.items())
    + "rules:\n"
    '  - {id: top, allow: [see], paths: "/"}\n'
    '  - {id: shared, allow: [all], who: {app: any}, paths: "/Documents/***"}\n'
)
OPEN = HEAD + '  - {id: music, allow: [all], who: {app: any}, paths: "/Music/***"}\n'
CLOSED = (
    HEAD
    + '  - {id: music, allow: [all], who: {app: [one, three]}, paths: "/Music/***"}\n'
    + '  - {id: no-reading, deny: [read], who: {app: three}, paths: "/Music/***"}\n'
)
POLICIES = (OPEN, CLOSED)
NEEDED = {
    "lookup": Op.SEE, "stat": Op.SEE, "list": Op.SEE, "unlink": Op.SEE | Op.DELETE,
    "create": Op.SEE | Op.CREATE | Op.WRITE,
}  # fmt: skip


def _works(channel: Any, mount: Path, name: str) -> Counter[str]:
    """Use files that all policies show, and files that one of them hides, until told to stop."""
    said: Counter[str] = Counter()
    rounds = 0
    while not channel.poll(0.002):
        rounds += 1
        for directory in ("Documents", "Music"):
            own = mount / directory / f"{name}-{rounds % 7}"
            calls = (
                lambda own=own: own.write_bytes(b"words"), lambda own=own: own.read_bytes(),
                lambda at=mount / directory: os.listdir(at), lambda own=own: os.stat(own),
                lambda own=own: os.unlink(own),
            )  # fmt: skip
            for call in calls:
                try:
                    call()
                except (FileNotFoundError, PermissionError):
                    said[f"{directory} refused"] += 1
                except OSError as failed:
                    said[f"{directory} {failed!r}"] += 1
                else:
                    said[directory] += 1
    return said


def _looks(channel: Any, mount: Path) -> None:
    """Tell, whenever asked, what is seen of a hidden directory in every way."""
    song = mount / "Music/song.mp3"
    calls = (
        lambda: os.stat(song), lambda: os.close(os.open(song, os.O_RDONLY)), lambda: os.readlink(song),
        lambda: os.stat(mount / "Music"), lambda: os.listdir(mount / "Music"),
        lambda: os.access(song, os.F_OK) or 1 / 0,
    )  # fmt: skip
    while channel.recv() != "end":
        seen = ["Music"] if "Music" in os.listdir(mount) else []
        for number, call in enumerate(calls):
            try:
                call()
            except (FileNotFoundError, ZeroDivisionError):
                continue
            except OSError as failed:
                seen.append(f"{number}: {failed!r}")
            else:
                seen.append(str(number))
        channel.send(seen)


@pytest.mark.load
@pytest.mark.parametrize("sort", ["shared", "app"])
def test_each_event_is_right_for_its_policy_and_hidden_is_hidden_at_once(
    mounts: Mounts, store: Path, sort: str
) -> None:
    """The app mount has kernel timeouts of a day."""
    for name in ("Documents", "Music"):
        (store / name).chmod(0o777)
    options = ("--app", "two", "--any-uid") if sort == "app" else ()
    mount = mounts.start(OPEN, store, *options)
    workers = {name: start_as(uid, _works, mount.mountpoint, name) for name, uid in UIDS.items()}
    looker = start_as(UIDS["two"], _looks, mount.mountpoint)
    for turn in range(1, count(6, 200) + 1):
        mount.policy.write_text(POLICIES[turn % 2])
        with mount.as_environment():
            assert policyfs("reload", mount.mountpoint).returncode == 0
        looker.send("look")
        seen = looker.receive()
        assert bool(seen) == (turn % 2 == 0), (turn, seen)
    looker.send("end")
    looker.result()
    for worker in workers.values():
        worker.send("end")
    for name, worker in workers.items():
        said = worker.result()
        assert set(said) <= {"Documents", "Music", "Music refused"}, (name, said)
        assert said["Documents"] > 0
    assert mount.status()["bugs"] == 0
    assert mount.stop() == []
    engines = [compile_policy(parse_policy([SourceText("p", text.encode())])) for text in POLICIES]
    assert _judged(mount.events(type="event"), engines, sort) > 100


def _judged(events: list[dict[str, Any]], engines: list[Engine], sort: str) -> int:
    """Compare each event with what the policy that it names says; return how many were compared."""
    compared = 0
    digests = {engine.digest: engine for engine in engines}
    for event in events:
        if event["path"].count("/") < 2 or event.get("repeats"):
            continue
        if event["operation"] == "open":
            ops = Op.SEE | (Op.READ if "O_RDONLY" in event["syscall"] else Op.WRITE)
        elif event["operation"] in NEEDED:
            ops = NEEDED[event["operation"]]
        else:
            continue
        engine = digests[event["policy"]]
        assert engine is engines[(event["generation"] - 1) % 2], event
        who = engine.app_principal("two", event["uid"]) if sort == "app" else engine.principal(event["uid"])
        state = engine.state_of(event["path"].encode())
        wanted = engine.decide(who, ops, state, FileType.REGULAR, NO_FACTS)
        assert (event["decision"] == "allow") == wanted.allowed, event
        compared += 1
    return compared

"""One app has more files in use than its share of the saved state has room for. Only these are lost in a
take-over, `status` says so while it lasts, and other apps notice nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.running.health import problems
from tests.mount.test_takeover import kill_daemon
from tests.support.machine.counts import first
from tests.support.machine.processes import code_of, start_as, wait_for
from tests.support.mount.daemons import Mount

GREEDY, MODEST = 10110, 10111
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  greedy: {{uid: {GREEDY}}}
  modest: {{uid: {MODEST}}}
rules:
  - {{id: greedy, allow: [all], who: {{app: greedy}}, paths: "/greedy/***"}}
  - {{id: modest, allow: [all], who: {{app: modest}}, paths: ["/modest/***", "/greedy/***"]}}
"""
NODES = 20
"""--nodes-max: the saved state has room for some times as many records of each sort."""
HELD = 6 * NODES
NAMES = "{}" + "n" * 200, "{}"


@pytest.fixture
def filled(empty_store: Path) -> Path:
    for name, uid in (("greedy", GREEDY), ("modest", MODEST)):
        (empty_store / name).mkdir()
        os.chown(empty_store / name, uid, uid)
    (empty_store / "greedy/shared").mkdir(mode=0o777)
    (empty_store / "greedy/shared").chmod(0o777)
    return empty_store


def hold(channel: Any, top: Path, name: str) -> None:
    """Hold very many directories, and at the end one that the other app uses, too. Count lost ones."""
    for number in range(HELD):
        (top / name.format(number)).mkdir()
    held = [os.open(top / name.format(number), os.O_PATH) for number in range(HELD)]
    held.append(os.open(top / "shared", os.O_PATH))
    channel.send("held")
    while channel.recv() == "look":
        channel.send([code_of(os.stat, f"/proc/self/fd/{fd}/.") for fd in held])
    for fd in held:
        os.close(fd)
    for number in range(HELD):
        (top / name.format(number)).rmdir()
    channel.send("let go")
    channel.recv()


def go_on(channel: Any, top: Path) -> None:
    """Have files open, make others, and look at all, in rounds."""
    os.chdir(top / "modest")
    made = [Path("modest.txt"), top / "greedy/shared/of-modest.txt"]
    files = [path.open("w+") for path in made]
    channel.send("began")
    rounds = 0
    while channel.recv() == "round":
        rounds += 1
        failed = []
        for number in range(10):
            failed += [code_of(Path(f"{rounds}-{number}").write_text, "x")]
            failed += [code_of((top / f"greedy/shared/{rounds}-{number}").write_text, "x")]
        for path, file in zip(made, files, strict=True):
            failed += [code_of(file.write, "line\n"), code_of(file.flush), code_of(os.stat, file.fileno())]
            failed += ["other bytes"] * (path.read_text() != "line\n" * rounds)
        channel.send([one for one in failed if one])
    channel.send(os.getcwd())


def asked(child: Any, word: str) -> Any:
    child.send(word)
    return child.receive()


def told(mount: Mount) -> list[str]:
    return [one for one in problems(mount.status()) if "killed" in one]


@pytest.mark.parametrize("name", first(1, [(one,) for one in NAMES]))
def test_who_uses_very_many_files_loses_them_alone(mounts, filled: Path, name: str) -> None:
    mount = mounts.prepare(POLICY, filled, "--keeper", "--nodes-max", str(NODES))
    mount.start()
    modest, greedy = (
        start_as(MODEST, go_on, mount.mountpoint),
        start_as(GREEDY, hold, mount.mountpoint / "greedy", name),
    )
    assert (modest.receive(), greedy.receive()) == ("began", "held")
    assert asked(modest, "round") == []
    assert mount.status()["takeover"]["possible"]
    assert any("greedy" in one for one in told(mount)), told(mount)
    wait_for(lambda: mount.notices("unsaved-files") == ["warning"], "an administrator is told")

    kill_daemon(mount)
    assert asked(modest, "round") == []
    codes = asked(greedy, "look")
    assert set(codes) <= {"", "ESTALE"}, codes
    assert 0 < codes.count("ESTALE") < HELD
    assert mount.status()["takeover"]["possible"]
    assert asked(greedy, "end") == "let go"
    wait_for(lambda: told(mount) == [], "nothing would be lost any more")
    kill_daemon(mount)
    assert asked(modest, "round") == []
    assert asked(modest, "end") == f"{mount.mountpoint}/modest"
    greedy.send("")
    for child in (modest, greedy):
        child.result()

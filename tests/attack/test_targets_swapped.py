"""An app exchanges the directory of a target for a symlink, or moves it, while its site goes down and up.

A container (here a mount namespace that binds the target's place, as engines do) finds the app's own files,
or errors; never a file of the machine, nor of another app. What is mounted again appears in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from policyfs.linux.immutable import set_immutable
from policyfs.linux.mountinfo import ABSENT, FSTYPE, mounts_at
from tests.support.machine.counts import count
from tests.support.machine.documents import CHECKOUT
from tests.support.machine.namespace import abort_connection, detach, mounts_below
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Said, policyfs_process
from tests.support.mount.stores import WEAKENED

POLICY: Final = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: home}
apps: {tv: {uid: 10010}, other: {uid: 10011}}
rules:
  - {id: tv, allow: [all], who: {app: tv}, paths: "/***"}
  - {id: other, deny: [all], who: {app: tv}, paths: "/Other/***"}
"""
LINKS: Final = {
    "etc": "/etc",
    "host": "{host}",
    "up": "../../../../host",
    "other": "Other",
    "own": "moved-own",
}
"""Targets whose directory becomes a link, and where the link leads to."""
SECRET: Final = "secret"
DEAD: Final = "error 107"
"""ENOTCONN, the answer of a placeholder."""
LIST: Final = """\
import os, sys
for path in sys.argv[1:]:
    try:
        print(*sorted(os.listdir(path)))
    except OSError as error:
        print("error", error.errno)
"""


class Container:
    """A mount namespace with the targets of a site, each bound as an engine does it."""

    def __init__(self, home: Home, name: str) -> None:
        self.at = home.arena / name
        script = [f"mount -t tmpfs container '{self.at}' && mount --make-private '{self.at}'"]
        for target in home.targets:
            if "%2F" in target:
                continue
            script += [
                f"mkdir '{self.at}/{target}'",
                f"mount --rbind '{home.place(target)}' '{self.at}/{target}'",
                f"mount --make-rslave '{self.at}/{target}'",
            ]
        self.at.mkdir()
        unshared = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-ec"]
        text = " && ".join([*script, "echo ready", "exec sleep 600"])
        self.process = subprocess.Popen([*unshared, text], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", "a container starts, also on a placeholder"

    def run(self, *command: str) -> str:
        """Run a command in it, as the app. Return what it prints."""
        inside = ["nsenter", f"--target={self.process.pid}", "--mount", *command]
        return subprocess.run(inside, capture_output=True, text=True, check=False, timeout=60).stdout.strip()

    def names(self, *targets: str) -> list[str]:
        """The names in each target, or the number of the error."""
        return self.run("python3", "-ISc", LIST, *(f"{self.at}/{target}" for target in targets)).splitlines()

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator[None]:
        """Have a file open in it."""
        script = f"exec 3<{self.at}/{path}; echo ready; exec sleep 600"
        inside = ["nsenter", f"--target={self.process.pid}", "--mount", "sh", "-ec", script]
        with subprocess.Popen(inside, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                yield
            finally:
                process.kill()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Unit:
    """What systemd does with the unit of a site's mount. weakened: the guard that is out."""

    def __init__(self, home: Home, weakened: str) -> None:
        self._home = home
        assert home("unit", "--to", str(home.arena / "units")).returncode == 0
        text = (home.arena / "units/policyfs-home-tv.service").read_text().replace("%%", "%")
        self.lines = {key: value for key, _, value in map(_parted, text.splitlines())}
        settings = dict(_parted(one)[::2] for one in re.findall("^Environment=(.*)$", text, re.MULTILINE))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(notify := str(home.arena / "notify"))
        words = shlex.split(self.lines["ExecStart"])
        if weakened:
            words[:1] = [sys.executable, "-m", WEAKENED, weakened]
        environment = os.environ | home.environment | settings | {"NOTIFY_SOCKET": notify}
        with (home.arena / "log").open("wb") as log:
            how = {"cwd": CHECKOUT, "env": environment, "stderr": log, "start_new_session": True}
            self.process = subprocess.Popen(words, **how)

    def is_ready(self, timeout_s: float) -> bool:
        return bool(select.select([self._socket], [], [], timeout_s)[0]) and (
            self._socket.recv(100) == b"READY=1"
        )

    def stop(self, *, started: bool = True) -> int:
        """Stop it. Return the exit code of its daemon."""
        if started:
            self._run("ExecStop")
        os.killpg(self.process.pid, signal.SIGTERM)
        code = self.process.wait(30)
        wait_for(lambda: not _lives(self.process.pid), "the end of its other processes", 30)
        self._run("ExecStopPost", SERVICE_RESULT="success" if code == 0 else "exit-code")
        return code

    def _run(self, key: str, **settings: str) -> None:
        words = shlex.split(self.lines[key].removeprefix("-").replace("$$", "$"))
        subprocess.run(words, env=os.environ | self._home.environment | settings, check=False, timeout=60)

    def close(self) -> None:
        self._socket.close()
        os.unlink(self._home.arena / "notify")


def _lives(group: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def _parted(line: str) -> tuple[str, str, str]:
    return line.partition("=")


class Home:
    """A site with one app, which has three targets."""

    targets = ("films", "look", "all", *LINKS)

    def __init__(self, arena: Path) -> None:
        self.arena, self.store = arena, arena / "store"
        self.file = arena / "home.site.yaml"
        self.environment = {
            "POLICYFS_RUNTIME_DIR": str(arena / "run"),
            "POLICYFS_KEY_DIR": str(arena / "keys"),
        }
        self._containers: list[Container] = []
        self._units: list[subprocess.Popen[bytes]] = []
        for directory in (self.store, arena / "host"):
            directory.mkdir(mode=0o700)
        (arena / "host" / SECRET).write_text(SECRET)
        for name in ("Films", "Other"):
            (self.store / name).mkdir()
            (self.store / name / name.lower()).write_text(name)
        (arena / "policy.yaml").write_text(POLICY)
        for name in LINKS:
            (self.store / name).mkdir()
            (self.store / name / "own").write_text(name)
        more = "".join(f", /{name}: /{name}" for name in LINKS)
        targets = f"{{/films: /Films, /look: {{path: /Films, read_only: true}}, /all: /{more}}}"
        self.file.write_text(
            f"apiVersion: policyfs/v1\nkind: Site\nname: home\nstore: '{self.store}'\n"
            f"policy: '{arena}/policy.yaml'\ntrail: '{arena}/trail'\n"
            f"mounts:\n  - {{app: tv, container: tv, targets: {targets}, options: {{keeper: true}}}}\n"
        )

    def place(self, target: str) -> str:
        return f"{self.arena}/run/mounts/home/tv/targets/{target}"

    def change_targets(self, targets: str) -> None:
        text = re.sub("targets: .*, options", f"targets: {targets}, options", self.file.read_text())
        self.file.write_text(text)

    def on_top(self, target: str) -> str:
        """The type of the mount on top of a target's place."""
        return mounts_at(self.place(target))[-1].fstype

    def __call__(self, *words: str) -> Said:
        said = policyfs_process(*words, str(self.file), environment=self.environment, deadline_s=110)
        assert "Traceback" not in said.stderr, said
        return said

    @contextlib.contextmanager
    def unit(self, weakened: str = "") -> Iterator[Unit]:
        """Start the mount as its unit does. It stays up afterwards, unless it is stopped."""
        unit = Unit(self, weakened)
        self._units.append(unit.process)
        try:
            yield unit
        finally:
            unit.close()

    def container(self, name: str) -> Container:
        self._containers.append(Container(self, name))
        return self._containers[-1]

    def stop(self) -> None:
        for one in self._containers:
            one.end()
        self("down", "--lazy")
        for unit in self._units:
            unit.terminate()
            unit.wait(30)
        for entry in mounts_below(self.arena):
            with contextlib.suppress(OSError):
                abort_connection(entry.device)
            detach(entry.mountpoint)
        for place in (self.arena / "run/mounts").glob("*/*"):
            set_immutable(str(place), immutable=False)


@pytest.fixture
def home(arena: Path) -> Iterator[Home]:
    made = Home(arena)
    yield made
    made.stop()


@pytest.mark.night
def test_a_target_comes_back_in_a_running_container(home: Home) -> None:
    shown = [" ".join(sorted(["Films", *LINKS])), "films", "films"]
    seen = ("all", "films", "look")
    assert home("up", "--places").returncode == 0
    early = home.container("early")
    assert early.names(*home.targets) == [DEAD] * len(home.targets)
    assert home("up").returncode == 0
    late = home.container("late")
    for number in range(count(1, 3)):
        for one in (early, late):
            assert one.names(*seen) == shown, number
            one.run("sh", "-c", f"echo x >{one.at}/films/new; echo x >{one.at}/look/new2")
            assert sorted(os.listdir(home.store / "Films")) == ["films", "new"], "/look is read-only"
            one.run("rm", f"{one.at}/films/new")
        assert home("status", "--check").returncode == 0
        with early.opened("films/films"):
            said = home("down")
            assert (said.returncode, "are in use" in said.stderr) == (1, True), said
            assert early.names(*seen) == shown
        said = home("down")
        assert said.returncode == 0, said
        between = home.container(f"between-{number}")
        assert {name for one in (early, late, between) for name in one.names(*seen)} == {DEAD}
        assert home("up").returncode == 0
        assert between.names("films") == ["films"]
        between.end()
        assert len(mounts_at(home.place("films"))) <= 5, "mounts that no container has are gone"
    late.end()
    early.end()
    assert home("down").returncode == 0
    assert len(mounts_at(home.place("films"))) == 1
    home.file.write_text(home.file.read_text().replace("/look: {path: /Films, read_only: true}, ", ""))
    assert home("up", "--places").returncode == 0
    assert sorted(os.listdir(home.place(""))) == sorted({*home.targets} - {"look"})


def test_a_target_inside_another_does_not_become_what_is_below_it(home: Home) -> None:
    """A container that runs on has errors, and neither other files nor a right to write."""
    home.change_targets("{/all: /, /all/own: {path: /Films, read_only: true}}")
    home.targets = ("all", "all%2Fown")
    assert home("up").returncode == 0
    container = home.container("before")
    inner = f"{container.at}/all/own"
    container.run("mount", "--rbind", home.place("all%2Fown"), inner)
    container.run("mount", "--make-rslave", inner)
    assert container.names("all/own") == ["films"]
    for verb in ("down", "up", "up"):
        assert home(verb).returncode == 0
        assert container.names("all/own") == [DEAD], verb
        container.run("touch", f"{inner}/new")
    assert os.listdir(home.store / "own") == ["own"]
    assert os.listdir(home.place("all%2Fown")) == ["films"]


@pytest.mark.night
def test_no_container_leaves_the_mount(home: Home) -> None:
    """Whatever link the app has put in a target's place, also after a restart, and after a kill.

    Attack B2.2: Replace the directory of a site's target by a symlink, or move it, before mount,
    container or service start again
    Guard: policyfs/kernel/targets.py::bind
    Also: tests/attack/test_targets_of_engines.py::test_no_engine_leaves_the_mount
    Without: ::test_it_leaves_it_where_links_are_followed
    """
    assert home("up").returncode == 0
    before = home.container("before")
    links = {name: link.format(host=home.arena / "host") for name, link in LINKS.items()}
    swaps = [f"mv {name} moved-{name}; ln -s {link} {name}" for name, link in links.items()]
    before.run("sh", "-ec", f"cd {before.at}/all; {'; '.join(swaps)}")
    assert sorted(os.listdir(home.store)) == sorted(
        [*LINKS, *(f"moved-{name}" for name in LINKS), "Films", "Other"]
    )
    assert before.names(*LINKS) == ["own"] * len(LINKS), "a bind follows its directory"
    containers = [before]
    for number, event in enumerate((up_again, killed, restarted, started_by_its_unit)):
        event(home)
        containers.append(home.container(f"after-{number}"))
        for one in containers:
            assert one.names(*LINKS) == [DEAD] * len(LINKS), number
            assert one.names("films", "look") == ["films"] * 2
    for name in LINKS:
        before.run("sh", "-ec", f"cd {before.at}/all; rm {name}; mv moved-{name} {name}")
    assert home("up").returncode == 0
    for one in containers:
        assert one.names(*LINKS) == ["own"] * len(LINKS)


def test_it_leaves_it_where_links_are_followed(home: Home) -> None:
    assert home("up").returncode == 0
    one = home.container("before")
    one.run("sh", "-ec", f"cd {one.at}/all; mv etc moved-etc; ln -s /etc etc")
    weakened = ["-m", WEAKENED, "targets-followed", "up", str(home.file)]
    subprocess.run([sys.executable, *weakened], check=True, cwd=CHECKOUT, env=os.environ | home.environment)
    assert "passwd" in one.names("etc")[0].split()


def test_a_unit_is_ready_when_its_targets_are_bound_also_if_its_daemon_is_killed_before(home: Home) -> None:
    assert home("up", "--places").returncode == 0
    (late := home.arena / "run/late").touch()
    container = home.container("early")
    with home.unit("targets-late") as unit:
        found: list[int] = []

        def serves() -> bool:
            found[:] = [one["pid"] for one in json.loads(home("status", "--json").stdout or "[]")]
            return bool(found)

        wait_for(serves, "the daemon", 30)
        assert container.names("look") == [DEAD]
        [first] = found
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: serves() and found != [first], "another daemon", 30)
        assert not unit.is_ready(0)
        late.unlink()
        assert unit.is_ready(30)
        assert container.names("films", "look") == ["films"] * 2
        assert unit.stop() == 0
        assert container.names("films", "look") == [DEAD] * 2


@pytest.mark.parametrize(
    ("weakened", "why"), [("targets-fail", "Input/output error"), ("targets-killed", "was killed")]
)
def test_a_unit_fails_whose_targets_cannot_be_bound(home: Home, weakened: str, why: str) -> None:
    assert home("up", "--places").returncode == 0
    with home.unit(weakened) as unit:
        assert unit.process.wait(30) == 1
        assert not unit.is_ready(0)
        assert home.on_top("films") == ABSENT
    said = (home.arena / "log").read_text()
    assert "cannot be bound: " in said
    assert why in said


@pytest.mark.parametrize("stopped", [True, False])
def test_a_unit_that_ends_while_it_binds_leaves_placeholders(home: Home, *, stopped: bool) -> None:
    """Nobody finds a dead mount, on which an engine starts no container, nor an empty directory."""
    assert home("up", "--places").returncode == 0
    (late := home.arena / "run/late").touch()
    with home.unit("targets-late") as unit:
        wait_for(lambda: home.on_top("films") == FSTYPE, "the first bind", 30)
        if stopped:
            assert unit.stop(started=False) == 0
        else:
            unit.process.terminate()
            assert unit.process.wait(30) == 0
            late.unlink()
            wait_for(lambda: not _lives(unit.process.pid), "the end of the others", 30)
        assert not unit.is_ready(0)
    assert {home.on_top(target) for target in home.targets} == {ABSENT}
    assert [one.fstype for one in mounts_at(f"{home.arena}/run/mounts/home/tv/mount")] == [ABSENT]


def started_by_its_unit(home: Home) -> None:
    assert home("down").returncode == 0
    with home.unit() as unit:
        assert unit.is_ready(30)


def up_again(home: Home) -> None:
    said = home("up")
    for name in LINKS:
        assert (
            f"tv: nothing is at /{name}: the mount has no directory /{name} (a symlink is none)"
            in said.stderr
        )
    said = home("status", "--check")
    assert (said.returncode, said.stdout.count("nothing is at /")) == (1, len(LINKS))


def restarted(home: Home) -> None:
    assert home("down").returncode == 0
    assert home("up").returncode == 0


def killed(home: Home) -> None:
    """Kill the daemon: another takes over."""
    [status] = json.loads(home("status", "--json").stdout)
    os.kill(status["pid"], signal.SIGKILL)

    def again() -> bool:
        found = json.loads(home("status", "--json").stdout or "[]")
        return bool(found) and found[0]["pid"] != status["pid"]

    wait_for(again, "another daemon", 30)


BINDS: Final = """\
import ctypes, os, sys, time
libc, ids = ctypes.CDLL(None), {"uid": os.getuid(), "gid": os.getgid()}
assert libc.unshare(0x10000000 | 0x20000) == 0  # CLONE_NEWUSER | CLONE_NEWNS
open("/proc/self/setgroups", "w").write("deny")
for name, number in ids.items():
    open(f"/proc/self/{name}_map", "w").write(f"0 {number} 1")
source, place = (path.encode() for path in sys.argv[1:3])
assert libc.mount(b"t", place, b"tmpfs", 0, None) == 0
for number in range(51_000):
    directory = place + b"/%d" % (number // 200)
    if number % 200 == 0:
        os.mkdir(directory)
    assert libc.mount(source, directory, None, 0x1000, None) == 0  # MS_BIND
print("ready", flush=True)
time.sleep(600)
"""
"""Makes, without any right, half as many binds of a target as a mount namespace may have (fs.mount-max)."""


@pytest.mark.soak
def test_an_app_with_very_many_binds_keeps_no_other_from_its_mount(home: Home) -> None:
    policy = home.arena / "policy.yaml"
    policy.write_text(policy.read_text() + '  - {id: o, allow: [all], who: {app: other}, paths: "/***"}\n')
    more = "  - {app: other, container: o, targets: {/films: /Films}, options: {keeper: true}}\n"
    home.file.write_text(home.file.read_text() + more)
    assert home("up").returncode == 0
    container, place = home.container("container"), home.arena / "binds"
    place.mkdir()
    place.chmod(0o777)
    inside = ["nsenter", f"--target={container.process.pid}", "--mount", "setpriv", "--reuid=10010"]
    script = [
        "--regid=10010",
        "--clear-groups",
        "/usr/bin/python3",
        "-Ic",
        BINDS,
        f"{container.at}/films",
        str(place),
    ]
    with subprocess.Popen([*inside, *script], stdout=subprocess.PIPE, text=True) as app:
        try:
            assert app.stdout is not None
            assert app.stdout.readline() == "ready\n"
            for verb in ("down", "up"):
                said = home(verb)
                assert said.returncode == 0, said
            other = home.place("films").replace("/tv/", "/other/")
            assert os.listdir(other) == ["films"]
        finally:
            app.kill()
    assert home("down").returncode == 0
    assert home("up").returncode == 0
    assert os.listdir(home.place("films")) == ["films"]

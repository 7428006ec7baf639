"""`policyfs up` and `down`: which mounts are made, restarted, left and removed, and what is told of them."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli import main
from policyfs.cli.main import build_parser
from policyfs.cli.mounts.start import options_of
from policyfs.cli.site import site
from policyfs.cli.site.own_units import MADE_BY
from policyfs.cli.site.site import State, look, place_of
from policyfs.cli.site.site_document import Site, read_site
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, EXIT_REFUSED
from policyfs.kernel import placeholder, probe
from policyfs.kernel.probe import MountState
from policyfs.linux import mountinfo
from policyfs.linux.code_digest import code_digest
from policyfs.linux.mountinfo import FSTYPE
from tests.support.mount.control_sockets import ControlSocket

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: home}
apps: {one: {uid: 10010}, two: {uid: 10011}}
rules:
  - {id: all, allow: [all], who: {app: any}, paths: "/***"}
"""
SITE = """\
apiVersion: policyfs/v1
kind: Site
name: home
store: %(place)s/store
policy: %(place)s/policy.yaml
trail: %(place)s/trail
mounts:
  - {app: one, service: one.service, path: /media/one}
  - {app: two, at: %(place)s/at/two}
  - {shared: true, at: %(place)s/at/all}
"""


class World:
    """A site, mounts as the kernel would list them, their daemons' sockets, and the commands that are run."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        for name in ("store", "trail"):
            (place / name).mkdir()
        (place / "policy.yaml").write_text(POLICY)
        self.file = str(place / "home.site.yaml")
        Path(self.file).write_text(SITE % {"place": place})
        self.mounts: dict[str, mountinfo.Mount] = {}
        self.dead: set[str] = set()
        self.covered: list[str] = []
        self.commands: list[list[str]] = []
        self.fails: dict[str, str] = {}
        self.says: dict[str, str] = {}
        self.sockets: dict[str, ControlSocket] = {}
        self.stack = ExitStack()
        monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(place / "run"))
        monkeypatch.setenv("POLICYFS_KEY_DIR", str(place / "keys"))
        monkeypatch.setattr(mountinfo, "mounts_at", lambda at: [self.mounts[at]] if at in self.mounts else [])
        dead = {True: MountState.DEAD, False: MountState.ALIVE}
        monkeypatch.setattr(probe, "mount_state", lambda at: dead[at in self.dead])
        monkeypatch.setattr(subprocess, "run", self.run)
        monkeypatch.setattr(site, "run_umount", self.umount)
        monkeypatch.setattr(placeholder, "put_placeholder", self.covered.append)

    @property
    def site(self) -> Site:
        return read_site(self.file)

    def at(self, name: str) -> str:
        return str(self.place / ("run/mounts/home/one" if name == "one" else "at") / name)

    def mount(self, name: str, *, fstype: str = FSTYPE, store: str = "store", socket: bool = True,
              app: str | None = "", **options: Any) -> None:  # fmt: skip
        """Let a mount be there, of this site's own options but for those given."""
        Path(self.at(name)).mkdir(parents=True, exist_ok=True)
        source = str(self.place / store)
        found = replace(mountinfo.mounts()[0], path=self.at(name), fstype=fstype, source=source)
        self.mounts[self.at(name)] = found
        doc = next(one for one in self.site.mounts if one.at == self.at(name))
        parser = build_parser("mount")
        given = options_of(parser.parse_args(self.site.command(doc))) | options
        status = {
            "app": doc.app if app == "" else app, "options": given, "policy": {"file": self.site.policy},
            "trail": {"directory": f"{self.site.trail}/0123"}, "pid": 7, "code": code_digest(),
        }  # fmt: skip
        if socket:
            path = control.socket_path(self.at(name))
            self.sockets[name] = self.stack.enter_context(ControlSocket(path, status=status))

    def forget(self, *names: str) -> None:
        """Take mounts out of the site file."""
        lines = Path(self.file).read_text().splitlines(keepends=True)
        Path(self.file).write_text("".join(
            line for line in lines if not any(f"{{app: {name}," in line for name in names)
        ))  # fmt: skip

    def run(self, words: list[str], *, input: str = "", **_: Any) -> subprocess.CompletedProcess[str]:  # noqa: A002
        """Of a command, or of several that are made side by side: notes it, and fails where told."""
        assert words[:3] == [sys.executable, "-I", "-m"]
        if words[3] == "policyfs.cli.mounts.forked_mounts":
            found = [self.command(["mount", *one]) for one in json.loads(input)]
            outcomes = json.dumps([(one.returncode, one.stderr) for one in found])
            return subprocess.CompletedProcess(words, 0, outcomes, "")
        assert words[3] == "policyfs.cli.main"
        return self.command(words[4:])

    def umount(self, args: argparse.Namespace) -> int:
        done = self.command(["umount", *(["--lazy"] if args.lazy else []), args.mountpoint])
        print(done.stderr, end="", file=sys.stderr)
        return done.returncode

    def command(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(words)
        key = f"{words[0]} {os.path.basename([word for word in words if not word.startswith('--')][-1])}"
        failed = key in self.fails
        said = self.fails.get(key, self.says.get(key, ""))
        return subprocess.CompletedProcess(words, 1 if failed else 0, "", said)

    def done(self) -> list[str]:
        """The commands in short, in their order; mounts are made side by side."""
        found = []
        for words in self.commands:
            plain = [word for word in words if word.startswith((f"{self.place}/at/", f"{self.place}/run/"))]
            lazy = " --lazy" if "--lazy" in words else ""
            found.append(f"{words[0]} {os.path.basename(plain[-1])}{lazy}")
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, monkeypatch)
    with made.stack:
        yield made


@pytest.fixture
def command(world: World, capsys: pytest.CaptureFixture[str]):
    def run(*words: str) -> tuple[int, str, str]:
        code = main.main([*words, world.file])
        return (code, *capsys.readouterr())

    return run


# -- what is there -------------------------------------------------------------------------------------


def states(world: World) -> list[State]:
    return [look(world.site, one).state for one in world.site.mounts]


def test_places_without_a_mount_and_with_ours_are_told_apart(world: World) -> None:
    world.mount("one")
    assert states(world) == [State.UP, State.DOWN, State.DOWN]
    world.mount("two", posix=True)
    world.mount("all", socket=False)
    assert states(world) == [State.UP, State.CHANGED, State.DEAD]
    world.dead.add(world.at("one"))
    assert states(world)[0] is State.DEAD


@pytest.mark.parametrize("other", [{"fstype": "ext4"}, {"store": "other"}, {"app": "two"}, {"app": None}])
def test_another_mount_at_the_place_is_none_of_the_site(world: World, other: dict) -> None:
    world.mount("one", **other)
    assert states(world)[0] is State.OTHER


def test_a_place_is_found_without_a_question_to_the_mount_on_it(world: World) -> None:
    (world.place / "real").mkdir()
    (world.place / "at").symlink_to("real")
    assert place_of(world.site.mounts[1]) == str(world.place / "real/two")
    (world.place / "real/two").symlink_to("elsewhere")
    assert place_of(world.site.mounts[1]) == str(world.place / "real/elsewhere")
    (world.place / "at").unlink()
    assert place_of(world.site.mounts[1]) == world.at("two")


# -- up ------------------------------------------------------------------------------------------------


def test_mounts_that_are_missing_are_made_at_their_places(world: World, command) -> None:
    world.mount("two")
    world.mount("all")
    world.dead.add(world.at("all"))
    code, out, err = command("up")
    assert (code, err) == (EXIT_OK, "")
    assert sorted(world.done()) == ["mount all", "mount one"]
    assert out.splitlines() == [
        f"one: up at {world.at('one')}",
        f"two: up already at {world.at('two')}",
        f"shared: up again: its daemon had ended at {world.at('all')}",
    ]
    assert Path(world.at("one")).is_dir()
    assert [os.path.basename(path) for path in world.covered] == ["one"]
    assert (world.place / "run/mounts").stat().st_mode & 0o777 == 0o700


def test_places_without_mounts(world: World, command) -> None:
    assert command("up", "--places") == (EXIT_OK, "", "")
    assert world.commands == []
    assert [os.path.basename(path) for path in world.covered] == ["one", "two", "all"]
    assert os.listdir(world.place / "run/mounts/home") == ["one"]


def test_a_mount_with_other_options_stays_and_its_users_are_named(world: World, command) -> None:
    for name in ("two", "all"):
        world.mount(name)
    world.mount("one", read_only=True)
    code, out, err = command("up")
    assert (code, world.commands) == (EXIT_OK, [])
    assert "one: up with other options" in out
    assert "read_only is true, but the site file says false" in err
    assert f"`policyfs up --restart {world.file}`" in err
    assert err.endswith("use the mount: one.service\n")


def test_a_restart_is_checked_before_anything_is_unmounted(world: World, command) -> None:
    for name in ("two", "all"):
        world.mount(name)
    world.mount("one", read_only=True)
    code, out, _ = command("up", "--restart")
    assert (code, world.done()) == (EXIT_OK, ["umount one", "mount one"])
    assert "one: up again: its options changed" in out
    world.commands.clear()
    (world.place / "policy.yaml").write_text(POLICY.replace("one:", "other:"))
    code, _, err = command("up", "--restart")
    assert (code, world.commands) == (EXIT_REFUSED, [])
    assert "was not restarted: the policy has no app 'one'" in err


def test_a_mount_that_another_program_watches_is_not_restarted(world: World, command) -> None:
    for name in ("two", "all"):
        world.mount(name)
    world.mount("one", read_only=True, foreground=True)
    code, _, err = command("up", "--restart")
    assert (code, world.commands) == (EXIT_OK, [])
    assert "`systemctl daemon-reload` and `systemctl restart policyfs-home-one.service`" in err
    status = world.sockets["one"].answers["status"]
    status |= {"code": "0123", "takeover": {"keeper": 7}}
    status["options"]["read_only"] = False
    assert "`systemctl reload policyfs-home-one.service` renews it while it is in use" in command("up")[2]
    assert world.commands == []


def test_mounts_with_other_code_are_made_again_one_by_one_until_one_fails(world: World, command) -> None:
    for name in ("one", "two", "all"):
        world.mount(name)
        world.sockets[name].answers["status"]["code"] = "0123"
    code, out, err = command("up")
    assert (code, world.commands, out.count(": up with other code at ")) == (EXIT_OK, [], 3)
    assert err.count("is not as in the site: it runs other code than is installed. `policyfs up --rest") == 3
    world.fails = {"mount two": "no room"}
    code, _, err = command("up", "--restart")
    assert (code, world.done()) == (EXIT_REFUSED, ["umount one", "mount one", "umount two", "mount two"])
    assert f"shared ({world.at('all')}): was not restarted, as another failed" in err
    world.fails = {}
    world.commands.clear()
    code, out, _ = command("up", "--restart")
    assert (code, out.count(": up again: its code changed at ")) == (EXIT_OK, 3)
    assert world.done() == [
        f"{word} {name}" for name in ("one", "two", "all") for word in ("umount", "mount")
    ]


def test_mounts_that_the_site_does_not_name_any_more_are_told_and_end_by_a_restart(
    world: World, command
) -> None:
    for name in ("one", "two", "all"):
        world.mount(name)
    assert command("up")[0] == EXIT_OK
    world.forget("one", "two")
    remedy = f"`policyfs up --restart {world.file}` unmounts it"
    surplus = f"{world.at('one')}: the site does not name this mount; {remedy}"
    assert surplus in site.status_of_site(world.site)[1]
    code, _, err = command("up")
    assert (code, f"policyfs: {surplus}\n" in err, world.commands) == (EXIT_OK, True, [])
    world.fails = {"umount two": "policyfs: busy"}
    code, out, err = command("up", "--restart")
    assert (code, world.done()) == (EXIT_REFUSED, ["umount one", "umount two"])
    assert err == f"policyfs: {world.at('two')}: busy\n"
    assert f"{world.at('one')}: down, as the site does not name it any more\n" in out
    del world.mounts[world.at("one")]
    world.commands.clear()
    assert command("down")[0] == EXIT_REFUSED
    world.fails = {}
    code, out, _ = command("down")
    assert (code, out) == (EXIT_OK, f"shared: down\n{world.at('two')}: down\n")
    assert world.done() == ["umount all", "umount two"] * 2


def test_mounts_of_units_and_of_others_are_no_surplus(world: World, command) -> None:
    for name in ("one", "two", "all"):
        world.mount(name, foreground=name == "one")
    assert command("up")[0] == EXIT_OK
    world.mounts[world.at("two")] = replace(world.mounts[world.at("two")], fstype="ext4")
    (world.place / "link").symlink_to("at")
    text = Path(world.file).read_text().replace("at/all", "link/all")
    Path(world.file).write_text(text)
    world.forget("one", "two")
    other = world.place / "other.site.yaml"  # of the same name
    other.write_text(text.replace("link/all", "new"))
    assert site.status_of_site(read_site(str(other)))[1][-1].startswith(f"shared ({world.place}/new): down; ")
    assert command("up", "--restart") == (EXIT_OK, f"shared: up already at {world.place}/link/all\n", "")
    assert world.commands == []


def test_a_mount_that_came_to_a_place_of_the_site_later_stays(world: World, command) -> None:
    for name in ("one", "two", "all"):
        world.mount(name)
    assert command("up")[0] == EXIT_OK
    world.sockets["one"].answers["status"]["options"]["foreground"] = True  # a unit runs it now
    world.mounts[world.at("two")] = replace(world.mounts[world.at("two")], source="/srv/other")
    world.forget("one", "two")
    assert site.status_of_site(world.site)[1] == []
    assert command("up", "--restart")[::2] == (EXIT_OK, "")
    assert command("down")[::2] == (EXIT_OK, "")
    assert world.done() == ["umount all"]


def test_a_record_that_cannot_be_read_is_told(world: World, command) -> None:
    (world.place / "run/home.site").mkdir(parents=True)  # as for another user than root
    code, _, err = command("status")
    assert (code, "home.site: Is a directory; run this command as root" in err) == (EXIT_REFUSED, True)


def test_a_restart_that_fails_says_what_is_down_now(world: World, command) -> None:
    for name in ("two", "all"):
        world.mount(name)
    world.mount("one", read_only=True)
    world.fails = {"umount one": "policyfs: busy\n"}
    code, _, err = command("up", "--restart")
    assert (code, world.done()) == (EXIT_REFUSED, ["umount one"])
    assert "the mount is not as in the site, and was not restarted: busy" in err
    world.fails = {"mount one": "no room"}
    code, _, err = command("up", "--restart")
    assert code == EXIT_REFUSED
    assert "the mount was unmounted to be made anew, but could not be mounted again: no room" in err


def test_if_a_mount_fails_the_new_ones_go_and_the_old_ones_stay(world: World, command) -> None:
    world.mount("one", read_only=True)
    world.fails = {"mount two": "policyfs: no room\n", "umount all": "it stays"}
    code, out, err = command("up", "--restart")
    assert (code, out) == (EXIT_REFUSED, "")
    assert sorted(world.done()) == ["mount all", "mount two", "umount all --lazy"]
    assert "the site home is not up, and nothing new is mounted:" in err
    assert f"  two ({world.at('two')}): no room\n" in err
    assert err.endswith("  it stays\n")


def test_an_app_that_the_policy_lacks_is_told_before_all_else(world: World, command) -> None:
    world.mount("two", fstype="ext4")
    (world.place / "policy.yaml").write_text(POLICY.replace("one:", "other:"))
    code, _, err = command("up")
    assert (code, world.commands) == (EXIT_REFUSED, [])
    assert "has no app one; its apps are other, two. Nothing was mounted" in err
    assert not Path(world.at("one")).exists()


def test_something_else_at_a_place_stops_everything(world: World, command) -> None:
    world.mount("two", fstype="ext4")
    code, _, err = command("up")
    assert (code, world.commands) == (EXIT_REFUSED, [])
    assert f"something else is mounted on {world.at('two')}" in err
    assert not Path(world.at("one")).exists()


def test_a_command_that_says_nothing_has_its_exit_code_and_warnings_are_passed_on(
    world: World, command
) -> None:
    world.says = {"mount one": "policyfs: warning: open to all\n"}
    code, _, err = command("up")
    assert (code, err) == (EXIT_OK, "policyfs: warning: open to all\n")
    world.says, world.fails = {}, {"mount one": ""}
    assert f"one ({world.at('one')}): exit code 1" in command("up")[2]


def test_nothing_is_made_or_unmounted_behind_a_link_of_an_app(world: World, command) -> None:
    world.mount("all")
    (world.place / "real").mkdir()
    os.symlink(world.place / "real", world.at("link"))
    os.chown(world.place / "at", 10_010, 10_010)
    text = Path(world.file).read_text().replace("at/two", "at/link/new/two")
    Path(world.file).write_text(text)
    code, _, err = command("up")
    assert (code, world.commands, os.listdir(world.place / "real")) == (EXIT_REFUSED, [], [])
    assert "leads through the symbolic link" in err
    world.fails["umount two"] = "it leads through a link"
    code, out, err = command("down")
    assert (code, "it leads through a link" in err, "shared: down" in out) == (EXIT_REFUSED, True, True)


def test_places_and_locks_that_cannot_be_made_are_told(world: World, command, monkeypatch) -> None:
    (world.place / "at").touch()
    code, _, err = command("up")
    assert (code, "cannot make the mountpoint" in err) == (EXIT_REFUSED, True)
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(world.place / "at/run"))
    for word in ("up", "down"):
        code, _, err = command(word)
        assert (code, "run this command as root" in err) == (EXIT_REFUSED, True)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "mounting needs root" in command("up")[2]
    assert world.commands == []


def test_one_command_at_a_time_changes_a_site(world: World, command, monkeypatch) -> None:
    held: list[bool] = []
    seen = site.look

    def looking(*arguments: Any) -> Any:
        with open(world.place / "run/home.site") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held.append(False)
            except BlockingIOError:
                held.append(True)
        return seen(*arguments)

    monkeypatch.setattr(site, "look", looking)
    for word in ("up", "down"):
        command(word)
    assert held == [True] * 6
    with open(world.place / "run/home.site") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# -- down and status -----------------------------------------------------------------------------------


@pytest.mark.parametrize("lazy", [False, True])
def test_all_go_down_the_last_one_first(world: World, command, lazy: bool) -> None:
    world.mount("one", read_only=True)
    world.mount("all", socket=False)
    code, out, err = command("down", *(["--lazy"] if lazy else []))
    more = " --lazy" if lazy else ""
    assert (code, err) == (EXIT_OK, "")
    assert world.done() == [f"umount all{more}", f"umount one{more}"]
    assert out == "shared: down\ntwo: down\none: down\n"


def test_mounts_that_units_run_are_left_to_them(world: World, command) -> None:
    world.mount("one", foreground=True)
    world.mount("all")
    code, _, err = command("down")
    assert (code, world.commands) == (EXIT_REFUSED, [])
    assert "`systemctl stop policyfs-home.target policyfs-home-one.service` ends them, and" in err


def test_what_stays_up_is_told_and_the_others_go(world: World, command) -> None:
    world.mount("two", fstype="ext4")
    world.mount("one")
    world.mount("all")
    world.fails = {"umount all": "policyfs: busy"}
    code, out, err = command("down")
    assert (code, out) == (EXIT_REFUSED, "one: down\n")
    assert err == (
        f"policyfs: shared ({world.at('all')}): busy\n"
        f"policyfs: two ({world.at('two')}): another mount is at this path, and stays\n"
    )
    assert world.done() == ["umount all", "umount one"]


def test_a_daemon_that_hangs_keeps_no_other_mount_up(world: World, command) -> None:
    for name in ("one", "two", "all"):
        world.mount(name)
    world.sockets["all"].answers["status"] = {"error": "the daemon hangs"}
    assert states(world) == [State.UP, State.UP, State.HUNG]
    code, out, err = command("status", "--json")
    assert (code, [status["app"] for status in json.loads(out)]) == (EXIT_REFUSED, ["one", "two"])
    assert f"policyfs: shared ({world.at('all')}): the daemon hangs\n" in err
    assert "2 of 3 mounts are up" in err
    assert command("up") == (EXIT_REFUSED, "", "policyfs: the daemon hangs\n")
    assert world.done() == []
    code, out, err = command("down")
    assert (code, out, err) == (EXIT_OK, "shared: down\ntwo: down\none: down\n", "")
    assert world.done() == ["umount all", "umount two", "umount one"]


def test_the_status_of_a_site_has_its_mounts_and_what_is_missing(world: World, capsys) -> None:
    world.mount("one")
    world.mount("two", read_only=True)
    up, lines = site.status_of_site(world.site)
    assert [(one["app"], bool(one["site_changes"])) for one in up] == [("one", False), ("two", True)]
    assert lines == [f"shared ({world.at('all')}): down; `policyfs up {world.file}` makes this mount"]
    assert "two (" in capsys.readouterr().err
    assert site.trail_of(world.site) == str(world.place / "trail")


def test_the_status_tells_the_command_of_a_mounts_unit_and_why_the_store_is_absent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = world.place / "units"
    units.mkdir()
    monkeypatch.setattr(site, "UNITS", str(units))
    for name, file in (("one", world.file), ("two", "/other.site.yaml")):
        unit = f"policyfs-home-{name}.service"
        (units / unit).write_text(MADE_BY.format(file=file))
    (world.place / "store").rename(world.place / "disk")
    _, (one, two, _, why) = site.status_of_site(world.site)
    assert one.endswith("): down; `systemctl start policyfs-home-one.service` makes this mount")
    assert two.endswith(f"): down; `policyfs up {world.file}` makes this mount")
    assert why == f"the store {world.place}/store does not exist; mount its file system, or correct the path"
    assert not (world.place / "store").exists()


def test_status_of_a_sites_file_is_that_of_its_mounts(world: World, command) -> None:
    code, out, err = command("status", "--json")
    assert (code, out) == (EXIT_REFUSED, "[]\n")
    assert err.count("makes this mount") == 3
    assert f"site home: 0 of 3 mounts are up; trail in {world.place}/trail" in err

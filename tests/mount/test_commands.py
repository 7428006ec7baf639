"""The commands about mounts: their lives, their ends, several of them, and what is said of them."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyfs.cli.running.health import problems
from policyfs.linux.code_digest import VERSION
from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import Child, call_as, start_as, state_of, wait_for
from tests.support.models.twins import content, error, fd_of
from tests.support.mount.daemons import Mount, Said, policyfs, policyfs_process
from tests.support.mount.stores import Mounts, wait_until_closed

ONE, TWO = 10010, 10011
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: two-apps}}
apps:
  one: {{uid: {ONE}}}
  two: {{uid: {TWO}}}
rules:
  - {{id: all, allow: [all], who: {{app: one}}, paths: "/***"}}
  - {{id: look, allow: [see, read], who: {{app: two}}, paths: "/Documents/***"}}
"""


@pytest.fixture(scope="module")
def live(module_mounts: Mounts, module_arena: Path, media: dict[str, Path]) -> Mount:
    """A mount that the tests of this file only look at."""
    from tests.support.mount.stores import populate

    store = module_arena / "store"
    store.mkdir(mode=0o700)
    populate(store, media)
    return module_mounts.start(POLICY, store)


def command(mount: Mount, *arguments: str | Path) -> Said:
    """A command in the environment of a mount."""
    with mount.as_environment():
        return policyfs(*arguments)


# ---------------------------------------------------------------- status


def test_status_says_what_the_mount_is_and_holds(live: Mount) -> None:
    status = live.status()
    assert status["mountpoint"] == str(live.mountpoint)
    assert status["store"] == str(live.store)
    assert status["pid"] == live.pid
    assert status["app"] is None
    assert status["policy"]["name"] == "two-apps"
    assert (status["policy"]["generation"], len(status["policy"]["digest"])) == (1, 64)
    assert status["passthrough"]["enabled"] is True
    assert status["bugs"] == 0

    def hold(channel) -> None:
        with fd_of(live / "Documents/notes.txt", os.O_RDONLY), fd_of(live / "Music", os.O_RDONLY):
            channel.send("held")
            channel.recv()

    child = start_as(ONE, hold)
    child.receive()
    held = live.status()
    assert (held["handles"]["files"], held["handles"]["directories"]) == (1, 1)
    assert held["backing_ids"] >= 1
    child.send("go")
    child.result()
    wait_until_closed(live)


def test_status_for_people(live: Mount) -> None:
    said = command(live, "status", live.mountpoint)
    assert said.returncode == 0
    for words in (
        f"{live.mountpoint}: shared mount of {live.store}", f"pid {live.pid}", "two-apps generation 1",
        "passthrough  on", str(live.trail_dir),
    ):  # fmt: skip
        assert words in said.stdout, said.stdout
    assert str(live.mountpoint) in command(live, "status").stdout
    assert len(max(said.stdout.splitlines(), key=len)) < 200


def test_counters_show_that_bytes_do_not_come_this_way(live: Mount) -> None:
    before = live.fuse_counters()
    call_as(ONE, lambda: len(content(str(live / "Movies/video.mp4"))))
    after = live.fuse_counters()
    assert after["OPEN"] == before["OPEN"] + 1
    assert after.get("READ", 0) == before.get("READ", 0)
    assert after["LOOKUP"] > before["LOOKUP"]


def test_status_of_what_is_no_mount(live: Mount, arena: Path) -> None:
    said = command(live, "status", arena)
    assert (said.returncode, said.stdout) == (1, "")
    assert f"no policyfs daemon answers for {arena}: there is no policyfs mount" in said.stderr
    assert command(live, "status", arena / "missing").returncode == 1
    said = command(live, "reload", arena)
    assert (said.returncode, "there is no policyfs mount" in said.stderr) == (1, True)
    elsewhere = policyfs_process(
        "status", live.mountpoint, environment={"POLICYFS_RUNTIME_DIR": str(arena / "none")}
    )
    assert "set POLICYFS_RUNTIME_DIR" in elsewhere.stderr
    said = command(live, "umount", arena)
    assert said.returncode == 1
    assert f"nothing is mounted on {arena}" in said.stderr
    environment = {"POLICYFS_RUNTIME_DIR": str(arena / "none")}
    nothing = policyfs_process("status", environment=environment)
    assert (nothing.returncode, nothing.stdout) == (0, "no policyfs mount answers\n")
    assert json.loads(policyfs_process("status", "--json", environment=environment).stdout) == []


def test_umount_of_a_mount_in_another_namespace_says_where_it_is(live: Mount) -> None:
    script = 'umount --lazy "$1" && exec "$2" -m policyfs.cli.main umount "$1"'
    with live.as_environment():
        said = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(live.mountpoint), sys.executable],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip
    assert said.returncode == 1
    assert f"policyfs: {live.mountpoint} is mounted in another mount namespace" in said.stderr
    assert f"`nsenter --mount --target {live.pid} policyfs umount {live.mountpoint}`" in said.stderr
    assert command(live, "status", live.mountpoint).returncode == 0


def test_the_control_socket_is_roots_alone(live: Mount) -> None:
    import socket

    assert live.control_socket.stat().st_mode & 0o777 == 0o600
    os.chmod(live.control_socket.parent.parent, 0o711)

    def ask() -> str:
        with socket.socket(socket.AF_UNIX) as client:
            return error(client.connect, str(live.control_socket))

    assert call_as(ONE, ask) in {"EACCES", "ENOENT"}

    def status(*arguments: Path) -> str:
        with live.as_environment():
            said = policyfs("status", *arguments)
        return f"{said.returncode} {said.stderr}"

    assert status().startswith("0 ")
    assert "only root may use the daemon at" in call_as(ONE, status)
    os.chmod(live.control_socket.parent, 0o700)
    assert call_as(ONE, status).startswith("1 policyfs: cannot look for mounts in")
    os.chmod(live.control_socket.parent, 0o711)
    assert call_as(ONE, lambda: status(live.mountpoint)).startswith("1 policyfs: only root may use")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"not json\n",
        b'{"command": "dance"}\n',
        b"[]\n",
        b"\xff" * 100 + b"\n",
        b'{"command": []}\n',
    ],
)
def test_nonsense_on_the_control_socket(live: Mount, line: bytes) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(live.control_socket))
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        answer = json.loads(b"".join(iter(lambda: client.recv(65536), b"")))
    assert "unknown command" in answer["error"]
    assert live.status()["bugs"] == 0


# ---------------------------------------------------------------- lives and ends


def _in_background(mount: Mount, *options: str) -> Said:
    mount.trail.mkdir(exist_ok=True)
    return policyfs_process(
        "mount",
        "--policy",
        mount.policy,
        *options,
        mount.store,
        mount.mountpoint,
        environment=mount.environment,
        executed=True,
    )


@contextlib.contextmanager
def background(mounts: Mounts, store: Path, *options: str) -> Iterator[tuple[Mount, int]]:
    """A mount that went to the background, and the pid of its daemon."""
    mount = mounts.prepare(POLICY, store)
    said = _in_background(mount, *options)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", ""), said
    pid = int(mount.status()["pid"])
    try:
        yield mount, pid
    finally:
        mount.force_away()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def gone(pid: int) -> bool:
    """Has a process ended (a zombie that nobody waits for counts)."""
    try:
        return state_of(pid) == "Z"
    except FileNotFoundError:
        return True


def test_a_mount_in_the_background_and_again_at_once(mounts: Mounts, store: Path) -> None:
    with background(mounts, store) as (mount, pid):
        # The command has returned: the mount answers now, not soon.
        assert call_as(ONE, content, str(mount / "Documents/notes.txt")) == b"plain words\n"
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        keeper = mount.status()["takeover"]["keeper"]
        assert os.getsid(pid) == os.getsid(keeper) == keeper
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        log = mount.trail_dir / "daemon.log"
        assert os.readlink(f"/proc/{pid}/fd/2") == str(log)
        assert log.stat().st_mode & 0o777 == 0o600
        said = policyfs_process("umount", mount.mountpoint, environment=mount.environment)
        assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
        assert not mount.is_mounted()
        assert gone(pid), "umount waits for the daemon, which writes the last seal"
        assert gone(keeper)
        assert not mount.control_socket.exists()
        assert "rror" not in log.read_text()
        read = command(mount, "audit", "search", "--trail", mount.trail_dir.parent)
        assert (read.returncode, read.stderr) == (0, ""), "the log beside the segments is no damage"
        # and again at once
        assert _in_background(mount).returncode == 0
        second = int(mount.status()["pid"])
        assert second != pid
        assert call_as(ONE, content, str(mount / "Documents/notes.txt")) == b"plain words\n"
        assert command(mount, "umount", mount.mountpoint).returncode == 0
        assert gone(second)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_unmounts(mounts: Mounts, store: Path, number: signal.Signals) -> None:
    """Ctrl-C at a terminal, and what systemd sends."""
    mount = mounts.start(POLICY, store)
    call_as(ONE, content, str(mount / "Documents/notes.txt"))
    assert mount.process is not None
    mount.process.send_signal(number)
    assert mount.process.wait(10) == 0
    assert not mount.is_mounted()
    assert mount.stop() == []


def test_hangup_reloads(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)
    mount.policy.write_text(POLICY.replace("two-apps", "renamed"))
    os.kill(mount.pid, signal.SIGHUP)
    wait_for(lambda: mount.status()["policy"]["name"] == "renamed", "the new policy is in force")
    mount.policy.write_text("broken: [")
    os.kill(mount.pid, signal.SIGHUP)
    wait_for(lambda: mount.notices("policy-refused") == ["warning"], "the log says that it was refused")
    assert mount.status()["policy"]["name"] == "renamed"
    mount.expected_log.append("policy-refused")


def _holder(mount: Mount, how: str) -> Child:
    """A process that keeps the mount busy in one way."""

    def hold(channel) -> None:
        with contextlib.ExitStack() as stack:
            if how == "cwd":
                os.chdir(mount / "Documents")
            elif how == "file":
                stack.enter_context(fd_of(mount / "Documents/notes.txt", os.O_RDONLY))
            elif how == "directory":
                stack.enter_context(fd_of(mount / "Music", os.O_RDONLY))
            else:
                with fd_of(mount / "Documents/notes.txt", os.O_RDONLY) as fd:
                    stack.enter_context(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
            channel.send("held")
            channel.recv()

    child = start_as(ONE, hold)
    child.receive()
    return child


def test_a_busy_mount_says_who_holds_it(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)
    for how, words in (("cwd", "cwd"), ("file", "notes.txt"), ("directory", "Music"), ("mapping", "")):
        holder = _holder(mount, how)
        said = command(mount, "umount", mount.mountpoint)
        assert said.returncode == 1
        assert "busy" in said.stderr.lower()
        assert f"(pid {holder.pid}, uid {ONE})" in said.stderr, (how, said.stderr)
        assert words in said.stderr
        assert mount.is_mounted()
        assert call_as(ONE, content, str(mount / "Documents/notes.txt")) == b"plain words\n"
        holder.send("go")
        holder.result()
    assert command(mount, "umount", mount.mountpoint).returncode == 0
    assert mount.process is not None
    assert mount.process.wait(10) == 0
    assert mount.stop() == []


def test_a_busy_mount_detaches_if_told_so(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)

    def hold(channel) -> bytes:
        with fd_of(mount / "Documents/notes.txt", os.O_RDONLY) as fd:
            channel.send("held")
            channel.recv()
            return os.pread(fd, 100, 0)

    holder = start_as(ONE, hold)
    holder.receive()
    assert command(mount, "umount", "--lazy", mount.mountpoint).returncode == 0
    assert not mount.is_mounted()
    holder.send("read")
    assert holder.result() == b"plain words\n"  # who had it open goes on to the end
    assert mount.process is not None
    assert mount.process.wait(10) == 0
    assert mount.stop() == []


def test_a_signal_to_a_busy_mount_detaches_it_and_says_who_held_it(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)
    holder = _holder(mount, "cwd")
    assert mount.process is not None
    mount.process.terminate()
    assert mount.process.wait(15) == 0
    assert not mount.is_mounted()
    assert "detached while busy" in mount.log.read_text()
    assert f"pid {holder.pid}" in mount.log.read_text()
    holder.send("go")
    holder.result()
    assert mount.stop() == []


def test_a_daemon_that_cannot_start_says_why_and_is_gone(mounts: Mounts, store: Path) -> None:
    mount = mounts.prepare(POLICY, store)
    mount.runtime.write_text("a file where the control sockets belong")
    said = _in_background(mount)
    assert said.returncode == 1
    assert str(mount.runtime) in said.stderr
    assert not mount.is_mounted()
    mount.runtime.unlink()


def test_unmounted_by_others(mounts: Mounts, store: Path) -> None:
    """umount(8) knows nothing of policyfs; the daemon ends all the same."""
    mount = mounts.start(POLICY, store)
    mount.expected_exit = 1
    subprocess.run(["umount", str(mount.mountpoint)], check=True, timeout=10)
    assert mount.process is not None
    assert mount.process.wait(10) == mount.expected_exit == 1  # so that systemd mounts it again
    assert mount.stop() == []


def test_the_mount_is_nosuid_and_nodev(live: Mount) -> None:
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    (entry,) = [fields for fields in lines if fields[4] == str(live.mountpoint)]
    assert {"nosuid", "nodev"} <= set(entry[5].split(","))
    assert entry[entry.index("-") + 1 : entry.index("-") + 3] == ["fuse.policyfs", str(live.store)]


# ---------------------------------------------------------------- several at once


def test_several_mounts_of_one_store(mounts: Mounts, store: Path) -> None:
    shared = mounts.start(POLICY, store)
    one = mounts.start(POLICY, store, "--app", "one")
    two = mounts.start(POLICY, store, "--app", "two")
    assert call_as(ONE, lambda: sorted(os.listdir(one))) == sorted(os.listdir(store))
    assert call_as(TWO, lambda: sorted(os.listdir(two))) == ["Documents"]
    assert call_as(TWO, lambda: sorted(os.listdir(shared))) == ["Documents"]
    # Each app mount lets nobody else in, root included.
    for uid, mount in ((ONE, two), (TWO, one), (0, one), (0, two), (10099, one)):
        assert call_as(uid, lambda mount=mount: error(os.listdir, mount)) == "EACCES"
    # What one makes the others see, whatever they keep.
    assert call_as(TWO, lambda: error(os.stat, two / "Documents/new.txt")) == "ENOENT"
    call_as(ONE, lambda: (one / "Documents/new.txt").write_text("new"))
    wait_for(
        lambda: call_as(TWO, lambda: error(content, str(two / "Documents/new.txt"))) == "b'new'", "seen", 1.0
    )
    call_as(ONE, lambda: (shared / "Documents/new.txt").write_text("longer text"))
    wait_for(
        lambda: call_as(TWO, lambda: error(content, str(two / "Documents/new.txt"))) == "b'longer text'",
        "the change is seen", 1.0,
    )  # fmt: skip
    call_as(ONE, os.unlink, shared / "Documents/new.txt")
    wait_for(
        lambda: call_as(TWO, lambda: os.listdir(two / "Documents")) == ["notes.txt"], "the end is seen", 1.0
    )
    # Each has its own trail and its own line in status.
    listed = json.loads(command(shared, "status", "--json").stdout)
    assert {entry["mountpoint"]: entry["app"] for entry in listed} == {
        str(shared.mountpoint): None, str(one.mountpoint): "one", str(two.mountpoint): "two",
    }  # fmt: skip
    assert len({mount.trail_dir for mount in (shared, one, two)}) == 3
    wait_for(lambda: two.events(operation="open", app="two"), "its opens are on its trail")
    assert not two.events(app="one")
    assert command(shared, "audit", "verify").returncode == 0
    # One ends, the others go on.
    assert command(one, "umount", one.mountpoint).returncode == 0
    assert call_as(TWO, content, str(two / "Documents/notes.txt")) == b"plain words\n"


def test_any_uid_that_reaches_an_any_uid_mount_is_the_app(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--app", "two", "--any-uid")
    for uid in (TWO, ONE, 10099, 0):
        assert call_as(uid, lambda: sorted(os.listdir(mount))) == ["Documents"]
    assert {event["app"] for event in mount.events(type="event")} <= {"two"}


def test_mode_bits_count_if_asked_for(mounts: Mounts, store: Path) -> None:
    (store / "Documents/closed.txt").write_text("root's alone")
    (store / "Documents/closed.txt").chmod(0o600)
    store.chmod(0o755)  # a store of mode 0700 would be closed to all
    mount = mounts.start(POLICY, store, "--posix")
    assert call_as(ONE, lambda: error(content, str(mount / "Documents/closed.txt"))) == "EACCES"
    assert call_as(ONE, content, str(mount / "Documents/notes.txt")) == b"plain words\n"
    assert call_as(ONE, lambda: error(os.mkdir, mount / "Documents/new")) == "EACCES"
    assert call_as(TWO, lambda: error(os.stat, mount / "Music")) == "ENOENT"
    policy_alone = mounts.start(POLICY, store)
    assert call_as(ONE, content, str(policy_alone / "Documents/closed.txt")) == b"root's alone"


def test_without_passthrough(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store, "--no-passthrough")
    video = call_as(ONE, content, str(mount / "Movies/video.mp4"))
    assert video == (store / "Movies/video.mp4").read_bytes()
    status = mount.status()
    assert status["fuse"]["READ"] > 0
    assert status["passthrough"]["enabled"] is False
    assert "--no-passthrough" in status["passthrough"]["why_not"]


# ---------------------------------------------------------------- policies and the machine


def test_checking_policies(live: Mount, arena: Path) -> None:
    good, bad = arena / "good.yaml", arena / "bad.yaml"
    good.write_text(POLICY)
    bad.write_text(
        POLICY.replace("allow: [all]", "allow: [everything]").replace("kind: Policy", "kind: Polcy")
    )
    said = policyfs("policy", "check", good)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(f"{good}: fine; 2 apps, 2 rules (2 allow, 0 deny, 0 require), digest ")
    assert live.status()["policy"]["digest"].startswith(said.stdout.split("digest ")[1].strip())
    said = policyfs("policy", "check", bad, good)
    assert said.returncode == 3
    assert f"{bad}:2:" in said.stdout
    assert f"{bad}:8:" in said.stdout
    assert f"{good}: fine" in said.stdout
    assert policyfs("policy", "check", arena / "missing.yaml").returncode == 3
    (arena / "many").mkdir()
    (arena / "many" / "apps.yaml").write_text(POLICY.partition("rules:")[0] + "rules: []\n")
    (arena / "many" / "rules.yaml").write_text(
        "apiVersion: policyfs/v1\nkind: Policy\nrules:\n  - {id: all, allow: [all], who: {app: one}}\n"
    )
    said = policyfs("policy", "check", arena / "many")
    assert said.returncode == 0, said
    assert "2 apps, 1 rule (" in said.stdout


@pytest.mark.parametrize(
    ("uid", "operation", "path", "words"),
    [
        (ONE, "read", "/Music/song.mp3", ("allow", "all", "passthrough")),
        (TWO, "read", "/Music/song.mp3", ("ENOENT",)),
        (TWO, "write", "/Documents/notes.txt", ("EACCES",)),
        (4711, "see", "/Documents", ("ENOENT", "stranger")),
    ],
)
def test_explaining_requests(
    live: Mount, uid: int, operation: str, path: str, words: tuple[str, ...]
) -> None:
    """What `policy explain` says is what the mount answers."""
    question = ("--uid", str(uid), "--op", operation, live.policy, path)
    said = policyfs("policy", "explain", *question)
    assert said.returncode == 0, said
    assert not [word for word in words if word not in said.stdout], said.stdout
    told: dict[str, Any] = json.loads(policyfs("policy", "explain", "--json", *question).stdout)
    inside = str(live.mountpoint) + path
    calls = {
        "read": lambda: bool(content(inside)),
        "write": lambda: os.open(inside, os.O_WRONLY),
        "see": lambda: os.stat(inside),
    }
    assert call_as(uid, lambda: error(calls[operation])) == (told["errno"] or "True")


def test_the_doctor(live: Mount) -> None:
    said = policyfs("doctor")
    assert said.returncode in {0, 1}
    for word in ("kernel", "fuse", "passthrough"):
        assert word in said.stdout.lower()
    findings = json.loads(policyfs("doctor", "--json").stdout)
    assert findings


def test_the_version_and_help(live: Mount) -> None:

    done = subprocess.run(
        [Path(sys.executable).with_name("policyfs"), "--version"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == f"policyfs {VERSION} (code {live.status()['code']})\n"
    said = policyfs("--help")
    assert said.returncode == 0
    for name in ("mount", "umount", "status", "reload", "doctor", "policy", "audit"):
        assert name in said.stdout


def test_nothing_is_left_behind(live: Mount) -> None:
    """The one mount of this file, and no other, is there at its end."""
    below = mounts_below(live.mountpoint.parent)
    assert [entry.mountpoint for entry in below] == [str(live.mountpoint)]


def test_reload_of_several_and_of_all(mounts: Mounts, store: Path) -> None:
    first, second = mounts.start(POLICY, store), mounts.start(POLICY, store, "--app", "one")
    said = command(first, "reload", first.mountpoint, second.mountpoint)
    assert said.returncode == 0, said
    assert said.stdout.count("generation 2") == 2
    good = second.policy.read_text()
    second.policy.write_text("broken")
    said = command(first, "reload", "--all")
    assert (said.returncode, said.stdout.count("generation 3")) == (3, 1)
    assert str(second.mountpoint) in said.stderr
    second.policy.write_text(good)
    assert command(first, "reload").returncode == 2
    assert command(first, "reload", "--all", first.mountpoint).returncode == 2


def test_a_check_of_the_status_is_a_line(live: Mount) -> None:
    said = command(live, "status", "--check", live.mountpoint)
    assert (said.returncode, said.stdout) == (0, f"{live.mountpoint}: well\n")
    status = live.status()
    ill = status | {"bugs": 2, "leaving": True, "watch": {"running": False}}
    ill["trail"] = status["trail"] | {"failing": True, "last_error": "full", "dropped": 7}
    ill["passthrough"] = {"enabled": False, "why_not": "too old"}
    ill["contained"] = {"missing": ["the daemon can reach a network"]}
    ill["quarantine"] = {"dropped": 2}
    ill["code"] = "0123"
    ill["sniffer"] = {"last_loss_ns": time.time_ns(), "failed": {"died": 3}, "last_error": "killed"}
    assert len(list(problems(ill))) == 10
    ill["sniffer"]["last_loss_ns"] -= 3600 * 10**9
    assert len(list(problems(ill))) == 9


def test_status_ends_with_1_and_says_so_while_a_mount_is_not_well(mounts: Mounts, store: Path) -> None:
    mount = mounts.start(POLICY, store)
    assert command(mount, "status").returncode == 0
    assert json.loads(command(mount, "status", "--json").stdout)[0]["problems"] == []
    above = [path for path in (store, *store.parents) if path.stat().st_mode & 0o011 == 0]
    before = [path.stat().st_mode & 0o777 for path in above]
    for path in above:
        path.chmod(0o755)
    try:
        for words in ((), ("--json",), ("--check",), (mount.mountpoint,)):
            said = command(mount, "status", *words)
            assert said.returncode == 1
            assert "users other than root can reach" in said.stdout
    finally:
        for path, mode in zip(above, before, strict=True):
            path.chmod(mode)
    assert command(mount, "status").returncode == 0

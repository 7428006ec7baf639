"""`policyfs run`: a command with an app's mount in place of the store, and nothing of the store besides."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
import tty
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, Self

import pytest

from policyfs.linux.peer import peer_of
from tests.support.machine.ambient import hand_on_everything
from tests.support.machine.forked import daemon_of, prepare
from tests.support.machine.launchers import prepared
from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import Said, policyfs

APP: Final = 10040
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: run}}
apps:
  app: {{uid: {APP}}}
  nobody: {{}}
rules:
  - {{id: open, allow: [all], who: {{app: app}}, paths: "/open/***"}}
"""
DEADLINE_S: Final = 60.0
pytestmark = pytest.mark.mount


class Runner:
    """Runs commands as the app. at: the store, where the command finds its mount."""

    def __init__(self, arena: Path, store: Path) -> None:
        self.at = store
        self.policy = arena / "run.yaml"
        self.policy.write_text(POLICY)
        work = arena / "work"
        work.mkdir(mode=0o700)
        self.trail = work / "trail"
        self.environment = {
            "POLICYFS_RUNTIME_DIR": str(work / "run"), "POLICYFS_TRAIL_DIR": str(self.trail),
            "LC_ALL": "C.UTF-8", "LANGUAGE": "",
        }  # fmt: skip
        self.program: tuple[str, ...] = ("policyfs.cli.main",)
        self.options: tuple[str, ...] = ("--app", "app")
        self.running: list[subprocess.Popen[str]] = []

    def start(
        self,
        *command: str,
        first: Callable[[], object] | None = None,
        pass_fds: tuple[int, ...] = (),
        **more: Any,
    ) -> subprocess.Popen[str]:
        """Start a command. first: what its process does before it becomes policyfs."""
        words = ["run", "--policy", str(self.policy), *self.options, str(self.at), "--", *command]
        prepare(self.program)
        launchers = prepared()

        def before() -> None:
            if first is not None:
                first()
            daemon_of(self.program, words, self.environment, launchers, kept=pass_fds)

        pipes: dict[str, int | IO[bytes]] = {
            "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
        }  # fmt: skip
        process = subprocess.Popen(
            ["/nonexistent"], text=True, preexec_fn=before, pass_fds=pass_fds, **(pipes | more)
        )
        self.running.append(process)
        return process

    def run(self, *command: str, **more: Any) -> Said:
        """Run a command to its end."""
        process = self.start(*command, **more)
        out, err = process.communicate(timeout=DEADLINE_S)
        return Said(process.returncode, out, err)

    def records(self) -> list[dict[str, Any]]:
        """All records of the trails of these mounts."""
        said = policyfs("audit", "search", "-n", "1000", "--json", "--trail", self.trail)
        return [json.loads(line) for line in said.stdout.splitlines()]

    def daemons(self) -> list[int]:
        """A descriptor (pidfd) of each running daemon."""
        found = []
        for path in Path(self.environment["POLICYFS_RUNTIME_DIR"]).glob("*.sock"):
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(path))
                found.append(os.pidfd_open(peer_of(asking).pid))
        assert found
        return found

    def shell(self, script: str, **more: Any) -> Said:
        return self.run("sh", "-c", script, **more)


@pytest.fixture
def runner(arena: Path, empty_store: Path) -> Iterator[Runner]:
    for name in ("open", "closed"):
        (empty_store / name).mkdir(mode=0o777)
        (empty_store / name).chmod(0o777)
        (empty_store / name / "file").write_text(f"{name}\n")
    made = Runner(arena, empty_store)
    yield made
    for process in made.running:
        with process:  # closes its pipes
            process.kill()


def test_the_store_is_the_apps_own_mount_for_the_command_alone(runner: Runner) -> None:
    said = runner.shell(
        f"id -u; id -g; id -G; cd {runner.at}; ls; cat open/file; echo new > open/new; echo $HOME"
    )
    assert said == Said(0, f"{APP}\n{APP}\n{APP}\nopen\nopen\n/\n", "")
    assert (runner.at / "open/new").stat().st_uid == APP
    assert not mounts_below(runner.at)
    assert [event["app"] for event in runner.records() if event.get("operation") == "create"] == ["app"]


def test_the_exit_code_is_the_commands(runner: Runner) -> None:
    assert runner.shell("exit 7").returncode == 7
    assert runner.shell("kill -KILL $$").returncode == 128 + signal.SIGKILL
    assert runner.run("/nonexistent/program") == Said(
        127, "", "policyfs: /nonexistent/program: No such file or directory\n"
    )
    assert runner.run("/etc/passwd") == Said(126, "", "policyfs: /etc/passwd: Permission denied\n")


def test_a_command_is_waited_for_though_the_caller_ignores_the_ends_of_children(runner: Runner) -> None:
    said = runner.shell("exit 7", first=partial(signal.signal, signal.SIGCHLD, signal.SIG_IGN))
    assert said == Said(7, "", "")
    assert not mounts_below(runner.at)


@pytest.mark.parametrize(
    ("options", "command", "code", "said"),
    [
        (("--app", "app"), [], 2, "policyfs: write the command behind `--`"),
        (
            ("--app", "other"),
            ["true"],
            2,
            "policyfs: the policy has no app 'other'; its apps are app, nobody",
        ),
        (("--app", "nobody"), ["true"], 2, "policyfs: the app nobody has no uid: add --uid UID"),
        (("--app", "app", "--uid", "5"), ["true"], 2, "policyfs: uid 5 does not belong to the app app"),
        (("--app", "app", "--at", "/nonexistent"), ["true"], 1, "policyfs: /nonexistent is not a directory"),
    ],
)
def test_what_cannot_be_run_is_told(
    runner: Runner, options: tuple[str, ...], command: list[str], code: int, said: str
) -> None:
    runner.options = options
    found = runner.run(*command)
    assert (found.returncode, found.stdout) == (code, "")
    assert found.stderr.startswith(said), found.stderr
    assert "Traceback" not in found.stderr


def test_an_app_without_a_uid_runs_under_the_given_one(runner: Runner) -> None:
    runner.options = ("--app", "nobody", "--uid", "4711", "--gid", "4712")
    assert runner.shell("id -u; id -G").stdout == "4711\n4712\n"


def test_the_mount_is_shown_where_it_is_wanted(runner: Runner, arena: Path) -> None:
    elsewhere = arena / "elsewhere"
    elsewhere.mkdir()
    runner.options += ("--at", str(elsewhere))
    said = runner.shell(f"cat {elsewhere}/open/file; ls {runner.at}")
    assert said.stdout == "open\n"
    assert "Permission denied" in said.stderr  # the store itself has mode 0700


READS_CLOSED: Final = "cat file; cat ./file; cat /proc/self/cwd/file"


def test_a_command_does_not_stay_in_a_directory_of_the_store(runner: Runner) -> None:
    """Not as its working directory: by that it would have the store's own files.

    Attack F3.8: Run as an app by `policyfs run`, and read the store by the working directory of the
    caller
    Guard: policyfs/cli/mounts/run_command.py::_stand_at
    Without: ::test_it_would_read_there_if_it_stayed
    """
    said = runner.shell(f"pwd; {READS_CLOSED}", cwd=runner.at / "closed")
    assert said.stdout == "/\n"
    assert runner.shell("pwd; cat file", cwd=runner.at / "open").stdout == f"{runner.at}/open\nopen\n"


def test_it_would_read_there_if_it_stayed(runner: Runner) -> None:
    runner.program = ("tests.attack.weakened", "directory-kept")
    assert runner.shell(READS_CLOSED, cwd=runner.at / "closed").stdout == "closed\n" * 3


@pytest.fixture
def closed(runner: Runner) -> Iterator[int]:
    """A descriptor of a directory of the store that the app does not see."""
    fd = os.open(runner.at / "closed", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_a_command_inherits_no_directory_of_the_store(runner: Runner, closed: int) -> None:
    """Attack F3.9: The same by an inherited descriptor of a directory; by unmounting, also in a user
    namespace
    Guard: policyfs/cli/mounts/run_command.py::_close_others
    Also: ::test_nothing_that_a_command_does_to_its_mounts_shows_the_store
    Without: ::test_it_would_read_in_directories_that_it_inherits
    """
    said = runner.shell(f"cat /proc/self/fd/{closed}/file", pass_fds=(closed,))
    assert (said.returncode, said.stdout) == (1, "")


def test_it_would_read_in_directories_that_it_inherits(runner: Runner, closed: int) -> None:
    runner.program = ("tests.attack.weakened", "descriptors-kept")
    said = runner.shell(f"cat /proc/self/fd/{closed}/file", pass_fds=(closed,))
    assert said.stdout == "closed\n"


@pytest.fixture
def closed_above(closed: int) -> Iterator[int]:
    """The same descriptor with a number above the limit, as if the limit was lowered since."""
    fd = fcntl.fcntl(closed, fcntl.F_DUPFD, 2000)
    yield fd
    os.close(fd)


def _lower_the_limit() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def test_a_command_inherits_none_above_the_limit(runner: Runner, closed_above: int) -> None:
    """Attack F3.10: The same by a descriptor above the limit of open files, which was lowered after it was
    opened
    Guard: policyfs/cli/mounts/run_command.py::_close_others
    """
    script = f"cat /proc/self/fd/{closed_above}/file"
    more: dict[str, Any] = {"pass_fds": (closed_above,), "first": _lower_the_limit}
    assert runner.shell(script, **more).stdout == ""
    runner.program = ("tests.attack.weakened", "descriptors-kept-above")
    assert runner.shell(script, **more).stdout == "closed\n"


TYPES: Final = """
    my $x = "x";
    print ioctl(STDIN, 0x5412, $x) ? "typed\n" : "$!\n";
"""

class Terminal:
    """A terminal, in raw mode, for commands; each leads a session there.

    ours: the side into which a person types.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.ours)
        os.close(self._theirs)

    @staticmethod
    def take() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def run(self, script: str, **more: Any) -> Said:
        return self._runner.run("sh", "-c", script, stdin=self._theirs, first=self.take, **more)

    def typed(self) -> bytes:
        """What the next program at this terminal would read."""
        found = select.select([self._theirs], (), (), 0)[0]
        return os.read(self._theirs, 100) if found else b""


def test_a_command_does_not_type_into_the_callers_terminal(runner: Runner) -> None:
    """What it types there, the caller's shell would execute as root.

    Attack F3.14: Type a command into the terminal of the caller of `policyfs run`, so that the caller's
    shell executes the command as root (TIOCSTI, TIOCLINUX)
    Guard: policyfs/cli/mounts/run_terminal.py::terminal_for
    Without: ::test_a_command_leaves_nobody_at_the_callers_terminal
    """
    with Terminal(runner) as at:
        said = at.run(f"tty; stty size; stty -a </dev/tty >/dev/null && echo fine; perl -e '{TYPES}'")
        lines = said.stdout.splitlines()
        assert lines[0].startswith("/dev/pts/")
        assert lines[0] != os.ttyname(at.ours)
        assert lines[1:3] == ["33 77", "fine"]
        assert at.typed() == b""
        allowed = Path("/proc/sys/dev/tty/legacy_tiocsti").read_text() == "1\n"
        assert lines[3] == ("typed" if allowed else "Input/output error")


LEAVES: Final = """
    exec 3<&0
    setsid sh -c 'echo ready > {at}/open/ready; exec head -n 1 <&3 >> {at}/open/read' &
    until [ -e {at}/open/ready ]; do sleep 0.01; done
"""


def test_a_command_leaves_nobody_at_the_callers_terminal(runner: Runner) -> None:
    """Who stays there reads the password that root types next.

    Attack F3.15: Leave a process behind `policyfs run`, which reads at the terminal what root types next
    Guard: policyfs/linux/confinement/namespaces.py::fork_first_process,
    policyfs/cli/mounts/run_terminal.py::terminal_for
    Also: ::test_what_a_command_leaves_behind_ends_with_it
    """
    script = LEAVES.format(at=runner.at)
    with Terminal(runner) as at:
        assert at.run(script) == Said(0, "", "")
        os.write(at.ours, b"secret\n")
        assert at.typed() == b"secret\n"
    assert (runner.at / "open/read").read_text() == ""
    (runner.at / "open/ready").unlink()
    runner.program = ("tests.attack.weakened", "processes-kept")
    with Terminal(runner) as at:
        # It has only the terminal left: the mount is gone, but not its open file.
        at.run(script, stderr=subprocess.DEVNULL)
        os.write(at.ours, b"secret\n")
        wait_for(lambda: not _readers_of(at), "the process that was left behind has read")
        assert at.typed() == b""


def _readers_of(at: Terminal) -> list[Path]:
    """The descriptors by which processes of the app have a terminal open."""
    name = os.readlink(f"/proc/self/fd/{at._theirs}")
    found: list[Path] = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == APP:
                found += [fd for fd in (process / "fd").iterdir() if os.readlink(fd) == name]
    return found


def test_a_command_has_a_clean_environment(runner: Runner) -> None:
    """Attack F3.16: Use variables of the caller of `policyfs run` (SSH_AUTH_SOCK, secrets)
    Guard: policyfs/cli/mounts/run_command.py::Identity
    """
    runner.environment |= {
        "LANG": "C.UTF-8", "LC_TIME": "C", "TERM": "vt100", "SECRET": "x", "SSH_AUTH_SOCK": "/x",
        "LD_LIBRARY_PATH": "/x", "PYTHONPATH": "/x", "SUDO_USER": "x", "TZ": "UTC",
    }  # fmt: skip
    names = {line.partition("=")[0] for line in runner.run("env").stdout.splitlines()}
    fixed = {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_TIME", "TERM", "TZ"}
    assert names - {"LC_ALL", "LANGUAGE", "LC_CTYPE", "COLORTERM", "NO_COLOR"} == fixed
    runner.program = ("tests.attack.weakened", "environment-kept")
    assert "SECRET=x" in runner.run("env").stdout


ADD_KEY, KEYCTL = {"x86_64": (248, 250), "aarch64": (217, 219)}[platform.machine()]
FINDS_KEY: Final = f"""
    my ($type, $name) = ("user", "policyfs-test");
    print syscall({KEYCTL}, 10, -3, $type, $name, 0) > 0 ? "found" : "none";
"""


def _have_a_key() -> None:
    libc = ctypes.CDLL(None)
    assert libc.syscall(KEYCTL, 1, None) > 0  # a new session keyring
    assert libc.syscall(ADD_KEY, b"user", b"policyfs-test", b"secret", 6, -3) > 0


def test_a_command_has_no_keys_of_its_caller(runner: Runner) -> None:
    """Attack F3.13: Use keys in the session keyring of the caller of `policyfs run`
    Guard: policyfs/linux/confinement/keyring.py::leave_session_keyring
    """
    finds = partial(runner.run, "perl", "-e", FINDS_KEY, first=_have_a_key)
    assert finds() == Said(0, "none", "")
    runner.program = ("tests.attack.weakened", "keyring-kept")
    assert finds() == Said(0, "found", "")


def test_a_command_has_no_capability_of_its_caller(runner: Runner) -> None:
    """With ambient ones it would unmount the mount, and read the store."""
    said = runner.shell(f"grep ^Cap /proc/self/status; ls {runner.at}", first=hand_on_everything)
    assert said.stdout.split() == [
        *(word for name in ("Inh", "Prm", "Eff", "Bnd", "Amb") for word in (f"Cap{name}:", "0" * 16)), "open",
    ]  # fmt: skip


def test_nothing_that_a_command_does_to_its_mounts_shows_the_store(runner: Runner) -> None:
    file = f"{runner.at}/closed/file"
    inner = f"umount -l {runner.at}; cat {file}; mount --bind / /mnt; cat /mnt{file}"
    said = runner.shell(f"umount {runner.at}; unshare -Urm sh -c '{inner}'; fusermount3 -u {runner.at}")
    assert said.stdout == ""


def test_what_a_command_leaves_behind_ends_with_it(runner: Runner) -> None:
    said = runner.shell("setsid sleep 1000 >/dev/null 2>&1 & echo $! $(ls /proc | grep -c '^[0-9]')")
    inner, processes = map(int, said.stdout.split())
    assert inner < 10, "its pids are its own"
    assert processes < 10, "and it sees no others"
    left = [pid.name for pid in Path("/proc").glob("[0-9]*") if _is(pid, b"sleep\x001000\0")]
    assert left == []


def _is(process: Path, command: bytes) -> bool:
    with contextlib.suppress(OSError):
        return process.stat().st_uid == APP and (process / "cmdline").read_bytes() == command
    return False


def test_the_mount_ends_with_the_command_that_made_it(runner: Runner) -> None:
    """Also if policyfs is killed: then the command, and the mount, end too."""
    file = runner.at / "open/file"
    process = runner.start("sh", "-c", f"cat {file}; while cat {file}; do :; done; id -u")
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    daemons = runner.daemons()
    os.kill(process.pid, signal.SIGKILL)
    assert set(process.stdout.read().splitlines()) <= {"open"}
    for daemon in daemons:
        assert select.select([daemon], (), (), DEADLINE_S)[0], "the daemon has ended, too"
        os.close(daemon)


def test_signals_are_handed_on(runner: Runner) -> None:
    process = runner.start(
        "sh", "-c", "trap 'echo asked; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.stdout.read() == "asked\n"
    assert process.wait(DEADLINE_S) == 3


def test_commands_of_one_app_run_side_by_side_and_go_on_with_their_trails(runner: Runner) -> None:
    first = runner.start("sh", "-c", "echo ready; cat", stdin=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline() == "ready\n"
    assert runner.shell(f"cat {runner.at}/open/file").stdout == "open\n"
    first.communicate("", timeout=DEADLINE_S)
    for _ in range(2):
        assert runner.run("true").returncode == 0
    mounted = [event["options"]["mountpoint"] for event in runner.records() if event["type"] == "mount"]
    assert sorted(Path(mount).name for mount in mounted) == ["app-0", "app-0", "app-0", "app-1"]


def test_the_command_is_on_record(runner: Runner) -> None:
    assert runner.run("true", "--word").returncode == 0
    [made] = [event for event in runner.records() if event["type"] == "mount"]
    assert made["options"]["words"] == ["true", "--word"]
    assert made["how"] == "policyfs run"


def test_the_directory_of_control_sockets_stays_closed_to_others(runner: Runner) -> None:
    """Also where `run` is the first command after a boot, and makes it."""
    assert runner.run("true").returncode == 0
    place = Path(runner.environment["POLICYFS_RUNTIME_DIR"])
    assert [stat.S_IMODE(each.stat().st_mode) for each in (place, place / "run")] == [0o700, 0o700]

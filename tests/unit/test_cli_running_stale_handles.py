"""Open files that a new policy would not have granted: told, and only their holders are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from policyfs.cli.running import stale_handles
from policyfs.cli.running.stale_handles import end_holders, told
from policyfs.errors import PolicyfsError
from policyfs.store.locking.holders import Holder

STATUS = {"pid": 1, "connection": 42}


def a_file(number: int = 1, **fields: object) -> dict[str, object]:
    return {
        "app": "gallery", "uid": 10011, "pid": number, "path": f"/DCIM/{number}.jpg", "ino": number,
        "access": "read", "reason": "the policy now refuses this open: EACCES", **fields,
    }  # fmt: skip


def test_nothing_is_told_where_there_is_nothing() -> None:
    for none in (None, [], {}, {"count": 0, "files": [], "apps": {}}):
        assert list(told(none)) == []


def test_files_are_told_with_their_app_and_reason() -> None:
    [head, line] = told({"count": 1, "apps": {"gallery": 1}, "files": [a_file(7)]})
    assert "1 open file in passthrough" in head
    assert "(gallery 1)" in head
    assert line == "  gallery /DCIM/7.jpg (pid 7, read): the policy now refuses this open: EACCES"


def test_no_name_of_an_app_reaches_the_terminal() -> None:
    [_, line] = told({"count": 1, "apps": {"gallery": 1}, "files": [a_file(7, path="/a\x1b[2J\n\u202e")]})
    assert line.isprintable()


def test_of_many_files_the_first_are_told_and_all_are_counted() -> None:
    files = [a_file(number) for number in range(200)]
    lines = list(told({"count": 300, "apps": {"maps": 100, "gallery": 200}, "files": files}))
    assert "(gallery 200, maps 100)" in lines[0]
    assert len(lines) == 22
    assert "280 more" in lines[-1]


class Machine:
    """Processes that hold files of the mount. Those named in *living* hold on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.held: list[Holder] = []
        self.listed = 200
        monkeypatch.setattr(stale_handles, "holders_of", self.holders_of)
        monkeypatch.setattr(stale_handles, "look", lambda find: find())  # the children are of this process

    def holders_of(self, device: str) -> list[Holder]:
        assert device == "0:42"
        return [one for one in self.held if self.lives(one.pid)]

    def lives(self, pid: int) -> bool:
        return all(child.pid != pid or child.poll() is None for child in self.children)

    def status(self, *files: dict[str, object], by: tuple[int, ...] = ()) -> Callable[[], dict[str, object]]:
        """What a daemon says: file N is open while process N of *by* (default: the first child) lives. It
        lists only so many files."""

        def status() -> dict[str, object]:
            pids = by or (self.children[0].pid,) * len(files)
            left = [file for file, pid in zip(files, pids, strict=True) if self.lives(pid)]
            return STATUS | {"stale_handles": {"count": len(left), "apps": {}, "files": left[: self.listed]}}

        return status

    def start(self, program: str = "import time; print(1, flush=True); time.sleep(60)") -> int:
        child = subprocess.Popen([sys.executable, "-S", "-E", "-c", program], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        self.children.append(child)
        return child.pid

    def hold(
        self, pid: int, path: bytes, what: str = "fd 3", uid: int = 10011, command: str = "viewer",
        ino: int = 0,
    ) -> None:  # fmt: skip
        self.held.append(Holder(pid, uid, command, what, path, False, ino))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(monkeypatch)
    yield made
    for child in made.children:
        child.kill()
        child.wait()
        assert child.stdout is not None
        child.stdout.close()


def test_holders_are_ended_and_no_one_else(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    opener, heir, reader, stranger = (machine.start() for _ in range(4))
    machine.hold(opener, b"/mnt/DCIM/1.jpg (deleted)")
    machine.hold(heir, b"/mnt/DCIM/1.jpg (deleted)", "mapping")
    machine.hold(reader, b"/mnt/DCIM/other.jpg")
    machine.hold(stranger, b"/mnt/DCIM/1.jpg", uid=10012)
    machine.hold(reader, b"/mnt/DCIM/1.jpg", "cwd")
    machine.hold(os.getpid(), b"/mnt/DCIM/1.jpg")
    end_holders("/mnt", machine.status(a_file(1, pid=opener)), yes=True)
    codes = [child.poll() for child in machine.children]
    assert codes == [-signal.SIGTERM, -signal.SIGTERM, None, None]
    assert "2 of 2 processes ended" in capsys.readouterr().out


def test_a_name_that_is_not_utf_8_hides_no_holder(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output takes no such byte, and a terminal obeys an escape."""
    opener, heir = machine.start(), machine.start()
    machine.hold(opener, b"/mnt/\xff.jpg", command="\udcff\x1b[2J")
    machine.hold(heir, b"/mnt/\xff.jpg")
    end_holders("/mnt", machine.status(a_file(opener, path="/\\xff.jpg")), yes=True)
    assert [child.poll() for child in machine.children] == [-signal.SIGTERM] * 2
    assert "  \\xff\\x1b[2J (pid" in capsys.readouterr().out


def test_who_does_not_listen_is_killed(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale_handles, "_SIGNALS", ((signal.SIGTERM, 0.05), (signal.SIGKILL, 20.0)))
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    pid = machine.start(deaf)
    machine.hold(pid, b"/mnt/DCIM/1.jpg")
    end_holders("/mnt", machine.status(a_file(1)), yes=True)
    assert machine.children[0].wait() == -signal.SIGKILL


def test_who_lives_on_is_told(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stale_handles, "_SIGNALS", ((signal.SIGCONT, 0.05),))
    pid = machine.start()
    machine.hold(pid, b"/mnt/DCIM/1.jpg")
    with pytest.raises(PolicyfsError, match=f"do not end: {pid}"):
        end_holders("/mnt", machine.status(a_file(1)), yes=True)


def test_without_an_answer_nobody_is_ended(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = machine.start()
    machine.hold(pid, b"/mnt/DCIM/1.jpg")
    status = machine.status(a_file(1))
    for terminal, answer in ((False, "y"), (True, ""), (True, "n")):
        monkeypatch.setattr(stale_handles.sys, "stdin", Terminal(terminal))
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        with pytest.raises(PolicyfsError, match="no process was ended"):
            end_holders("/mnt", status, yes=False)
    assert machine.lives(pid)
    monkeypatch.setattr("builtins.input", lambda _: " Yes ")
    end_holders("/mnt", status, yes=False)
    assert not machine.lives(pid)


class Terminal:
    def __init__(self, is_one: bool) -> None:
        self._is_one = is_one

    def isatty(self) -> bool:
        return self._is_one


def test_a_pid_that_was_given_anew_gets_no_signal(machine: Machine) -> None:
    """Its process holds none of the files any more when it is looked at again."""
    pid = machine.start()
    machine.hold(pid, b"/mnt/DCIM/1.jpg")
    looks = iter([machine.held, [], []])
    machine.holders_of = lambda device: next(looks)  # type: ignore[method-assign]
    stale_handles.holders_of = machine.holders_of  # type: ignore[assignment] # the fixture sets it back
    stale = [{"count": 1, "files": [a_file(1)]}, {"count": 0, "files": []}, {"count": 0, "files": []}]
    end_holders("/mnt", lambda: STATUS | {"stale_handles": stale.pop(0)}, yes=True)
    assert machine.lives(pid)


def test_a_file_is_known_by_its_number_where_a_thread_opened_it_at_another_path(machine: Machine) -> None:
    """The daemon knows the thread, and a container has the mount at another path."""
    thread, other = machine.start(), machine.start()
    machine.hold(thread, b"/media/DCIM/1.jpg", ino=77)
    machine.hold(other, b"/media/DCIM/2.jpg", ino=78)
    end_holders("/mnt", machine.status(a_file(1, pid=1 << 22, ino=77)), yes=True)
    assert [machine.lives(pid) for pid in (thread, other)] == [False, True]


def test_files_beyond_those_that_a_status_lists_are_closed_too(machine: Machine) -> None:
    pids = tuple(machine.start() for _ in range(3))
    for number, pid in enumerate(pids):
        machine.hold(pid, f"/mnt/DCIM/{number}.jpg".encode())
    machine.listed = 1
    files = [a_file(number, pid=pid) for number, pid in enumerate(pids)]
    end_holders("/mnt", machine.status(*files, by=pids), yes=True)
    assert not any(map(machine.lives, pids))


def test_a_file_that_nobody_is_found_to_hold_is_told(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stale_handles, "_CLOSED_S", 0.05)
    machine.start()
    with pytest.raises(PolicyfsError, match="1 open file that this policy would not open in this way stays"):
        end_holders("/mnt", machine.status(a_file(1)), yes=True)

"""Tests side by side: `pytest --jobs 4` collects once and forks four processes, which share the tests out.

Each process begins with a range of its own, in the order of the collection, so that the tests of one file
mostly share their fixtures. One with nothing left takes half of what another still has.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest

from tests.support.machine.block_groups import spread
from tests.support.machine.namespace import die_with_parent

END: Final = None
"""Instead of the index of a test: there are no more."""


class Ranges:
    """The indices of the tests that nobody has begun, by process."""

    def __init__(self, tests: int, processes: int) -> None:
        bounds = [tests * number // processes for number in range(processes + 1)]
        self._left = [range(*pair) for pair in itertools.pairwise(bounds)]

    def take(self, number: int) -> int | None:
        """Return the next index for a process, or END. An empty range is filled with half of the longest."""
        if not self._left[number]:
            longest = max(range(len(self._left)), key=lambda other: len(self._left[other]))
            left = self._left[longest]
            middle = left.start + len(left) // 2
            self._left[longest], self._left[number] = range(left.start, middle), range(middle, left.stop)
        left = self._left[number]
        self._left[number] = left[1:]
        return left[0] if left else END


@dataclass(slots=True)
class _Process:
    """A forked process. taken: the tests that it has been given, the first of which it runs."""

    number: int
    pid: int
    pidfd: int
    connection: Connection[Any, Any]
    taken: list[int | None]


class SideBySide:
    """The plugin. Each process runs `process()` around its tests."""

    def __init__(self, jobs: int, process: Callable[[], AbstractContextManager[None]]) -> None:
        self._jobs = jobs
        self._process = process

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Run the tests. A process that dies has failed its test; another one goes on with the next."""
        if session.testsfailed or session.config.option.collectonly:
            return None
        session.config._tmp_path_factory.getbasetemp()
        ranges = Ranges(len(session.items), self._jobs)
        running: list[_Process] = []
        try:
            for number in range(self._jobs):
                running.append(self._fork(session, number, [ranges.take(number), ranges.take(number)]))
            while running:
                ready = wait([one.connection for one in running] + [one.pidfd for one in running])
                for one in list(running):
                    if one.connection in ready or one.pidfd in ready:
                        self._listen(session, one, ranges, has_ended=one.pidfd in ready)
                    if one.pidfd in ready:
                        running.remove(one)
                        running += self._after(session, one, ranges)
        finally:
            for one in running:
                os.kill(one.pid, signal.SIGTERM)
                _reap(one)
        return True

    def _fork(self, session: pytest.Session, number: int, taken: list[int | None]) -> _Process:
        ours, theirs = Pipe()
        if not (pid := os.fork()):
            ours.close()
            self._run(session, number, theirs, taken)
        theirs.close()
        return _Process(number, pid, os.pidfd_open(pid), ours, taken)

    def _listen(self, session: pytest.Session, one: _Process, ranges: Ranges, *, has_ended: bool) -> None:
        """Log the reports of a process, and give it a test for each one that it has ended."""
        hook = session.config.hook
        with contextlib.suppress(EOFError, ConnectionError):  # it died while it told, or before it was told
            while one.connection.poll():
                for data in one.connection.recv():
                    report = hook.pytest_report_from_serializable(config=session.config, data=data)
                    hook.pytest_runtest_logreport(report=report)
                one.taken = [*one.taken[1:], ranges.take(one.number)]
                if session.shouldfail:
                    raise session.Failed(session.shouldfail)
                if not has_ended:
                    one.connection.send(one.taken[-1])

    def _after(self, session: pytest.Session, one: _Process, ranges: Ranges) -> list[_Process]:
        """Return the process that goes on after one that died, if it has tests left."""
        code = _reap(one)
        first, *rest = one.taken
        if code == 0 and first is END:
            return []
        if first is END:
            raise RuntimeError(f"a process ended with {code} after its last test")
        item = session.items[first]
        why = f"the process of the test ended with {code}"
        report = pytest.TestReport(item.nodeid, item.location, {}, "failed", why, "call")
        session.config.hook.pytest_runtest_logreport(report=report)
        if rest[0] is END:
            return []
        return [self._fork(session, one.number, [*rest, ranges.take(one.number)])]

    def _run(
        self, session: pytest.Session, number: int, told: Connection[Any, Any], taken: list[int | None]
    ) -> NoReturn:
        status = 1
        try:
            die_with_parent(signal.SIGTERM)
            with _own_output(session.config, number), self._process():
                _run_tests(session, told, taken)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)


def _run_tests(session: pytest.Session, told: Connection[Any, Any], taken: list[int | None]) -> None:
    reports = _Reports()
    plugins = session.config.pluginmanager
    plugins.unregister(name="terminalreporter")
    plugins.register(reports)
    to_data = session.config.hook.pytest_report_to_serializable
    while taken[0] is not END:
        item, following = (None if index is END else session.items[index] for index in taken)
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        made, reports.made = reports.made, []
        told.send([to_data(config=session.config, report=report) for report in made])
        taken = [taken[1], told.recv()]


class _Reports:
    """Collects the reports of a test that are counted: not those of a fixture that was made or ended."""

    def __init__(self) -> None:
        self.made: list[pytest.TestReport] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            self.made.append(report)


@contextlib.contextmanager
def _own_output(config: pytest.Config, number: int) -> Iterator[None]:
    """Capture output, and make temporary directories, apart from the other processes."""
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    factory = config._tmp_path_factory
    factory._basetemp = Path(factory.getbasetemp(), str(number))
    factory._basetemp.mkdir(mode=0o700, exist_ok=True)
    spread(factory._basetemp)
    try:
        yield
    finally:
        capture.stop_global_capturing()


def _reap(one: _Process) -> int:
    """Wait for the end of a process and return its exit code."""
    code = os.waitstatus_to_exitcode(os.waitpid(one.pid, 0)[1])
    os.close(one.pidfd)
    one.connection.close()
    return code

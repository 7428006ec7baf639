"""Tests in several processes (tests/support/machine/side_by_side.py): each runs once, and none is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.machine.nested import run_pytest
from tests.support.machine.side_by_side import END, Ranges

CONFTEST = """
import contextlib
import os
from pathlib import Path
import pytest
from tests.support.machine.side_by_side import SideBySide

def note(what):
    with open(Path(__file__).with_name("notes"), "a") as notes:
        notes.write(f"{what} {os.getpid()}\\n")

@contextlib.contextmanager
def process():
    note("process")
    yield
    note("end")

def pytest_configure(config):
    config.pluginmanager.register(SideBySide(2, process))

@pytest.fixture(scope="module", autouse=True)
def shared(request):
    note(f"begin of {request.module.__name__}")
    yield
    note(f"end of {request.module.__name__}")
"""
MANY = """
import os
import signal
import pytest
from conftest import note

@pytest.mark.parametrize("number", range(20))
def test_it(number, tmp_path):
    note(f"test-{number}")
    assert list(tmp_path.iterdir()) == []
    print(f"output of {number}")
    BODY
"""


def _write(directory: Path, body: str) -> None:
    (directory / "conftest.py").write_text(CONFTEST)
    (directory / "test_many.py").write_text(MANY.replace("BODY", body))


def _notes(directory: Path) -> tuple[Counter[str], int]:
    """How often each thing was noted, and by how many processes."""
    lines = (directory / "notes").read_text().splitlines()
    words, pids = zip(*(line.rsplit(" ", 1) for line in lines), strict=True)
    return Counter(words), len(set(pids))


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
@pytest.mark.parametrize("tests", [0, 1, 5, 100])
def test_each_test_is_taken_once(tests: int, processes: int) -> None:
    """The last process takes twice as often as each of the others."""
    ranges = Ranges(tests, processes)
    taken: list[int | None] = []
    while taken[-1:] != [END]:
        for number in (*range(processes), processes - 1):
            taken.append(ranges.take(number))
    assert sorted(index for index in taken if index is not END) == list(range(tests))


def test_every_test_runs_once_and_what_failed_is_told(tmp_path: Path) -> None:
    _write(tmp_path, "assert number != 7")
    code, told = run_pytest(tmp_path)
    assert (code, "1 failed, 19 passed" in told) == (1, True), told
    assert "output of 7" in told
    assert "output of 8" not in told
    noted, processes = _notes(tmp_path)
    assert [noted[f"test-{number}"] for number in range(20)] == [1] * 20
    assert noted["process"] == noted["end"] == processes == 2
    assert noted["begin of test_many"] == noted["end of test_many"] <= 2


def test_a_process_that_dies_has_failed_its_test_alone(tmp_path: Path) -> None:
    _write(tmp_path, "assert number != 7 or os.kill(os.getpid(), signal.SIGKILL)")
    code, told = run_pytest(tmp_path)
    assert (code, "1 failed, 19 passed" in told) == (1, True), told
    assert "the process of the test ended with -9" in told
    assert _notes(tmp_path)[0]["process"] == 3


def test_a_process_that_cannot_begin_is_no_pass(tmp_path: Path) -> None:
    _write(tmp_path, "pass")
    with (tmp_path / "conftest.py").open("a") as conftest:
        conftest.write("def process():\n    os._exit(3)\n")
    code, told = run_pytest(tmp_path)
    assert (code, "20 failed" in told) == (1, True), told


def test_the_first_failure_ends_all_if_so_asked(tmp_path: Path) -> None:
    _write(tmp_path, "assert False")
    code, told = run_pytest(tmp_path, "-x")
    assert (code, "1 failed" in told) == (1, True), told

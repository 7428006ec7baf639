"""Which failures may be tried again alone (tests/support/machine/second_try.py): by runs of pytest."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from pathlib import Path
from typing import NoReturn

import pytest

CONFTEST = """
import pytest
from pathlib import Path
from tests.support.machine.second_try import SecondTry
from tests.support.mount.stores import Mounts

def pytest_addoption(parser):
    parser.addoption("--second-try", action="store_true")

def pytest_configure(config):
    config.addinivalue_line("markers", "load: of the load")
    config.pluginmanager.register(SecondTry(config))

@pytest.fixture
def weak(tmp_path):
    mounts = Mounts(tmp_path)
    mount = mounts.prepare("", tmp_path)
    mount.program = ("tests.attack.weakened", "any")
    return mounts
"""
FAILS_ONCE = """
import pytest
from pathlib import Path

def _once():
    been = Path(__file__).with_suffix(".been")
    failed = been.exists()
    been.touch()
    assert failed

{head}
def test_it({fixture}):
    _once()
"""
SECOND = ("--last-failed", "--last-failed-no-failures", "none", "--second-try")


def _run(directory: Path, *options: str) -> tuple[int, str]:
    """Run pytest in a fork of this process, which has imported all that it needs."""
    told = directory / "told"
    pid = os.fork()
    if pid == 0:
        _become_pytest(told, [
            "-q", "--rootdir", str(directory), "-c", os.devnull, "-p", "no:xdist",
            "-o", f"cache_dir={directory}/cache", str(directory), *options,
        ])  # fmt: skip
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code >= 0, f"ended by signal {-code}: {told.read_text()}"
    return code, told.read_text()


def _become_pytest(told: Path, arguments: list[str]) -> NoReturn:
    """End this process with the exit code of a run of pytest, which prints into a file."""
    code = 70
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(60)
        for descriptor in (1, 2):
            os.dup2(os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), descriptor)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", buffering=1, closefd=False) for fd in (1, 2))
        warnings.resetwarnings()
        os.chdir(told.parent)
        told.write_text("")
        code = int(pytest.main(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _write(directory: Path, place: str, *, head: str = "", fixture: str = "", body: str = FAILS_ONCE) -> None:
    (directory / "conftest.py").write_text(CONFTEST)
    file = directory / "tests" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body.format(head=head, fixture=fixture))


def test_a_test_that_fails_once_may_pass_alone(tmp_path: Path) -> None:
    _write(tmp_path, "mount/test_a.py")
    _write(tmp_path, "attack/test_b.py", head="@pytest.mark.load")
    _write(tmp_path, "attack/test_c.py", fixture="weak")
    assert _run(tmp_path)[0] == 1
    code, said = _run(tmp_path, *SECOND)
    assert code == 0, said
    assert said.count("FAILED BESIDE OTHERS, PASSED ALONE") == 3


@pytest.mark.parametrize("place", ["attack/test_b.py", "redaction/test_b.py"])
def test_an_attack_may_not_and_ends_it_for_all(tmp_path: Path, place: str) -> None:
    _write(tmp_path, "mount/test_a.py")
    _write(tmp_path, place)
    assert _run(tmp_path)[0] == 1
    code, said = _run(tmp_path, *SECOND)
    assert code not in {0, 1}
    assert "failed for good" in said
    assert place in said


def test_what_fails_again_has_failed(tmp_path: Path) -> None:
    _write(tmp_path, "mount/test_a.py", body="def test_it():\n    assert False\n")
    assert _run(tmp_path)[0] == 1
    assert _run(tmp_path, *SECOND)[0] == 1


def test_many_failures_are_no_accident(tmp_path: Path) -> None:
    for number in range(6):
        _write(tmp_path, f"mount/test_{number}.py")
    assert _run(tmp_path)[0] == 1
    assert "failed for good" in _run(tmp_path, *SECOND)[1]


def test_without_a_failure_there_is_nothing_to_try(tmp_path: Path) -> None:
    _write(tmp_path, "mount/test_a.py", body="def test_it():\n    pass\n")
    assert _run(tmp_path)[0] == 0
    assert _run(tmp_path, *SECOND)[0] not in {0, 1}

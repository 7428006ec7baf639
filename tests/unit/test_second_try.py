"""Which failures may be tried again alone (tests/support/machine/second_try.py): by runs of pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.machine.failures import luck
from tests.support.machine.nested import run_pytest

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

def made(directory):
    mounts = Mounts(directory)
    mount = mounts.prepare("", directory)
    mount.program = ("tests.attack.weakened", "any")
    return mounts

@pytest.fixture
def weak(tmp_path):
    return made(tmp_path)

@pytest.fixture(scope="module")
def common(tmp_path_factory):
    return made(tmp_path_factory.mktemp("common"))
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


def _write(directory: Path, place: str, *, head: str = "", fixture: str = "", body: str = FAILS_ONCE) -> None:
    (directory / "conftest.py").write_text(CONFTEST)
    file = directory / "tests" / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(body.format(head=head, fixture=fixture))


def test_a_test_that_fails_once_may_pass_alone(tmp_path: Path) -> None:
    _write(tmp_path, "mount/test_a.py")
    _write(tmp_path, "attack/test_b.py", head="@pytest.mark.load")
    _write(tmp_path, "attack/test_c.py", fixture="weak")
    assert run_pytest(tmp_path)[0] == 1
    code, said = run_pytest(tmp_path, *SECOND)
    assert code == 0, said
    assert said.count("FAILED BESIDE OTHERS, PASSED ALONE") == 3
    told = luck(f"{tmp_path}/cache")
    assert [line.rpartition(": ")[2].partition("::")[0] for line in told] == [
        "tests/attack/test_b.py", "tests/attack/test_c.py", "tests/mount/test_a.py",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "fixture"),
    [("attack/test_b.py", ""), ("attack/test_b.py", "common"), ("redaction/test_b.py", "")],
)
def test_an_attack_may_not_and_ends_it_for_all(tmp_path: Path, place: str, fixture: str) -> None:
    _write(tmp_path, "mount/test_a.py")
    _write(tmp_path, place, fixture=fixture)
    assert run_pytest(tmp_path)[0] == 1
    code, said = run_pytest(tmp_path, *SECOND)
    assert code not in {0, 1}
    assert "failed for good" in said
    assert place in said


def test_what_fails_again_has_failed(tmp_path: Path) -> None:
    _write(tmp_path, "mount/test_a.py", body="def test_it():\n    assert False\n")
    assert run_pytest(tmp_path)[0] == 1
    assert run_pytest(tmp_path, *SECOND)[0] == 1


def test_many_failures_are_no_accident(tmp_path: Path) -> None:
    for number in range(6):
        _write(tmp_path, f"mount/test_{number}.py")
    assert run_pytest(tmp_path)[0] == 1
    assert "failed for good" in run_pytest(tmp_path, *SECOND)[1]


def test_without_a_failure_there_is_nothing_to_try(tmp_path: Path) -> None:
    _write(tmp_path, "mount/test_a.py", body="def test_it():\n    pass\n")
    assert run_pytest(tmp_path)[0] == 0
    assert run_pytest(tmp_path, *SECOND)[0] not in {0, 1}

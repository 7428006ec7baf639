"""The command line: its outline needs none of the commands, and a command needs no other one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from policyfs.cli.main import _MODULES, build_parser, main, process

IMPORTED = """\
import contextlib, io, sys
from policyfs.cli.main import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(sys.argv[1:])
print(*sorted(sys.modules))
"""


def imported(*words: str) -> set[str]:
    """The modules that a command imports."""
    command = [sys.executable, "-c", IMPORTED, *words]
    return set(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split())


def test_the_outline_is_that_of_the_whole_command_line():
    assert build_parser("--help").format_help() == build_parser().format_help()


@pytest.mark.parametrize("name", [name for commands in _MODULES.values() for name in commands])
def test_a_command_is_built_from_its_own_module(name):
    assert f"\n    {name}" in build_parser(name).format_help()


@pytest.mark.parametrize("words", [["--help"], ["--version"]])
def test_help_imports_no_command(words):
    """Python itself takes 20 ms, all commands together take 400: trio and pydantic alone 200."""
    found = imported(*words)
    assert not {name for name in found if name.startswith("policyfs.cli.")} - {"policyfs.cli.main"}
    assert not found & {"pydantic", "trio", "ruamel.yaml", "json", "subprocess"}


def test_a_command_imports_nothing_of_another():
    found = imported("status", "--help")
    assert not found & {"pydantic", "trio"}
    assert "policyfs.cli.mount" not in found


def test_an_unknown_command_is_refused_with_the_list():
    command = [sys.executable, "-m", "policyfs.cli.main", "mont"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "invalid choice: 'mont'" in done.stderr
    assert "mount" in done.stderr


def test_only_a_process_that_ends_leaves_memory_to_the_kernel(tmp_path, monkeypatch, capsys):
    policy = tmp_path / "policy.yaml"
    policy.write_text("apiVersion: policyfs/v1\nkind: Policy\nrules: []\n", encoding="utf-8")
    left: list[object] = []
    monkeypatch.setattr("policyfs.cli.main.left_to_the_kernel", lambda *things: left.extend(things))
    assert main(["policy", "check", str(policy)]) == 0
    assert not left
    monkeypatch.setattr(sys, "argv", ["policyfs", "policy", "check", str(policy)])
    assert process() == 0
    assert len(left) == 1
    assert capsys.readouterr().out.count("fine") == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_of_the_daemon_takes_the_place_of_a_closed_stream(tmp_path: Path, closed: str) -> None:
    """What is printed would go into that file; and a mount would end with an exception."""
    program = (
        "import os, sys; from policyfs.cli import main; main.main = lambda **_: 0; main.process();"
        f"file = open({str(tmp_path / 'found')!r}, 'w'); sys.stdout.flush(); sys.stderr.flush();"
        "print(file.fileno() > 2, *(os.readlink(f'/proc/self/fd/{n}') for n in range(3)), file=file)"
    )
    command = f'exec "$0" -c "$1" </dev/null >/dev/null 2>{tmp_path}/err {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable, program], timeout=60, check=False)
    assert done.returncode == 0, (tmp_path / "err").read_text()
    found = (tmp_path / "found").read_text().split()
    assert found[0] == "True"
    assert set(found[1:]) <= {"/dev/null", f"{tmp_path}/err"}

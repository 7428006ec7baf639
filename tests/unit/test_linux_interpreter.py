"""Isolated interpreters, and the rule that no other module starts one or looks for a program by PATH."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from policyfs.linux.interpreter import PATH, interpreter, own_program, program

CHECKOUT: Final = Path(__file__).parents[2]
_OF_OS: Final = (
    "execvp", "execvpe", "execlp", "execlpe", "posix_spawnp", "spawnvp", "spawnvpe", "spawnlp", "spawnlpe",
    "system", "popen",
)  # fmt: skip
_BY_PATH: Final = {f"os.{name}" for name in _OF_OS} | {
    "shutil.which", "ctypes.util.find_library", "subprocess.getoutput", "subprocess.getstatusoutput",
    "sys.executable", "sys.orig_argv",
}  # fmt: skip
_MENTIONED: Final = re.compile("|".join([*_OF_OS, "which|find_lib|executable|subprocess|_process"]))
_LAST: Final = {name.rpartition(".")[2] for name in _BY_PATH}
_STARTS: Final = {"run", "Popen", "call", "check_call", "check_output", "run_process", "open_process"}
ALLOWED: Final = {
    ("linux/interpreter.py", "sys.executable"), ("linux/interpreter.py", "shutil.which"),
    ("linux/interpreter.py", "ctypes.util.find_library"),
    # The user's command, looked for in a PATH that policyfs sets, and run under the app's uid.
    ("cli/mounts/run_command.py", "os.execvpe"),
}  # fmt: skip


def breaches(source: str) -> Iterator[str]:
    """Yield what a module uses that runs a program by PATH, or an interpreter by hand."""
    if not _MENTIONED.search(source):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in _LAST and (name := ast.unparse(node)) in _BY_PATH:
            yield name
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in names if name in _BY_PATH)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            yield from _bare_word(node)


def _bare_word(call: ast.Call) -> Iterator[str]:
    """Yield the first word of a literal command line, unless it is an absolute path."""
    assert isinstance(call.func, ast.Attribute)
    words = call.args[0]
    if call.func.attr in _STARTS and isinstance(words, ast.List | ast.Tuple | ast.Constant):
        first = words if isinstance(words, ast.Constant) else words.elts[0] if words.elts else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str) and first.value[:1] != "/":
            yield first.value


@pytest.mark.parametrize(
    "source",
    ["import sys; x = [sys.executable]", "import os; os.execvp('a', [])", "from shutil import which",
     "import ctypes.util; ctypes.util.find_library('c')", "import subprocess; subprocess.run(['ldconfig'])",
     "import os; os.system('true')", "import subprocess as s; s.Popen('true')"],
)  # fmt: skip
def test_the_rule_sees(source: str) -> None:
    assert list(breaches(source))


def test_no_other_module_starts_an_interpreter_or_looks_in_path() -> None:
    package = CHECKOUT / "policyfs"
    found = {
        (str(file.relative_to(package)), name)
        for file in package.rglob("*.py")
        for name in breaches(file.read_text(encoding="utf-8"))
    }
    assert found <= ALLOWED, "use policyfs.linux.interpreter"
    assert ("linux/interpreter.py", "sys.executable") in found


def test_scripts_look_in_no_path_of_the_caller() -> None:
    helper = (CHECKOUT / "packaging/mount.fuse.policyfs").read_text(encoding="utf-8").splitlines()
    commands = [line for line in helper if line and not line.startswith("#")]
    assert commands[0].startswith("set -euf")
    assert commands[1].startswith(f"PATH={PATH} ")
    script = (CHECKOUT / "packaging/bin/policyfs").read_text(encoding="utf-8")
    assert 'exec "$python" -I -m policyfs.cli.main "$@"' in script
    for shell in ("policyfs", "_policyfs", "policyfs.fish"):  # completions run no program
        text = (CHECKOUT / "packaging/completion" / shell).read_text(encoding="utf-8")
        assert "$(" not in text
        assert "`" not in text


def test_an_interpreter_has_nothing_of_the_callers_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("print('planted')")
    for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_LIBRARY_PATH", "LD_PRELOAD", "PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("POLICYFS_TRAIL_DIR", "/trail")
    for path in (None, [entry for entry in sys.path if os.path.isabs(entry)]):
        words, environment = interpreter("json.tool", path=path)
        done = subprocess.run(
            words, env=environment, cwd=tmp_path, input=b"[1]", capture_output=True, timeout=30, check=True
        )
        assert done.stdout.split() == [b"[", b"1", b"]"]
        assert environment["PATH"] == PATH
        assert not [name for name in environment if name.startswith(("LD_", "PYTHONH", "PYTHONS"))]
        assert ("POLICYFS_TRAIL_DIR" in environment) == (path is None)


def test_programs_come_from_fixed_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sh").write_text("#!/bin/true\n")
    (tmp_path / "sh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program("sh") in {"/usr/bin/sh", "/bin/sh"}
    assert program("no-such-program") is None


def test_units_name_the_link_that_an_upgrade_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the Debian package has it: a link in /usr/bin, to the directory of the version in use."""
    version, link = tmp_path / "1.0/bin", tmp_path / "bin/policyfs"
    for directory in (version, link.parent):
        directory.mkdir(parents=True)
    monkeypatch.setattr("policyfs.linux.interpreter.PATH", str(link.parent))
    monkeypatch.setattr(sys, "executable", str(version / "python3"))
    assert own_program() == "policyfs"
    (version / "policyfs").write_text("#!/bin/true\n")
    (version / "policyfs").chmod(0o755)
    assert own_program() == str(version / "policyfs")
    link.symlink_to(version / "policyfs")
    assert own_program() == str(link)
    link.unlink()
    link.write_text("#!/bin/true\n")  # another installation
    link.chmod(0o755)
    assert own_program() == str(version / "policyfs")


LATE = """
import sys
from policyfs.linux.interpreter import load_late
load_late("colorsys", "sys")
import colorsys
import colorsys as again
print(type(sys.modules["colorsys"]).__name__, type(sys).__name__)
from colorsys import hsv_to_rgb
print(colorsys.rgb_to_hsv is sys.modules["colorsys"].rgb_to_hsv, hsv_to_rgb is colorsys.hsv_to_rgb)
print(type(sys.modules["colorsys"]).__name__)
"""

def said(program: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    return done.stdout.decode().splitlines()


def test_a_late_module_is_loaded_when_it_is_used() -> None:
    assert said(LATE) == ["LateModule module", "True True", "module"]

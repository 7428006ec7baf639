"""Completions for bash, zsh and fish: what the parser says, in the shells themselves."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine.documents import CHECKOUT

FILES = CHECKOUT / "packaging" / "completion"
BASH = """
source "{file}"
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_policyfs
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
compadd() {{ shift; print -l -- "$@" }}
_files() {{ }}
source "{file}"
words=({words}); CURRENT=${{#words}}
_policyfs
"""
CASES = {
    "the commands": (["po"], {"policy"}),
    "the actions": (["policy", "ma"], {"matrix"}),
    "the options": (["policy", "matrix", "/srv/media", "--js"], {"--json"}),
    "the values of an option": (["mount", "--modes", "po"], {"policy"}),
    "the values of an argument": (["policy", "schema", "PolicyT"], {"PolicyTests"}),
    "a path": (["policy", "check", "--none-such"], set()),
}
"""Words so far, and what begins with the last of them."""


def test_the_files_are_what_the_parser_says(tmp_path: Path) -> None:
    """If not: make man."""
    (tmp_path / "generate.py").write_bytes((FILES / "generate.py").read_bytes())
    subprocess.run(
        [sys.executable, tmp_path / "generate.py"], check=True, timeout=60, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
    )  # fmt: skip
    for name in ("policyfs", "_policyfs", "policyfs.fish"):
        made = (tmp_path / name).read_text()
        assert made == (FILES / name).read_text(), f"{name}: make man"
        assert "%(" not in made, "a default of argparse, not filled in"


def told(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return [line.partition("\t")[0].strip() for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(("words", "wanted"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_offers(shell: str, words: list[str], wanted: set[str]) -> None:
    line = shlex.join(["policyfs", *words])
    if shell == "fish":
        file = FILES / "policyfs.fish"
        script = f"source {shlex.quote(str(file))}; complete -C {shlex.quote(line)}"
        offered = told("fish", "--no-config", "-c", script)
    elif shell == "zsh":
        offered = told("zsh", "-f", "-c", ZSH.format(file=FILES / "_policyfs", words=line))
    else:
        offered = told("bash", "--norc", "-c", BASH.format(file=FILES / "policyfs", words=line))
    begins = {one for one in offered if one.startswith(words[-1])}
    assert begins == wanted
    if shell == "bash":
        assert set(offered) == wanted

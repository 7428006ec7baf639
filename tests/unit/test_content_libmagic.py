"""libmagic, found without a program, and by one module."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import policyfs
from policyfs.content.libmagic import default_database, magic

PROGRAM = """
import subprocess, sys
sys.addaudithook(lambda event, _: print(event) if event == "subprocess.Popen" else None)
import {module}
print("imported")
"""


def test_the_database_is_that_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    assert magic.version() > 500
    assert default_database()
    monkeypatch.setenv("MAGIC", "/elsewhere/magic")
    assert default_database() == "/elsewhere/magic"
    with pytest.raises(magic.MagicException, match="magic files"):
        magic.Magic()


def test_the_import_starts_no_program() -> None:
    def said(module: str) -> list[str]:
        words = [sys.executable, "-c", PROGRAM.format(module=module)]
        return subprocess.check_output(words, text=True, timeout=30).split()

    assert said("policyfs.content.libmagic") == ["imported"]
    assert "subprocess.Popen" in said("magic")


def test_one_module_imports_magic() -> None:
    words = re.compile(r"^\s*(import magic|from magic)\b", re.MULTILINE)
    modules = Path(policyfs.__file__).parent.rglob("*.py")
    assert [path.name for path in modules if words.search(path.read_text("utf-8"))] == ["libmagic.py"]

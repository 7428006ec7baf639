"""The detector's version: it changes with any code that a finding hangs on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import policyfs
from policyfs.content.detector_version import DETECTOR_VERSION, digest_of_code

PACKAGE = Path(policyfs.__file__).parent


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return shutil.copytree(
        PACKAGE, tmp_path / "policyfs", ignore=shutil.ignore_patterns("__pycache__", "_bridge*.so")
    )


def test_it_is_that_of_the_code_in_force(copied: Path) -> None:
    assert digest_of_code(copied) == DETECTOR_VERSION


@pytest.mark.parametrize(
    "module",
    [
        "formats.py",
        "domain.py",
        "content/kinds.py",
        "content/plans.py",
        "redact/registry.py",
        "redact/images/gif.py",
    ],
)
def test_one_byte_more_is_another_version(copied: Path, module: str) -> None:
    with (copied / module).open("a") as file:
        file.write("#")
    assert digest_of_code(copied) != DETECTOR_VERSION


def test_another_search_in_c_is_another_version(copied: Path) -> None:
    (built,) = (copied / "redact/jpeg").glob("_scan.*.so")
    with built.open("ab") as file:
        file.write(b"\0")
    assert digest_of_code(copied) != DETECTOR_VERSION


def test_a_new_module_is_another_version(copied: Path) -> None:
    (copied / "redact/images/pcx.py").touch()
    assert digest_of_code(copied) != DETECTOR_VERSION


def test_code_that_is_missing_has_no_version(copied: Path) -> None:
    shutil.rmtree(copied / "redact")
    with pytest.raises(FileNotFoundError, match="not installed as a whole"):
        digest_of_code(copied)


def test_every_module_of_a_worker_is_in_it() -> None:
    """Else a mend there would leave the findings from before it in force."""
    loaded = "import sys, policyfs.content.worker as w; w.Detector(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    ours = set(re.findall(r"policyfs\.[\w.]+", done.stdout))
    inside = {name for name in ours if re.match(r"policyfs\.(content|redact|formats|domain)\b", name)}
    assert {name.split(".")[1] for name in ours - inside} <= {"linux", "errors"}

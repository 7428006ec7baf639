"""The coverage-guided fuzzer itself: a little of it in each run, and that it finds what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from policyfs.redact.registry import LOCATORS
from tests.fuzz.seeds import KINDS
from tests.support.machine.counts import count
from tests.support.machine.documents import CHECKOUT

INPUTS: Final = {"image/heic": count(100, 1_000), "video/mp4": count(300, 4_000)}
"""So many inputs each, the same ones every time: a run must not fail by what chance found in it."""


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=200, check=False)


def test_every_locator_has_something_to_begin_with() -> None:
    assert {LOCATORS[kind] for kind in KINDS} == set(LOCATORS.values())


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("kind", "inputs"), INPUTS.items())
def test_a_little_of_it(kind: str, inputs: int) -> None:
    done = fuzz("--seconds", "120", "--inputs", str(inputs), kind)
    assert done.returncode == 0, done.stdout + done.stderr
    name, _, rest = done.stdout.partition(": ")
    ran, edges = (int(part.split()[0]) for part in rest.split(", ")[:2])
    assert (name, ran >= inputs, edges > 300) == (kind, True, True), done.stdout


def test_a_defect_is_found_and_its_input_kept(tmp_path: Path) -> None:
    """A locator that leaves the end of what it patches open is what the check is for."""
    broken = (
        "import policyfs.redact.core.values as values, sys\n"
        "from tests.fuzz import check, one\n"
        "sys.argv = ['one', *sys.argv[1:]]\n"
        "locate = check.locate\n"
        "def wrong(kind, what, source):\n"
        "    found = locate(kind, what, source)\n"
        "    outside = values.Patch(source.size, b'x')\n"
        "    return values.Plan(values.Outcome.PATCH, (*found.patches, outside))\n"
        "check.locate = wrong\n"
        "one.main()\n"
    )
    command = [sys.executable, "-c", broken, "image/gif", "-runs=50", f"-artifact_prefix={tmp_path}/found-"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "a patch leaves the file" in done.stdout
    assert list(tmp_path.glob("found-*"))

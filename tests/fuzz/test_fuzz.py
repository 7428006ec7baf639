"""The coverage-guided fuzzer itself: a little of it in each run, and that it finds what is wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from policyfs.redact.registry import LOCATORS
from tests.fuzz.check import WORDS, Check
from tests.fuzz.kept import CORPORA, MOST_BYTES, read_corpus, write_files
from tests.fuzz.seeds import KINDS
from tests.support.machine.counts import SOAK, count, first
from tests.support.machine.documents import CHECKOUT

INPUTS: Final = {"video/mp4": count(100, 4_000), "image/heic": 1_000}
"""So many inputs each, the same ones every time: a run must not fail by what chance found in it."""
MOST_KEPT: Final = 1_000_000
"""Bytes of all kept corpora."""
MINIMISED: Final = """
import sys
from pathlib import Path
from tests.fuzz import minimise
check = minimise.Check.__call__
def wrong(self, data, word):
    assert data != b"planted" or word != "people", "planted"
    check(self, data, word)
minimise.Check.__call__ = wrong
for corpora, found in zip(sys.argv[1::2], sys.argv[2::2]):
    print(minimise.minimise("image/bmp", Path(found), Path(corpora)), "there")
"""
"""Minimise for each two directories, corpora and found inputs, with a check that fails."""


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.fuzz", *arguments]
    return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=200, check=False)


def test_every_locator_has_something_to_begin_with() -> None:
    assert {LOCATORS[kind] for kind in KINDS} == set(LOCATORS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_kept_holds(kind: str) -> None:
    check = Check(kind)
    for number, data in enumerate(read_corpus(kind)):
        assert len(data) <= MOST_BYTES
        for word in WORDS if SOAK else (WORDS[number % len(WORDS)],):
            try:
                check(data, word)
            except AssertionError as error:
                raise AssertionError(f"{kind} {number}, {word}: {error}") from error


def test_what_is_kept_stays_small() -> None:
    assert {path.stem for path in CORPORA.iterdir()} <= {kind.replace("/", "_") for kind in KINDS}
    assert sum(path.stat().st_size for path in CORPORA.iterdir()) <= MOST_KEPT


def test_the_least_is_kept_of_what_a_run_reached(tmp_path: Path) -> None:
    """Inputs without bytes that they do not need, none of them twice, and none if the check fails."""
    old, new, nothing, found, failing = (tmp_path / str(number) for number in range(5))
    shutil.copytree(CORPORA, old)
    for directory in (new, nothing, found, failing):
        directory.mkdir()
    padded = [data + end for data in read_corpus("image/bmp") for end in (b"12345678", bytes(500))]
    write_files(padded, found)
    write_files([b"planted"], failing)
    steps = [(old, nothing), (new, found), (new, nothing), (new, failing)]
    command = [sys.executable, "-c", MINIMISED, *(str(directory) for step in steps for directory in step)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.count("True there") == 3, done.stdout + done.stderr
    assert "planted" in done.stdout
    assert done.stdout.endswith("False there\n")
    edges = [int(number) for number in re.findall(r"(\d+) edges", done.stdout)]
    assert edges[0] <= edges[1] == edges[2]
    assert read_corpus("image/bmp", old) == read_corpus("image/bmp"), "minimised once more"
    kept = read_corpus("image/bmp", new)
    with_end = [data for data in kept if data.endswith((b"12345678", bytes(500)))]
    assert len(with_end) < len(kept) / 2, "an end stays where it matters, since BMP's end is searched"


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("kind", "inputs"), first(1, INPUTS.items()))
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

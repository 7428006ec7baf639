"""docs/review.md: each of its commands prints what the page says, on the incident that it tells of."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine.documents import CHECKOUT
from tests.support.programs.incident import SAFER, write_incident

PAGE = CHECKOUT / "docs" / "review.md"
BLOCKS = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
STEPS = [(block.split("\n", 1)[0].removeprefix("$ "), block.split("\n", 1)[1]) for block in BLOCKS]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("review")
    place.chmod(0o700)
    write_incident(place / "trail")
    (place / "safer.yaml").write_bytes(SAFER)
    return place


def printed(command: str, place: Path) -> str:
    """What a command of the page prints."""
    words = shlex.split(command)
    assert words[0] == "policyfs"
    settings = {
        "POLICYFS_TRAIL_DIR": str(place / "trail"), "POLICYFS_CACHE_DIR": str(place / "cache"), "TZ": "UTC"
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "policyfs.cli.main", *words[1:]],
        cwd=place, env=os.environ | settings, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout


def test_the_page_goes_from_the_complaint_to_the_policy() -> None:
    assert len(STEPS) >= 8


@pytest.mark.parametrize(("command", "output"), STEPS, ids=[command for command, _ in STEPS])
def test_a_step_of_the_page(command: str, output: str, place: Path) -> None:
    assert printed(command, place) == output


def main() -> None:
    """Write the outputs into the page anew: python -m tests.unit.test_docs_review PLACE."""
    place = Path(sys.argv[1])
    write_incident(place / "trail")
    (place / "safer.yaml").write_bytes(SAFER)
    text = PAGE.read_text(encoding="utf-8")
    for (command, _), block in zip(STEPS, BLOCKS, strict=True):
        text = text.replace(block, f"$ {command}\n{printed(command, place)}")
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

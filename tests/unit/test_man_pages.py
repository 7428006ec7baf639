"""The manual pages are what the parser and the policy language say, and roff takes them."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from policyfs.cli.mounts import mount
from tests.support.machine.documents import CHECKOUT

MANUAL = CHECKOUT / "packaging" / "man"
PAGES = sorted(MANUAL.glob("*.[158]"))


def test_the_pages_are_what_their_sources_say(tmp_path: Path) -> None:
    """If not: make man. The parser of any Python that policyfs runs on gives the same."""
    copy = tmp_path / "packaging/man"
    copy.mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    for name in ("packaging/man/generate.py", "docs/policy-language.md"):
        (tmp_path / name).write_text((CHECKOUT / name).read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run(
        [sys.executable, copy / "generate.py"], check=True, timeout=60, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "POLICYFS_TRAIL_DIR": "/elsewhere", "COLUMNS": "40"},
    )  # fmt: skip
    assert {page.name for page in PAGES} == {page.name for page in copy.glob("*.[158]")}
    for page in PAGES:
        assert (copy / page.name).read_text() == page.read_text(), f"{page.name}: make man"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_roff_takes_a_page_without_a_warning(page: Path) -> None:
    command = ["groff", "-man", "-Tutf8", "-ww", page]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert said.stderr == ""
    plain = re.sub("\x1b\\[[0-9;]*m|.\b", "", said.stdout)
    assert "EXIT STATUS" in plain or "/DCIM/***" in plain
    assert not re.search(r"\*\*[A-Z]|`", plain), "marks of Markdown"


@pytest.mark.parametrize(
    ("text", "roff"),
    [
        ("a *word* here", r"a \fIword\fP here"),
        ("a *path state* here", r"a \fIpath state\fP here"),
        ("*.jpg and *.png", "*.jpg and *.png"),
        ("2 * 3 * 4", "2 * 3 * 4"),
    ],
)
def test_words_between_stars_are_italic(text: str, roff: str) -> None:
    assert runpy.run_path(str(MANUAL / "generate.py"))["inline"](text) == roff


def test_every_option_of_mount_is_in_the_manual() -> None:
    page = (MANUAL / "policyfs.1").read_text("utf-8").replace("\\-", "-")
    parser = argparse.ArgumentParser()
    mount.add_mount(parser)
    options = set(re.findall(r"--[a-z][a-z-]+", parser.format_help()))
    assert {option for option in options if option not in page} <= {"--help"}

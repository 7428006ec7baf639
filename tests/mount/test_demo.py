"""`make demo` shows what it says it shows, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machine.namespace import mounts_below

CHECKOUT = Path(__file__).resolve().parents[2]
PICTURE = runpy.run_path(str(CHECKOUT / "packaging/demo/picture.py"))
DEMO = [sys.executable, "packaging/demo/demo.py"]


def _demo(arena: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DEMO, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT), "TMPDIR": str(arena)},
        timeout=90,
        check=False,
    )


@pytest.mark.timeout(100)
def test_the_demo_shows_its_acts_in_one_screen_and_ends(arena: Path) -> None:
    said = _demo(arena)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "47.8045" in said.stdout
    assert re.search(r"gallery\$ exiftool .*\s+\(nothing\)", said.stdout)
    assert "No such file or directory" in said.stdout
    assert "Operation not permitted" in said.stdout
    assert "reads that reached the daemon: 0 " in said.stdout
    assert re.search(r"camera +write +deny +/DCIM/fake.jpg", said.stdout)
    assert len(said.stdout.splitlines()) <= 40
    assert max(map(len, said.stdout.splitlines())) <= 80
    picture = (PICTURE["DOCS"] / "demo.svg").read_text("utf-8")
    assert PICTURE["drawn"](said.stdout) == picture, "make demo-picture"
    assert mounts_below(arena) == []
    assert list(arena.iterdir()) == []


@pytest.mark.night
@pytest.mark.timeout(100)
def test_the_picture_of_init_is_its_dialogue() -> None:
    shown = PICTURE["shown"]("init.py")
    assert "as before: 1 service, 1 restricted" in shown
    assert PICTURE["drawn"](shown) == (PICTURE["DOCS"] / "init.svg").read_text("utf-8"), "make demo-picture"


@pytest.mark.night
@pytest.mark.timeout(100)
def test_the_shell_demo_leaves_the_store_mounted_and_says_how_to_end_it(arena: Path) -> None:
    said = _demo(arena, "--shell")
    assert said.returncode == 0, said.stdout + said.stderr
    [entry] = mounts_below(arena)
    assert entry.fstype == "fuse.policyfs"
    lines = dict(re.findall(r"^([A-Z][^:\n]*):\s+(.*)$", said.stdout, re.MULTILINE))
    export = next(text for text in said.stdout.splitlines() if "export " in text).split("   ")[-1]
    for what in ("See its state", "Why so", "The end"):
        done = subprocess.run(
            ["sh", "-c", f"{export}; {lines[what]}"], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, (what, done)
    assert mounts_below(arena) == []
    assert list(arena.iterdir()) == []

"""The number of a version, and how `make release` sets the next."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from policyfs.fs.saved.state_memory import READABLE, VERSION
from tests.debian13.package import last_release

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPTS = ("packaging/version.sh", "packaging/release.sh", ".gitattributes")
BUILD = """#!/bin/sh
mkdir -p "$1"
{ packaging/version.sh; %s; } >"$1/policyfs.deb"
"""
WHEEL = """
import pathlib, subprocess, sys
pathlib.Path(sys.argv[1], "policyfs.whl").write_bytes(subprocess.check_output(["packaging/version.sh"]))
"""


class Source:
    """A repository with the scripts of this one; its packages are texts."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for name in SCRIPTS:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, place / name)
        shutil.copytree(CHECKOUT / "policyfs/fs/saved", place / "policyfs/fs/saved")
        shutil.copy(CHECKOUT / "policyfs/errors.py", place / "policyfs")
        (place / ".gitignore").write_text("/dist\n__pycache__\n")
        (place / "packaging/debian").mkdir()
        self.builds()
        (place / "packaging/wheel.py").write_text(WHEEL)
        (place / "packaging/releases").write_text("# number, layout\n0.1.0a0 5\n")
        self.git("init", "--quiet")
        self.git("config", "user.name", "a")
        self.git("config", "user.email", "a@b")
        self.commit("begin", "0.1.0 (not yet released)")

    def builds(self, more: str = "true") -> None:
        (self.place / "packaging/debian/build.sh").write_text(BUILD % more)
        (self.place / "packaging/debian/build.sh").chmod(0o755)

    def git(self, *words: str) -> bytes:
        return subprocess.check_output(["git", *words], cwd=self.place, timeout=30)

    def commit(self, subject: str, entry: str = "") -> None:
        if entry:
            (self.place / "CHANGELOG.md").write_text(f"# Changes\n\n## {entry}\n\n## 0.0.9 (2020-01-01)\n")
        self.git("add", ".")
        self.git("commit", "--quiet", "--allow-empty", "-m", subject)

    def version(self, place: Path | None = None) -> str:
        return subprocess.check_output([(place or self.place) / "packaging/version.sh"], text=True).strip()

    def archive(self, there: Path) -> Path:
        there.mkdir()
        subprocess.run(["tar", "-x", "-C", there], input=self.git("archive", "HEAD"), check=True, timeout=30)
        return there

    def release(self) -> str:
        """The refusal; empty if it is made."""
        words = ["packaging/release.sh", sys.executable]
        done = subprocess.run(
            words, cwd=self.place, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode != 0) == ("release.sh: " in done.stderr), done
        return done.stderr


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path / "source")


def test_a_version_is_the_last_number_and_the_commits_since(source: Source, tmp_path: Path) -> None:
    assert re.fullmatch(r"0\.1\.0a0\+0\.g[0-9a-f]{12}", source.version())
    source.commit("release: of something else's")
    assert re.fullmatch(r"0\.1\.0a0\+1\.g[0-9a-f]{12}", source.version())
    archived = source.version(source.archive(tmp_path / "one"))
    assert archived == source.version().replace("+1.", "+0."), "the commit is known, their number is not"
    source.commit("date", "0.1.0 (2026-12-24)")
    assert last_release(source.place) == ""
    assert source.release() == ""
    assert source.version() == "0.1.0"
    assert source.version(source.archive(tmp_path / "two")) == "0.1.0"
    assert (source.place / "packaging/releases").read_text().split("\n")[-2] == f"0.1.0 {VERSION}"
    assert (source.place / "dist/policyfs.deb").read_text() == "0.1.0\n"
    assert (source.place / "dist/policyfs.whl").read_text() == "0.1.0\n"
    assert source.git("tag") == b""
    assert last_release(source.place) == "", "the one before HEAD"
    released = source.git("log", "-1", "--format=%h").decode().strip()
    source.commit("go on")
    assert re.fullmatch(r"0\.1\.0\+1\.g[0-9a-f]{12}", source.version())
    assert last_release(source.place) == released
    shutil.rmtree(source.place / ".git")
    assert source.version() == "0.1.0+0.gnone"


@pytest.mark.parametrize(
    ("entry", "fault", "refusal"),
    [
        ("0.1.0 (2026-12-24)", "echo >new", "the work tree has changes"),
        ("0.1.0 (not yet released)", "", "CHANGELOG.md begins with '## 0.1.0 (not yet released)'"),
        ("0.0.9 (2026-12-24)", "", "0.0.9 does not come after 0.1.0a0"),
        ("0.1.0 (2026-12-24)", "layout", "this code cannot follow a daemon of 0.1.0a0"),
        ("0.1.0 (2026-12-24)", "date +%N", "two builds differ"),
    ],
)
def test_what_is_not_ready_is_not_released(source: Source, entry: str, fault: str, refusal: str) -> None:
    if fault == "layout":
        (source.place / "packaging/releases").write_text("0.1.0a0 4\n")
    elif fault.startswith("date"):
        source.builds(fault)
    source.commit("date", entry)
    if fault.startswith("echo"):
        (source.place / "new").touch()
    head = source.git("rev-parse", "HEAD")
    assert refusal in source.release()
    assert source.git("rev-parse", "HEAD") == head
    assert not (source.place / "dist").exists()


def test_versions_are_in_order_for_pip_and_for_dpkg() -> None:
    """Those of pip, and those that build.sh makes of them; the first is of a package from before."""
    script = (CHECKOUT / "packaging/debian/build.sh").read_text("utf-8")
    [rule] = re.findall(r"sed '(s/.*)'\)~deb", script)
    coming = ["0.1.0a0+0.g9", "0.1.0a0+9.gf", "0.1.0a0+10.g0", "0.1.0a1+1.g0a1"]
    numbers = [*coming, "0.1.0", "0.1.0+1.g0a1", "0.1.1"]
    assert sorted(numbers, key=Version) == numbers == [str(Version(one)) for one in numbers]
    assert Version("0.1.0.dev1796042582+gf") < Version(numbers[0])
    mapped = subprocess.check_output(["sed", rule], input="\n".join(numbers), text=True, timeout=30).split()
    ordered = ["0.1.0~1796042582.gf+deb12", *(f"{one}~deb{debian}" for one in mapped for debian in (12, 13))]
    for one, other in itertools.pairwise(ordered):
        subprocess.run(["dpkg", "--compare-versions", one, "lt", other], check=True, timeout=30)


def test_daemons_of_the_last_number_can_be_followed() -> None:
    """If the layout of the state has changed too often since: read the released one, too, or, before a first
    release, give the next development versions a number of their own (0.1.0a1)."""
    last = (CHECKOUT / "packaging/releases").read_text("utf-8").splitlines()[-1]
    number, layout = last.split()
    assert re.fullmatch(r"\d+\.\d+\.\d+(a\d+)?", number)
    assert int(layout) in READABLE

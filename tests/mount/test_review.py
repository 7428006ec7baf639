"""The incident of docs/review.md on a real mount: the commands tell the same story as the page."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from tests.support.machine.processes import call_as, wait_for
from tests.support.mount.daemons import Mount, policyfs
from tests.support.mount.stores import Mounts
from tests.support.programs.incident import POLICY
from tests.unit.test_docs_review import STEPS

GALLERY, TIDY = 10011, 10012
MIB = 1 << 20
PAGE = dict(STEPS)


def _look(root: str) -> None:
    for number in (1, 2, 3):
        Path(root, f"DCIM/2026/beach-{number}.jpg").read_bytes()
    for _ in range(2):
        with pytest.raises(PermissionError):
            Path(root, "DCIM/Private/note.jpg").read_bytes()


def _tidy(root: str) -> None:
    place = Path(root, "DCIM")
    os.rename(place / "2026/beach-1.jpg", place / "old/beach-1.jpg")
    os.unlink(place / "old/beach-1.jpg")
    os.unlink(place / "2026/beach-2.jpg")
    fd = os.open(place / "2026/beach-3.jpg", os.O_WRONLY | os.O_TRUNC)
    os.write(fd, b"x" * (MIB // 4))
    os.close(fd)


@pytest.fixture
def mount(mounts: Mounts, empty_store: Path) -> Mount:
    for name in ("2026", "old", "Private"):
        (empty_store / "DCIM" / name).mkdir(parents=True)
    for number, size in ((1, 3), (2, 2), (3, 4)):
        (empty_store / f"DCIM/2026/beach-{number}.jpg").write_bytes(b"\xff\xd8" + b"x" * (size * MIB - 2))
    (empty_store / "DCIM/Private/note.jpg").write_bytes(b"\xff\xd8")
    mount = mounts.start(POLICY.decode(), empty_store)
    call_as(GALLERY, _look, str(mount.mountpoint))
    call_as(TIDY, _tidy, str(mount.mountpoint))
    wait_for(lambda: mount.events(operation="release", app="tidy"), "the last record")
    wait_for(lambda: mount.events(decision="deny", repeats=1), "the count of the second denial")
    return mount


def rows(text: str, policy: str = "family.yaml") -> set[str]:
    """Lines without what differs from run to run: times, ids, the program, the way of the bytes, widths."""
    text = re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d(\.\d+)?", "TIME", text.replace(policy, "family.yaml"))
    text = re.sub(r"\b[0-9a-f]{8}:\d+\b", "ID", text)
    text = re.sub(r" /[/\w]*/(tidy|python[\d.]*) ", " ", text)
    return {" ".join(line.split()).removesuffix(" passthrough") for line in text.splitlines()}


def said(mount: Mount, command: str) -> set[str]:
    words = [word for word in shlex.split(command)[1:] if not word.startswith("--since")]
    words = [word for word in words if word != "2026-03-02"]
    with mount.as_environment():
        done = policyfs(*words, "--trail", mount.trail_dir)
    assert done.returncode in {0, 1}, done
    return rows(done.stdout, f"{mount.mountpoint.name}.yaml")


def test_the_changes_are_those_of_the_page(mount: Mount) -> None:
    (command,) = (one for one in PAGE if "search --since" in one)
    found = {line.replace(" passthrough", "").replace(" mediated", "") for line in said(mount, command)}
    assert {line.replace(" mediated", "") for line in rows(PAGE[command]) if "release" not in line} <= found
    assert any("release" in line and line.endswith("4.0 MiB -> 256.0 KiB") for line in found), found


@pytest.mark.parametrize(
    "command", ["policyfs audit summary --by app,rule decision:deny", "policyfs audit search decision:deny"]
)
def test_the_denials_are_those_of_the_page(mount: Mount, command: str) -> None:
    assert rows(PAGE[command]) == said(mount, command)


def test_the_life_and_the_culprit_are_those_of_the_page(mount: Mount) -> None:
    life = {line for line in rows(PAGE["policyfs audit timeline /DCIM/2026/beach-1.jpg"]) if " tidy " in line}
    assert len(life) == 2
    assert life <= said(mount, "policyfs audit timeline /DCIM/2026/beach-1.jpg")
    (command,) = (one for one in PAGE if "app,uid,exe,op,rule" in one)
    wanted = {line for line in rows(PAGE[command]) if " rename " in line or " unlink " in line}
    assert len(wanted) == 2
    assert wanted <= said(mount, command)


def test_who_could_is_that_of_the_page(mount: Mount) -> None:
    command = "policyfs audit who-could /DCIM/2026/beach-1.jpg"
    assert rows(PAGE[command]) == said(mount, command)

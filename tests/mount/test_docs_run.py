"""The commands of three pages, README.md among them, run in the order in which they stand."""

from __future__ import annotations

import os
import re
import select
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from policyfs.store.quarantine import About, Limits, Quarantine
from tests.support.machine.documents import CHECKOUT, blocks, commands
from tests.support.machine.namespace import mounts_below
from tests.support.machine.processes import call_as, tool_as
from tests.support.mount.daemons import Said, mount_id, policyfs_process, policyfs_started

GALLERY = 10011


class Story:
    """One page, told on a store of its own: its paths become those of the test."""

    def __init__(self, arena: Path, store: Path) -> None:
        [policy] = [block for block in blocks(CHECKOUT / "README.md") if block.language == "yaml"]
        self.policy = arena / "home.yaml"
        self.policy.write_text(policy.text, encoding="utf-8")
        later = arena / "new.yaml"
        later.write_text(policy.text, encoding="utf-8")
        self.shared = arena / "mnt"
        self.own = arena / "own"
        for directory in (self.shared, self.own):
            directory.mkdir()
        self.names = {
            "/srv/media": store,
            "/srv/apps/gallery": self.own,
            "/mnt/media": self.shared,
            "/etc/policyfs/home.yaml": self.policy,
            "home.yaml": self.policy,
            "new.yaml": later,
            "/srv/media/DCIM/beach.jpg": store / "DCIM/beach.jpg",
            "as-seen.jpg": arena / "as-seen.jpg",
            "/srv/media/DCIM": store / "DCIM",
            "/tmp/to-share": arena / "to-share",
            "/tmp/refused.jpg": arena / "refused.jpg",
            "owners.jsonl": arena / "owners.jsonl",
        }
        work = arena / "work"
        work.mkdir(mode=0o700)
        self.environment = {
            "POLICYFS_RUNTIME_DIR": str(work / "run"),
            "POLICYFS_TRAIL_DIR": str(work / "trail"),
            "POLICYFS_KEY_DIR": str(work / "keys"),
        }

    def keep_refused(self, lines: list[str]) -> None:
        """Let each refused file that the page speaks of be there."""
        trail = Path(self.environment["POLICYFS_TRAIL_DIR"])
        kept = Quarantine(trail / mount_id(self.shared) / "quarantine")
        about = About(
            time_ns=1, mount=str(self.shared), store=str(self.names["/srv/media"]), app="gallery",
            uid=GALLERY, gid=GALLERY, pid=1, path=b"/DCIM/refused.jpg", mode=0o644, kind="image/jpeg",
            reason="holds data about location", rules=("share",),
        )  # fmt: skip
        wanted = (re.search(r"quarantine \w+ ([0-9a-f]{8})", line) for line in lines)
        for number in {found[1] for found in wanted if found}:
            fd = os.memfd_create("refused")
            entry = kept.keep(fd, about, Limits(1 << 20, 100))
            os.close(fd)
            entry.directory.rename(entry.directory.with_name(number))

    def tell(self, line: str) -> Said:
        """Run one line."""
        words = [str(self.names.get(word, word)) for word in shlex.split(line)[1:]]
        if "-f" in words or "--follow" in words:
            return self._follow(words)
        return policyfs_process(*words, environment=self.environment)

    def _follow(self, words: list[str]) -> Said:
        """What follows goes on until Ctrl-C: it must say something first."""
        with policyfs_started(*words, environment=self.environment, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                ready, _, _ = select.select([process.stdout], [], [], 20)
                text = process.stdout.readline() if ready else ""
                process.send_signal(2)
                process.wait(10)
            finally:
                process.kill()
        return Said(0 if text else 1, text, "")

    def end(self) -> list[str]:
        """Take away what the page left mounted."""
        left = []
        for mountpoint in (self.own, self.shared):
            deadline = time.monotonic() + 5
            while mounts_below(mountpoint) and time.monotonic() < deadline:
                left.append(str(mountpoint))
                policyfs_process("umount", mountpoint, environment=self.environment)
        return left


def _use(story: Story) -> None:
    """What an app does meanwhile, so that there is something to look at."""
    for mountpoint in (story.own, story.shared):
        if mounts_below(mountpoint):
            found = call_as(GALLERY, os.listdir, str(mountpoint))
            assert found == ["DCIM"]
            tool_as(GALLERY, "cat", mountpoint / "DCIM/Camera/a.jpg", check=True)
            assert tool_as(GALLERY, "touch", mountpoint / "DCIM/no").returncode != 0


NAMES = ("README.md", "docs/operations.md", "docs/redaction.md")
PAGES = {name.removeprefix("docs/"): CHECKOUT / name for name in NAMES}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_the_commands_of_a_page_work_in_their_order(page: Path, arena: Path, store: Path) -> None:
    (store / "DCIM/beach.jpg").write_bytes((store / "DCIM/Camera/a.jpg").read_bytes())
    story = Story(arena, store)
    # Commands in a home and on layers are an ordinary user's (test_run_user.py); of brakes: test_brake.py.
    elsewhere = r"try |brake|run (?:.*~/|--allow-read)|audit search --app syncthing"
    lines = [line for line in commands(page) if re.match(f"policyfs (?!{elsewhere})", line)]
    assert lines
    if page.name == "operations.md":  # it speaks of a mount that the README has made
        lines.insert(0, "policyfs mount --policy home.yaml /srv/media /mnt/media")
        story.keep_refused(lines)
    try:
        for line in lines:
            said = story.tell(line)
            assert said.returncode == 0, (line, said)
            if " mount " in line:
                _use(story)
    finally:
        story.end()
    assert mounts_below(arena) == []

"""docs/tutorial.md: a person's way from nothing to a policy in force, command by command.

POLICYFS_UPDATE_GOLDEN=1 writes the outputs into the page anew (and fails, so that it is read).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.documents import CHECKOUT
from tests.support.machine.namespace import mounts_below
from tests.support.mount.daemons import policyfs_process, policyfs_started

PAGE = CHECKOUT / "docs/tutorial.md"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OF_SHELLS = re.compile(r"[^\w ./:=@,-]")
"""What a shell may read otherwise than as a plain word."""
_VARIES = (
    (re.compile(r"\b[0-9a-f]{16}\b"), "0123456789abcdef"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "0123456789abcdef" * 4),
    (re.compile(r"\b20\d\d-\d\d-\d\d\b"), "2026-03-01"),
    (re.compile(r"from 2026-03-01 to"), "from 2026-02-22 to"),
    (re.compile(r"\b20\d{6}T\d{6}\b"), "20260301T080000"),
    (re.compile(r"(?<=image/jpeg, owner none, )[\d,]+"), "51,666"),
)
"""Dates. Digests: the policy's text has the name of the store, which is another one here. The photo's size:
another release of the encoder makes it some bytes smaller."""


class Person:
    """Somebody at a shell, in a directory of their own."""

    def __init__(self, arena: Path, media: dict[str, Path]) -> None:
        self.home = arena / "home"
        self.names = {
            "/srv/media": str(arena / "media"),
            "/usr/share/doc/policyfs": str(arena / "doc"),
            "/mnt/media": str(arena / "mnt"),
            "/etc/policyfs": str(self.home),
            "/var/log/policyfs": str(arena / "work/trail"),
        }
        for name in ("home", "mnt", "media/DCIM", "media/Documents", "bin", "work"):
            (arena / name).mkdir(parents=True)
        (arena / "doc").symlink_to(CHECKOUT)  # whose path may have a space
        (arena / "media").chmod(0o700)
        (arena / "media/DCIM/beach.jpg").write_bytes(media["photo_with_place.jpg"].read_bytes())
        (arena / "media/Documents/letter.txt").write_text("Dear reader\n")
        program = arena / "bin/policyfs"
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m policyfs.cli.main "$@"\n')
        program.chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{arena / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "LC_ALL": "C.UTF-8",
            "LANGUAGE": "",  # glibc obeys it in any locale but C
            "TZ": "UTC",
            "POLICYFS_RUNTIME_DIR": str(arena / "work/run"),
            "POLICYFS_TRAIL_DIR": str(arena / "work/trail"),
            "POLICYFS_CACHE_DIR": str(arena / "work/cache"),
            "POLICYFS_KEY_DIR": str(arena / "work/keys"),
        }
        self.code = 0

    def types(self, command: str) -> str:
        """What one command prints."""
        if command == "echo $?":
            return f"{self.code}\n"
        for said, here in self.names.items():
            command = command.replace(said, here)
        streams: dict[str, Any] = {
            "cwd": self.home, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT,
        }  # fmt: skip
        if command.startswith("policyfs ") and not _OF_SHELLS.search(command):
            started = policyfs_started(*command.split()[1:], environment=self.environment, **streams)
        else:
            started = subprocess.Popen(
                ["sh", "-c", command], env=self.environment, stdin=subprocess.DEVNULL, text=True, **streams
            )
        with started as process:
            try:
                text, _ = process.communicate(timeout=60)
            except BaseException:
                process.kill()
                raise
        self.code = process.returncode
        for said, here in self.names.items():
            text = text.replace(here, said)
        for pattern, instead in _VARIES:
            text = pattern.sub(instead, text)
        return text


@pytest.mark.timeout(240)
def test_the_page_is_what_a_person_sees(arena: Path, media: dict[str, Path]) -> None:
    person = Person(arena, media)
    text = page = PAGE.read_text("utf-8")
    try:
        for block in _BLOCK.findall(page):
            commands = [line[2:] for line in block.splitlines() if line.startswith("$ ")]
            told = "".join(f"$ {command}\n{person.types(command)}" for command in commands)
            text = text.replace(f"```console\n{block}```", f"```console\n{told}```", 1)
    finally:
        if mounts_below(arena):
            policyfs_process("umount", person.names["/mnt/media"], environment=person.environment)
    if os.environ.get("POLICYFS_UPDATE_GOLDEN"):
        PAGE.write_text(text, "utf-8")
    assert mounts_below(arena) == []
    assert text == page

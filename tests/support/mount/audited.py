"""A small trail with a kept policy, and `policyfs audit` run on it."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from policyfs.cli.main import build_parser
from policyfs.domain import Audit
from policyfs.journal.files.policy_texts import policy_text
from policyfs.trail.lines.event import Event
from tests.support.mount.trail import MOUNT_ID, SECOND_NS, START_NS, a_denial, a_journal, an_event

POLICY = b"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: files}
apps: {gallery: {uid: 10011}, maps: {uid: 10012}}
rules:
  - {id: gallery-sees, allow: [see, read, write], who: {app: gallery}, paths: "/***"}
  - id: no-private
    deny: [all]
    paths: "/Private/***"
  - id: no-location
    require: {redact: [location]}
    who: {app: gallery}
"""
DIGEST = hashlib.sha256(POLICY).hexdigest()
DAY_NS = 86_400 * SECOND_NS


def event(path: bytes, operation: str = "open", day: int = 0, **fields: object) -> Event:
    """Return an event under POLICY, so many days after the first."""
    base = a_denial(path) if fields.get("decision") == "deny" else an_event(path)
    return base._replace(operation=operation, time_ns=START_NS + day * DAY_NS, policy_digest=DIGEST, **fields)


EVENTS = [
    event(b"/in/a.jpg", "create"),
    event(b"/in/a.jpg", "release", size_before=0, size_after=2 << 20, bytes_written=2 << 20),
    event(b"/in/a.jpg", "rename", new_path=b"/DCIM/a.jpg"),
    event(b"/DCIM/a.jpg", app="maps", uid=10012, exe="/usr/bin/maps", pid=7),
    event(b"/Private/b.jpg", day=1, decision="deny"),
    event(b"/Private/b.jpg", day=1, decision="deny", operation="lookup"),
    event(
        b"/DCIM/c.dwg", day=1, decision="deny", rules=("no-location",), kind="image/x-dwg", note="no locator"
    ),
    event(b"/new/d.jpg", day=1, decision="deny", rules=(), app="stranger", uid=1234),
    event(b"/DCIM/a.jpg", "unlink", day=1, size_before=2 << 20),
    event(b"/DCIM/a.jpg", "create", day=1),
]


def kill_copy(root: Path) -> None:
    """Add a start and an event to the trail below this root, without an end, as a killed daemon leaves it."""
    copy = root.parent / "copy"
    with a_journal(root) as journal:
        journal.record(EVENTS[0], Audit.REQUIRED)
        shutil.copytree(root, copy)
    shutil.rmtree(root)
    copy.rename(root)


class Cli:
    """The command line, on one trail."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.chain = root / MOUNT_ID
        self.err = ""
        """What the last action said on stderr."""
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> str:
        """Return what an action prints, if it ends with this code."""
        parser = build_parser("audit")
        args = parser.parse_args(["audit", *words, "--utc", "--trail", str(self.root)])
        assert args.run(args) == code
        out, self.err = self._capsys.readouterr()
        return out

    def json(self, *words: str, code: int = 0) -> list[dict[str, object]]:
        """Return the JSON lines that an action prints."""
        return [json.loads(line) for line in self(*words, "--json", code=code).splitlines()]


def recorded(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Record EVENTS under POLICY, in a trail below a directory that also has the indexes and keys."""
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(root / "cache"))
    monkeypatch.setenv("POLICYFS_KEY_DIR", str(root / "keys"))
    with a_journal(root / "trail", segment_bytes=5000) as journal:
        text = policy_text(DIGEST, [("home.yaml", POLICY)])
        journal.tell("mount", {"policy": DIGEST}, policy=text, previous="")
        for one in EVENTS:
            journal.record(one, Audit.REQUIRED)
    return Cli(root / "trail", capsys)

"""A small incident on a trail: photos disappear, and an app is refused. docs/review.md walks through it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from policyfs.domain import Audit
from policyfs.journal.files.policy_texts import policy_text
from policyfs.trail.lines.event import Event
from tests.support.mount.trail import SECOND_NS, START_NS, a_journal, an_event

POLICY: Final = b"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: family}
apps:
  gallery: {uid: 10011}
  tidy: {uid: 10012}
rules:
  - id: gallery-reads
    allow: [see, read]
    who: {app: gallery}
    paths: "/DCIM/***"
  - id: tidy-cleans
    allow: [see, read, write, create, delete]
    who: {app: tidy}
    paths: "/DCIM/***"
  - id: no-private
    deny: [read]
    who: {app: gallery}
    paths: "/DCIM/Private/***"
"""
SAFER: Final = POLICY + b"""\
  - id: keep-originals
    deny: [write, delete]
    who: {app: tidy}
    paths: "/DCIM/2026/***"
"""
DIGEST: Final = hashlib.sha256(POLICY).hexdigest()
_DAY: Final = 86_400
_MIB: Final = 1 << 20


def _event(second: int, path: bytes, operation: str = "open", **fields: object) -> Event:
    app = str(fields.pop("app", "gallery"))
    uid, exe, rule = {
        "gallery": (10011, "/usr/bin/gallery", "gallery-reads"),
        "tidy": (10012, "/usr/bin/tidy", "tidy-cleans"),
    }[app]  # fmt: skip
    base = an_event(
        path, app=app, uid=uid, gid=uid, exe=exe, pid=4000 + uid % 10, operation=operation, syscall=operation,
        time_ns=START_NS + second * SECOND_NS, mount="/srv/photos", policy_digest=DIGEST, io="", view="",
        rules=(rule,), kind="image/jpeg",
    )  # fmt: skip
    return base._replace(**fields)


def _events() -> list[Event]:
    photos = [b"/DCIM/2026/beach-%d.jpg" % number for number in (1, 2, 3)]
    night = _DAY + 18 * 3600
    found = [_event(60 * at, photo, io="passthrough") for at, photo in enumerate(photos)]
    found += [_event(_DAY + 60 * at, photo, io="passthrough") for at, photo in enumerate(photos)]
    found += [
        _event(_DAY + 300 + at, b"/DCIM/Private/note.jpg", decision="deny", errno=13, rules=("no-private",))
        for at in range(2)
    ]
    found += [
        _event(night, photos[0], "rename", app="tidy", new_path=b"/DCIM/old/beach-1.jpg"),
        _event(night + 1, b"/DCIM/old/beach-1.jpg", "unlink", app="tidy", size_before=3 * _MIB),
        _event(night + 2, photos[1], "unlink", app="tidy", size_before=2 * _MIB),
        _event(
            night + 3, photos[2], "release", app="tidy", io="mediated", bytes_written=_MIB // 4,
            size_before=4 * _MIB, size_after=_MIB // 4,
        ),
    ]  # fmt: skip
    return found


def write_incident(root: Path) -> None:
    """Write the trail, with its policy in force."""
    with a_journal(root) as journal:
        text = policy_text(DIGEST, [("family.yaml", POLICY)])
        journal.tell("mount", {"policy": DIGEST}, policy=text, previous="")
        for event in _events():
            journal.record(event, Audit.REQUIRED)

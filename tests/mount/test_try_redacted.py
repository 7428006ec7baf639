"""`policyfs try commit` of files that the command saw in part: no original is lost by what it may do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.mount.tries import APP, Tries
from tests.support.samples import jpegs

pytestmark = pytest.mark.mount

POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {{name: photos}}
apps: {{app: {{uid: {APP}}}}}
rules:
  - {{id: no-place, require: {{redact: [location]}}, paths: "/***"}}
  - {{id: open, allow: [all], paths: "/***"}}
"""
SINGLE = ("appended", "deep/moved", "modes", "moved", "replaced", "rewritten", "times")
LINKED = ("linked", "linked-appended", "linked-modes")
SCRIPT = """
    chmod 600 modes.jpg linked-modes.jpg; touch -d @1000000000 times.jpg
    echo x >> appended.jpg; echo x > rewritten.jpg; sed -i s/zzz/zzz/ replaced.jpg
    mv moved.jpg 0moved.jpg; mv deep other; chmod 600 0moved.jpg
    ln linked.jpg 0name.jpg; echo x >> linked-appended.jpg; ln linked-appended.jpg 0appended.jpg
"""


@pytest.fixture
def tries(arena: Path, empty_store: Path) -> Tries:
    (empty_store / "deep").mkdir()
    for name in SINGLE + LINKED:
        (empty_store / f"{name}.jpg").write_bytes(jpegs.photo_with(jpegs.exif()) + name.encode())
    for name in LINKED:
        os.link(empty_store / f"{name}.jpg", empty_store / f"{name}2.jpg")
    for path in (empty_store, *empty_store.rglob("*")):
        os.chown(path, APP, APP)
    made = Tries(arena, empty_store)
    made.policy.write_text(POLICY)
    return made


def test_a_commit_puts_nothing_redacted_over_the_original(tries: Tries) -> None:
    before = {str(path.relative_to(tries.at)): path.read_bytes() for path in tries.at.rglob("*.jpg")}
    tries.shell(SCRIPT)
    told = tries.commit()
    assert {path: why for path, why in told.items() if why} == {
        "appended.jpg": "Permission denied", "rewritten.jpg": "Permission denied",
        "linked-appended.jpg": "Permission denied",
        "0appended.jpg": "linked-appended.jpg is the same file, and is not committed",
    }  # fmt: skip
    after = {str(path.relative_to(tries.at)): path.read_bytes() for path in tries.at.rglob("*.jpg")}
    moved = {"moved.jpg": "0moved.jpg", "deep/moved.jpg": "other/moved.jpg"}
    wanted = {moved.get(path, path): data for path, data in before.items()}
    assert after == wanted | {"0name.jpg": before["linked.jpg"]}
    assert {path: (tries.at / path).stat().st_nlink for path in after} == {
        path: 3 if path in {"0name.jpg", "linked.jpg", "linked2.jpg"} else 1 + path.startswith("linked")
        for path in after
    }
    assert (tries.at / "0moved.jpg").stat().st_mode & 0o777 == 0o600
    assert (tries.at / "times.jpg").stat().st_mtime == 1_000_000_000


def test_what_cannot_be_renamed_is_not_removed(tries: Tries) -> None:
    """Else only the copy in the layer, as the command saw it, would be left."""
    original = (tries.at / "moved.jpg").read_bytes()
    tries.shell("mkdir no; mv moved.jpg no/moved.jpg")
    denied = '  - {id: closed, deny: [create], paths: "/no/*"}\n'
    tries.policy.write_text(POLICY + denied)
    told = tries.commit()
    assert told == {
        "no": "", "no/moved.jpg": "Permission denied",
        "moved.jpg": "moved.jpg was to be renamed, which failed",
    }  # fmt: skip
    assert (tries.at / "moved.jpg").read_bytes() == original


def test_what_the_policy_shows_since_is_not_overwritten(tries: Tries) -> None:
    path = tries.at / "appended.jpg"
    original = path.read_bytes()
    tries.shell("echo x >> appended.jpg; rm modes.jpg; echo new > new")
    tries.policy.write_text(POLICY.replace("/***", "/other/***", 1))
    why = "the command saw it without location, which the policy shows now"
    assert tries.commit() == {"appended.jpg": why, "modes.jpg": why, "new": ""}
    assert path.read_bytes() == original
    tries.policy.write_text(POLICY)
    assert tries.commit() == {"appended.jpg": "Permission denied", "modes.jpg": ""}

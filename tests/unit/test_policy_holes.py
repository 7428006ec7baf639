"""Holes made by hand in the shipped policies, and which of the tools catch each of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from policyfs.policy.analysis.diff import diff
from policyfs.policy.cases.document import parse_cases
from policyfs.policy.cases.run import run
from policyfs.policy.decide import compile_policy
from policyfs.policy.lint.lint import lint
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.machine.documents import CHECKOUT

POLICIES = CHECKOUT / "policies"


class Hole(NamedTuple):
    """A change of a policy that opens something. caught: by which tools."""

    policy: str
    name: str
    old: str
    new: str
    caught: str


HOLES = [
    Hole(
        "family-photos", "a grant too many",
        "    uid: 10011\n",
        "    uid: 10011\n    grants: [media.location]\n",
        "diff test",
    ),
    Hole(
        "family-photos", "a glob too wide",
        '"/DCIM/**"\n    when',
        '"/**"\n    when',
        "diff lint",
    ),
    Hole(
        "family-photos", "owner none spared",
        "{owner: self}  # an app",
        "{owner: none}  # an app",
        "diff lint test",
    ),
    Hole(
        "family-photos", "private by the wrong app",
        'path: "/Android/{data,obb}/{app}/***"}\n    errno',
        'path: "/Android/{data,obb}/*/***"}\n    errno',
        "lint test",
    ),
    Hole(
        "family-photos", "strangers, too",
        "who: {app: [camera, gallery, maps]}\n    ",
        "",
        "diff lint test",
    ),
    Hole(
        "family-photos", "the player sees photos",
        'paths: "@shelf"',
        'paths: ["@shelf", "@library"]',
        "diff",
    ),
    Hole(
        "android-scoped-storage", "any owner",
        "    when: {owner: self}\n",
        "",
        "diff lint test",
    ),
    Hole(
        "android-scoped-storage", "unless turned round",
        'unless: {path: "@own"}\n    errno',
        'when: {path: "@own"}\n    errno',
        "diff test",
    ),
    Hole(
        "android-scoped-storage", "a spared kind",
        "- {owner: self}\n      - {path",
        "- {owner: self}\n      - {type: image/*}\n      - {path",
        "diff test",
    ),
    Hole(
        "kiosk", "no redaction of places",
        "redact: all-metadata",
        "redact: device",
        "diff test",
    ),
    Hole(
        "kiosk", "drafts shown",
        'paths: "/Album/**"\n\n  - id: album.bare',
        'paths: "/**"\n\n  - id: album.bare',
        "diff lint test",
    ),
    Hole(
        "kiosk", "any content",
        "image/heic, video/mp4]",
        "image/heic, video/mp4, text/plain]",
        "diff test",
    ),
    Hole(
        "dataset", "labels without a check",
        'paths: "/labels/***"\n\n  - id: scratch',
        'paths: "/label/***"\n\n  - id: scratch',
        "diff test",
    ),
    Hole(
        "dataset", "pictures not frozen",
        "deny: [write, create, delete, attr]\n    who: {not: {grant: dataset.raw}}",
        "deny: [write]\n    who: {not: {grant: dataset.raw}}",
        "test",
    ),
    Hole(
        "dataset", "scratch of all",
        '"/scratch/{app}/***"',
        '"/scratch/**"',
        "diff lint test",
    ),
    Hole(
        "two-galleries", "the editor changes photos",
        'paths: "@sidecars"\n\n  - id: shared.look',
        'paths: ["@sidecars", "/Photos/**"]\n\n  - id: shared.look',
        "diff test",
    ),
    Hole(
        "downloads", "the download program files films",
        "who: {app: importer}",
        "who: {app: [importer, downloader]}",
        "diff test",
    ),
    Hole(
        "legal-hold", "a held path with a slip",
        '"/Cases/2026-031/Mail/***"',
        '"/Cases/2026-031/mail/***"',
        "diff test",
    ),
    Hole(
        "legal-hold", "delete forgotten",
        "deny: [write, create, delete, attr]",
        "deny: [write, create, attr]",
        "diff test",
    ),
    Hole(
        "legal-hold", "a record too weak",
        "audit: required\n\n  - id: hold.on-record",
        "audit: best_effort\n\n  - id: hold.on-record",
        "diff test",
    ),
    Hole(
        "drop-box", "senders read back",
        "allow: [see, create, write]",
        "allow: [see, read, create, write]",
        "diff test",
    ),
    Hole(
        "drop-box", "senders see all",
        "    when: {owner: self}\n",
        "",
        "diff lint test",
    ),
    Hole(
        "home-server", "a video of any kind",
        "when: {type: video/*}",
        "when: {type: [video/*, image/*]}",
        "diff test",
    ),
    Hole(
        "home-server", "a backup without its grant",
        "    grants: [true-bytes]  # a backup must have",
        "    # a backup must have",
        "lint test",
    ),
    Hole(
        "untrusted-sync", "a limit that stops nothing",
        "changes: 200",
        "changes: 20000",
        "diff",
    ),
    Hole(
        "home-server", "inner names for one more",
        "who: {not: {app: [syncthing, backup]}}",
        "who: {not: {app: [syncthing, backup, frame]}}",
        "diff test",
    ),
]  # fmt: skip


def caught(hole: Hole) -> set[str]:
    text = (POLICIES / f"{hole.policy}.yaml").read_text("utf-8")
    assert text.count(hole.old) >= 1, "the policy has changed"
    source = SourceText(f"{hole.policy}.yaml", text.replace(hole.old, hole.new, 1).encode())
    old = parse_policy([SourceText(source.name, text.encode())])
    new = parse_policy([source])
    engine = compile_policy(new)
    found = set()
    if diff(old, new).wider:
        found.add("diff")
    if lint(engine, [source], at_ns=0).findings:
        found.add("lint")
    tests = Path(POLICIES / f"tests/{hole.policy}.test.yaml")
    rules = frozenset(rule.id for rule in new.rules)
    cases = parse_cases([SourceText(tests.name, tests.read_bytes())], [app.name for app in new.apps], rules)
    if not all(result.passed for result in run(new, cases, source.name, lambda case: None)):
        found.add("test")
    return found


@pytest.mark.parametrize("hole", HOLES, ids=lambda hole: f"{hole.policy}: {hole.name}")
def test_each_hole_is_caught(hole):
    assert hole.caught
    assert caught(hole) == set(hole.caught.split())


def test_there_are_enough_and_in_every_policy():
    assert len(HOLES) >= 20
    assert {hole.policy for hole in HOLES} == {path.stem for path in POLICIES.glob("*.yaml")}

"""`audit export --for-app`, attacked: nothing of a hidden name or of another app gets out."""

from __future__ import annotations

import hashlib
import json
import random
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from policyfs.cli.audit.export import PolicySight
from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.main import build_parser
from policyfs.domain import Audit
from policyfs.errors import UsageError
from policyfs.journal.files.policy_texts import policy_text
from policyfs.journal.writing.journal import Journal
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.trail.lines.event import Event
from tests.support.mount.trail import MOUNT_ID, ROOMY, SECOND_NS, START_NS, Clock, an_event

POLICY = b"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: parts}
apps: {gallery: {uid: 10011}, maps: {uid: 10012}}
rules:
  - {id: reads, allow: [see, read], who: {app: gallery}, paths: "/DCIM/***"}
  - {id: photos, deny: [read], who: {app: gallery}, paths: "/DCIM/**", when: {type: "video/*"}}
  - {id: own, allow: [see, read, create], who: {app: gallery}, paths: "/Mine/**", when: {owner: self}}
  - {id: all, allow: [all], who: {app: maps}, paths: "/**"}
  - {id: hidden, deny: [all], who: {app: gallery}, paths: "/DCIM/secret/***"}
"""
DIGEST = hashlib.sha256(POLICY).hexdigest()
WITH_END = (
    POLICY
    + b"""\
exceptions:
  - id: party
    allow: [see, read]
    until: %s
    reason: slides
    approved-by: Ann
    who: {app: gallery}
    paths: "/Slides/***"
"""
)
OLD = POLICY.replace(b'"/DCIM/secret/***"', b'"/DCIM/past/***"')
OLD_DIGEST = hashlib.sha256(OLD).hexdigest()

WORDS = ("zyxhidden", "quuxdir", "plughfile")
"""Names that the app must not learn."""


def asked(path: str, **fields: object) -> Event:
    base = an_event(path.encode(), policy_digest=DIGEST, rules=("reads",), kind="image/jpeg")
    return base._replace(**fields)  # type: ignore[arg-type]


def refused(path: str, errno: int = 2, **fields: object) -> Event:
    return asked(path, decision="deny", errno=errno, io="", **{"rules": ("hidden",), **fields})


TOLD = [
    asked("/DCIM/a.jpg"),
    asked("/Mine/own.jpg", rules=("own",), operation="create"),
    refused("/DCIM/film.mp4", 13, kind=None, rules=("photos",)),
    asked("/DCIM/past/now-seen.jpg"),
]
SECRET = [
    refused(f"/DCIM/secret/{WORDS[0]}.jpg"),
    refused(f"/{WORDS[1]}/x", operation="lookup"),
    refused(f"/Mine/{WORDS[2]}", operation="lookup", rules=()),  # another app's: hidden by its owner
    refused("/DCIM/a.jpg", new_path=f"/DCIM/secret/{WORDS[0]}".encode(), operation="rename"),
    refused("/Mine", folded="directory", repeats=9, operation="lookup", rules=()),
    asked(f"/DCIM/{WORDS[0]}.jpg", app="maps", uid=10012, exe="/usr/bin/maps"),
    asked("/DCIM/a.jpg", app="maps", uid=10012, exe="/usr/bin/maps", operation="unlink"),
    asked("/DCIM/a.jpg", app="stranger", uid=4711),
    refused("/DCIM/past/x.jpg", policy_digest=OLD_DIGEST),
    refused("/DCIM/unknown-policy.jpg", 13, policy_digest="cd" * 32),
]
MOVED = asked(f"/DCIM/secret/{WORDS[0]}.jpg", operation="release", bytes_read=4096, handle=5, size_after=99)


def write(root: Path, events: list[Event], policy: bytes = POLICY) -> None:
    journal = Journal(str(root / MOUNT_ID), MOUNT_ID, keep=0, clock_ns=Clock(), limits=ROOMY)
    for text in (OLD, policy):
        digest = hashlib.sha256(text).hexdigest()
        told = policy_text(digest, [("p.yaml", text)])
        journal.tell("mount", {"policy": digest, "cause": "command", "how": "x"}, policy=told, previous="")
    for number, event in enumerate(events):
        journal.record(event._replace(time_ns=START_NS + number * SECOND_NS), Audit.REQUIRED)
    journal.close()


def export(root: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    parser = build_parser("audit")
    args = parser.parse_args(["audit", "export", "--for-app", "gallery", *words, "--trail", str(root)])
    args.run(args)
    return capsys.readouterr().out


@pytest.mark.parametrize("form", ["jsonl", "csv", "ocsf"])
def test_nothing_hidden_gets_out(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Attack D1.9: Learn names, kinds or the activity of others from the part of the trail that is exported
    for one app (`audit export --for-app`)
    Guard: policyfs/trail/text/part.py::part_of
    Also: ::test_the_activity_of_others_cannot_be_counted
    Without: ::test_it_does_where_own_requests_are_told_whole
    """
    events = [*TOLD, *SECRET, MOVED]
    random.Random(5).shuffle(events)
    write(tmp_path, events)
    out = export(tmp_path, capsys, "--format", form)
    for word in (
        *WORDS,
        "maps",
        "10012",
        "4711",
        "stranger",
        "secret",
        "past/x",
        "unknown-policy",
        DIGEST,
        OLD_DIGEST,
    ):
        assert word not in out, word
    for event in TOLD:
        assert event.path.decode() in out
    lines = out.splitlines()[form == "csv" :]
    assert len(lines) == len(TOLD) + 1


def test_it_does_where_own_requests_are_told_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lambda event, app, _sight: event if event.app == app else None  # noqa: E731 - a guard taken out
    monkeypatch.setattr("policyfs.cli.audit.export.part_of", whole)
    write(tmp_path, [*TOLD, *SECRET, MOVED])
    out = export(tmp_path, capsys)
    assert all(word in out for word in WORDS)


def test_the_activity_of_others_cannot_be_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet, busy = tmp_path / "quiet", tmp_path / "busy"
    for root in (quiet, busy):
        root.mkdir()
    write(quiet, [TOLD[0], TOLD[1], MOVED])
    others = [event for event in SECRET if event.app != "gallery"] * 20
    times = [TOLD[0], *others, TOLD[1], *others, MOVED._replace(handle=4711)]
    write(busy, times)
    told = [
        [
            {name: value for name, value in json.loads(line).items() if name != "time"}
            for line in out.splitlines()
        ]
        for out in (export(quiet, capsys), export(busy, capsys))
    ]
    assert told[0] == told[1]
    assert [line["id"] for line in told[0]] == ["gallery:1", "gallery:2", "gallery:3"]


def test_a_policy_that_is_not_kept_hides_denials(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(
        tmp_path,
        [asked("/DCIM/a.jpg", policy_digest="ef" * 32), refused("/DCIM/b.jpg", 13, policy_digest="ef" * 32)],
    )
    parser = build_parser("audit")
    args = parser.parse_args(["audit", "export", "--for-app", "gallery", "--trail", str(tmp_path)])
    assert args.run(args) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 1
    assert "does not keep policy efefefefefef" in said.err


def test_an_exception_counts_until_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The app could read the slides only in the first three seconds of the trail."""
    end = datetime.fromtimestamp(START_NS / SECOND_NS + 3, UTC).isoformat().replace("+00:00", "Z")
    policy = WITH_END % end.encode()
    digest = hashlib.sha256(policy).hexdigest()
    denied = [refused(f"/Slides/{n}.jpg", 13, operation="create", policy_digest=digest) for n in range(6)]
    write(tmp_path, denied, policy)
    lines = [json.loads(line) for line in export(tmp_path, capsys).splitlines()]
    assert [line["path"] for line in lines] == ["/Slides/0.jpg", "/Slides/1.jpg", "/Slides/2.jpg"]


def test_an_exception_that_has_ended_does_not_count_after_the_clock_was_set_back() -> None:
    policy = parse_policy([SourceText("p.yaml", WITH_END % b"2026-03-01T08:00:03Z")])
    kept = cast("KeptPolicies", SimpleNamespace(policy=lambda _digest: policy))
    sight = PolicySight(kept, "gallery")
    path = b"/Slides/0.jpg"
    reads = [
        sight.reads(an_event(path, time_ns=START_NS + at * SECOND_NS, mount=mount), path, None)
        for mount, at in (("/m", 1), ("/m", 4), ("/m", 2), ("/other", 2))
    ]
    assert reads == [True, False, False, True]


def test_strangers_are_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, TOLD)
    parser = build_parser("audit")
    args = parser.parse_args(["audit", "export", "--for-app", "stranger", "--trail", str(tmp_path)])
    with pytest.raises(UsageError, match="name an app"):
        args.run(args)

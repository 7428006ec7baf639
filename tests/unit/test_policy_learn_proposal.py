"""The text of a proposal. test_cli_policy_learn.py has the exact words."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.domain import Audit, Facts, FileType, Op
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.analysis.sides import content_of
from policyfs.policy.decide import compile_policy
from policyfs.policy.learn.bound import Bound
from policyfs.policy.learn.evidence import Evidence
from policyfs.policy.learn.globs import proposals
from policyfs.policy.learn.proposal import app_text, rule_text, silenced, text_of
from policyfs.policy.lint.lint import lint
from policyfs.policy.model import Effect, Policy
from policyfs.policy.replay.recorded import Cause, Recorded
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.models.policies import engine_of

READ = Recorded("a", 7, None, "open", "open(O_RDONLY)", True, 0, Cause.NONE, ())


def proposed(evidence: Evidence, *words: str) -> tuple[str, Policy]:
    text = silenced(text_of(proposals(evidence), evidence, words))
    source = SourceText("proposal", text.encode())
    engine = load_policy([source])
    assert lint(engine, [source], at_ns=0).findings == []
    return text, engine.policy


def add(evidence: Evidence, recorded: Recorded, path: str, *, denied: bool = False) -> None:
    evidence.add(recorded, path.encode(), 1, lambda: "0:7", denied_by_rule=denied)


def test_uids_are_those_that_were_seen():
    evidence = Evidence()
    for uid in (7, 8, 9, 20):
        add(evidence, READ._replace(uid=uid), "/D/x.jpg")
    add(evidence, READ._replace(app="b", mounted="b", uid=5), "/D/x.jpg")
    _, policy = proposed(evidence)
    assert {app.name: app.uids for app in policy.apps} == {"a": ((7, 9), (20, 20)), "b": ()}


@pytest.mark.parametrize("name", ["1000", "0x10", "1e5", "01", "2026-01-01", "null", "true", "no", "a.b"])
def test_the_name_of_an_app_stays_text(name: str):
    evidence = Evidence()
    for file in "abc":
        add(evidence, READ._replace(app=name), f"/D/{file}.jpg")
    add(evidence, READ._replace(app=name, allowed=False), "/D/no.jpg", denied=True)
    _, policy = proposed(evidence)
    assert [app.name for app in policy.apps] == [name]
    assert {f"{name}.read", f"{name}.denied.1"} <= {rule.id for rule in policy.rules}


def test_what_a_rule_denied_stays_denied_under_a_glob():
    evidence = Evidence()
    for name in "abc":
        add(evidence, READ, f"/D/{name}.jpg")
    add(evidence, READ._replace(allowed=False), "/D/no.jpg", denied=True)
    add(evidence, READ._replace(allowed=False), "/Elsewhere/no.jpg", denied=True)
    text, policy = proposed(evidence)
    denies = {rule.id: rule.paths for rule in policy.rules if rule.effect is Effect.DENY}
    assert denies["a.denied.1"] == ("/D/no.jpg",)
    assert "# - a open, 2 times (0:7): a rule of the recorded policy denies the request" in text


def test_a_hidden_directory_stays_hidden_under_a_deep_glob():
    evidence = Evidence()
    for directory in "xyz":
        for name in "abc":
            add(evidence, READ, f"/D/{directory}/{name}.jpg")
    stat = READ._replace(operation="stat", syscall="stat", allowed=False)
    add(evidence, stat, "/D/hidden", denied=True)
    _, policy = proposed(evidence)
    engine = compile_policy(policy)
    who, facts = engine.app_principal("a", 7), Facts(None, "none")
    for path in (b"/D/hidden", b"/D/hidden/x.jpg"):
        assert not engine.decide(who, Op.SEE, engine.state_of(path), FileType.DIRECTORY, facts).allowed


def test_a_refused_name_that_is_no_text_is_denied():
    evidence = Evidence()
    for name in "abc":
        add(evidence, READ, f"/D/{name}{name}.jpg")
    evidence.add(READ, b"/D/\xff.jpg", 1, lambda: "0:7", denied_by_rule=True)
    _, policy = proposed(evidence)
    denies = {rule.id: rule.paths for rule in policy.rules if rule.effect is Effect.DENY}
    assert denies["a.denied.1"] == ("/D/?.jpg",)


def test_all_words_of_the_recorded_policy_are_removed():
    evidence = Evidence()
    add(evidence, READ._replace(view="raw"), "/D/x.jpg")
    text, policy = proposed(evidence, "device")
    [redaction] = [rule for rule in policy.rules if rule.effect is Effect.REDACT]
    assert redaction.redact == {"location", "device"}
    assert (
        "# These apps have read files unchanged so far, and would now read the files without places: a."
        in text
    )


def test_an_app_that_reads_nothing_needs_no_redaction():
    evidence = Evidence()
    add(evidence, READ._replace(operation="mkdir", syscall="mkdir"), "/D/new")
    _, policy = proposed(evidence)
    assert {rule.id for rule in policy.rules} == {"a.own", "private"}


def test_a_glob_opens_no_private_directory_below_it():
    evidence = Evidence()
    for directory in "xyz":
        for name in "abc":
            add(evidence, READ, f"/D/{directory}/{name}.jpg")
    _, policy = proposed(evidence)
    assert any(rule.paths == ("/D/**/*.jpg",) for rule in policy.rules)
    engine = compile_policy(policy)
    who = engine.app_principal("a", 7)
    for path, allowed in (
        (b"/D/w/a.jpg", True), (b"/D/.a.jpg", True), (b"/D/.git/a.jpg", False), (b"/D/x/.git/y/a.jpg", False),
        (b"/D/Private/a.jpg", False), (b"/D/vault/x/a.jpg", False),
    ):  # fmt: skip
        state, facts = engine.state_of(path), Facts(None, "none")
        decision = engine.decide(who, Op.SEE | Op.READ, state, FileType.REGULAR, facts)
        assert decision.allowed is allowed, path
        assert not decision.allowed or decision.redact == {"location"}


KEPT = """\
- {id: read, allow: [see, read], who: {app: any}, paths: "/DCIM/**"}
- {id: watched, allow: [read], paths: "/DCIM/x/**", audit: required}
- {id: private, deny: [read], who: {app: maps}, paths: "/DCIM/x/**"}
- {id: places, require: {redact: location}, who: {not: {grant: media.location}}, raw_types: [text/csv]}
- {id: kinds, require: {content: image/*}, paths: "/Inbox/**"}
"""


def test_apps_denials_and_requirements_of_the_policy_at_the_end_are_taken_over():
    """An app that did nothing stays one, raw_types stay readable, and one rule's level is no default."""
    evidence, end = Evidence(), engine_of(KEPT).policy
    evidence.bound = Bound(end, False, lambda recorded, monitor: None)
    csv = READ._replace(app="gallery", uid=10011, kind="text/csv")
    evidence.add(csv, b"/DCIM/a.csv", 1, lambda: "0:7", denied_by_rule=False, raw=True)
    _, policy = proposed(evidence)
    assert policy.apps == end.apps
    assert (policy.audit_allowed, policy.audit_denied) == (end.audit_allowed, end.audit_denied)
    rules = {rule.id: rule for rule in policy.rules}
    assert {"private.kept", "places", "kinds"} < rules.keys()
    assert "no-places" not in rules
    assert (rules["watched"].monitor, rules["watched"].audit) == (True, Audit.REQUIRED)
    assert evidence.bound.wider(policy) == []
    engine = compile_policy(policy)
    asked = engine.state_of(b"/DCIM/a.csv"), FileType.REGULAR, Facts("text/csv", "none")
    decision = engine.decide(engine.principal(10011), Op.SEE | Op.READ, *asked)
    assert decision.allowed and not decision.redact


def test_a_backup_that_would_lose_places_is_told_and_not_silenced():
    evidence = Evidence()
    add(evidence, READ._replace(app="backup", view="raw"), "/D/x.jpg")
    text = silenced(text_of(proposals(evidence), evidence, ()))
    source = SourceText("proposal", text.encode())
    assert [one.id for one in lint(load_policy([source]), [source], at_ns=0).findings] == ["backup-redacted"]


HEAD = "apiVersion: policyfs/v1\nkind: Policy\n"
SHIPPED = sorted((Path(__file__).parents[2] / "policies").glob("*.yaml"))
EVERY_KEY = """\
apps:
  a: {uid: [7, 9-12], gid: [5, 6], grants: [g, h], modes: policy, description: "it's: #1"}
  "1e5": {modes: store, moves: free}
rules:
  - {id: r1, allow: [all], who: {app: any, uid: 7, not: {grant: [g, h], app: [stranger]}}, audit: required}
  - {id: r2, deny: [write], paths: ["/a", '/50\\*/{app}'], errno: EROFS, mode: monitor}
  - {id: r3, require: {redact: [time, location]}, raw_types: [text/csv], on_unknown: deny, audit: off}
  - {id: r4, require: {no: location}, raw_types: text/csv, on_unknown: deny, on_refused: quarantine}
  - {id: r5, require: {clean: [people, time]}, raw_types: [text/csv], when: {type: image/*, owner: self}}
  - id: r6
    require: {content: [image/*, text/plain]}
    ignore_case: true
    unless: [{owner: [none, a], path: ["/ü/**", "/b"]}, {type: inode/directory}]
    description: 'a "word"'
"""


def parsed(text: str) -> Policy:
    return parse_policy([SourceText("policy.yaml", text.encode())])


@pytest.mark.parametrize("text", [HEAD + EVERY_KEY, *(path.read_text() for path in SHIPPED)])
def test_apps_and_rules_mean_what_they_meant(text: str) -> None:
    old = parsed(text)
    lines = [*map(app_text, old.apps)], [*map(rule_text, old.rules)]
    new = parsed(f"{HEAD}apps:\n{chr(10).join(lines[0])}\nrules:\n{chr(10).join(lines[1])}\n")
    assert new.apps == old.apps
    for before, after in zip(old.rules, new.rules, strict=True):
        assert (after.id, after.who, after.description) == (before.id, before.who, before.description)
        assert content_of(after) == content_of(before)

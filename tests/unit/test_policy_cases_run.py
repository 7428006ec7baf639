"""Answers compared with what tests expect."""

from __future__ import annotations

import pytest

from policyfs.domain import WORKER_UIDS
from policyfs.policy.cases.document import parse_cases
from policyfs.policy.cases.run import Result, run
from policyfs.policy.decide import Engine
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.globs.names import UID_LIMIT
from policyfs.policy.text.parse import SourceText
from tests.support.models.policies import FAMILY, engine_of

HEAD = "apiVersion: policyfs/v1\nkind: PolicyTests\ntests:\n"


def results(*keys: str, engine: Engine | None = None) -> list[Result]:
    engine = engine or engine_of(FAMILY)
    text = HEAD + "".join(f"  - {{id: t{n}, {key}}}\n" for n, key in enumerate(keys))
    apps = [app.name for app in engine.policy.apps]
    rules = frozenset(rule.id for rule in engine.policy.rules)
    cases = parse_cases([SourceText("f.test.yaml", text.encode())], apps, rules)
    return list(run(engine.policy, cases, "f.yaml", lambda case: f"text/{case.doc.content}"))


MOVE = "app: camera, path: /DCIM/a, kind: image/png, owner: self"
GALLERY = "app: gallery, operation: read, path: /DCIM/a.jpg, owner: none"


@pytest.mark.parametrize(
    "key",
    [
        f"{GALLERY}, kind: image/jpeg, expect: {{decision: allow, redact: location, view: redacted}}",
        f"{GALLERY}, kind: image/jpeg, expect: {{decision: allow, audit: required, rules: [media.read]}}",
        f"{GALLERY}, kind: text/plain, expect: {{decision: deny, errno: EACCES}}",
        f"{GALLERY}, content: plain, expect: {{decision: deny}}",
        "app: stranger, operation: see, path: /a, type: directory, expect: {decision: deny, errno: ENOENT}",
        "uid: 10012, operation: read, path: /DCIM/a.jpg, expect: {decision: allow, view: raw, redact: []}",
        "app: camera, operation: create, path: /DCIM/a.jpg, expect: {decision: allow, rules: [media.own]}",
        "app: camera, operation: write, path: /DCIM/a, owner: self, expect: {decision: allow, bare: false}",
        "app: gallery, operation: list, path: /DCIM, type: directory, expect: {decision: allow, bare: true}",
        f"{MOVE}, operation: rename, to: /DCIM/b, expect: {{decision: allow}}",
        f"{MOVE}, operation: link, to: /Pictures/a, expect: {{decision: deny, errno: EACCES}}",
    ],
)
def test_what_is_as_expected(key):
    assert [result.differences for result in results(key)] == [()]


@pytest.mark.parametrize(
    ("expect", "difference"),
    [
        ("decision: deny", ("decision", "deny", "allow")),
        ("decision: allow, redact: []", ("redact", "nothing", "location")),
        ("decision: allow, view: raw", ("view", "raw", "redacted")),
        ("decision: allow, audit: off", ("audit", "off", "required")),
        ("decision: allow, bare: true", ("bare", "true", "false")),
        ("decision: allow, rules: [backup.all]", ("rules", "backup.all", "media.no-location, media.read")),
    ],
)
def test_what_is_not(expect, difference):
    (result,) = results(f"{GALLERY}, kind: image/jpeg, expect: {{{expect}}}")
    assert [tuple(one) for one in result.differences] == [difference]
    assert not result.passed
    assert result.explain.startswith("policyfs policy explain f.yaml /DCIM/a.jpg --app gallery --op read")


def test_another_errno():
    key = "app: gallery, operation: write, path: /DCIM/a, expect: {decision: deny, errno: EPERM}"
    (result,) = results(key)
    assert [tuple(one) for one in result.differences] == [("errno", "EPERM", "EACCES")]


ANYONE = """apps:
  gallery: {uid: [%s]}
rules:
  - {id: strangers.see, allow: [see], who: {app: stranger}, paths: "/**"}
"""
WORKERS = f'"0-{WORKER_UIDS.start - 1}", "{WORKER_UIDS.stop}-{UID_LIMIT - 1}"'


@pytest.mark.parametrize(
    ("uids", "stranger"),
    [
        ("10011", 65533),
        ('"1000-65534", "3000000000-4294967294"', 65535),
        (f'"0-{WORKER_UIDS.start - 1}"', WORKER_UIDS.stop),
        (WORKERS.replace('"0-', '"1-'), 0),
    ],
)
def test_a_stranger_has_a_uid_of_no_app(uids, stranger):
    key = "app: stranger, operation: see, path: /a, expect: {decision: allow}"
    (result,) = results(key, engine=engine_of(ANYONE % uids))
    assert result.passed
    assert f" --uid {stranger} " in result.explain


def test_a_policy_without_strangers_has_no_test_of_one():
    key = "app: stranger, operation: see, path: /a, expect: {decision: allow}"
    with pytest.raises(PolicyErrors, match=r"f\.test\.yaml:4:\d+: .*every uid belongs to an app") as error:
        results(key, engine=engine_of(ANYONE % WORKERS))
    assert "help: remove stranger" in str(error.value)


def test_each_app_operation_and_path():
    found = results("app: [maps, gallery], operation: [see, read], path: [/a, /b], expect: {decision: deny}")
    assert len(found) == 8
    assert len({result.request for result in found}) == 8
    assert found[0].request == "see /a by maps (unknown kind of unknown owner)"

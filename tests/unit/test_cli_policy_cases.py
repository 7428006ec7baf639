"""policy test, as a command, and the tests of the shipped policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.machine.documents import CHECKOUT
from tests.support.mount.daemons import policyfs

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
rules:
  - {id: look, allow: [see, read], who: {app: any}, paths: "/DCIM/**"}
"""
TESTS = """\
apiVersion: policyfs/v1
kind: PolicyTests
tests:
  - {id: look, app: camera, operation: read, path: /DCIM/a, expect: {decision: allow}}
"""
SHIPPED = sorted((CHECKOUT / "policies").glob("*.yaml"))


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    (tmp_path / "home.yaml").write_text(POLICY)
    (tmp_path / "home.test.yaml").write_text(TESTS)
    return tmp_path / "home.yaml"


def test_tests_beside_a_policy(policy):
    said = policyfs("policy", "test", policy)
    assert (said.returncode, said.stdout) == (
        0, f"{policy}: 1 request passed; tests reach 1 of 1 rules\n",
    )  # fmt: skip


def test_a_failure(policy, tmp_path):
    (tmp_path / "home.test.yaml").write_text(TESTS.replace("allow", "deny"))
    said = policyfs("policy", "test", policy)
    assert said.returncode == 4
    assert "decision  expected deny, found allow" in said.stdout
    (found,) = json.loads(policyfs("policy", "test", policy, "--json").stdout)
    assert (found["failed"], found["uncovered"]) == (1, [])


def test_a_directory_is_one_policy_and_its_tests_are_no_part_of_it(policy, tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/more.test.yaml").write_text(TESTS.replace("/DCIM/a", "/DCIM/b"))
    said = policyfs("policy", "test", tmp_path)
    assert said.returncode == 0, said
    assert "all 2 requests passed" in said.stdout
    assert policyfs("policy", "check", tmp_path).returncode == 0


def test_tests_elsewhere_and_none_at_all(policy, tmp_path):
    elsewhere = tmp_path / "other.yaml"
    (tmp_path / "home.test.yaml").rename(elsewhere)
    said = policyfs("policy", "test", policy)
    assert said.returncode == 2
    assert "has no tests" in said.stderr
    assert policyfs("policy", "test", policy, "--tests", elsewhere).returncode == 0
    assert policyfs("policy", "test", policy, "--tests", tmp_path / "absent").returncode == 3
    absent = policyfs("policy", "test", tmp_path / "absent.yaml")
    assert (absent.returncode, "No such file" in absent.stderr) == (3, True)


def test_faults_in_either_file(policy, tmp_path):
    (tmp_path / "home.test.yaml").write_text(TESTS.replace("camera", "camra"))
    said = policyfs("policy", "test", policy)
    assert said.returncode == 3
    assert "the tests have errors" in said.stderr
    policy.write_text(POLICY.replace("allow", "alow"))
    assert policyfs("policy", "test", policy).returncode == 3


@pytest.mark.mount
def test_the_kind_of_a_real_file(policy, tmp_path):
    (tmp_path / "a.txt").write_text("only words\n" * 9)
    text = 'require: {redact: location}, paths: "/DCIM/**"'
    policy.write_text(POLICY + f"  - {{id: places, {text}}}\n")
    (tmp_path / "home.test.yaml").write_text(TESTS.replace("/DCIM/a,", "/DCIM/a, content: a.txt,"))
    said = policyfs("policy", "test", policy)
    assert said.returncode == 4
    assert "text/plain" in said.stdout
    assert "found deny (EACCES)" in said.stdout


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_policies_pass_tests_that_reach_all_their_rules(path):
    (found,) = json.loads(policyfs("policy", "test", path, "--json").stdout)
    assert found["failed"] == 0
    assert found["uncovered"] == []
    assert found["requests"] >= 15

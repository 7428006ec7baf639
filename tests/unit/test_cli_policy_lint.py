"""policy lint, as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.mount.daemons import policyfs

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
rules:
  - {id: look, allow: [see, read], who: {app: any}, paths: "/DCIM/**"}
"""


NOTE = (
    "note: in a shared mount each stat asks the daemon where callers get different names (rules: look); in"
    " app mounts the kernel keeps the names\n"
)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(POLICY)
    return path


def test_a_policy_without_findings(policy):
    said = policyfs("policy", "lint", policy)
    assert (said.returncode, said.stdout) == (0, f"{NOTE}{policy}: no findings\n")


def test_a_note_of_what_rules_cost_is_no_finding(policy):
    said = policyfs("policy", "lint", "--json", policy)
    (found,) = json.loads(said.stdout)
    assert (said.returncode, found["findings"]) == (0, [])
    assert found["not_kept"] == {"names": ["look"], "files": []}


def test_findings_and_the_exit_code(policy):
    policy.write_text(POLICY.replace("who: {app: any}, ", ""))
    said = policyfs("policy", "lint", policy)
    assert said.returncode == 1
    assert said.stdout.startswith(f"{policy}:6:5: strangers: rule look: ")
    assert said.stdout.endswith(f"{policy}: 1 finding\n")
    (found,) = json.loads(policyfs("policy", "lint", "--json", policy).stdout)
    assert [one["id"] for one in found["findings"]] == ["strangers"]


def test_silenced_findings(policy):
    text = POLICY.replace("who: {app: any}, ", "")
    policy.write_text(text.rstrip() + "  # lint: ignore strangers because it is a kiosk\n")
    said = policyfs("policy", "lint", policy)
    assert (said.returncode, said.stdout) == (0, f"{policy}: no findings, 1 silenced\n")
    (found,) = json.loads(policyfs("policy", "lint", "--json", policy).stdout)
    assert [one["because"] for one in found["silenced"]] == ["it is a kiosk"]


def test_a_policy_that_does_not_compile(policy, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(POLICY.replace("allow", "alow"))
    said = policyfs("policy", "lint", bad, policy)
    assert said.returncode == 3
    assert f"{policy}: no findings" in said.stdout
    assert policyfs("policy", "lint", tmp_path / "absent.yaml").returncode == 3


def test_paths_that_the_store_does_not_have(policy, tmp_path):
    store = tmp_path / "store"
    (store / "DCIM").mkdir(parents=True)
    assert policyfs("policy", "lint", policy, "--store", store).returncode == 0
    policy.write_text(POLICY.replace("/DCIM/**", "/DCIM/Camera/**"))
    said = policyfs("policy", "lint", policy, "--store", store)
    assert said.returncode == 1
    assert f"not-in-store: rule look: /DCIM/Camera/**: {store} has no /DCIM/Camera" in said.stdout
    assert policyfs("policy", "lint", policy, "--store", tmp_path / "absent").returncode == 1


def test_names_in_another_form_in_the_store(policy, tmp_path):
    store = tmp_path / "store"
    (store / "dcim").mkdir(parents=True)
    said = policyfs("policy", "lint", policy, "--store", store)
    assert f'/DCIM/**: {store} has no /DCIM, but has "/dcim"' in said.stdout
    (store / "DCIM").mkdir()
    policy.write_text(POLICY + '  - {id: no, deny: [read], paths: "/DCIM/**"}\n')
    said = policyfs("policy", "lint", policy, "--store", store)
    assert 'spelling: rule no: "/DCIM/**" does not match "/dcim" in the store' in said.stdout

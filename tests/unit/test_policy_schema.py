"""The JSON Schemas accept what policyfs accepts, and mark the plain faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from policyfs.policy.schema import KINDS, schema
from tests.support.machine.documents import CHECKOUT
from tests.support.models.json_schema import faults
from tests.support.mount.daemons import policyfs

ERRORS = Path(__file__).parent / "policy_errors"
SOUND = [
    *sorted((CHECKOUT / "policies").rglob("*.yaml")),
    *sorted((CHECKOUT / "tests/unit/policy_lint").glob("*.yaml")),
    *sorted((CHECKOUT / "tests/unit/policy_diffs").rglob("*.yaml")),
]


def loaded(path: Path) -> dict:
    yaml = YAML(typ="safe", pure=True)
    # to YAML 1.2, and so to editors, a date is text
    dates = {"tag:yaml.org,2002:timestamp": lambda _, node: node.value}
    yaml.constructor.yaml_constructors = yaml.constructor.yaml_constructors | dates
    return yaml.load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", SOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_policyfs_accepts_is_accepted(path):
    value = loaded(path)
    assert faults(schema(value["kind"]), value) == []


@pytest.mark.parametrize("name", ["unknown-keys", "invariants"])
def test_faults_of_form_are_marked(name):
    assert faults(schema(), loaded(ERRORS / f"{name}.yaml"))


@pytest.mark.parametrize(
    ("rule", "fine"),
    [
        ({"id": "a", "allow": "see", "paths": "/a"}, True),
        ({"id": "a", "allow": ["see", "read"], "paths": ["/a", "@set"], "unless": [{"owner": "self"}]}, True),
        ({"id": "a", "require": {"redact": "location"}, "raw_types": "text/plain"}, True),
        ({"allow": "see"}, False),
        ({"id": "a", "allow": "eat"}, False),
        ({"id": "a", "allow": []}, False),
        ({"id": "a", "alow": "see"}, False),
        ({"id": "a", "allow": "see", "paths": "a"}, False),
        ({"id": "a", "allow": "see", "who": {"uid": "7-9", "not": {"app": "a"}}}, True),
        ({"id": "a", "allow": "see", "who": {"uid": "seven"}}, False),
        ({"id": "a", "allow": "see", "paths": None}, False),
    ],
)
def test_rules(rule, fine):
    policy = {"apiVersion": "policyfs/v1", "kind": "Policy", "rules": [rule]}
    assert (faults(schema(), policy) == []) == fine


@pytest.mark.parametrize("kind", KINDS)
def test_the_command(kind):
    said = policyfs("policy", "schema", kind)
    assert said.returncode == 0
    assert f'"title": "policyfs {kind}"' in said.stdout
    assert policyfs("policy", "schema", "Polici").returncode == 2


def test_the_shipped_schema_is_what_the_code_says():
    """If not: make docs."""
    shipped = CHECKOUT / "policies/policyfs.schema.json"
    assert shipped.read_text("utf-8") == policyfs("policy", "schema").stdout


@pytest.mark.parametrize("path", sorted((CHECKOUT / "policies").glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_policies_name_it_for_editors(path):
    assert path.read_text("utf-8").startswith("# yaml-language-server: $schema=policyfs.schema.json\n")

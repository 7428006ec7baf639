"""`policyfs policy matrix`: golden outputs of the shipped policies, widths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.machine.documents import CHECKOUT
from tests.support.machine.golden import assert_golden
from tests.support.mount.daemons import policyfs

GOLDEN = CHECKOUT / "tests/unit/policy_matrices"
SHIPPED = sorted((CHECKOUT / "policies").glob("*.yaml"))
FAMILY = CHECKOUT / "policies/family-photos.yaml"


@pytest.mark.parametrize("policy", SHIPPED, ids=lambda path: path.stem)
def test_the_matrix_of_a_shipped_policy(policy: Path) -> None:
    said = policyfs("policy", "matrix", policy, "--width", "100")
    assert said.returncode == 0, said
    assert_golden(GOLDEN / f"{policy.stem}.txt", said.stdout)


@pytest.mark.parametrize("width", [30, 46, 80])
def test_it_fits_the_width(width: int) -> None:
    said = policyfs("policy", "matrix", FAMILY, "--width", str(width))
    rows = said.stdout.split("\ns see, ")[0].splitlines()
    assert max(map(len, rows)) <= width
    for name in ("camera", "gallery", "maps", "player", "backup", "stranger"):
        assert sum(f" {name}" in row for row in rows) == 1


def test_as_json() -> None:
    found = json.loads(policyfs("policy", "matrix", FAMILY, "--json").stdout)
    assert found["callers"][-1] == "stranger"
    [row] = [row for row in found["rows"] if row["paths"] == [["/DCIM/**"]]]
    gallery = row["callers"]["gallery"]
    assert gallery["text"] == ["sR", "own:sr"]
    other = {"kind": "other", "owner": "other", "operations": ["see", "read"], "checked": []}
    assert gallery["files"][0][0] == other | {"removed": ["location"]}


def test_errors_of_the_policy_are_printed(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("apiVersion: policyfs/v1\nkind: Policy\nrules: [{id: a, allow: [sea]}]\n")
    said = policyfs("policy", "matrix", bad)
    assert said.returncode == 3
    assert f"{bad}:3:" in said.stderr


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--width", "0"), 2, "such as 9"),
    ],
)
def test_what_goes_wrong(options: tuple[str, ...], code: int, message: str) -> None:
    said = policyfs("policy", "matrix", FAMILY, *options)
    assert said.returncode == code
    assert message in said.stderr


def test_a_policy_with_too_many_sorts_of_paths(tmp_path: Path) -> None:
    hard = CHECKOUT / "tests/unit/policy_lint/not-searched.yaml"
    said = policyfs("policy", "matrix", hard)
    assert said.returncode == 1
    assert "too many different paths" in said.stderr

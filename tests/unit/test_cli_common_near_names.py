"""Names in a store that a glob means, but does not match."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.common.near_names import near_names
from tests.support.models.whole_policies import policy_of

COMPOSED, DECOMPOSED = "Priv\u00e9", "Prive\u0301"


@pytest.mark.parametrize(
    ("rule", "names", "found"),
    [
        (f"deny: [see], paths: '/{COMPOSED}/***'", [COMPOSED], []),
        (f"deny: [see], paths: '/{COMPOSED}/***'", [COMPOSED, DECOMPOSED], [DECOMPOSED]),
        (f"deny: [see], paths: '/{DECOMPOSED}/***'", [COMPOSED], [COMPOSED]),
        (f"deny: [see], paths: ['/{COMPOSED}/***', '/{DECOMPOSED}/***']", [DECOMPOSED], []),
        (f"allow: [see], who: {{app: any}}, paths: '/{COMPOSED}/***'", [COMPOSED, DECOMPOSED], []),
        (f"allow: [see], who: {{app: any}}, paths: '/{COMPOSED}/***'", [DECOMPOSED], [DECOMPOSED]),
        ("deny: [see], paths: '/private/***'", ["Private", "private"], ["Private"]),
        ("deny: [see], paths: '/private/***', ignore_case: true", ["Private"], []),
        ("deny: [see], paths: '/*/***'", ["Private"], []),
        ("deny: [see], paths: '/private/***'", ["other"], []),
    ],
)
def test_near_names(tmp_path: Path, rule: str, names: list[str], found: list[str]) -> None:
    for name in names:
        (tmp_path / name).mkdir()
    said = list(near_names(policy_of(f"- {{id: r, {rule}}}\n"), str(tmp_path)))
    assert [one.path for one in said] == [f"/{name}" for name in found]


def test_a_name_below_another_directory(tmp_path: Path) -> None:
    (tmp_path / "Photos" / DECOMPOSED).mkdir(parents=True)
    policy = policy_of(f"- {{id: r, deny: [see], paths: '/Photos/{COMPOSED}/**'}}\n")
    (near,) = near_names(policy, str(tmp_path))
    assert near.missing
    assert near.message == (
        '"/Photos/Priv\\u00e9/**" does not match "/Photos/Prive\\u0301" in the store'
    )

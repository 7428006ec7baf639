"""What the kernel of a shared mount keeps of a path, in words."""

from __future__ import annotations

import pytest

from policyfs.domain import FileType
from policyfs.policy.decide import Engine
from policyfs.policy.explain.kept import kept_by_kernel
from tests.support.models.policies import engine_of

RULES = """\
- {id: a, allow: [all]}
- {id: d, deny: [see], who: {app: maps}, paths: "/a/b/**"}
- {id: w, deny: [write], who: {app: maps}, paths: "/w/**"}
- {id: r, require: {redact: [location]}, who: {app: maps}, paths: "/p/**"}
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return engine_of(RULES)


HERE = "keeps the name and the attributes: either all callers see this path, or none"
ALL = "keeps the name, the attributes and the listing: no rule distinguishes callers here or below"
NO_LISTING = "keeps the name and the attributes, not the listing: not all callers see all names (rules: d)"
NO_NAME = (
    "keeps the attributes, and asks the daemon for the name each time: not all callers have the same view"
)


@pytest.mark.parametrize(
    ("path", "ftype", "said"),
    [
        ("/x", FileType.REGULAR, HERE),
        ("/w/x", FileType.REGULAR, HERE),
        ("/x", FileType.DIRECTORY, ALL),
        ("/a/b", FileType.DIRECTORY, NO_LISTING),
        ("/a/b/c", FileType.REGULAR, "asks the daemon each time: not all callers see this path (rules: d)"),
        ("/p/c", FileType.REGULAR, f"{NO_NAME} (rules: r)"),
    ],
)
def test_what_is_kept_and_why_the_rest_is_not(engine: Engine, path: str, ftype: FileType, said: str) -> None:
    assert kept_by_kernel(engine, engine.state_of(path.encode()), ftype) == said


def test_only_some_of_many_rules_are_named() -> None:
    many = "".join(f"- {{id: d{n}, deny: [see], who: {{app: maps}}, paths: '/x'}}\n" for n in range(5))
    engine = engine_of(RULES + many)
    said = kept_by_kernel(engine, engine.state_of(b"/x"), FileType.REGULAR)
    assert said.endswith("(rules: d0, d1, d2 and 2 more)")


def test_under_a_dry_run_nothing_is_kept() -> None:
    engine = engine_of(RULES, monitor=True)
    assert "--monitor" in kept_by_kernel(engine, engine.state_of(b"/x"), FileType.REGULAR)

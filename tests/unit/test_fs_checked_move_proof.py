"""Moves that depend on a kind: EXDEV unless the kind is proven, and nothing is asked in one path class."""

from __future__ import annotations

import errno

import pytest

from policyfs.domain import Facts, FileType
from policyfs.fs.access.kind_proof import KindEvidence
from policyfs.fs.checked.move_proof import ELSEWHERE, Source, decide_link, decide_rename, elsewhere
from policyfs.policy.decide import End, Engine, PathState
from policyfs.policy.moves.losses import rules_that_hide
from tests.support.models.policies import engine_of

RULES = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: texts, deny: [write, create], who: {app: any}, paths: "/photos/**", unless: {type: image/jpeg}}
"""
ENGINE = engine_of(RULES)
WHO = ENGINE.principal(10010)


def state(path: str, engine: Engine = ENGINE) -> PathState:
    return engine.state_of(path.encode())


def source(
    path: str, *, kind: str | None = "image/jpeg", asked: bool = True, settled: bool = False
) -> Source:
    """A file whose kind was found without a lease."""
    evidence = KindEvidence()
    evidence.asked = asked
    return Source(End(state(path), FileType.REGULAR, Facts(kind, "none")), evidence, settled)


def renamed(moved: Source, to: str, there: Source | None = None, *, exchange: bool = False) -> int:
    return decide_rename(ENGINE, WHO, moved, state(to), there, exchange=exchange, same_directory=False).errno


@pytest.mark.parametrize(
    ("moved", "to", "code"),
    [
        (source("/a.jpg"), "/photos/a.jpg", errno.EXDEV),
        (source("/a.jpg", settled=True), "/photos/a.jpg", 0),
        (source("/a.jpg", asked=False), "/photos/a.jpg", 0),
        (source("/a.jpg"), "/b.jpg", 0),
        (source("/photos/a.jpg"), "/photos/b.jpg", 0),
        (source("/a.jpg", kind="text/plain", settled=True), "/photos/a.jpg", errno.EACCES),
        (source("/a.jpg", kind="text/plain"), "/photos/a.jpg", errno.EACCES),
    ],
)
def test_a_rename_that_depends_on_an_unproven_kind_is_made_by_a_copy(
    moved: Source, to: str, code: int
) -> None:
    assert renamed(moved, to) == code
    link = decide_link(ENGINE, WHO, moved, state(to), same_directory=False).errno
    assert (link == 0) == (code == 0)


def test_in_an_exchange_both_kinds_must_be_proven() -> None:
    proven, doubted = source("/photos/a.jpg", settled=True), source("/b.jpg")
    assert renamed(proven, "/b.jpg", doubted, exchange=True) == errno.EXDEV
    assert renamed(proven, "/b.jpg", source("/b.jpg", settled=True), exchange=True) == 0
    assert renamed(doubted, "/photos/a.jpg", proven, exchange=True) == errno.EXDEV
    # a file that is replaced goes nowhere
    assert renamed(source("/a.jpg", settled=True), "/b.jpg", doubted) == 0


def test_what_is_elsewhere_may_be_copied() -> None:
    assert (ELSEWHERE.allowed, ELSEWHERE.errno) == (False, errno.EXDEV)


REDACTING = engine_of(
    RULES + "- {id: places, require: {redact: location}, raw_types: [text/csv], unless: {owner: camera}}\n"
)


@pytest.mark.parametrize(
    ("kind", "owner", "settled", "code"),
    [
        ("image/jpeg", "none", True, 0),
        ("image/jpeg", "none", False, errno.EACCES),
        ("image/jpeg", "camera", False, errno.EXDEV),
    ],
)
def test_an_unproven_kind_makes_nobody_copy_what_is_hidden(
    kind: str, owner: str, settled: bool, code: int
) -> None:
    """The app could read the file redacted by the time that mv copies it."""
    file = source("/a.jpg", kind=kind, settled=settled)
    moved = file._replace(end=End(state("/a.jpg", REDACTING), FileType.REGULAR, Facts(kind, owner)))
    to = state("/photos/a.jpg", REDACTING)
    decision = decide_rename(
        REDACTING, REDACTING.principal(10010), moved, to, None, exchange=False, same_directory=False
    )
    assert decision.errno == code
    assert rules_that_hide(decision) == (("places",) if code == errno.EACCES else ())


@pytest.mark.parametrize(("settled", "code"), [(True, errno.EXDEV), (False, errno.EACCES)])
def test_a_file_that_may_become_a_photo_is_not_copied_as_a_raw_kind(settled: bool, code: int) -> None:
    moved = source("/a.csv", kind="text/csv", settled=settled)
    moved = moved._replace(end=moved.end._replace(state=state("/a.csv", REDACTING)))
    there = source("/b.csv", kind="text/csv", settled=True)
    there = there._replace(end=there.end._replace(state=state("/b.csv", REDACTING)))
    who, to = REDACTING.principal(10010), state("/photos/a.csv", REDACTING)
    for exchange in (False, True):
        decision = elsewhere(REDACTING, who, moved, to, there, exchange=exchange)
        assert decision.errno == code
    doubted = there._replace(settled=False)
    assert elsewhere(REDACTING, who, moved, to, doubted, exchange=True).errno == errno.EACCES
    assert elsewhere(REDACTING, who, moved, to, doubted, exchange=False).errno == code


def test_without_its_kind_the_other_facts_of_an_end_stay() -> None:
    there = state("/photos/a.jpg")
    doubted = source("/a.jpg").without_kind(there)
    assert doubted is not None
    assert (doubted.state, doubted.facts) == (state("/a.jpg"), Facts(None, "none"))
    assert source("/a.jpg").without_kind(state("/a.jpg")) is None
    assert source("/a.jpg", settled=True).without_kind(there) is None

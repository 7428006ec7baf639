"""Uids by how names read them."""

from __future__ import annotations

import pytest

from policyfs.policy.analysis.uids import digit_classes
from policyfs.policy.globs.automaton import Automaton, AutomatonBuilder
from policyfs.policy.globs.classes import TooHardError
from policyfs.policy.globs.paths import parse_glob

ALL = [(0, 2**32 - 1)]


def automaton_of(*globs: str) -> Automaton:
    builder = AutomatonBuilder(frozenset())
    for number, glob in enumerate(globs):
        builder.add(parse_glob(glob), number, folded=False)
    return builder.build()


def uids(*globs: str, spans=ALL) -> set[int]:
    return {uid for uid, _ in digit_classes([automaton_of(*globs)], spans)}


def test_without_digits_in_names_one_is_enough():
    assert len(uids("/u/{uid}/**", "/u/a*", "/b")) == 1


def test_literal_numbers_and_patterns_are_told_apart():
    found = uids("/u/{uid}", "/u/1001", "/u/20*")
    assert 1001 in found
    assert any(str(uid).startswith("20") for uid in found)
    assert any(not str(uid).startswith(("1001", "20")) for uid in found)


def test_only_uids_in_the_spans():
    found = uids("/u/{uid}", "/u/20*", spans=[(1990, 2010), (5, 6)])
    assert found <= {5, *range(1990, 2010)}
    assert len({uid // 100 == 20 for uid in found}) == 2


def test_lengths_count_where_a_glob_counts():
    assert {len(str(uid)) for uid in uids("/u/{uid}", "/u/???")} >= {1, 2, 3, 4}


def test_beside_other_text_digits_are_read_from_anywhere():
    found = uids("/u/x{uid}", "/u/x17*", "/u/*{uid}")
    assert any(str(uid).startswith("17") for uid in found)


def test_too_many_are_said():
    with pytest.raises(TooHardError):
        uids("/u/x{uid}", *(f"/u/a{number}" for number in range(100, 250)))

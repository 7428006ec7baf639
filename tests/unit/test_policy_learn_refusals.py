"""Refused operations by path."""

from __future__ import annotations

import pytest

from policyfs.domain import Op
from policyfs.policy.learn import refusals as module
from policyfs.policy.learn.refusals import Refusals


def test_a_refused_see_hides_all_below():
    refusals = Refusals()
    refusals.add(b"/D/x", Op.SEE)
    refusals.add(b"/D/y", Op.SEE | Op.READ)
    assert refusals.of(("D",)) == Op(0)
    assert refusals.of(("D", "x")) == refusals.of(("D", "x", "deep", "er")) == Op.ALL
    assert refusals.of(("D", "y")) == Op.READ
    assert refusals.of(("D", "y", "z")) == Op(0)


def test_the_root_is_never_hidden():
    refusals = Refusals()
    refusals.add(b"/", Op.SEE)
    assert not refusals.hides(())
    assert refusals.of(("D",)) == Op(0)


def test_a_name_that_is_no_text_stands_for_all_names_like_it():
    refusals = Refusals()
    refusals.add(b"/D/\xff\x01.jpg", Op.READ)
    assert list(refusals.paths) == [("D", "\0\0.jpg")]
    assert refusals.of(("D", "ab.jpg")) == Op.READ
    assert refusals.of(("D", "a.jpg")) == refusals.of(("E", "ab.jpg")) == Op(0)


def test_too_many_paths_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MOST", 2)
    refusals = Refusals()
    for number in range(4):
        refusals.add(b"/D/\xff%d" % number, Op.READ)
    assert refusals.too_many and not refusals.paths
    assert refusals.of(("D", "a1")) == Op(0)

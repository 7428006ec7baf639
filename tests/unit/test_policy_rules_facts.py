"""Conditions on facts, in three values."""

from __future__ import annotations

import pytest

from policyfs.domain import KIND_DIRECTORY, KIND_EMPTY, Facts, FileType, ban
from policyfs.policy.rules.facts import NOT, Kinds, Truth, content_met, fixed_facts, sample_facts

NO, UNKNOWN, YES = Truth.NO, Truth.UNKNOWN, Truth.YES


@pytest.mark.parametrize(
    ("names", "kind", "truth"),
    [
        ({"image/jpeg"}, "image/jpeg", YES),
        ({"image/jpeg"}, "image/jpegx", NO),
        ({"image/jpeg"}, None, UNKNOWN),
        ({"image/*"}, "image/png", YES),
        ({"image/*"}, "imagex/png", NO),
        ({"image/*"}, "image", NO),
        ({"image/*", "text/plain"}, "text/plain", YES),
        ({"*"}, None, YES),
        ({"*/*"}, KIND_DIRECTORY, YES),
        ({KIND_DIRECTORY}, KIND_DIRECTORY, YES),
        ({KIND_DIRECTORY}, None, NO),
        ({KIND_DIRECTORY, "image/png"}, None, UNKNOWN),
        (set(), None, NO),
        (set(), "image/png", NO),
    ],
)
def test_kinds(names, kind, truth):
    assert Kinds(frozenset(names)).hold(kind) is truth


def test_not_is_its_own_inverse():
    assert [NOT[truth] for truth in (NO, UNKNOWN, YES)] == [YES, UNKNOWN, NO]
    assert all(NOT[NOT[truth]] is truth for truth in Truth)


@pytest.mark.parametrize(
    ("ftype", "kind"),
    [
        (FileType.DIRECTORY, KIND_DIRECTORY),
        (FileType.SYMLINK, "inode/symlink"),
        (FileType.REGULAR, "image/png"),
    ],
)
def test_a_directory_has_one_kind(ftype, kind):
    assert fixed_facts(ftype, Facts("image/png", "camera")) == Facts(kind, "camera")


def test_samples_are_of_every_sort():
    kinds = [Kinds(frozenset({"image/*", "text/plain", KIND_DIRECTORY}))]
    facts = sample_facts(kinds, {"camera"}, FileType.REGULAR, unknown=True)
    assert {one.owner for one in facts} >= {"camera", "none", None}
    assert len({one.owner for one in facts}) == 4
    seen = {one.kind for one in facts}
    assert {"text/plain", KIND_EMPTY, None} <= seen
    assert KIND_DIRECTORY not in seen
    held = {kinds[0].hold(kind) for kind in seen}
    assert held == {NO, UNKNOWN, YES}
    assert None not in {one.kind for one in sample_facts(kinds, set(), FileType.REGULAR, unknown=False)}
    assert {one.kind for one in sample_facts(kinds, set(), FileType.DIRECTORY, unknown=True)} == {
        KIND_DIRECTORY
    }


PHOTOS, NO_PLACE = frozenset({"image/*"}), frozenset({ban(frozenset({"location"})), "text/plain"})


@pytest.mark.parametrize(
    ("content", "facts", "met"),
    [
        ((), Facts(), True),
        ((PHOTOS,), Facts("image/png"), True),
        ((PHOTOS,), Facts("text/plain"), False),
        ((PHOTOS,), Facts(None), False),
        ((PHOTOS,), Facts(KIND_EMPTY), True),
        ((NO_PLACE,), Facts("image/png"), False),
        ((NO_PLACE,), Facts("image/png", None, frozenset({"location"})), True),
        ((NO_PLACE,), Facts(None, None, frozenset({"location", "time"})), True),
        ((NO_PLACE,), Facts("image/png", None, frozenset({"time"})), False),
        ((NO_PLACE,), Facts("text/plain"), True),
        ((PHOTOS, NO_PLACE), Facts("text/plain", None, frozenset({"location"})), False),
        ((PHOTOS, NO_PLACE), Facts("image/png", None, frozenset({"location"})), True),
    ],
)
def test_content(content, facts, met):
    assert content_met(content, facts) is met

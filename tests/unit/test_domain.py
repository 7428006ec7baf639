"""The words of policyfs: bans, views, patches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import (
    DENY_UNKNOWN,
    REDACTIONS,
    Decision,
    Patch,
    Principal,
    View,
    ban,
    banned,
    cleaning,
    in_turn,
    kinds_only,
    only_forbidden,
    to_clean,
)

WORDS = st.frozensets(st.sampled_from([*sorted(REDACTIONS), DENY_UNKNOWN]), min_size=1)


@given(WORDS, WORDS)
def test_bans_and_cleanings_are_read_as_they_were_written(forbidden, removed):
    content = (frozenset({ban(forbidden), "text/plain"}), frozenset({cleaning(removed)}))
    words = banned(content)
    assert to_clean(words) == removed
    assert words - {f"clean {word}" for word in removed} == forbidden
    assert kinds_only((*content, frozenset({"image/*"}))) == (frozenset({"image/*"}),)


@pytest.mark.parametrize(
    ("words", "cleaned_of", "left"),
    [
        ({"location"}, set(), {"location"}),
        ({"location"}, {"location"}, set()),
        ({"location", "time"}, {"time"}, {"location"}),
        ({DENY_UNKNOWN}, set(), set()),
        ({DENY_UNKNOWN, "location"}, set(), {DENY_UNKNOWN, "location"}),
        ({DENY_UNKNOWN, "location"}, {"location"}, set()),
        ({"clean location"}, set(), set()),
        (set(), {"location"}, set()),
    ],
)
def test_what_still_forbids_a_cleaned_file(words, cleaned_of, left):
    assert only_forbidden(words, frozenset(cleaned_of)) == left


@pytest.mark.parametrize(
    ("view", "label", "raw"),
    [
        (View(0, frozenset(), False), "raw", True),
        (View(1, frozenset({"time", "location"}), False), "redacted(location,time)", False),
        (View(2, frozenset(), True), "checked", False),
        (View(3, frozenset({"time"}), True), "checked+redacted(time)", False),
    ],
)
def test_labels_of_views(view, label, raw):
    assert view.label == label
    assert view.raw is raw


@pytest.mark.parametrize(
    ("app", "differ", "lane", "label"),
    [
        ("camera", False, "camera", "camera"),
        ("camera", True, ("camera", 7), "camera"),
        (None, False, 7, "stranger"),
    ],
)
def test_labels_of_principals(app, differ, lane, label):
    assert Principal(1, app, 7, differ).lane == lane
    assert Principal(1, app, 7, differ).label == label
    assert in_turn(lane) == (app or 7)


def test_what_is_banned_is_judged_as_a_whole():
    assert not Decision(True, 0, content=(frozenset({"image/*"}),)).in_draft
    assert Decision(True, 0, content=(frozenset({ban(frozenset({"time"}))}),)).in_draft
    assert Decision(True, 0, content=(frozenset({"image/*"}),), quarantine=True).in_draft


@pytest.mark.parametrize("patch", [Patch(10, b"abcd"), Patch(10, zeros=4)])
def test_patches(patch):
    whole = patch.data or bytes(4)
    assert (patch.size, patch.end) == (4, 14)
    assert patch.part(10, 14) == whole
    assert patch.part(11, 13) == whole[1:3]
    assert patch.part(12, 12) == b""
    moved = patch.shifted(5)
    assert (moved.offset, moved.end, moved.part(15, 19)) == (15, 19, whole)

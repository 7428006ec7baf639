"""Matching of names: many patterns at once, one alone, and captures."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.policy.globs.names import (
    FREE,
    Bind,
    Captured,
    NameMatcher,
    Pattern,
    ascii_lower,
    bits_of,
    bytes_of,
    is_uid,
    matches,
    text_of,
    uids_in,
)
from policyfs.policy.globs.paths import Wild, parse_glob

APPS = frozenset({"camera", "maps", "gallery"})


def test_names_go_there_and_back():
    for name in (b"a", "é🙂".encode(), b"\xff\xfe", b"\xed\xa0\x80", b"a\nb"):
        assert bytes_of(text_of(name)) == name
    assert ascii_lower("AZaz@[É") == "azaz@[É"


def test_the_matcher_agrees_with_itself_one_by_one():
    texts = ["*a", "a*", "*a*b*", "?", "??", "a?b", "*?*", "a*a*a", "*ab"]
    patterns = [
        Pattern(parse_glob("/" + text).segments[0].variants[0], fold)
        for text in texts
        for fold in (False, True)
    ]
    matcher = NameMatcher(patterns)
    start = matcher.start(patterns)
    for word in ["", "a", "b", "A", "ab", "aB", "aab", "axb", "aaa", "abab", "ba", "é", "aéa"]:
        both = set(matcher.accepted(matcher.run(start, word)))
        assert both == {pattern for pattern in patterns if matches(pattern, word)}, word


def test_a_run_is_only_about_the_patterns_it_starts_with():
    one, other = Pattern(("a", Wild.RUN), False), Pattern((Wild.RUN,), False)
    matcher = NameMatcher([one, other])
    assert list(matcher.accepted(matcher.run(matcher.start([one]), "ab"))) == [one]


def test_no_pattern_makes_matching_explode():
    stars = Pattern(tuple(token for _ in range(60) for token in ("a", Wild.RUN)), False)
    matcher = NameMatcher([stars])
    name = "a" * 250 + "b"
    assert list(matcher.accepted(matcher.run(matcher.start([stars]), name))) == [stars]
    ended = Pattern((*stars.tokens, "c"), False)
    assert not matches(ended, name)


@pytest.mark.parametrize("text", ["0", "7", "4294967294"])
def test_uids_as_captures_write_them(text):
    assert is_uid(text)


@pytest.mark.parametrize("text", ["", "07", "-1", "4294967295", "4294967296", "٣", "1e3", "12345678901"])
def test_what_is_no_uid(text):
    assert not is_uid(text)


def test_captures_inside_a_name_fit_every_caller_they_could_name():
    bind = Captured((Wild.RUN, Wild.APP, Wild.RUN), False).bind("xcameramapsx", FREE, APPS)
    assert bind is not None
    assert {app for app in APPS if bind.fits(app, 7)} == {"camera", "maps"}


@pytest.mark.parametrize(
    ("tokens", "text", "bind"),
    [
        ((Wild.UID,), "7", Bind(None, 7)),
        ((Wild.UID,), "07", None),
        (("x", Wild.UID, Wild.ONE), "x7y", Bind(None, 7)),
        (("x", Wild.UID, Wild.ONE), "y7y", None),
        (("x", Wild.UID, Wild.ONE), "xy", None),
        (("X", Wild.APP), "Xmaps", Bind("maps", None)),
        (("X", Wild.APP), "Xmap", None),
    ],
)
def test_a_capture_beside_no_run_names_one_value(tokens, text, bind):
    assert Captured(tokens, False).bind(text, FREE, APPS) == bind


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("text", ["a7-77b", "7", "x", "77", "maps-7", "MAPS7", "a-maps-10"])
@pytest.mark.parametrize(
    "row",
    [
        (Wild.RUN, Wild.UID),
        (Wild.RUN, Wild.UID, Wild.RUN),
        (Wild.UID, Wild.RUN, Wild.UID),
        (Wild.RUN, Wild.ONE, Wild.UID, "b"),
        (Wild.APP, Wild.RUN, Wild.UID),
        ("M", Wild.RUN, Wild.UID),
    ],
)
def test_requirements_are_met_by_those_for_whom_the_name_matches(row, text, folded):
    captured = Captured(row, folded)
    bind = captured.bind(text, FREE, APPS)
    for app in APPS:
        for uid in (0, 1, 7, 10, 77, 777):
            wanted = matches(captured.filled(Bind(app, uid)), text)
            assert (bind is not None and bind.fits(app, uid)) == wanted


def test_uids_written_in_a_text():
    assert uids_in("a10b07", 8) == {10, 1, 0, 7}
    assert uids_in("a10b07", 3) is None
    assert uids_in("".join(map(str, range(100, 185))), 64) is None


TOKENS = st.lists(st.sampled_from(["a", "B", "1", ".", Wild.ONE, Wild.RUN]), max_size=6).map(tuple)


@given(st.lists(st.builds(Pattern, TOKENS, st.booleans()), max_size=6), st.text("aAbB1.", max_size=7))
def test_matching_is_that_of_regular_expressions(patterns, text):
    def expected(pattern: Pattern) -> bool:
        signs = {Wild.ONE: ".", Wild.RUN: ".*"}
        row = "".join(signs[token] if token in signs else re.escape(token) for token in pattern.tokens)
        flags = re.DOTALL | (re.IGNORECASE if pattern.folded else 0)
        return re.fullmatch(row, text, flags) is not None

    matcher = NameMatcher(patterns)
    found = set(matcher.accepted(matcher.run(matcher.start(patterns), text)))
    assert found == {pattern for pattern in patterns if expected(pattern)}
    assert {pattern for pattern in patterns if matches(pattern, text)} == found
    live = matcher.start(patterns)
    for char in text:
        live = matcher.step(live, char)
    assert set(matcher.accepted(live)) == found


@given(st.sets(st.integers(0, 300)))
def test_bits_are_found_in_their_order(positions):
    assert list(bits_of(sum(1 << at for at in positions))) == sorted(positions)


@pytest.mark.parametrize(("text", "lower"), [("AZaz09", "azaz09"), ("ÄÉİ", "ÄÉİ"), ("[@`{", "[@`{")])
def test_lower_case_is_for_ascii(text, lower):
    assert ascii_lower(text) == lower


@pytest.mark.parametrize(
    ("bind", "app", "uid", "fits"),
    [
        (FREE, "camera", 5, True),
        (Bind("camera", None), "camera", 5, True),
        (Bind("camera", None), "maps", 5, False),
        (Bind(None, 5), "maps", 5, True),
        (Bind(None, 5), "maps", 6, False),
        (Bind(None, 5), "maps", None, False),
        (Bind("camera", 5), "camera", 6, False),
        (Bind("camera", 5), "camera", 5, True),
    ],
)
def test_requirements(bind, app, uid, fits):
    assert bind.fits(app, uid) is fits


def test_weaker_requirements():
    some = frozenset({(Captured((Wild.UID,), False), "5")})
    weaker = set(Bind("a", 5, some).weaker())
    assert len(weaker) == 7
    assert {Bind(None, None), Bind("a", None, some), Bind(None, 5)} <= weaker
    assert list(FREE.weaker()) == []


@pytest.mark.parametrize(
    ("text", "uid"),
    [("0", True), ("10010", True), ("4294967294", True), ("4294967295", False), ("00", False), ("", False)],
)
def test_the_bounds_of_uids(text, uid):
    if text:
        assert is_uid(text) is uid
    assert uids_in("a" + text + "b", 100) is not None

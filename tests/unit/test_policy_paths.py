"""Path globs: what they match, and what is said of those that cannot be read."""

from __future__ import annotations

import pytest

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.decide import compile_policy
from policyfs.policy.model import Effect
from policyfs.policy.names import (
    FREE,
    Bind,
    Captured,
    NameMatcher,
    Pattern,
    ascii_lower,
    bytes_of,
    is_uid,
    matches,
    text_of,
    uids_in,
)
from policyfs.policy.paths import DEEP, End, GlobError, Segment, Wild, parse_glob
from tests.support.policy_cases import plain, policy


def hits(glob: str, path: str | bytes, *, ignore_case: bool = False) -> bool:
    """Whether a file at this path matches, through the whole engine; asked by app ``a``, uid 7."""
    engine = compile_policy(policy(plain(1, Effect.ALLOW, (glob,), ignore_case=ignore_case)))
    raw = path if isinstance(path, bytes) else path.encode()
    state = engine.state_of(raw)
    if raw == b"/":
        # the root is seen in any case: ask what only the rule can allow
        return engine.decide(engine.principal(7), Op.ATTR, state, FileType.DIRECTORY, Facts()).allowed
    return engine.decide(engine.principal(7), Op.SEE, state, FileType.REGULAR, Facts()).allowed


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        ("/", ["/"], ["/a"]),
        ("/**", ["/a", "/a/b/c"], ["/"]),
        ("/***", ["/", "/a", "/a/b/c"], []),
        ("/DCIM/**", ["/DCIM/a", "/DCIM/a/b"], ["/DCIM", "/DCIMx", "/DCIMx/a"]),
        ("/DCIM/***", ["/DCIM", "/DCIM/a", "/DCIM/a/b"], ["/", "/DCIM2"]),
        ("/DCIM/*", ["/DCIM/a", "/DCIM/.hidden"], ["/DCIM", "/DCIM/a/b"]),
        ("/a/**/b", ["/a/b", "/a/x/b", "/a/x/y/b", "/a/b/b"], ["/b", "/a", "/a/b/c", "/x/a/b"]),
        ("/**/b", ["/b", "/x/b", "/x/y/b"], ["/", "/b/x"]),
        ("/**/b/**", ["/b/x", "/x/b/y", "/b/b"], ["/b", "/x/b"]),
        ("/**/***", ["/", "/a", "/a/b"], []),
        ("/**/**", ["/a", "/a/b"], ["/"]),
        ("/*.jpg", ["/a.jpg", "/.jpg"], ["/a.jpgx", "/a.JPG", "/a/b.jpg"]),
        ("/a*b*c", ["/abc", "/axbxc", "/abcbc", "/aabbcc"], ["/ab", "/acb", "/abcx"]),
        ("/?", ["/a", "/é", "/ß", "/🙂"], ["/ab", "/"]),
        ("/?*", ["/a", "/ab"], []),
        ("/{a,b}", ["/a", "/b"], ["/c", "/ab", "/a,b", "/{a,b}"]),
        ("/{a,b*}{x,}", ["/a", "/ax", "/b", "/bcx"], ["/x", "/axx"]),
        ("/{a,{b,c}d}", ["/a", "/bd", "/cd"], ["/b", "/d"]),
        ("/a,b", ["/a,b"], ["/a", "/b"]),
        ("/a]", ["/a]"], ["/a"]),
        ("/\\*", ["/*"], ["/a"]),
        ("/\\{a\\,b\\}\\\\", ["/{a,b}\\"], ["/a"]),
        ("/{a\\,b,c\\}}", ["/a,b", "/c}"], ["/a"]),
        ("/{app}/x", ["/a/x"], ["/b/x", "/A/x"]),
        ("/u{uid}-*", ["/u7-x", "/u7-"], ["/u8-x", "/u07-x", "/u77-x"]),
        ("/{x-{app},{uid}}", ["/x-a", "/7"], ["/a", "/x-7"]),
        ("/é", ["/é"], ["/e", "/É"]),
        ("/...", ["/..."], []),
    ],
)
def test_what_a_glob_matches(glob, yes, no):
    assert [path for path in yes if not hits(glob, path)] == []
    assert [path for path in no if hits(glob, path)] == []


def test_a_question_mark_is_a_character_or_an_invalid_byte():
    assert hits("/?", b"/\xff")
    assert hits("/??", b"/\xff\xfe")
    assert hits("/??", b"/\xc3\x28")
    assert hits("/???", b"/\xf0\x9f\x98")  # a character cut short: each of its bytes
    assert not hits("/?", b"/\xf0\x9f\x98")
    assert hits("/*\u00e9", b"/\xe2\xc3\xa9")
    assert hits("/???", b"/\xed\xa0\x80")  # a surrogate is no UTF-8


def test_ignore_case_is_for_ascii_letters():
    assert hits("/DCIM/*.jpg", "/dcim/A.JPG", ignore_case=True)
    assert hits("/dcim/{a,b?}", "/DCIM/Bx", ignore_case=True)
    assert not hits("/é", "/É", ignore_case=True)
    assert not hits("/k", "/\u212a", ignore_case=True)  # KELVIN SIGN, which lower() makes a k
    assert not hits("/@", "/`", ignore_case=True)
    assert hits("/{app}/x", "/A/X", ignore_case=True)
    assert not hits("/dcim", "/DCIM")


def test_names_go_there_and_back():
    for name in (b"a", "é🙂".encode(), b"\xff\xfe", b"\xed\xa0\x80", b"a\nb"):
        assert bytes_of(text_of(name)) == name
    assert ascii_lower("AZaz@[É") == "azaz@[É"


@pytest.mark.parametrize(
    ("glob", "offset", "about"),
    [
        ("", 0, "starts with '/'"),
        ("DCIM/**", 0, "starts with '/'"),
        ("/DCIM/", 5, "does not end in '/'"),
        ("//", 1, "does not end in '/'"),
        ("/a//b", 3, "empty name"),
        ("/a/./b", 3, "'.' is no name"),
        ("/../b", 1, "'..' is no name"),
        ("/a[bc]", 2, "'['"),
        ("/a/b**", 4, "'**' inside"),
        ("/a/****", 3, "'**' inside"),
        ("/***/a", 1, "only at the end"),
        ("/a/{x}", 3, "unknown capture '{x}'"),
        ("/a/{}", 3, "unknown capture '{}'"),
        ("/a/{b,c", 3, "without its '}'"),
        ("/a/{b,c/d}", 3, "without its '}'"),
        ("/a}", 2, "without its '{'"),
        ("/a\\", 2, "quotes nothing"),
        ("/a\\/b", 2, "cannot be quoted"),
        ("/{,}", 1, "empty name"),
        ("/a\0b", 2, "no glob may hold"),
        ("/a\udc80", 2, "no glob may hold"),
        ("/" + "{a,b}" * 9, 45, "more than 256"),
    ],
)
def test_what_is_wrong_with_a_glob(glob, offset, about):
    with pytest.raises(GlobError) as caught:
        parse_glob(glob)
    assert about in caught.value.message
    assert caught.value.offset == offset
    assert caught.value.help


def test_a_parsed_glob():
    glob = parse_glob("/a/**/{b,c?}/{app}/***")
    assert glob.segments == (
        Segment((("a",),)),
        DEEP,
        Segment((("b",), ("c", Wild.ONE))),
        Segment(((Wild.APP,),)),
    )
    assert glob.end is End.HERE_AND_BELOW
    assert glob.captures == {"app"}


def test_runs_side_by_side_are_one():
    assert parse_glob("/{a,*}*").segments[0].variants == (("a", Wild.RUN), (Wild.RUN,))


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


@pytest.mark.parametrize("text", ["0", "7", "4294967295"])
def test_uids_as_captures_write_them(text):
    assert is_uid(text)


@pytest.mark.parametrize("text", ["", "07", "-1", "4294967296", "٣", "1e3", "12345678901"])
def test_what_is_no_uid(text):
    assert not is_uid(text)


APPS = frozenset({"camera", "maps", "gallery"})


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

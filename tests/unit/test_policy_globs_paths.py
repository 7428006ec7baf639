"""Path globs: what they match, and what is said of those that cannot be read."""

from __future__ import annotations

import pytest

from policyfs.domain import Facts, FileType, Op
from policyfs.policy.decide import compile_policy
from policyfs.policy.globs.paths import DEEP, End, GlobError, Segment, Wild, parse_glob
from policyfs.policy.model import Effect
from tests.support.models.policy_cases import plain, policy


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


@pytest.mark.parametrize(
    ("glob", "offset", "about"),
    [
        ("", 0, "starts with '/'"),
        ("DCIM/**", 0, "starts with '/'"),
        ("/DCIM/", 5, "does not end in '/'"),
        ("//", 1, "does not end in '/'"),
        ("/a//b", 3, "empty name"),
        ("/a/./b", 3, "'.' is not a name"),
        ("/../b", 1, "'..' is not a name"),
        ("/a[bc]", 2, "'['"),
        ("/a/b**", 4, "'**' does not stand alone"),
        ("/a/****", 3, "'**' does not stand alone"),
        ("/***/a", 1, "only at the end"),
        ("/a/{x}", 3, "'{x}' has no meaning"),
        ("/a/{}", 3, "'{}' has no meaning"),
        ("/a/{b,c", 3, "without its '}'"),
        ("/a/{b,c/d}", 3, "without its '}'"),
        ("/a}", 2, "without its '{'"),
        ("/a\\", 2, "without a character after it"),
        ("/a\\/b", 2, "before a '/' has no meaning"),
        ("/{,}", 1, "empty name"),
        ("/a\0b", 2, "a glob must not contain NUL (U+0000)"),
        ("/a\udc80", 2, "a glob must not contain U+DC80"),
        ("/" + "{a,b}" * 9, 45, "more than 256"),
        ("/" + "{a," * 33 + "b" + "}" * 33, 97, "more than 32 braces"),
        ("/" + "{" * 4_000, 33, "more than 32 braces"),
        ("/" + "*a" * 100_000, 4096, "more than 4,096 characters"),
        ("/b/" + "*a" * 256, 3, "names of more than 255 characters"),
        ("/{b," + "?" * 256 + "}", 1, "names of more than 255 characters"),
        ("/a/" + "é" * 256, 3, "names of more than 255 characters"),
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


def test_braces_are_nested_and_side_by_side():
    nested = "{a," * 32 + "b" + "}" * 32
    assert set(parse_glob("/" + nested).segments[0].variants) == {("a",), ("b",)}
    assert len(parse_glob("/{" + "{a,b}," * 40 + "c}").segments[0].variants) == 3


def test_runs_side_by_side_are_one():
    assert parse_glob("/{a,*}*").segments[0].variants == (("a", Wild.RUN), (Wild.RUN,))

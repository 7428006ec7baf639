"""Hypothesis strategies for policies as frozen values, over a small world of names and apps.

The world is small so that every path below a directory can be tried: whatever a glob here tells
apart, some of NAMES tells apart.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from hypothesis import strategies as st

from policyfs.domain import Audit, Facts, FileType, Op, ban, cleaning
from policyfs.policy.model import App, Block, Effect, Policy, Rule, Where, Who

NAMES = ["a", "b", "ab", "A", "7", "zz", "a79"]
KINDS = ["image/jpeg", "image/png", "text/plain"]
KIND_SETS = ["image/jpeg", "image/*", "text/plain", "inode/directory", "inode/x-empty", "inode/*"]
UIDS = [7, 8, 9, 0, 50]
APPS = ("a", "b")

SEGMENTS = [
    "a",
    "b",
    "a",
    "ab",
    "*",
    "?",
    "a*",
    "*b",
    "{a,b}",
    "{a,?b}",
    "{app}",
    "{uid}",
    "x{app}",
    "*{uid}*",
    "a*{uid}",
    "{app}*{uid}",
    "**",
    "A",
    "{a,{b,ab}}",
    "{,a}b",
    "{{app},b}",
    "\\a*",
]
ENDS = ["", "", "/**", "/***"]

WHERE = Where("case.yaml", 1, 1)


def subsets(values: Sequence[str], low: int = 1, high: int = 2) -> st.SearchStrategy[frozenset[str]]:
    return _subsets(tuple(values), low, high)


# Each strategy is made once: to make one costs more than to draw from it.
@cache
def _subsets(values: tuple[str, ...], low: int, high: int) -> st.SearchStrategy[frozenset[str]]:
    return st.lists(st.sampled_from(values), min_size=low, max_size=high).map(frozenset)


some_words = subsets(["location", "time"])
bans = st.tuples(some_words, st.one_of(st.just(frozenset[str]()), subsets(KINDS))).map(
    lambda both: frozenset({ban(both[0]), *both[1]})
)
contents = st.one_of(subsets(KINDS), subsets(KINDS), bans)


some_segments = st.lists(st.sampled_from(SEGMENTS), min_size=0, max_size=2)
some_ends = st.sampled_from(ENDS)


@cache
@st.composite
def globs(draw: st.DrawFn) -> str:
    segments = draw(some_segments)
    end = draw(some_ends)
    text = "".join("/" + segment for segment in segments) + end
    return text or "/"


narrow = st.sampled_from(
    [
        (glob,)
        for glob in (
            "/a/**", "/a/***", "/b/**", "/*/a", "/a", "/{app}/**", "/{uid}/***", "/**/b", "/b/*/a", "/*/*/a",
            "/*{uid}*/**", "/{app}*{uid}/**",
        )
    ]
)  # fmt: skip
glob_lists = st.lists(globs(), min_size=1, max_size=2).map(tuple)
owners = subsets(["self", "none", *APPS])
uid_ranges = st.sampled_from([((7, 7),), ((8, 60),), ((0, 8), (50, 50))])


@cache
@st.composite
def whos(draw: st.DrawFn, depth: int = 1) -> Who | None:
    if draw(st.integers(0, 3)) == 0:
        return None
    shape = draw(st.integers(0, 9))
    return Who(
        apps=draw(subsets([*APPS, "any", "stranger"])) if shape in (0, 1, 2, 3, 4) else None,
        grants=frozenset({"g"}) if shape in (5, 6) else None,
        uids=draw(uid_ranges) if shape in (4, 7) else None,
        not_=draw(whos(depth - 1)) if depth and shape in (6, 8, 9) else None,
    )


one_glob = st.one_of(globs().map(lambda glob: (glob,)), narrow)


@cache
@st.composite
def blocks(draw: st.DrawFn) -> Block:
    shape = draw(st.integers(1, 7))
    return Block(
        kinds=draw(subsets(KIND_SETS)) if shape & 1 else None,
        owners=draw(owners) if shape & 2 else None,
        paths=draw(one_glob) if shape & 4 else None,
    )


operations = st.one_of(
    st.just(Op.ALL),
    st.lists(st.sampled_from(list(Op)), min_size=1, max_size=3).map(lambda ops: Op(sum(set(ops)))),
    st.sampled_from([Op.SEE, Op.SEE | Op.READ, Op.SEE | Op.READ | Op.WRITE]),
)
audits = st.sampled_from([None, None, None, *Audit])
default_audits = st.sampled_from(
    [(Audit.BEST_EFFORT, Audit.REQUIRED), (Audit.OFF, Audit.BEST_EFFORT), (Audit.REQUIRED, Audit.OFF)]
)


effects = st.sampled_from([*[Effect.ALLOW] * 4, *[Effect.DENY] * 3, Effect.REDACT, Effect.CONTENT])
codes_of_see = st.sampled_from([None, errno.ENOENT])
codes = st.sampled_from([None, errno.ENOENT, errno.EPERM, errno.EROFS])
all_globs = st.one_of(st.none(), glob_lists, glob_lists, narrow)
some_blocks = st.lists(blocks(), min_size=1, max_size=2)
any_who = st.one_of(st.none(), whos())
any_block = st.one_of(st.none(), blocks())


@cache
@st.composite
def rules(draw: st.DrawFn, number: int) -> Rule:
    effect = draw(effects)
    ops = {Effect.REDACT: Op.READ, Effect.CONTENT: Op.WRITE | Op.CREATE}.get(effect)
    if ops is None:
        ops = draw(operations)
    conditions = draw(st.integers(0, 5))
    return Rule(
        id=f"r{number}",
        effect=effect,
        ops=ops,
        who=draw(whos()),
        paths=draw(all_globs),
        ignore_case=draw(st.integers(0, 4)) == 0,
        when=draw(blocks()) if conditions in (3, 5) else None,
        unless=tuple(draw(some_blocks)) if conditions in (4, 5) else (),
        errno=draw(codes_of_see if ops & Op.SEE else codes) if effect is Effect.DENY else None,
        redact=frozenset({"location"}) if effect is Effect.REDACT else frozenset(),
        content=draw(contents) if effect is Effect.CONTENT else frozenset(),
        raw_types=draw(subsets(["text/plain", "image/*"], 0, 1)) if effect is Effect.REDACT else frozenset(),
        audit=draw(audits),
        monitor=effect is not Effect.REDACT and draw(st.integers(0, 7)) == 0,
        description="",
        where=WHERE,
        quarantine=effect is Effect.CONTENT and draw(st.booleans()),
    )


def app(name: str, uids: tuple[tuple[int, int], ...], *grants: str) -> App:
    return App(name, uids, (), frozenset(grants), "")


def plain(number: int, effect: Effect, paths: tuple[str, ...] | None, **more: object) -> Rule:
    """A rule of one piece, to build on."""
    fields: dict[str, object] = {
        "id": f"r{number}", "effect": effect, "ops": Op.ALL, "who": None, "paths": paths,
        "ignore_case": False, "when": None, "unless": (), "errno": None, "redact": frozenset(),
        "content": frozenset(), "raw_types": frozenset(), "audit": None, "monitor": False,
        "description": "", "where": WHERE,
    }  # fmt: skip
    return Rule(**{**fields, **more})  # type: ignore[arg-type]  # as many types as fields


stored = st.one_of(subsets(KIND_SETS[:3]), bans)
wide = st.sampled_from([None, ("/**",), ("/a/***",), ("/{a,b}/**",), ("/*/**",)])


@st.composite
def policies(draw: st.DrawFn, max_rules: int = 4) -> Policy:
    """Some broad rules, so that requests get somewhere, and some of every sort on top."""
    made = [draw(rules(number)) for number in range(draw(st.integers(1, max_rules)))]
    base = draw(st.integers(0, 15))
    if base & 1 or base == 0:
        who = draw(any_who)
        made.append(plain(90, Effect.ALLOW, draw(wide), who=who))
    if base & 2:
        when = draw(any_block)
        made.append(plain(91, Effect.ALLOW, draw(wide), when=when))
    if base & 4:
        who = draw(whos())
        more = draw(subsets(["text/plain", "image/*"], 0, 1))
        what = {"ops": Op.READ, "redact": frozenset({"location"}), "raw_types": more}
        made.append(plain(92, Effect.REDACT, draw(wide), who=who, **what))
    if base & 8:
        content = draw(stored)
        ops = Op.WRITE | Op.CREATE
        made.append(plain(93, Effect.CONTENT, draw(wide), ops=ops, content=content))
    allowed, denied = draw(default_audits)
    return replace(policy(*made), audit_allowed=allowed, audit_denied=denied)


plain_effects = st.sampled_from(
    [Effect.ALLOW, Effect.ALLOW, Effect.DENY, Effect.DENY, Effect.REDACT, Effect.CONTENT]
)


@cache
@st.composite
def simple_rules(draw: st.DrawFn, number: int) -> Rule:
    """A rule with at most one condition, on a part of the tree."""
    effect = draw(plain_effects)
    more: dict[str, object] = {}
    if effect is Effect.REDACT:
        more = {"ops": Op.READ, "redact": frozenset({"location"})}
        more["raw_types"] = draw(subsets(["text/plain"], 0, 1))
    elif effect is Effect.CONTENT:
        more = {"ops": Op.WRITE | Op.CREATE, "content": draw(contents)}
    else:
        more = {"ops": draw(operations)}
    condition = draw(st.integers(0, 7))
    if condition == 0:
        more["when"] = draw(blocks())
    elif condition == 1:
        more["unless"] = (draw(blocks()),)
    elif condition <= 3:
        more["who"] = draw(whos())
    return plain(number, effect, draw(narrow), **more)


@st.composite
def moving_policies(draw: st.DrawFn, max_rules: int = 3) -> Policy:
    """Everybody may move everything; what else there is differs from path to path."""
    made = [draw(simple_rules(number)) for number in range(draw(st.integers(1, max_rules)))]
    base = draw(st.integers(0, 7))
    if base & 1:
        more = {"ops": Op.READ, "redact": frozenset({"location"})}
        made.append(plain(92, Effect.REDACT, draw(narrow), **more))
    if base & 2:
        made.append(plain(91, Effect.ALLOW, draw(narrow), ops=Op.READ | Op.WRITE))
    ops = Op.ALL & ~Op.ATTR if base & 4 else Op.SEE | Op.CREATE | Op.DELETE
    return policy(*made, plain(90, Effect.ALLOW, ("/**",), ops=ops))


hidden_words = st.sampled_from([("location",), ("location", "people"), ("all-metadata",)]).map(frozenset)
own = Block(kinds=None, owners=frozenset({"self"}), paths=None)


@st.composite
def losing_policies(draw: st.DrawFn) -> Policy:
    """Callers read files redacted and may delete some; other rules make moves a gain, or clean the copies."""
    redact = {"ops": Op.READ, "redact": draw(hidden_words), "raw_types": draw(subsets(["text/plain"], 0, 1))}
    spared = draw(st.sampled_from([(), (own,), (draw(blocks()),)]))
    reading = draw(st.sampled_from([Op.SEE | Op.READ, Op.ALL & ~Op.DELETE, Op.ALL]))
    deleting = draw(st.sampled_from([None, own, draw(blocks())]))
    made = [
        plain(92, Effect.REDACT, draw(wide), who=draw(any_who), unless=spared, **redact),
        plain(91, Effect.ALLOW, ("/**",), ops=reading),
        plain(90, Effect.ALLOW, draw(wide), when=deleting),
    ]
    shape = draw(st.integers(0, 7))
    if shape & 1:
        content = frozenset({cleaning(draw(hidden_words)), *draw(subsets(["text/plain"], 0, 1))})
        when = draw(st.one_of(st.none(), st.none(), blocks()))
        more = {"ops": Op.WRITE | Op.CREATE, "content": content, "when": when}
        made.append(plain(93, Effect.CONTENT, draw(narrow), **more))
    if shape & 2:
        made.append(draw(simple_rules(0)))
    if shape & 4:
        made.append(plain(94, Effect.DENY, draw(narrow), ops=draw(st.sampled_from([Op.DELETE, Op.SEE]))))
    return policy(*made)


deep = st.sampled_from(
    ["/a/b/a", "/a/*/b", "/**/b/a", "/a/**/b", "/{app}/a/b", "/*/b/**", "/a/{uid}/*", "/b/?/a", "/a/b/***"]
)
shallow = st.sampled_from(
    ["/a", "/a/b", "/a/*", "/*/b", "/**/b", "/a/**", "/a/b/a", "/*/*/a", "/a/{app}", "/{uid}", "/a/7/*"]
)


@st.composite
def bare_policies(draw: st.DrawFn) -> Policy:
    """Deep paths that callers see, and rules that hide some of the directories on the way."""
    made = [
        plain(
            number, Effect.ALLOW, (draw(deep),), ops=Op.SEE | Op.READ, who=draw(any_who), when=draw(any_block)
        )
        for number in range(draw(st.integers(1, 2)))
    ]
    for number in range(10, 10 + draw(st.integers(1, 3))):
        more: dict[str, object] = {"who": draw(any_who), "monitor": draw(st.integers(0, 7)) == 0}
        more |= draw(st.sampled_from([{}, {}, {"when": draw(blocks())}, {"unless": (draw(blocks()),)}]))
        made.append(plain(number, Effect.DENY, (draw(shallow),), ops=Op.SEE, **more))
    made.append(plain(90, Effect.ALLOW, draw(wide), ops=draw(operations) & ~Op.SEE or Op.READ))
    return policy(*made)


@st.composite
def common_policies(draw: st.DrawFn) -> Policy:
    """Rules that few callers are told apart by."""
    made = [draw(simple_rules(number)) for number in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        made.append(plain(90, Effect.ALLOW, ("/**",), ops=Op.SEE | Op.READ))
        made.append(plain(91, Effect.DENY, draw(narrow), ops=Op.SEE, who=draw(whos())))
    return policy(*made)


def policy(*made: Rule) -> Policy:
    apps = (app("a", ((7, 8),), "g"), app("b", ((9, 9),)))
    return Policy("case", "", apps, made, Audit.BEST_EFFORT, Audit.REQUIRED, "")


paths = st.lists(
    st.sampled_from([*NAMES, "a", "b", "a", "b", "xa", "\udcff", "é"]), min_size=1, max_size=4
).map(lambda names: b"/" + "/".join(names).encode("utf-8", "surrogateescape"))
near_paths = st.sampled_from(
    [
        *(b"/a/a", b"/a/b", b"/b/a", b"/b/b", b"/7/a", b"/7/b", b"/7", b"/zz/a", b"/zz", b"/a", b"/b"),
        *(b"/a/zz/a", b"/a79", b"/a79/a", b"/a97/a", b"/b7-9/b"),
    ]
)
directories = st.sampled_from([b"/a", b"/a", b"/b", b"/a/b", b"/a/a", b"/b/b", b"/7", b"/a/7", b"/zz"])
move_paths = st.one_of(near_paths, near_paths, near_paths, paths)
some_paths = st.one_of(paths, paths, near_paths, near_paths, st.just(b"/"))
file_types = st.sampled_from([FileType.REGULAR, FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK])
some_owners = st.sampled_from([None, "none", "a", "b", "gone"])
some_kinds = st.sampled_from([None, *KINDS, "inode/x-empty", "video/mp4"])
facts = st.builds(Facts, some_kinds, some_owners, st.one_of(st.just(frozenset()), some_words))
op_sets = st.one_of(st.just(Op.SEE), st.sampled_from(list(Op)), operations)

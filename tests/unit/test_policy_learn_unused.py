"""Rights that nobody used: in which directories, and which operations."""

from __future__ import annotations

from policyfs.domain import Op
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.decide import Engine
from policyfs.policy.learn.unused import CHANGES, Taking, Unused, needs_of
from policyfs.policy.text.parse import SourceText

HEAD = "apiVersion: policyfs/v1\nkind: Policy\napps: {a: {}, b: {grants: [edit]}}\n"
TOPS = ("Films", "Music", "Photos")
READ = Op.SEE | Op.READ


def engine_of(*rules: str, more: str = "") -> Engine:
    text = f"{HEAD}{more}rules:\n" + "".join(f"  - {{id: r{at}, {rule}}}\n" for at, rule in enumerate(rules))
    return load_policy([SourceText("home.yaml", text.encode())])


def takings(
    engine: Engine, *done: tuple[bytes, Op], tops: tuple[str, ...] = TOPS
) -> list[tuple[Op, list[str]]]:
    """What may be taken away from the app a, by globs."""
    used = Unused(engine.policy, tops)
    for path, ops in done:
        used.add("a", path, ops)
    return [(one.ops, one.globs) for one in used.takings("a", [engine])]


ALL = engine_of('allow: [all], who: {app: a}, paths: "/***"')


def test_by_directories_at_the_top_and_never_deeper():
    found = takings(ALL, (b"/Films/new/film.mkv", CHANGES), (b"/Music/a", READ))
    assert found == [(CHANGES | Op.READ, ["/Photos/***"]), (CHANGES, ["/Music/***"])]


def test_an_app_that_changed_nothing_may_change_nothing_anywhere():
    assert takings(ALL, *((f"/{top}/a".encode(), READ) for top in TOPS)) == [(CHANGES, ["/***"])]


def test_an_app_that_only_adds_keeps_what_adding_needs():
    found = takings(ALL, *((f"/{top}/a".encode(), READ | Op.CREATE | Op.WRITE) for top in TOPS))
    assert found == [(Op.DELETE, ["/***"])]


def test_what_is_listed_stays_readable():
    found = takings(ALL, (b"/Films", Op.SEE), (b"/Music/a", READ), (b"/Photos/a", READ))
    assert found == [(CHANGES, ["/***"])]


def test_directories_that_rules_name_are_apart():
    engine = engine_of('allow: [all], who: {app: a}, paths: ["/Photos/anna/***", "/Photos/ben/**/*.jpg"]')
    assert takings(engine, (b"/Photos/anna/a", READ)) == [(CHANGES, ["/Photos/anna/***"])]


def test_names_that_are_special_in_globs():
    engine = engine_of('allow: [all], who: {app: a}, paths: "/***"')
    found = takings(engine, (b"/a/x", READ), (b"/b*{c}/x", READ | CHANGES), tops=("a", "b*{c}", "new\nline"))
    assert (CHANGES, ["/a/***"]) in found
    found = takings(engine, (b"/a/x", READ | CHANGES), (b"/b*{c}/x", READ), tops=("a", "b*{c}"))
    assert found == [(CHANGES, [r"/b\*\{c\}/***"])]


def test_what_an_exception_gives_is_not_denied():
    more = (
        "exceptions:\n  - {id: e, until: 2999-01-01T00:00:00Z, reason: r, approved-by: me, allow: [delete],"
        ' who: {app: a}, paths: "/Films/**"}\n'
    )
    engine = engine_of('allow: [all], who: {app: a}, paths: "/***"', more=more)
    found = takings(engine, *((f"/{top}/a".encode(), READ) for top in TOPS))
    assert found == [(CHANGES & ~Op.DELETE, ["/***"])]


def test_what_is_not_recorded_is_not_taken_away():
    off = "defaults: {audit: off}\n"
    quiet = engine_of('allow: [all], who: {app: a}, paths: "/***", audit: off', more=off)
    assert takings(quiet, (b"/Films/a", READ)) == []
    used = Unused(ALL.policy, TOPS)
    used.add("a", b"/Films/a", READ)
    assert used.takings("a", [ALL])
    assert used.takings("a", [ALL, quiet]) == []  # so it was at some time


def test_requests_without_their_paths_count_everywhere_below():
    used = Unused(ALL.policy, TOPS)
    used.add("a", b"/Films/a", READ)
    used.add_below("a", b"/", READ | Op.DELETE)
    assert [one.ops for one in used.takings("a", [ALL])] == [Op.CREATE]
    assert used.takings("b", [ALL]) == []


def test_what_a_request_needs():
    assert needs_of("open", "open(O_RDONLY)") == (READ, Op(0))
    assert needs_of("create", "open(O_WRONLY|O_CREAT)") == (Op.SEE | Op.CREATE | Op.WRITE, Op(0))
    assert needs_of("link", "link") == (READ | Op.WRITE, Op.SEE | Op.CREATE)
    old, new = needs_of("rename", "rename")
    assert (old, new) == (Op.SEE | Op.DELETE, Op.SEE | Op.CREATE | Op.DELETE)
    assert needs_of("rename", "renameat2(RENAME_EXCHANGE)") == (new, new)
    assert needs_of("open", "") == (READ | Op.WRITE, Op(0))
    assert needs_of("", "") == (Op.ALL, Op.ALL)


def test_touching():
    taking = Taking("a", CHANGES, (("Photos", "anna"),))
    paths = (b"/", b"/Photos", b"/Photos/anna", b"/Photos/anna/x", b"/Photos/ben", b"/Music")
    assert [taking.touches(path) for path in paths] == [True, True, True, True, False, False]

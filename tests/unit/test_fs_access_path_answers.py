"""Answers by path and caller: what is denied whatever is there, and directories that are seen as a whole."""

from __future__ import annotations

import errno

from policyfs.fs.access import path_answers
from policyfs.fs.access.path_answers import PathAnswers
from tests.support.models.policies import engine_of

RULES = """\
- {id: all, allow: [see], paths: "/***"}
- {id: hidden, deny: [see], who: {app: maps}, paths: "/hidden/**"}
- {id: kind, deny: [see], when: {type: "image/png"}, paths: "/kind/**"}
"""


def test_a_path_alone_may_deny() -> None:
    engine = engine_of(RULES)
    answers = PathAnswers(engine, shared=True)
    maps, stranger = engine.app_principal("maps", 10012), engine.principal(5)
    hidden = answers.unseen(maps, engine.state_of(b"/hidden/x"))
    assert hidden.whatever is not None
    assert hidden.whatever.errno == errno.ENOENT
    assert answers.unseen(stranger, engine.state_of(b"/hidden/x")) == (None, None)
    assert answers.unseen(maps, engine.state_of(b"/kind/x")) == (None, None)


def test_a_directory_is_seen_as_a_whole_by_who_sees_all_in_it() -> None:
    engine = engine_of(
        '- {id: all, allow: [see], paths: "/a/***"}\n- {id: m, allow: [see], who: {app: maps}}\n'
    )
    maps, stranger = engine.app_principal("maps", 10012), engine.principal(5)
    top = engine.root
    assert PathAnswers(engine, shared=False).shows_all_in(maps, top)
    shared = PathAnswers(engine, shared=True)
    assert not shared.shows_all_in(maps, top), "the kernel gives its attributes to strangers, too"
    assert not shared.shows_all_in(stranger, top)
    assert shared.shows_all_in(maps, engine.state_of(b"/a"))
    assert shared.shows_all_in(stranger, engine.state_of(b"/a"))


def test_answers_are_forgotten_beyond_a_limit(monkeypatch) -> None:
    monkeypatch.setattr(path_answers, "_REMEMBERED", 2)
    engine = engine_of(RULES)
    answers, maps = PathAnswers(engine, shared=True), engine.app_principal("maps", 10012)
    for path in (b"/hidden/x", b"/a", b"/kind/x", b"/hidden/x"):
        state = engine.state_of(path)
        assert (answers.unseen(maps, state).whatever is None) is (path != b"/hidden/x")
        assert answers.shows_all_in(maps, state) is (path == b"/a")

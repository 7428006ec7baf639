"""Answers by path and caller: what is denied whatever is there, and directories that are seen as a whole."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable

import pytest

from policyfs.fs.access import name_verdicts, path_answers
from policyfs.fs.access.name_verdicts import NameVerdicts
from policyfs.fs.access.path_answers import PathAnswers
from policyfs.policy.decide import Engine, PathState
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


DEAR = """\
- {id: way, allow: [see], paths: "/**"}
- {id: own, allow: [all], who: {app: any}, paths: "/**/*{uid}*/**"}
"""
"""Rules for which each directory of digits adds to the state of all paths below (see automaton.MAX_BOUND)."""


def _alive(engine: Engine, ask: Callable[[PathState], object], names: int) -> int:
    """How many states of large paths are left after a question about each of so many names."""
    above = engine.root
    for number in range(60):
        above = engine.child(above, b"%d" % (7_000_000 + number))
    states = []
    for number in range(names):
        state = engine.step(above, b"%d" % number)
        ask(state)
        states.append(weakref.ref(state))
        assert state.units > 900
    del state
    return sum(ref() is not None for ref in states)


@pytest.mark.parametrize("question", ["unseen", "shows_all_in"])
def test_large_paths_take_more_of_the_limit(question: str) -> None:
    """An app chooses names. 16,384 such answers took half a gigabyte.

    Attack E3.2: Look up many missing names in nested directories with numbers as names, so that
    remembered decisions keep the large states of these paths in memory
    Guard: policyfs/fs/access/path_answers.py::PathAnswers.unseen, policyfs/policy/memo.py::Memo.keep
    Also: tests/unit/test_policy_dear_names.py::test_answers_about_large_states_push_each_other_out
    """
    engine = engine_of(DEAR, remembered=1)  # so that the engine itself keeps no state
    answers, maps = PathAnswers(engine, shared=True), engine.app_principal("maps", 10012)
    most = path_answers._REMEMBERED // 900
    assert _alive(engine, lambda state: getattr(answers, question)(maps, state), most + 20) <= most + 2


def test_verdicts_on_names_in_large_paths_do_so_too() -> None:
    engine = engine_of(DEAR, remembered=1)
    verdicts, maps = NameVerdicts(engine, posix=False), engine.app_principal("maps", 10012)
    most = name_verdicts._REMEMBERED // 900
    assert _alive(engine, lambda state: verdicts.of(maps, state), most + 20) <= most + 2

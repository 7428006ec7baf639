"""Answers by path and caller: what is denied whatever is there, and directories that are seen as a whole."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable

import pytest

from policyfs.domain import NO_FACTS, FileType, Op
from policyfs.fs.access import path_answers
from policyfs.fs.access.path_answers import HIDDEN_SHIFT, NOTHING_DECIDED, NameVerdicts, PathAnswers, Verdicts
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.globs.classes import FEW
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
    most = path_answers._REMEMBERED_NAMES // 900
    assert _alive(engine, lambda state: verdicts.of(maps, state), most + 20) <= most + 2


GALLERY = 10011
STRANGER = 4711
TYPES = {FileType.REGULAR: 8, FileType.DIRECTORY: 4, FileType.SYMLINK: 10}
SPECIAL = (1, 2, 6, 12)
ALL = '- {id: all, allow: [all], who: {app: any}, paths: "/***"}\n'
NAMES = [
    b"a", b"a.jpg", b"A.JPG", b"a.jpeg", b".nomedia", b"hidden", b"hidden-2", b"Secret", b"secret", b"SECRET",
    b"x.tmp", b"tmp", b"\xff\xfe", "ä.jpg".encode(), b"10011", b"gallery", b"deep",
]  # fmt: skip
POLICIES = {
    "plain": ALL,
    "literal": ALL + '- {id: one, deny: [all], paths: "/*/hidden", errno: ENOENT}\n',
    "pattern": ALL + '- {id: some, deny: [all], paths: "/*/hidden*/***", errno: ENOENT}\n',
    "only photos": '- {id: photos, allow: [see, read], who: {app: any}, paths: "/**/*.jpg"}\n',
    "writing": ALL + '- {id: temporary, deny: [write], paths: ["/**/*.tmp", "/*/deep/**"]}\n',
    "folded": ALL + '- {id: fold, deny: [all], paths: "/*/secret", ignore_case: true, errno: ENOENT}\n',
    "captured": '- {id: own, allow: [all], who: {app: any}, paths: "/*/{uid}/***"}\n',
    "kind": ALL + '- {id: kinds, deny: [see], when: {type: application/pdf}, paths: "/*/*.jpg"}\n',
    "owner": ALL + '- {id: owned, deny: [all], when: {owner: camera}, paths: "/*/***", errno: ENOENT}\n',
}


def _by_name(engine: Engine, uid: int, name: bytes, ftype: FileType) -> bool | None:
    """Does this caller see an object of this name; None if that hangs on facts."""
    who, state = engine.principal(uid), engine.state_of(b"/DCIM/" + name)
    if engine.owner_matters_above(state) or engine.needs(who, Op.SEE, state, ftype):
        return None
    return engine.decide(who, Op.SEE, state, ftype, NO_FACTS).allowed


def _of(engine: Engine, uid: int, *, posix: bool = False) -> Verdicts:
    return NameVerdicts(engine, posix=posix).of(engine.principal(uid), engine.state_of(b"/DCIM"))


@pytest.mark.parametrize("uid", [GALLERY, STRANGER])
@pytest.mark.parametrize("policy", POLICIES)
def test_each_name_is_decided_as_by_itself(policy: str, uid: int) -> None:
    engine = engine_of(POLICIES[policy])
    verdicts = _of(engine, uid)
    assert not verdicts.shown & verdicts.hidden
    for name in NAMES:
        for ftype, kind in TYPES.items():
            both = verdicts.apart.get(name, verdicts.shown | verdicts.hidden << HIDDEN_SHIFT)
            if both >> kind & 1:
                assert _by_name(engine, uid, name, ftype) is True
            if both >> HIDDEN_SHIFT >> kind & 1:
                assert _by_name(engine, uid, name, ftype) is False


@pytest.mark.parametrize("policy", ["plain", "writing", "literal"])
def test_names_that_are_seen_alike_need_one_decision(policy: str) -> None:
    verdicts = _of(engine_of(POLICIES[policy]), GALLERY)
    assert all(verdicts.shown >> kind & 1 for kind in TYPES.values())
    assert verdicts.apart == ({b"hidden": 0xFFFE << HIDDEN_SHIFT} if policy == "literal" else {})


def test_captures_and_facts_decide_nothing() -> None:
    assert _of(engine_of(POLICIES["captured"]), GALLERY) [:3] == NOTHING_DECIDED[:3]
    verdicts = _of(engine_of(POLICIES["kind"]), GALLERY)
    assert not (verdicts.shown | verdicts.hidden) >> TYPES[FileType.REGULAR] & 1
    assert verdicts.shown >> TYPES[FileType.DIRECTORY] & 1


def test_many_names_decide_nothing() -> None:
    rules = "".join(f'- {{id: r{n}, deny: [see], paths: "/*/n{n}"}}\n' for n in range(FEW + 1))
    assert _of(engine_of(ALL + rules), GALLERY) [:3] == NOTHING_DECIDED[:3]


@pytest.mark.parametrize("posix", [False, True])
def test_special_files_are_hidden_unless_they_work_natively(posix: bool) -> None:
    verdicts = _of(engine_of(ALL), GALLERY, posix=posix)
    assert all((verdicts.hidden >> kind & 1) is not posix or not posix for kind in SPECIAL)
    assert not any(verdicts.shown >> kind & 1 for kind in SPECIAL)
    assert not (verdicts.shown | verdicts.hidden) & 1, "the store did not tell the type"


@pytest.mark.parametrize(
    ("rule", "hang"),
    [
        ('- {id: a, allow: [see], who: {app: any}, when: {type: image/*}, paths: "/DCIM/**"}', True),
        ('- {id: a, allow: [see], who: {app: any}, when: {owner: self}, paths: "/DCIM/*.jpg"}', True),
        ('- {id: a, allow: [read], who: {app: any}, when: {type: image/*}, paths: "/DCIM/*.jpg"}', False),
        ('- {id: a, allow: [see], who: {app: any}, paths: "/DCIM/*.jpg"}', False),
        ('- {id: a, allow: [see], who: {app: any}, paths: "/DCIM/**"}', False),
    ],
)
def test_whether_facts_may_decide(rule: str, hang: bool) -> None:
    assert _of(engine_of(rule + "\n"), GALLERY).hang_on_facts is hang

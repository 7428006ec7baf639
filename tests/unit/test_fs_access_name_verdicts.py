"""One decision for all names of a directory: the same as one for each name."""

from __future__ import annotations

import pytest

from policyfs.domain import NO_FACTS, FileType, Op
from policyfs.fs.access.name_verdicts import HIDDEN_SHIFT, NOTHING_DECIDED, NameVerdicts, Verdicts
from policyfs.policy.decide import Engine
from policyfs.policy.globs.classes import FEW
from tests.support.models.policies import engine_of

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

"""The one door: hidden directories above, and what is on record."""

from __future__ import annotations

import errno
import os
from itertools import product
from pathlib import Path

import pytest

from policyfs.domain import Audit, Decision, Facts, Op, RuleMatch
from policyfs.fs.access.gate import stricter
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import GALLERY, MAPS, OPEN, errno_of

# ---------------------------------------------------------------- directories that hide by their owner

BY_OWNER = """\
- {id: all, allow: [see, read, create, delete], who: {app: any}, paths: "/**"}
- {id: hide, deny: [see], who: {app: gallery}, paths: "/*/priv", when: {owner: camera}}
"""


def owned_by_camera(made: Parts, path: Path) -> None:
    fd = os.open(path, os.O_PATH)
    made.owners.set(fd, made.tree.fstat(fd), "camera")
    os.close(fd)
    made.owners_above.changed_all()  # as the watch says


@pytest.fixture
def hiding_store(tmp_path: Path) -> Path:
    (tmp_path / "d/priv").mkdir(parents=True)
    (tmp_path / "d/priv/f").write_bytes(b"x")
    (tmp_path / "d/mine").write_bytes(b"y")
    return tmp_path


@on_trio
async def test_below_what_hides_by_its_owner_everything_is_enoent(hiding_store: Path) -> None:
    """Also what would be refused anyway (writing), and both ends of a move."""
    with parts(hiding_store, engine_of(BY_OWNER)) as made:
        node = await made.walk("/d/priv/f", MAPS)
        parent, above = node.parent, await made.walk("/d", MAPS)
        mine = await made.walk("/d/mine", GALLERY)
        owned_by_camera(made, hiding_store / "d/priv")
        caller = made.caller(GALLERY)
        requests = {
            "open": made.opener.open(node, os.O_RDONLY, caller),
            "write": made.opener.open(node, os.O_WRONLY, caller),
            "lookup": made.lookup.lookup(parent, b"f", caller),
            "create": made.creator.create(parent, b"new", 0o644, os.O_RDWR, caller),
            "unlink": made.remover.remove(parent, b"f", caller, directory=False),
            "rename out": made.renamer.rename(parent, b"f", above, b"f", 0, caller),
            "rename in": made.renamer.rename(above, b"mine", parent, b"mine", 0, caller),
            "rename onto": made.renamer.rename(above, b"mine", parent, b"f", 0, caller),
            "link in": made.linker.link(mine, parent, b"new", caller),
            "link out": made.linker.link(node, above, b"new", caller),
            "xattr": made.xattrs.setxattr(node, b"user.a", b"", caller),
        }
        found = {name: await errno_of(request) for name, request in requests.items()}
        assert found == dict.fromkeys(requests, errno.ENOENT)
    assert (hiding_store / "d/mine").exists()
    assert os.listdir(hiding_store / "d/priv") == ["f"]


@on_trio
async def test_each_name_is_hidden_by_what_is_above_it(hiding_store: Path) -> None:
    """Of two names the first is below nothing hidden; the other's directory hides by its owner."""
    (hiding_store / "d/also").mkdir()
    os.link(hiding_store / "d/priv/f", hiding_store / "d/also/g")
    text = BY_OWNER.replace("/*/priv", "/d/*")
    with parts(hiding_store, engine_of(text)) as made:
        first = await made.walk("/d/also/g", MAPS)
        second = await made.walk("/d/priv/f", MAPS)
        made.nodes.add_name(first, second.parent, b"f")
        owned_by_camera(made, hiding_store / "d/priv")
        assert await errno_of(made.opener.open(first, os.O_RDONLY, made.caller(GALLERY))) == errno.ENOENT


# ---------------------------------------------------------------- on record


@on_trio
async def test_every_refusal_by_node_number_is_on_record(hiding_store: Path) -> None:
    """A hidden directory that another app uses is found by LOOKUP: what then says ENOENT is the refusal."""
    (hiding_store / "d/link").symlink_to("mine")
    text = BY_OWNER + '- {id: deny, deny: [read], who: {app: gallery}, paths: "/d/mine"}\n'
    text += '- {id: deny-link, deny: [see], who: {app: gallery}, paths: "/d/link"}\n'
    with parts(hiding_store, engine_of(text)) as made:
        priv, mine = await made.walk("/d/priv", MAPS), await made.walk("/d/mine", MAPS)
        link = await made.walk("/d/link", MAPS)
        owned_by_camera(made, hiding_store / "d/priv")
        caller = made.caller(GALLERY)
        for request, code in (
            (made.lookup.getattr(priv, caller), errno.ENOENT),
            (made.lookup.access(priv, os.X_OK, caller), errno.ENOENT),
            (made.lookup.readlink(link, caller), errno.ENOENT),
        ):
            made.sink.events.clear()
            assert await errno_of(request) == code
            assert [(event.decision, event.errno) for event in made.sink.events] == [("deny", code)]
        made.sink.events.clear()
        assert await errno_of(made.lookup.access(mine, os.R_OK, caller)) == errno.EACCES
        assert [(event.decision, event.errno) for event in made.sink.events] == [("deny", errno.EACCES)]
        made.sink.broken = True
        assert await errno_of(made.lookup.access(mine, os.R_OK, caller)) == errno.EIO


ALLOW = RuleMatch("allow", "allow", Op.READ)
DENY, OTHER = RuleMatch("deny", "deny", Op.READ), RuleMatch("other", "deny", Op.READ)


def yes(**more) -> Decision:
    return Decision(allowed=True, errno=0, **more)


def no(code: int, **more) -> Decision:
    return Decision(allowed=False, errno=code, **more)


@pytest.mark.parametrize("first", [False, True])
def test_a_denial_is_stricter_and_is_recorded_as_strongly_as_either_asks(first: bool) -> None:
    one = yes(audit=Audit.REQUIRED, rules=(ALLOW,))
    other = no(errno.EACCES, audit=Audit.BEST_EFFORT, rules=(DENY,))
    got = stricter(one, other) if first else stricter(other, one)
    assert (got.allowed, got.errno, got.audit) == (False, errno.EACCES, Audit.REQUIRED)
    assert DENY in got.rules


@pytest.mark.parametrize("first", [False, True])
def test_of_two_denials_the_errno_says_least_and_all_rules_and_the_strongest_audit_stand(first: bool) -> None:
    one = no(errno.ENOENT, audit=Audit.OFF, rules=(DENY,))
    other = no(errno.EROFS, audit=Audit.REQUIRED, rules=(OTHER,))
    got = stricter(one, other) if first else stricter(other, one)
    assert (got.errno, got.audit, set(got.rules)) == (errno.ENOENT, Audit.REQUIRED, {DENY, OTHER})


def test_of_two_allowances_all_obligations_stand() -> None:
    photos, texts = frozenset({"image/*"}), frozenset({"text/plain"})
    one = yes(redact=frozenset({"location"}), content=(photos,), monitored_content=(("a", photos),))
    other = yes(content=(photos, texts), monitored_content=(("b", texts),), bare=True, audit=Audit.REQUIRED)
    got = stricter(one, other)
    assert got.redact == {"location"}
    assert got.content == (photos, texts)
    assert got.monitored_content == (("a", photos), ("b", texts))
    assert got.audit is Audit.REQUIRED


def test_one_answer_alone_is_itself() -> None:
    assert stricter(None, yes()) == yes()
    assert stricter(yes(), yes()) == yes()


@pytest.mark.parametrize(("one", "other"), list(product([False, True], repeat=2)))
def test_a_refused_file_is_kept_if_either_decision_keeps_it(one: bool, other: bool) -> None:
    got = stricter(yes(rules=(ALLOW,), quarantine=one), yes(rules=(OTHER,), quarantine=other))
    assert got.quarantine is (one or other)


def test_a_name_said_by_both_is_said_once_in_the_order_in_which_it_came() -> None:
    one = yes(rules=(ALLOW,), would_deny=("a", "b"), would_allow=("x",))
    other = yes(rules=(ALLOW, OTHER), would_deny=("b", "c"), would_allow=("x", "y"))
    got = stricter(one, other)
    assert (got.rules, got.would_deny, got.would_allow) == ((ALLOW, OTHER), ("a", "b", "c"), ("x", "y"))


def test_an_errno_without_a_rank_says_more_than_any_that_has_one() -> None:
    assert stricter(no(errno.EMLINK), no(errno.EXDEV)).errno == errno.EXDEV
    assert stricter(no(errno.EXDEV, rules=(DENY,)), no(errno.EMLINK)).errno == errno.EXDEV


def test_a_denial_carries_no_obligation_and_no_rule_of_who_allowed() -> None:
    allowed = yes(rules=(ALLOW,), redact=frozenset({"location"}), quarantine=True, would_allow=("x",))
    got = stricter(allowed, no(errno.EACCES, rules=(DENY,)))
    assert (got.rules, got.redact, got.content, got.quarantine) == ((DENY,), frozenset(), (), False)
    assert got.would_allow == ()


KEPT = """\
- {id: typed, require: {content: [image/jpeg]}, paths: "/**", on_refused: quarantine}
- {id: more, allow: [read], who: {app: maps}, paths: "/d/**"}
"""


@on_trio
async def test_a_file_keeps_its_quarantine_under_a_second_name(store: Path) -> None:
    """Two names that a reload tells apart; under each of them a refused file is put aside."""
    (store / "d").mkdir()
    with parts(store, engine_of(OPEN)) as made:
        node, caller = await made.walk("/empty", MAPS), made.caller(MAPS)
        await made.linker.link(node, await made.walk("/d", MAPS), b"too", caller)
        made.reload(engine_of(OPEN + KEPT))
        assert len(node.states()) == 2
        decision = made.gate.judge(caller.principal, Op.SEE | Op.WRITE, node, Facts(None, None))
        assert decision.allowed
        assert decision.quarantine


@pytest.mark.parametrize("first", [False, True])
def test_an_obligation_of_either_decision_stands(first: bool) -> None:
    one = yes(redact=frozenset({"location"}), bare=True, audit=Audit.REQUIRED, rules=(ALLOW,))
    other = yes(redact=frozenset({"time"}), audit=Audit.OFF)
    got = stricter(one, other) if first else stricter(other, one)
    assert got.redact == {"location", "time"}
    assert (got.bare, got.audit, got.rules) == (True, Audit.REQUIRED, (ALLOW,))


def test_of_two_denials_the_rules_that_only_watch_stand() -> None:
    one, other = no(errno.EACCES, would_deny=("a",)), no(errno.EACCES, would_deny=("b",), would_allow=("c",))
    got = stricter(one, other)
    assert (got.would_deny, got.would_allow) == (("a", "b"), ("c",))
    assert stricter(yes(would_deny=("a",)), other).would_deny == ("b",)

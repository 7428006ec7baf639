"""The ban of extended attributes: for every name of a file; without a rule nothing is looked up."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.domain import NO_FACTS, Need
from policyfs.fs.access.audit import Call
from policyfs.fs.namespace.xattr_bans import AttributeBans
from policyfs.kernel.bridge import pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN

CALL = Call("xattr", "setxattr")
IN = OPEN + '- {id: no, require: {no: [location, time]}, paths: "/in/**"}\n'
CLEAN = OPEN + '- {id: clean, require: {clean: [location]}, paths: "/in/**", who: {app: camera}}\n'


async def banned(made: Parts, path: str, uid: int = CAMERA) -> int:
    bans, node, caller = AttributeBans(made.gate), await made.walk(path, uid), made.caller(uid)
    need = bans.need(node, caller)
    facts = await made.gate.facts_of(node, need, caller.principal) if need else NO_FACTS
    try:
        bans.check(node, caller, CALL, facts)
    except pyfuse3.FUSEError as refused:
        return refused.errno
    return 0


@pytest.fixture
def inside(store: Path) -> Path:
    (store / "in").mkdir()
    (store / "in/b.jpg").write_bytes(b"words")
    return store


@on_trio
async def _asked(store: Path, rules: str, wanted: dict[tuple[str, int], int]) -> None:
    with parts(store, engine_of(rules)) as made:
        found = {(path, uid): await banned(made, path, uid) for path, uid in wanted}
        assert found == wanted


def test_where_a_rule_forbids_words_none_may_be_set(inside: Path) -> None:
    refused = errno.EOPNOTSUPP
    _asked(inside, IN, {("/a.jpg", CAMERA): 0, ("/in/b.jpg", CAMERA): refused, ("/in/b.jpg", MAPS): refused})
    _asked(inside, CLEAN, {("/in/b.jpg", CAMERA): refused, ("/in/b.jpg", MAPS): 0})


def test_a_rule_about_some_kinds_holds_for_files_that_may_become_such(inside: Path) -> None:
    (inside / "in/empty").write_bytes(b"")
    photos = IN.replace('"/in/**"', '"/in/**", when: {type: image/*}')
    refused = errno.EOPNOTSUPP
    _asked(inside, photos, {("/in/b.jpg", CAMERA): refused, ("/in/empty", CAMERA): refused})


def test_one_of_a_files_names_is_enough(inside: Path) -> None:
    os.link(inside / "a.jpg", inside / "in/a.jpg")

    @on_trio
    async def run() -> None:
        with parts(inside, engine_of(IN)) as made:
            node = await made.walk("/a.jpg", CAMERA)
            bans, caller = AttributeBans(made.gate), made.caller(CAMERA)
            assert bans.need(node, caller) is Need.NOTHING
            bans.check(node, caller, CALL, NO_FACTS)
            await made.linker.link(node, made.root, b"c.jpg", caller)
            assert await banned(made, "/in/a.jpg") == errno.EOPNOTSUPP

    run()


def test_the_refusal_is_on_record_and_names_the_words(inside: Path) -> None:
    @on_trio
    async def run() -> None:
        with parts(inside, engine_of(IN)) as made:
            await banned(made, "/in/b.jpg")
            event = made.sink.events[-1]
            assert (event.decision, event.errno, event.path) == ("deny", errno.EOPNOTSUPP, b"/in/b.jpg")
            assert "could contain location, time," in event.note
            made.sink.broken = True
            assert await banned(made, "/in/b.jpg") == errno.EIO

    run()


def test_where_no_rule_forbids_anything_no_fact_is_needed(inside: Path) -> None:
    @on_trio
    async def run() -> None:
        with parts(inside, engine_of(IN)) as made:
            node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
            assert AttributeBans(made.gate).need(node, caller) is Need.NOTHING
            node = await made.walk("/in/b.jpg", CAMERA)
            assert AttributeBans(made.gate).need(node, caller) is Need.OWNER

    run()

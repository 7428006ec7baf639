"""How long the kernel may believe what it is told."""

from __future__ import annotations

import time

import pytest

from policyfs.domain import RAW_VIEW, FileType
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.open_state import Mode, OpenState
from policyfs.fs.inodes.placement import Placement
from policyfs.fs.kernel_cache.attributes import COLD_S, LONG_S, UNWATCHED_S, Timeouts
from policyfs.linux.statx import Stat
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy

POLICY = b"""\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: timeouts}
apps: {a: {uid: 1}, b: {uid: 2}}
rules:
  - {id: all, allow: [see, read], paths: "/***"}
  - {id: some, deny: [see], who: {app: b}, paths: "/some/***"}
"""


@pytest.fixture(scope="module")
def engine() -> Engine:
    return compile_policy(parse_policy([SourceText("timeouts.yaml", POLICY)]))


def timeouts(engine: Engine, *, alone: bool = False, watched: bool = True, forgets: bool = True) -> Timeouts:
    made = Timeouts(alone=alone)
    made.use(engine)
    made.watched, made.forgets_absent = watched, forgets
    made.reported = lambda _: True
    return made


def stat(age_s: float) -> Stat:
    changed = time.time_ns() - int(age_s * 1e9)
    return Stat(
        ino=1, dev=1, mode=0o100644, nlink=1, uid=0, gid=0, size=0, blocks=0, blksize=4096,
        atime_ns=0, mtime_ns=0, ctime_ns=changed, btime_ns=1,
    )  # fmt: skip


def attr(made: Timeouts, engine: Engine, age_s: float, path: bytes = b"/all/a.jpg") -> float:
    state = engine.state_of(path)
    node = Node(2, 1, 1, FileType.REGULAR, RAW_VIEW, BytePath.RAW, state, Placement(engine.child))
    return made.attr(state, node, stat(age_s))


def test_a_name_is_kept_where_all_callers_are_told_the_same(engine: Engine) -> None:
    shared, own = timeouts(engine), timeouts(engine, alone=True)
    assert shared.entry(engine.state_of(b"/all")) == LONG_S
    assert shared.entry(engine.state_of(b"/some/x")) == 0
    assert own.entry(engine.state_of(b"/some/x")) == LONG_S


def test_without_a_watch_a_second_is_the_longest(engine: Engine) -> None:
    made = timeouts(engine, alone=True, watched=False)
    assert made.entry(engine.state_of(b"/all")) == UNWATCHED_S
    assert attr(made, engine, 10_000) == UNWATCHED_S


def test_a_file_with_another_name_may_be_written_where_nothing_watches(engine: Engine) -> None:
    made, state = timeouts(engine), engine.state_of(b"/all/a.jpg")
    linked = stat(10_000)._replace(nlink=2)
    assert made.attributes(state, linked, reported=True) == UNWATCHED_S
    assert made.attributes(engine.state_of(b"/some/a.jpg"), linked, reported=True) == 0


def test_attributes_are_believed_for_as_long_as_they_have_stood(engine: Engine) -> None:
    made = timeouts(engine)
    assert attr(made, engine, 0) == UNWATCHED_S
    assert attr(made, engine, 30) == pytest.approx(30, abs=2)
    assert 0.75 * COLD_S <= attr(made, engine, 10_000) <= COLD_S
    assert attr(made, engine, -10_000) == UNWATCHED_S  # a clock that was set back
    assert attr(made, engine, 10_000, b"/some/a.jpg") == 0


def test_attributes_of_a_file_that_may_be_written_in_passthrough_are_not_kept(engine: Engine) -> None:
    """Also where it is open by another node."""
    made, opened = timeouts(engine), OpenState(mode=Mode.PASSTHROUGH)
    other = Node(3, 1, 1, FileType.REGULAR, RAW_VIEW, BytePath.RAW, engine.root, Placement(engine.child))
    made.same_inode = lambda ino: [other] if ino == 1 else []
    other.open = opened
    assert attr(made, engine, 30) > UNWATCHED_S
    opened.writers = 1
    assert attr(made, engine, 30) == 0
    opened.mode = Mode.MEDIATED
    assert attr(made, engine, 30) > UNWATCHED_S


def test_those_of_an_empty_file_are_kept_while_its_only_open_node_can_write(engine: Engine) -> None:
    made, state = timeouts(engine), engine.state_of(b"/all/a.jpg")
    node, other = (
        Node(number, 1, 1, FileType.REGULAR, RAW_VIEW, BytePath.RAW, state, Placement(engine.child))
        for number in (2, 3)
    )
    made.same_inode = lambda _ino: [node, other]
    node.open = OpenState(mode=Mode.PASSTHROUGH, writers=1)
    assert made.attr(state, node, stat(0)) == UNWATCHED_S
    assert made.attr(state, node, stat(0)._replace(size=1)) == 0
    other.open = OpenState(mode=Mode.PASSTHROUGH)
    assert made.attr(state, node, stat(0)) == 0


def test_a_library_that_was_walked_at_once_does_not_expire_at_once(engine: Engine) -> None:
    made, state = timeouts(engine), engine.state_of(b"/all/a.jpg")
    found = [
        made.attributes(state, stat(10_000)._replace(ino=ino), reported=True) for ino in range(1000, 2000)
    ]
    assert max(found) <= COLD_S
    for tenth in range(10):  # of the span in which they end
        low = COLD_S * (0.75 + 0.025 * tenth)
        assert 50 < sum(low <= one < low + COLD_S * 0.025 for one in found) < 200


def test_absent_names_are_kept_only_where_the_kernel_can_be_made_to_forget_them(engine: Engine) -> None:
    state = engine.state_of(b"/all/x")
    assert timeouts(engine).missing(state, by_kind=False) == LONG_S
    assert timeouts(engine, forgets=False).missing(state, by_kind=False) == UNWATCHED_S
    assert timeouts(engine).missing(state, by_kind=True) == UNWATCHED_S
    assert timeouts(engine).missing(engine.state_of(b"/some/x"), by_kind=True) == 0

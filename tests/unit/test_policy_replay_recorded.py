"""Meanings of recorded requests."""

from __future__ import annotations

import pytest

from policyfs.domain import FileType, Op
from policyfs.policy.replay.recorded import NO_DECISIONS, demand_of
from policyfs.trail.lines.event import OPERATIONS


@pytest.mark.parametrize(
    ("operation", "syscall", "ops", "empties"),
    [
        ("open", "open(O_RDONLY)", Op.SEE | Op.READ, False),
        ("open", "open(O_WRONLY|O_APPEND)", Op.SEE | Op.WRITE, False),
        ("open", "open(O_RDWR|O_TRUNC)", Op.SEE | Op.READ | Op.WRITE, True),
        ("open", "open(O_RDONLY|O_TRUNC)", Op.SEE | Op.READ | Op.WRITE, True),
        ("create", "open(O_WRONLY|O_CREAT|O_EXCL)", Op.SEE | Op.CREATE | Op.WRITE, True),
        ("create", "open(O_RDWR|O_CREAT)", Op.SEE | Op.READ | Op.CREATE | Op.WRITE, True),
    ],
)
def test_opens_by_their_flags(operation: str, syscall: str, ops: Op, empties: bool):
    demand = demand_of(operation, syscall)
    assert demand is not None
    assert (demand.ops, demand.empties, demand.types) == ((ops,), empties, (FileType.REGULAR,))


def test_every_operation_of_a_trail_has_a_meaning():
    for operation in OPERATIONS:
        syscall = "open(O_RDONLY)" if operation in {"open", "create"} else operation
        assert (demand_of(operation, syscall) is None) == (operation in NO_DECISIONS), operation


def test_moves():
    assert [
        demand.move
        for syscall in ("rename", "renameat2(RENAME_NOREPLACE)", "renameat2(RENAME_EXCHANGE)")
        if (demand := demand_of("rename", syscall)) is not None
    ] == ["rename", "rename", "exchange"]


@pytest.mark.parametrize("syscall", ["openat2", "open(0x42)", "open(O_RDONLY", ""])
def test_a_strange_call_has_no_meaning(syscall: str):
    assert demand_of("open", syscall) is None

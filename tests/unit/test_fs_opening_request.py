"""The meaning of open flags: every way to write is one, and any O_TRUNC is a write."""

from __future__ import annotations

import os

import pytest

from policyfs.domain import Op
from policyfs.fs.access.audit import Call
from policyfs.fs.opening.request import OpenContext, OpenRequest, describe, ops_of

READ, WRITE = Op.SEE | Op.READ, Op.SEE | Op.WRITE


@pytest.mark.parametrize(
    ("flags", "ops"),
    [
        (os.O_RDONLY, READ),
        (os.O_WRONLY, WRITE),
        (os.O_RDWR, READ | WRITE),
        (os.O_RDWR | os.O_WRONLY, READ | WRITE),  # 3: Linux has it, for ioctl alone
        (os.O_RDONLY | os.O_TRUNC, READ | WRITE),
        (os.O_WRONLY | os.O_TRUNC, WRITE),
        (os.O_RDONLY | os.O_APPEND, READ),
        (os.O_WRONLY | os.O_APPEND | os.O_CREAT, WRITE),
    ],
)
def test_operations_by_flags(flags: int, ops: Op) -> None:
    assert ops_of(flags) == ops
    request = OpenRequest.of(None, None, flags)  # type: ignore[arg-type]
    assert request.ops == ops
    assert request.writing is bool(ops & Op.WRITE)
    assert request.empties is bool(flags & os.O_TRUNC)


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (os.O_RDONLY, "open(O_RDONLY)"),
        (os.O_WRONLY | os.O_TRUNC, "open(O_WRONLY|O_TRUNC)"),
        (os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, "open(O_RDWR|O_APPEND|O_CREAT|O_EXCL)"),
        (os.O_RDONLY | os.O_DIRECTORY, "open(O_RDONLY)"),
        (os.O_RDONLY | os.O_DIRECT, "open(O_RDONLY|O_DIRECT)"),
        (3, "open(O_RDWR)"),
    ],
)
def test_flags_as_people_write_them(flags: int, text: str) -> None:
    assert describe(flags) == text
    assert OpenRequest.of(None, None, flags).call == Call("open", text)  # type: ignore[arg-type]


def test_a_request_may_be_on_record_as_another_call() -> None:
    other = Call("truncate", "truncate")
    request = OpenRequest.of(None, None, os.O_WRONLY, other)  # type: ignore[arg-type]
    assert request.call is other
    assert request.writing


def test_what_no_step_has_filled_in_cannot_be_read() -> None:
    opening = OpenContext(OpenRequest.of(None, None, os.O_RDONLY))  # type: ignore[arg-type]
    for name in ("stat", "decision", "handle"):
        with pytest.raises(AttributeError):
            getattr(opening, name)
    with pytest.raises(RuntimeError, match="before step 5"):
        _ = opening.shared
    assert (opening.fd, opening.bytes_fd, opening.by_kind, opening.emptied) == (-1, -1, False, False)

"""Reading an index. tests/property/test_audit_index.py compares it with the lines."""

from __future__ import annotations

import pytest

from policyfs.trail.query import index as index_module
from policyfs.trail.query.index import MAGIC, Index
from policyfs.trail.query.index_body import WrongIndexError
from policyfs.trail.query.index_build import IndexBuilder
from tests.support.mount.trail import START_NS, an_event, line_of

DEEP = MAGIC + b',"a":' + b"[" * 100_000 + b"\n"
PATHS = [b"/a", b"/a/b", b"/a0", b"/b", b"/\xff"]


def data_of(times: tuple[int, ...] = (1, 2, 3, 4, 5)) -> bytes:
    builder = IndexBuilder()
    for path, time in zip(PATHS, times, strict=True):
        builder.add(line_of(an_event(path, time_ns=START_NS + time)), 0)
    return builder.finish("s", 0, "00")


def test_paths_are_in_order_and_found() -> None:
    index = Index(data_of())
    assert [index.path(path_id) for path_id in range(index.path_count)] == sorted(PATHS)
    assert index.paths([2, 0]) == [b"/a0", b"/a"]
    assert index.first_path(b"/a/") == 1
    assert index.first_path(b"/zzz") == 4
    assert [index.rows_of_path(path_id) for path_id in range(5)] == [[0], [1], [2], [3], [4]]
    with pytest.raises(KeyError):
        next(index.numbers("pid"))


def test_periods() -> None:
    index = Index(data_of())
    assert index.rows_between(START_NS + 2, START_NS + 4) == (1, 3)
    assert index.rows_between(None, None) == (0, 5)
    assert index.period() == (START_NS + 1, START_NS + 5)
    assert Index(IndexBuilder().finish("s", 0, "00")).period() is None
    stepped_back = Index(data_of((1, 5, 2, 3, 4)))
    assert stepped_back.rows_between(START_NS, None) is None
    assert stepped_back.period() == (START_NS + 1, START_NS + 5)


@pytest.mark.parametrize("data", [b"", b"{}\n", b'{"format":"policyfs-index-1"}\n', b"\xff" * 100, DEEP])
def test_other_bytes_are_no_index(data: bytes) -> None:
    with pytest.raises(WrongIndexError):
        Index(data)


def test_an_index_of_another_byte_order_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of()
    monkeypatch.setattr(index_module.sys, "byteorder", "big")
    with pytest.raises(WrongIndexError):
        Index(data)


def test_the_last_event_before_a_line() -> None:
    builder = IndexBuilder()
    for time_ns in (START_NS, START_NS + 1):
        builder.add(b"bad\n", 0)
        builder.add(line_of(an_event(time_ns=time_ns)), 0)
    index = Index(builder.finish("s", 0, "00"))
    times = [index.time_before(line) for line in range(1, 6)]
    assert times == [None, None, START_NS, START_NS, START_NS + 1]

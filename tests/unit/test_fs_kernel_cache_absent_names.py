"""Which absent names the kernel is known to keep."""

from __future__ import annotations

from policyfs.fs.kernel_cache.absent_names import AbsentNames


def test_all_names_are_taken_once() -> None:
    names = AbsentNames(lambda parent, name: True)
    for _ in range(2):
        names.add(1, b"a")
        names.add(2, b"a")
    assert len(names) == 2
    assert sorted(names.take()) == [(1, b"a"), (2, b"a")]
    assert names.take() == []


def test_beyond_the_bound_the_kernel_forgets_what_was_looked_up_longest_ago() -> None:
    forgotten: list[tuple[int, bytes]] = []

    def forget(parent: int, name: bytes) -> bool:
        forgotten.append((parent, name))
        return True

    names = AbsentNames(forget, most=2)
    for name in (b"a", b"b", b"a", b"c"):
        names.add(1, name)
    assert forgotten == [(1, b"b")]
    assert not names.lost
    assert names.take() == [(1, b"a"), (1, b"c")]


def test_a_name_that_cannot_be_forgotten_is_lost_until_the_next_expiry_of_all() -> None:
    names = AbsentNames(lambda parent, name: False, most=1)
    names.add(1, b"a")
    assert not names.lost
    names.add(1, b"b")
    names.add(1, b"c")
    assert names.lost
    names.take()
    assert not names.lost


def test_a_name_that_exists_by_now_displaces_none() -> None:
    forgotten: list[tuple[int, bytes]] = []

    def forget(parent: int, name: bytes) -> bool:
        forgotten.append((parent, name))
        return True

    names = AbsentNames(forget, most=2)
    names.add(1, b"absent")
    for number in range(9):
        names.add(1, b"new%d" % number)
        names.found(1, b"new%d" % number)
    names.found(1, b"never looked up")
    assert forgotten == []
    assert names.take() == [(1, b"absent")]

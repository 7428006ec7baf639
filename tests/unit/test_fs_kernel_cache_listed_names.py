"""Names of replies under way: remembered until they are used, and never too many."""

from __future__ import annotations

from policyfs.fs.kernel_cache.listed_names import ListedNames


def test_names_are_remembered_until_the_kernel_asks_for_more() -> None:
    names = ListedNames(lambda _: None)
    for index, name in ((1, b"a"), (1, b"b"), (2, b"c")):
        names.add(index, 10 + index, name)
    assert list(names) == [(11, b"a"), (11, b"b"), (12, b"c")]
    names.used(1)
    names.used(3)
    assert (list(names), len(names)) == ([(12, b"c")], 1)


def test_the_oldest_are_expired_where_there_are_too_many() -> None:
    expired: list[tuple[int, bytes]] = []
    names = ListedNames(expired.extend, most=3)
    for number in range(8):
        names.add(number // 2, 1, b"%d" % number)
        assert len(names) <= 3
    assert expired == [(1, b"%d" % number) for number in range(6)]
    assert list(names) == [(1, b"6"), (1, b"7")]


def test_one_long_reply_is_expired_in_parts() -> None:
    expired: list[tuple[int, bytes]] = []
    names = ListedNames(expired.extend, most=3)
    for number in range(6):
        names.add(1, 1, b"%d" % number)
    assert len(expired) + len(names) == 6

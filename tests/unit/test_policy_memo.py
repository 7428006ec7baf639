"""The bounded memo table."""

from __future__ import annotations

from policyfs.policy.memo import Memo


def test_what_is_kept_is_found():
    memo: Memo[str, int] = Memo(3)
    assert memo.get("a") is None
    assert memo.keep("a", 1) == 1
    assert memo.get("a") == 1


def test_it_forgets_the_oldest_when_it_is_full():
    memo: Memo[int, int] = Memo(3)
    for number in range(5):
        memo.keep(number, number)
    assert [memo.get(number) for number in range(5)] == [None, None, 2, 3, 4]


def test_it_never_forgets_all_in_one_go():
    """What 100,000 answers of an app leave behind takes 75 ms to free, and everybody would wait."""
    memo: Memo[int, int] = Memo(1000)
    for number in range(10_000):
        memo.keep(number, number)
        assert len(memo) == min(number + 1, 1000)


def test_an_answer_that_is_kept_again_takes_its_room_once():
    memo: Memo[str, int] = Memo(4)
    for number in range(10):
        memo.keep("large", number, 3)
    memo.keep("small", 1)
    assert (memo.get("large"), memo.get("small")) == (9, 1)
    memo.keep("large", 10)
    memo.keep("another", 2, 2)
    assert len(memo) == 3


def test_a_large_answer_takes_the_room_of_many():
    memo: Memo[str, int] = Memo(10)
    memo.keep("small", 1)
    memo.keep("large", 2, 9)
    assert len(memo) == 2
    memo.keep("another", 3, 2)
    assert len(memo) == 1
    memo.keep("larger than all", 4, 11)
    assert (len(memo), memo.get("larger than all")) == (1, 4)

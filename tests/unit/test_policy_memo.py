"""The bounded memo table."""

from __future__ import annotations

from policyfs.policy.memo import Memo


def test_what_is_kept_is_found():
    memo: Memo[str, int] = Memo(3)
    assert memo.get("a") is None
    assert memo.keep("a", 1) == 1
    assert memo.get("a") == 1


def test_it_forgets_all_when_it_is_full():
    memo: Memo[int, int] = Memo(3)
    for number in range(4):
        memo.keep(number, number)
    assert [memo.get(number) for number in range(4)] == [None, None, None, 3]


def test_a_large_answer_takes_the_room_of_many():
    memo: Memo[str, int] = Memo(10)
    memo.keep("small", 1)
    memo.keep("large", 2, 9)
    assert len(memo) == 2
    memo.keep("another", 3, 2)
    assert len(memo) == 1
    memo.keep("larger than all", 4, 11)
    assert (len(memo), memo.get("larger than all")) == (1, 4)

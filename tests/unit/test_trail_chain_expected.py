"""Digests that were kept elsewhere: each is compared, and the latest checkpoint states the end."""

from __future__ import annotations

from policyfs.trail.chain.expected import Expected
from policyfs.trail.chain.seal import NO_SEAL, Checkpoint

ONE, TWO = "1" * 64, "2" * 64


def checkpoint(seq: int, head: str) -> Checkpoint:
    return Checkpoint("m", seq, head, "1", 1, 1, NO_SEAL, NO_SEAL, "2026-03-01", "k")


def test_a_given_digest_is_compared_once_and_missing_until_then() -> None:
    expected = Expected({3: ONE, 2: ONE}, ())
    assert (set(expected.wanted), expected.missing, expected.end) == ({2, 3}, [2, 3], None)
    assert expected.compare(1, TWO)
    assert expected.compare(2, ONE)
    assert not expected.compare(3, TWO)
    assert expected.missing == []


def test_all_checkpoints_of_a_line_are_compared_and_the_latest_line_is_the_end() -> None:
    early, late, other = checkpoint(2, ONE), checkpoint(5, ONE), checkpoint(2, TWO)
    for order in ((early, late, other), (late, other, early), (other, early, late)):
        expected = Expected({}, order)
        assert set(expected.wanted) == {2, 5}
        assert (expected.end, expected.missing) == (late, [])
        assert expected.contradicting(2, ONE) == [other]
        assert set(expected.contradicting(2, NO_SEAL)) == {early, other}
        assert expected.contradicting(3, TWO) == []

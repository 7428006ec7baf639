"""The comparison of answers to canaries with the policy's."""

from __future__ import annotations

import errno

import pytest

from policyfs.cli.prove.canary_photo import SECRETS, photo
from policyfs.cli.prove.canary_requests import Answer
from policyfs.cli.prove.prover import not_passed, wrong_with
from policyfs.domain import Op
from policyfs.policy.analysis.canaries import Canary, Sort

HIDDEN = Canary(Sort.HIDING, b"/x", Op.SEE, errno.ENOENT)
DENIED = Canary(Sort.DENIAL, b"/x", Op.READ, errno.EACCES)
REDACTED = Canary(Sort.REDACTION, b"/x", Op.READ, words=frozenset({"location"}))
PASSED = Canary(Sort.PASSTHROUGH, b"/x", Op.READ)


def _without_place() -> bytes:
    data = photo()
    for secret in SECRETS["location"]:
        data = data.replace(secret, bytes(len(secret)))
    return data


@pytest.mark.parametrize(
    ("canary", "answer", "wrong"),
    [
        (HIDDEN, Answer(errno.ENOENT, listed=False), ""),
        (HIDDEN, Answer(errno.EACCES), "the answer was EACCES, but the policy's answer is ENOENT"),
        (HIDDEN, Answer(0), "the answer was no error, but the policy's answer is ENOENT"),
        (
            HIDDEN,
            Answer(errno.ENOENT, listed=True),
            "the directory lists the name, but the policy hides the name",
        ),
        (DENIED, Answer(errno.EACCES), ""),
        (DENIED, Answer(0), "the mount allowed the request, but the policy denies it"),
        (DENIED, Answer(errno.EIO), "the answer was EIO, but the policy's answer is EACCES"),
        (PASSED, Answer(0, data=photo()), ""),
        (PASSED, Answer(0, data=photo()[:-1]), "the bytes differ from the bytes of the file"),
        (PASSED, Answer(errno.EACCES), "the answer was EACCES, but the policy allows the request"),
        (REDACTED, Answer(0, data=_without_place()), ""),
        (REDACTED, Answer(0, data=_without_place()[:-1]), "the size differs from the size of the file"),
        (REDACTED, Answer(0, data=photo()), "the bytes still contain location, which the policy redacts"),
    ],
)
def test_each_answer_is_compared(canary: Canary, answer: Answer, wrong: str) -> None:
    assert wrong_with(canary, answer, posix=False, reads=True) == wrong


def test_where_mode_bits_count_they_may_deny_more() -> None:
    assert wrong_with(DENIED, Answer(errno.EPERM), posix=True, reads=True) == ""
    assert wrong_with(HIDDEN, Answer(errno.EACCES), posix=True, reads=False) == ""
    assert wrong_with(HIDDEN, Answer(0), posix=True, reads=False)
    assert wrong_with(PASSED, Answer(errno.EACCES), posix=True, reads=False) == ""


def test_a_file_of_the_library_is_compared_by_its_inode() -> None:
    passed = PASSED._replace(inode=7)
    assert wrong_with(passed, Answer(0, 7), posix=False, reads=False) == ""
    assert (
        wrong_with(passed, Answer(0, 8), posix=False, reads=False)
        == "the mount shows another file of the store"
    )


def _counts(reads: int, **more: object) -> dict[str, object]:
    return {"passthrough": {"enabled": True, "refused": {}, **more}, "fuse": {"READ": reads}}


def test_passthrough_is_compared_by_the_reads_of_the_daemon() -> None:
    before = _counts(1)
    assert not_passed(before, _counts(1)) == ""
    assert not_passed({"fuse": {}}, {"passthrough": {"enabled": True}}) == ""
    asked = "passthrough is on, but the kernel asked the daemon for the bytes"
    assert not_passed(before, _counts(2)) == asked
    assert not_passed(before, _counts(2, enabled=False)) == ""
    assert not_passed(before, _counts(2, refused={"an overlay": 1})) == ""

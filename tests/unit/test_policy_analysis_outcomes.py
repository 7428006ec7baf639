"""Which of two answers gives more."""

from __future__ import annotations

import errno

import pytest

from policyfs.domain import RAW_VIEW, Audit, Decision, View, ban, cleaning
from policyfs.policy.analysis.outcomes import Aspect, Direction, changes, view_change

YES = Decision(True, 0)
WIDER, NARROWER, OTHER = Direction.WIDER, Direction.NARROWER, Direction.OTHER


def words(*of: str) -> frozenset[str]:
    return frozenset(of)


def redacted(*of: str) -> Decision:
    return Decision(True, 0, redact=words(*of))


def checked(*content: frozenset[str]) -> Decision:
    return Decision(True, 0, content=content)


def no(code: int) -> Decision:
    return Decision(False, code)


@pytest.mark.parametrize(
    ("before", "after", "want"),
    [
        (YES, YES, None),
        (no(errno.ENOENT), YES, (WIDER, Aspect.ACCESS)),
        (YES, no(errno.EACCES), (NARROWER, Aspect.ACCESS)),
        (no(errno.ENOENT), no(errno.EACCES), (OTHER, Aspect.ERRNO)),
        (redacted("location"), YES, (WIDER, Aspect.REDACTION)),
        (YES, redacted("time"), (NARROWER, Aspect.REDACTION)),
        (redacted("location"), redacted("time"), (WIDER, Aspect.REDACTION)),
        (redacted("location"), redacted("all-metadata"), (NARROWER, Aspect.REDACTION)),
        (redacted("location", "on_unknown: deny"), redacted("location"), (WIDER, Aspect.REDACTION)),
        (checked(words("image/jpeg")), YES, (WIDER, Aspect.CONTENT)),
        (checked(words("image/jpeg")), checked(words("image/*")), (WIDER, Aspect.CONTENT)),
        (checked(words("image/*")), checked(words("image/jpeg", "image/png")), (NARROWER, Aspect.CONTENT)),
        (checked(words("image/*")), checked(words("video/*")), (WIDER, Aspect.CONTENT)),
        (checked(words("a/b")), checked(words("a/b"), words("image/*")), (NARROWER, Aspect.CONTENT)),
        (
            checked(words(ban(words("location")))),
            checked(words(ban(words("location", "time")))),
            (NARROWER, Aspect.CONTENT),
        ),
        (
            checked(words(ban(words("location")))),
            checked(words(ban(words("location")), "application/zip")),
            (WIDER, Aspect.CONTENT),
        ),
        (checked(words(ban(words("location")))), checked(words("image/*")), (WIDER, Aspect.CONTENT)),
        (Decision(True, 0, audit=Audit.REQUIRED), YES, (WIDER, Aspect.RECORD)),
        (YES, Decision(True, 0, quarantine=True), (OTHER, Aspect.QUARANTINE)),
        (no(errno.EACCES), Decision(False, errno.EACCES, audit=Audit.OFF), (WIDER, Aspect.RECORD)),
        (no(errno.EACCES), Decision(False, errno.EACCES, audit=Audit.REQUIRED), (NARROWER, Aspect.RECORD)),
        (
            checked(words(cleaning(words("location")))),
            checked(words(cleaning(words("all-metadata")))),
            (NARROWER, Aspect.CONTENT),
        ),
        (
            checked(words(cleaning(words("all-metadata")))),
            checked(words(ban(words("all-metadata")))),
            (WIDER, Aspect.CONTENT),
        ),
    ],
)
def test_directions(before, after, want):
    found = [(one.direction, one.aspect) for one in changes(before, after)]
    assert found == ([] if want is None else [want])


def test_a_record_that_changes_with_the_redaction_is_not_said():
    before = Decision(True, 0, redact=words("location"), audit=Audit.REQUIRED)
    assert [one.aspect for one in changes(before, YES)] == [Aspect.REDACTION]


@pytest.mark.parametrize("shown", [(), ("location",)])
def test_a_record_that_gets_weaker_under_redaction_is_said(shown):
    before = Decision(True, 0, redact=words(*shown), audit=Audit.REQUIRED)
    after = Decision(True, 0, redact=words("location", "device"), audit=Audit.OFF)
    found = [(one.direction, one.aspect) for one in changes(before, after)]
    assert found == [(NARROWER, Aspect.REDACTION), (WIDER, Aspect.RECORD)]
    assert [one.aspect for one in changes(after, before)] == [Aspect.REDACTION]


def test_views():
    assert view_change(RAW_VIEW, View(0, frozenset(), False)) is None
    change = view_change(RAW_VIEW, View(3, words("location"), False))
    assert change is not None
    assert (change.before, change.after) == ("raw (passthrough)", "redacted(location)")

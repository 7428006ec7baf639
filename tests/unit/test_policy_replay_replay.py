"""Verdicts on single requests; tests/property/test_policy_replay.py has the rest."""

from __future__ import annotations

import errno

import pytest

from policyfs.policy.analysis.outcomes import Aspect, Direction
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.exceptions import ALWAYS
from policyfs.policy.replay import replay as module
from policyfs.policy.replay.recorded import Cause, Recorded
from policyfs.policy.replay.replay import Replayer, Verdict
from policyfs.policy.text.parse import SourceText, parse_policy
from policyfs.policy.text.values import instant

HEAD = "apiVersion: policyfs/v1\nkind: Policy\napps: {a: {uid: 7}, b: {uid: 8}}\nrules:\n"
ALL = '  - {id: all, allow: [all], paths: "/**"}\n'
CONTENT = '  - {id: photos, require: {content: [image/*]}, paths: "/**"}\n'
NO = '  - {id: photos, require: {no: [location]}, paths: "/**"}\n'


def engine_of(rules: str) -> Engine:
    return compile_policy(parse_policy([SourceText("case.yaml", (HEAD + rules).encode())]))


def verdict(old: str | None, new: str, recorded: Recorded, path: bytes = b"/x") -> Verdict:
    known = None if old is None else engine_of(old)
    replayer = Replayer(engine_of(new), lambda recorded, monitor: known)
    asked = replayer.asked(recorded)
    found = replayer.decide(asked, path, None, empty=False)
    assert replayer.decide(asked, path, None, empty=False) is found
    return found


WRITE = Recorded(
    "a", 7, None, "write", "write", False, errno.EPERM, Cause.CONTENT, ("photos",), kind="text/plain"
)
READ = Recorded("a", 7, None, "open", "open(O_RDONLY)", True, 0, Cause.NONE, ("all",), view="raw")


@pytest.mark.parametrize(
    ("old", "new", "direction"),
    [
        (CONTENT, CONTENT, None),
        (CONTENT, "", Direction.WIDER),
        (CONTENT, CONTENT.replace("[image/*]", "[image/*, text/plain]"), Direction.WIDER),
        (CONTENT, CONTENT.replace("image/*", "image/png"), None),
        (NO, NO, None),
    ],
)
def test_refused_bytes(old: str, new: str, direction: Direction | None):
    found = verdict(ALL + old, ALL + new, WRITE)
    assert (found.direction, found.untold) == (direction, ())


def test_refused_bytes_of_which_too_little_is_told():
    assert verdict(ALL + CONTENT, ALL + NO, WRITE).untold
    assert verdict(ALL + CONTENT, ALL + NO.replace("location", "time"), WRITE._replace(kind=None)).untold
    assert verdict(ALL + CONTENT, '  - {id: r, allow: [see, read], paths: "/**"}\n', WRITE).after == "EACCES"


def test_the_recorded_answer_counts_where_its_policy_is_lost():
    found = verdict(None, '  - {id: none, allow: [see], paths: "/y"}\n', READ)
    assert (found.direction, found.before, found.after) == (Direction.NARROWER, "allowed", "ENOENT")
    assert found.by_answer
    assert verdict(None, ALL, READ) == Verdict(by_answer=True)


@pytest.mark.parametrize(
    ("view", "rules", "direction"),
    [
        ("raw", "  - {id: r, require: {redact: [location]}}\n", Direction.NARROWER),
        ("redacted(location)", "", Direction.WIDER),
        ("redacted(location)", "  - {id: r, require: {redact: [location]}}\n", None),
        ("checked", "  - {id: r, require: {redact: [location]}}\n", Direction.WIDER),
    ],
)
def test_views_where_the_policy_is_lost(view: str, rules: str, direction: Direction | None):
    assert verdict(None, ALL + rules, READ._replace(view=view)).direction is direction


@pytest.mark.parametrize(
    ("new", "direction", "aspect"),
    [
        (ALL + "  - {id: d, deny: [read]}\n", Direction.NARROWER, Aspect.ACCESS),
        (ALL + "  - {id: r, require: {redact: [location]}}\n", Direction.NARROWER, Aspect.REDACTION),
        (ALL.replace("[all]", "[all], audit: required"), Direction.NARROWER, Aspect.RECORD),
        (ALL.replace("[all]", "[all], audit: off"), Direction.WIDER, Aspect.RECORD),
        (ALL + CONTENT, Direction.OTHER, Aspect.REDACTION),  # another view of the same bytes
    ],
)
def test_what_changes_is_told_apart(new: str, direction: Direction, aspect: Aspect):
    found = verdict(ALL, new, READ)
    assert (found.direction, found.aspect) == (direction, aspect)


def test_a_policy_that_answers_otherwise_is_no_witness():
    assert verdict('  - {id: other, allow: [all], paths: "/**"}\n', ALL, READ) == Verdict(by_answer=True)


def test_a_missing_resource_and_a_strange_call_are_undecidable():
    assert verdict(ALL, ALL, READ._replace(cause=Cause.RESOURCE, allowed=False, errno=errno.EBUSY)).untold
    assert verdict(ALL, ALL, READ._replace(syscall="openat2")).untold == (
        "the operation that the request asked for",
    )


FIFO = Recorded("a", 7, None, "mknod", "mknod", False, errno.EPERM, Cause.SPECIAL, ())


@pytest.mark.parametrize(
    ("old", "new", "untold"),
    [
        (ALL, ALL, ()),
        (ALL, ALL.replace("[all]", "[see]"), ()),
        (ALL.replace("[all]", "[see]"), ALL, ("whether the mount had --posix",)),
        (None, ALL, ("whether the mount had --posix",)),
        (None, ALL + CONTENT, ()),
    ],
)
def test_a_fifo_that_the_mount_refused(old: str | None, new: str, untold: tuple[str, ...]):
    assert verdict(old, new, FIFO) == Verdict(untold=untold)


MOUNTS_OWN = [
    Recorded("a", 7, None, operation, syscall, False, code, Cause.MOUNT, ())
    for operation, syscall, code in (
        ("xattr", "setxattr", errno.EPERM),
        ("xattr", "setxattr", errno.EOPNOTSUPP),
        ("write", "write", errno.EACCES),
    )
]


@pytest.mark.parametrize("recorded", MOUNTS_OWN)
def test_a_refusal_of_the_mount_itself_stays(recorded: Recorded):
    closed = ALL + "  - {id: d, deny: [write, attr], paths: '/**', errno: EROFS}\n"
    more = ALL + "  - {id: b, deny: [read], who: {app: b}, paths: '/**'}\n"
    for old, new in ((ALL, ALL), (ALL + NO, ALL + NO), (ALL, more)):
        assert verdict(old, new, recorded) == Verdict()
    assert verdict(ALL + NO, ALL, recorded).untold == ("whether the mount would still refuse it",)
    assert verdict(ALL, closed, recorded).direction is Direction.OTHER


@pytest.mark.parametrize("operation", ["rename", "link"])
def test_a_move_that_the_mount_refused_stays_refused(operation: str):
    recorded = Recorded("a", 7, None, operation, operation, False, errno.EXDEV, Cause.MOUNT, ())
    gain = ALL + "  - {id: d, deny: [read], who: {app: b}, paths: '/x'}\n"

    def moved(old: str, new: str) -> Verdict:
        replayer = Replayer(engine_of(new), lambda recorded, monitor: engine_of(old))
        return replayer.decide(replayer.asked(recorded), b"/x", b"/y", empty=None)

    assert moved(ALL, ALL) == moved(gain, gain) == Verdict()
    assert moved(ALL, ALL + "  - {id: n, allow: [see], paths: '/z'}\n") == Verdict()
    if operation == "link":
        assert moved(gain, ALL).direction is Direction.WIDER, "the old policy refused it"
    else:  # a could copy it, so the old policy did not refuse it
        assert moved(gain, ALL).untold


@pytest.mark.parametrize("monitor", [False, True])
def test_a_known_monitor_is_the_only_way_tried(monitor: bool):
    seen: list[bool] = []

    def policies(recorded: Recorded, monitor: bool) -> None:
        seen.append(monitor)

    asked = Replayer(engine_of(ALL), policies).asked(READ._replace(would_deny=("no",), monitor=monitor))
    assert (asked.old, seen) == ((), [monitor])


def test_each_request_meets_the_exceptions_of_its_time():
    end_ns = instant("2030-01-31T18:00:00Z")
    party = """\
exceptions:
  - {id: party, allow: [see, read], until: 2030-01-31T18:00:00Z, reason: r, approved-by: Ann, paths: "/**"}
"""
    rules = '  - {id: none, allow: [see], paths: "/y"}\n' + party
    for at_ns, direction in ((ALWAYS, None), (end_ns - 1, None), (end_ns, Direction.NARROWER)):
        assert verdict(None, rules, READ._replace(at_ns=at_ns)).direction is direction


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "REMEMBERED", 2)
    replayer = Replayer(engine_of(ALL), lambda recorded, monitor: None)
    for number in range(9):
        asked = replayer.asked(READ._replace(uid=number))
        assert replayer.decide(asked, b"/%d" % number, None, empty=None).direction is None


def test_monitor_mode_is_tried_both_ways():
    deny = '  - {id: no, deny: [read], paths: "/**"}\n'
    seen: list[bool] = []

    def policies(recorded: Recorded, monitor: bool) -> Engine:
        seen.append(monitor)
        text = SourceText("case.yaml", (HEAD + ALL + deny).encode())
        return compile_policy(parse_policy([text]), monitor=monitor)

    replayer = Replayer(engine_of(ALL + deny), policies)
    asked = replayer.asked(READ._replace(would_deny=("no",)))
    found = replayer.decide(asked, b"/x", None, empty=None)
    assert (found.direction, found.by_answer, seen) == (Direction.NARROWER, False, [False, True])

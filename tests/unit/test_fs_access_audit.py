"""Events of decisions: what is in them, which rules are named, and what must be on record is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.domain import Audit, Decision, Op, Ranges, RuleMatch
from policyfs.fs.access import audit
from policyfs.fs.access.audit import Call, Recorder, _rules
from policyfs.fs.inodes.caller import Caller
from policyfs.kernel.bridge import pyfuse3
from policyfs.store.frozen import Version
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Sink, on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN

CALL = Call("open", "open(O_RDONLY)")
ALLOW, HIDE = RuleMatch("all", "allow", Op.READ), RuleMatch("hide", "redact", Op.READ)
DENY = RuleMatch("no", "deny", Op.READ)
TRIED = RuleMatch("try", "deny", Op.READ, monitor=True)


@pytest.mark.parametrize(
    ("verdict", "named"),
    [("allow", ("all", "hide", "no")), ("deny", ("hide", "no")), ("would-deny", ("all", "hide", "no"))],
)
def test_a_denial_names_no_rule_that_allows_and_nothing_names_one_on_trial(
    verdict: str, named: tuple[str, ...]
) -> None:
    decision = Decision(allowed=True, errno=0, rules=(ALLOW, HIDE, DENY, TRIED, ALLOW))
    assert _rules(decision, verdict) == named


def decided(decision: Decision, sink: Sink, **details: object) -> None:
    recorder = Recorder(sink, "/mnt")
    recorder.use_policy(3, "d" * 64)
    caller = Caller(engine_of(OPEN).principal, CAMERA, CAMERA, os.getpid(), 0)
    recorder.decided(caller, CALL, b"/a", decision, **details)  # type: ignore[arg-type]


def test_an_event_says_who_did_what_under_which_policy() -> None:
    sink = Sink()
    decided(
        Decision(allowed=True, errno=0, rules=(ALLOW,)), sink,
        kind="image/jpeg", before=Version(7, 8, 9), redacted=Ranges(((1, 2),), 1, 2),
        new_path=b"/b", note="n", handle=5,
    )  # fmt: skip
    (event,) = sink.events
    assert (event.mount, event.policy_generation, event.policy_digest) == ("/mnt", 3, "d" * 64)
    assert (event.app, event.uid, event.pid, event.exe) == (
        "camera", CAMERA, os.getpid(), os.readlink("/proc/self/exe")
    )  # fmt: skip
    assert (event.operation, event.syscall, event.path, event.new_path) == (
        "open",
        CALL.syscall,
        b"/a",
        b"/b",
    )
    assert (event.decision, event.errno, event.rules) == ("allow", 0, ("all",))
    assert (event.size_before, event.mtime_before_ns, event.redacted) == (7, 8, ((1, 2),))
    assert (event.kind, event.note, event.handle) == ("image/jpeg", "n", 5)


def test_a_callers_program_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later the caller may be in execve(2), where the look would wait (tests/mount/test_exec.py)."""
    caller = Caller(engine_of(OPEN).principal, CAMERA, CAMERA, os.getpid(), 0)
    program = Recorder(Sink(), "/mnt").program_of(caller)
    monkeypatch.setattr(audit, "executable", lambda _pid: pytest.fail("looked up again"))
    assert Recorder(Sink(), "/mnt").program_of(caller) == program == os.readlink("/proc/self/exe")


def test_the_mountpoint_on_the_trail_is_unicode() -> None:
    """Readers such as duckdb refuse a line with a lone surrogate."""
    sink = Sink()
    recorder = Recorder(sink, os.fsdecode(b"/mnt/\xff\xc3\xa9"))
    caller = Caller(engine_of(OPEN).principal, CAMERA, CAMERA, os.getpid(), 0)
    recorder.decided(caller, CALL, b"/a", Decision(allowed=True, errno=0))
    assert sink.events[0].mount == "/mnt/\\xff\u00e9"


@pytest.mark.parametrize(
    ("decision", "error", "verdict", "code"),
    [
        (Decision(allowed=True, errno=0), 0, "allow", 0),
        (Decision(allowed=False, errno=errno.EACCES), 0, "deny", errno.EACCES),
        (Decision(allowed=False, errno=errno.ENOENT), errno.EACCES, "deny", errno.EACCES),
        (Decision(allowed=True, errno=0), errno.EBUSY, "deny", errno.EBUSY),
        (Decision(allowed=True, errno=0, would_deny=("try",)), 0, "would-deny", 0),
        (Decision(allowed=True, errno=0, would_deny=("try",)), errno.EBUSY, "deny", errno.EBUSY),
    ],
)
def test_verdicts(decision: Decision, error: int, verdict: str, code: int) -> None:
    sink = Sink()
    decided(decision, sink, error=error)
    assert (sink.events[0].decision.replace("_", "-"), sink.events[0].errno) == (verdict, code)


def test_what_is_off_is_not_recorded_unless_a_rule_on_trial_would_answer_otherwise() -> None:
    sink = Sink()
    decided(Decision(allowed=True, errno=0, audit=Audit.OFF), sink)
    assert sink.events == []
    decided(Decision(allowed=True, errno=0, audit=Audit.OFF, would_deny=("try",)), sink)
    decided(Decision(allowed=False, errno=errno.EACCES, audit=Audit.OFF, would_allow=("try",)), sink)
    assert len(sink.events) == 2


@pytest.mark.parametrize("allowed", [True, False])
def test_what_must_be_on_record_and_cannot_be_is_an_io_error(allowed: bool) -> None:
    sink = Sink()
    sink.broken = True
    decision = Decision(allowed=allowed, errno=0 if allowed else errno.EACCES, audit=Audit.REQUIRED)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        decided(decision, sink)
    assert caught.value.errno == errno.EIO
    decided(decision.__class__(allowed=True, errno=0), sink)
    assert len(sink.events) == 1, "best effort goes on"



@on_trio
async def test_a_release_tells_the_bytes_that_went_through_the_daemon(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        await made.write(handle, 0, b"12345")
        made.gate.recorder.released(handle, b"/a.jpg", Version(5, 6, 7))
        event = made.sink.events[-1]
        assert (event.operation, event.decision) == ("release", "allow")
        assert (event.bytes_written, event.size_after, event.mtime_after_ns) == (5, 5, 6)
        made.gate.recorder.released(handle, b"/a.jpg", None)
        assert made.sink.events[-1].size_after is None

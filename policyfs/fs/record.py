"""From decisions to the trail: builds events and enforces `required`."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from typing import Final, NamedTuple, Protocol

from policyfs.domain import Audit, Decision
from policyfs.fs.openfile import Caller, Handle
from policyfs.kernel.bridge import pyfuse3
from policyfs.sinks.journal import JournalError
from policyfs.store.frozen import Version
from policyfs.trail.event import ALLOW, DENY, WOULD_DENY, Event

_EXE_S: Final = 0.1
_EXE_MAX: Final = 1024


class Call(NamedTuple):
    """What the caller asked for, in the words of the trail: operation and likely system call."""

    operation: str
    syscall: str


_RELEASE: Final = Call("release", "close")


class Sink(Protocol):
    """The journal, as far as recording needs it."""

    def record(self, event: Event, audit: Audit) -> None:
        """Record one event; REQUIRED raises JournalError if it could not be written."""


class Recorder:
    """Writes what the gate decided. One per mount."""

    def __init__(self, sink: Sink, mount: str) -> None:
        self._sink = sink
        self._mount = mount
        self._generation = 0
        self._executables: dict[int, tuple[float, str]] = {}
        self._digest = ""

    def use_policy(self, generation: int, digest: str) -> None:
        """Events from now on name this policy."""
        self._generation = generation
        self._digest = digest

    def decided(
        self,
        caller: Caller,
        call: Call,
        path: bytes,
        decision: Decision,
        *,
        new_path: bytes | None = None,
        kind: str | None = None,
        io: str = "",
        view: str = "",
        redacted: Iterable[tuple[int, int]] = (),
        handle: int | None = None,
        before: Version | None = None,
        note: str = "",
        error: int = 0,
    ) -> None:
        """Record a decision. Raises FUSEError(EIO) if it must be on record and could not be.

        error: what the request ended in, if something other than the decision refused it.
        """
        audit = decision.audit
        if audit is Audit.OFF and not decision.would_deny:
            return
        allowed = decision.allowed and not error
        verdict = ALLOW if allowed else DENY
        if allowed and decision.would_deny:
            verdict = WOULD_DENY
        exe = self._executable(caller.pid)
        event = self._event(caller, call, path, verdict, exe, before)._replace(
            new_path=new_path,
            kind=kind,
            errno=error or decision.errno,
            rules=_rules(decision, verdict),
            io=io,
            view=view,
            redacted=tuple(redacted),
            handle=handle,
            would_deny=decision.would_deny,
            would_allow=decision.would_allow,
            note=note,
        )
        self._write(event, audit)

    def released(self, handle: Handle, path: bytes, after: Version | None) -> None:
        """Record the end of a handle: what went through the daemon, or what changed."""
        mediated = handle.fd >= 0 and handle.mode.value == "mediated"
        event = self._event(handle.caller, _RELEASE, path, ALLOW, "", handle.before)._replace(
            io=handle.mode.value,
            view=handle.node.view.label,
            handle=handle.index,
            bytes_read=handle.bytes_read if mediated else None,
            bytes_written=handle.bytes_written if mediated else None,
            size_after=None if after is None else after.size,
            mtime_after_ns=None if after is None else after.mtime_ns,
        )
        self._write(event, Audit.BEST_EFFORT)

    def _event(
        self, caller: Caller, call: Call, path: bytes, verdict: str, exe: str, before: Version | None
    ) -> Event:
        """What every event says: when, where, under which policy, who, what, and the file before."""
        return Event(
            time_ns=time.time_ns(),
            mount=self._mount,
            policy_generation=self._generation,
            policy_digest=self._digest,
            app=caller.principal.label,
            uid=caller.uid,
            gid=caller.gid,
            pid=caller.pid,
            exe=exe,
            operation=call.operation,
            syscall=call.syscall,
            path=path,
            decision=verdict,
            size_before=None if before is None else before.size,
            mtime_before_ns=None if before is None else before.mtime_ns,
        )

    def _executable(self, pid: int) -> str:
        """What the process runs, looked up at most once in _EXE_S for one process."""
        now = time.monotonic()
        known = self._executables.get(pid)
        if known is not None and now - known[0] < _EXE_S:
            return known[1]
        if len(self._executables) >= _EXE_MAX:
            self._executables.clear()
        path = executable(pid)
        self._executables[pid] = (now, path)
        return path

    def _write(self, event: Event, audit: Audit) -> None:
        try:
            self._sink.record(event, audit)
        except JournalError:
            raise pyfuse3.FUSEError(errno.EIO) from None


def _rules(decision: Decision, verdict: str) -> tuple[str, ...]:
    """The rules an event names: none that allowed what was refused all the same."""
    matches = [
        match
        for match in decision.rules
        if not match.monitor and (verdict != DENY or match.effect != "allow")
    ]
    return tuple(dict.fromkeys(match.rule for match in matches))


def executable(pid: int) -> str:
    """What the process runs; empty for one that is gone or in a namespace that we cannot see."""
    if pid <= 0:
        return ""
    try:
        return os.fsencode(os.readlink(f"/proc/{pid}/exe")).decode("utf-8", "backslashreplace")
    except OSError:
        return ""

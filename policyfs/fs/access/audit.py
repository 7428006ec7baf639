"""Records of decisions: events for the trail, and the wait until required events are written.

`Recorder.decided` is for refusals, and for changes of the store (`ledger.recorded_first`);
`Recorder.recorded` is for opens, since an open can wait for its record."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypedDict, Unpack

import trio

from policyfs.domain import NO_RANGES, Audit, Decision, Ranges
from policyfs.fs.access.ledger import Commits, PacedError, UnrecordedError, check, current
from policyfs.fs.expiring import Expiring
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.handles import Handle
from policyfs.fs.sharing.kernel_locks import MOST_S, is_locked
from policyfs.fs.sharing.shares import Holder
from policyfs.journal.writing.journal import Journal
from policyfs.journal.writing.programs import executable
from policyfs.journal.writing.ticket import Ticket
from policyfs.store.frozen import Version
from policyfs.trail.lines.event import ALLOW, DENY, WOULD_DENY, Event, Operation

_EXE_S: Final = 0.1
_EXE_MAX: Final = 1024


class Call(NamedTuple):
    """A request in the words of the trail: the operation, and the system call that the app probably made."""

    operation: Operation
    syscall: str


RELEASE: Final = Call("release", "close")


class Details(TypedDict, total=False):
    """Optional fields of an event. error: the errno if another check than the policy's refused."""

    new_path: bytes | None
    kind: str | None
    io: str
    view: str
    redacted: Ranges
    handle: int | None
    before: Version | None
    note: str
    error: int


class Recorder:
    """Puts one mount's decisions on record. uids: False if the callers' uids and gids are not known."""

    def __init__(self, sink: Journal, mount: str, *, uids: bool = True) -> None:
        self._uids = uids
        self._sink = sink
        self._commits = Commits(sink)
        self._mount = os.fsencode(mount).decode("utf-8", "backslashreplace")
        self._generation = 0
        self._debtors: set[Holder] = set()
        self._executables: Expiring[int, str] = Expiring(_EXE_S, most=_EXE_MAX)
        self._digest = ""
        self._settle: Callable[[], None] = _nothing

    def settle_first(self, settle: Callable[[], None]) -> None:
        """Register *settle*, called before each event: it calls repeated() for the bridge's opens."""
        self._settle = settle

    def use_policy(self, generation: int, digest: str) -> None:
        """Put the policy with this generation (a number) and digest into all later events."""
        self._generation = generation
        self._digest = digest

    def decided(
        self, caller: Caller, call: Call, path: bytes, decision: Decision, **details: Unpack[Details]
    ) -> None:
        """Record a decision. The reply to a refusal that must be on record waits for it. A required allowance
        is written at the return, or UnrecordedError is raised if that takes longer than a moment
        (`ledger.recorded_first` handles it; without that wrapper this blocks). An event that cannot be
        recorded is EIO for the app."""
        event = self.event_of(caller, call, path, decision, **details)
        if event is None:
            return
        own, denied = current(), event.decision == DENY
        if own is not None and not denied and own.has(event):
            return
        ticket = self._admitted(event, decision, caller)
        if ticket is None:
            return
        if own is None or not (denied or own.is_first):
            self._sink.commit([ticket])
            check(ticket)
            return
        commit = self._commits.at_once(ticket)
        if commit is not None and commit.is_done:
            return
        if not denied:
            raise UnrecordedError(self._commits, ticket, commit)
        own.add(self._commits, ticket, commit)

    async def recorded(
        self, caller: Caller, call: Call, path: bytes, decision: Decision, **details: Unpack[Details]
    ) -> bool:
        """Record a decision, and wait if it must be on record. Return True if other requests could run
        meanwhile: checks made before may no longer hold.

        Raise FUSEError(EIO) if it could not be recorded, PacedError if the app's budget for records is used
        up (`ledger.paced` then starts the open again)."""
        event, own = self.event_of(caller, call, path, decision, **details), current()
        if event is None:
            return False
        paid = own is not None and own.paid
        ticket = self._admitted(event, decision, caller, paid=paid)
        if ticket is None:
            return False
        if own is not None:
            if ticket.wait_s > 0 and own.waits_outside:
                raise PacedError(ticket.wait_s)
            own.paid = False
        return await self._commits.put(ticket)

    def _admitted(
        self, event: Event, decision: Decision, caller: Caller, *, paid: bool = False
    ) -> Ticket | None:
        """Give an event to the journal. Under a lock of the kernel, an app without budget gets into debt
        (pay())."""
        locked = decision.audit is Audit.REQUIRED and event.decision != DENY and is_locked()
        if locked and self._sink.debt_s(caller.holder) > MOST_S:
            raise OSError(errno.EBUSY, "the app has used up its budget for records")
        ticket = self._sink.admit(self._told(event), decision.audit, paid=paid)
        if locked and ticket is not None and ticket.wait_s > 0:
            self._debtors.add(caller.holder)
            ticket.wait_s = 0.0
        return ticket

    def _told(self, event: Event) -> Event:
        return event if self._uids else event._replace(uid=-1, gid=-1)

    def owes(self, holder: Holder) -> bool:
        """Return True if an app is in debt, so that its next close must wait (pay())."""
        return holder in self._debtors

    async def pay(self, holder: Holder) -> None:
        """Wait until an app has no debt any more (_admitted()). INVARIANT: the kernel holds no lock."""
        if holder in self._debtors:
            self._debtors.discard(holder)
            await trio.sleep(self._sink.debt_s(holder))

    def repeated(self, event: Event) -> None:
        """Record, best effort, that the bridge has repeated an allowed decision. event: from event_of(), with
        the process, time and handle of the repeat."""
        self._sink.admit(self._told(event), Audit.BEST_EFFORT)

    def event_of(
        self, caller: Caller, call: Call, path: bytes, decision: Decision, **details: Unpack[Details]
    ) -> Event | None:
        """Return the event of a decision without recording it, or None if the decision needs no record."""
        if decision.audit is Audit.OFF and not (decision.would_deny or decision.would_allow):
            return None
        self._settle()
        error = details.get("error", 0)
        allowed = decision.allowed and not error
        verdict = ALLOW if allowed else DENY
        if allowed and decision.would_deny:
            verdict = WOULD_DENY
        before = details.get("before")
        ranges = details.get("redacted", NO_RANGES)
        cut = ranges.number > len(ranges.first)
        return Event(  # built in one call, since every open waits for it
            time_ns=time.time_ns(),
            mount=self._mount,
            policy_generation=self._generation,
            policy_digest=self._digest,
            app=caller.principal.label,
            uid=caller.uid,
            gid=caller.gid,
            pid=caller.pid,
            exe=self.program_of(caller),
            operation=call.operation,
            syscall=call.syscall,
            path=path,
            decision=verdict,
            errno=error or decision.errno,
            rules=_rules(decision, verdict),
            new_path=details.get("new_path"),
            kind=details.get("kind"),
            io=details.get("io", ""),
            view=details.get("view", ""),
            redacted=ranges.first,
            redacted_ranges=ranges.number if cut else 0,
            redacted_bytes=ranges.total_bytes if cut else 0,
            handle=details.get("handle"),
            size_before=None if before is None else before.size,
            mtime_before_ns=_recorded_mtime(before),
            would_deny=decision.would_deny,
            would_allow=decision.would_allow,
            note=details.get("note", ""),
        )

    def released(self, handle: Handle, path: bytes, after: Version | None) -> None:
        """Record the release of a handle. after: the file's version at the release, or None. If the handle
        was mediated, the event has the counts of bytes read and written."""
        self._settle()
        mediated, before = handle.fd >= 0 and handle.mode.value == "mediated", handle.before
        event = self.release_of(handle.caller, path, handle.mode.value, handle.node.view.label)._replace(
            handle=handle.index,
            bytes_read=handle.bytes_read if mediated else None,
            bytes_written=handle.bytes_written if mediated else None,
            size_before=None if before is None else before.size,
            size_after=None if after is None else after.size,
            mtime_before_ns=_recorded_mtime(before),
            mtime_after_ns=_recorded_mtime(after),
        )
        self._sink.admit(self._told(event), Audit.BEST_EFFORT)

    def release_of(self, caller: Caller, path: bytes, io: str, view: str) -> Event:
        """Return the event of a release without what is known of the handle, and without recording it."""
        return Event(
            time_ns=time.time_ns(),
            mount=self._mount,
            policy_generation=self._generation,
            policy_digest=self._digest,
            app=caller.principal.label,
            uid=caller.uid,
            gid=caller.gid,
            pid=caller.pid,
            exe="",
            operation=RELEASE.operation,
            syscall=RELEASE.syscall,
            path=path,
            decision=ALLOW,
            io=io,
            view=view,
        )

    def program_of(self, caller: Caller) -> str:
        """Return the path of the caller's executable. /proc is read at most once a caller, and once a thread
        in _EXE_S.

        INVARIANT: at the first call, the process waits for an answer that is not FLUSH, WRITE or READ:
        execve(2) holds a lock (exec_update_lock in fs/exec.c) that /proc/PID/exe needs, and may wait for such
        an answer under it. So each open looks."""
        if caller.program is None:
            path = self._executables.get(caller.pid)
            if path is None:
                path = executable(caller.pid)
                self._executables.put(caller.pid, path)
            caller.program = path
        return caller.program


def _nothing() -> None:
    """Do nothing. Recorder calls this function before each event while no other part makes events."""


def _rules(decision: Decision, verdict: str) -> tuple[str, ...]:
    """Return the rules that an event names. The event of a denial does not name rules that allow."""
    denied = verdict == DENY
    matches = [
        match.rule
        for match in decision.rules
        if not match.monitor and not (denied and match.effect == "allow")
    ]
    return tuple(dict.fromkeys(matches) if len(matches) > 1 else matches)


def _recorded_mtime(version: Version | None) -> int | None:
    """Return a version's mtime for the trail, brought into 64 bits."""
    return None if version is None else max(-(1 << 63), min(version.mtime_ns, (1 << 63) - 1))

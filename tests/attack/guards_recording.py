"""Guards of the trail (threats D), taken out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import policyfs.cli.audit.verify as audit_module
import policyfs.journal.sealing.verification as verification_module
import policyfs.journal.writing.intake as intake_module
import policyfs.trail.chain.seal as seal_module
from policyfs.daemon.policies.policies import Policies
from policyfs.domain import Audit, Decision
from policyfs.fs.access.gate import Gate
from policyfs.fs.opening.preconditions import Preconditions
from policyfs.journal.writing.accounts import Account, Accounts, Limits
from policyfs.journal.writing.committer import Commit
from policyfs.journal.writing.journal import Journal
from policyfs.journal.writing.offload import Offload
from policyfs.journal.writing.segment import Appender, Segment
from policyfs.journal.writing.ticket import Ticket
from policyfs.kernel.bridge import pyfuse3
from policyfs.trail.chain import chain
from policyfs.trail.chain.verify import Verifier
from policyfs.trail.lines.event import Event
from policyfs.trail.query.fold import AppFold
from tests.attack.guards import named, put

HANG: Final = "POLICYFS_TEST_HANG"
"""The variable that names the file of `slow_trail`."""
WAITS: Final = ".waits"
"""What is appended to that name for a file that is there once a write has waited."""


def refused_unrecorded() -> None:
    """What is refused is not put on record."""

    def refuse(self: Gate, caller: Any, call: Any, path: bytes, decision: Decision, **more: Any) -> None:
        raise pyfuse3.FUSEError(more.get("error") or decision.errno)

    put(Gate, "refuse", refuse)


def required_is_best_effort() -> None:
    """What must be on record is put on record when there is time, if there is room."""
    admit = Journal.admit

    def later(self: Journal, event: Event, audit: Audit, *, paid: bool = False) -> Any:
        return admit(self, event, Audit.BEST_EFFORT if audit else audit, paid=paid)

    put(Journal, "admit", later)


def unfolded() -> None:
    """Each repeated denial is recorded in full."""
    put(AppFold, "absorb", lambda self, event: False)


def unbudgeted() -> None:
    """An app may cause as much trail as it can: only repeats are counted, and nobody waits for a budget."""
    put(Accounts, "absorb", lambda self, event, now_ns: self._of(event, now_ns).fold.absorb(event))
    put(Accounts, "spend", lambda self, event, now_ns, size=None: 0.0)


TENTH: Final = 10
"""What `low-budgets` divides the budgets by."""


def low_budgets() -> None:
    """Budgets are low, so that a busy machine can exceed them. (This takes out no guard.)"""
    begin = Accounts.__init__

    def low(self: Accounts, limits: Limits, window_ns: int) -> None:
        begin(self, Limits(*(limit // TENTH for limit in limits)), window_ns)

    put(Accounts, "__init__", low)


def denials_unbudgeted() -> None:
    """Denials may take all of an app's budget of trail."""
    put(Account, "left", lambda self, event, now_ns: self.budget.left(now_ns))


def whole_paths() -> None:
    """An event is recorded as long as it is."""
    put(intake_module, "bounded", lambda event: event)


def _hangs() -> bool:
    hang = os.environ[HANG]
    if not os.path.exists(hang):
        return False
    Path(f"{hang}{WAITS}").touch()
    return True


class _Slow:
    """The appender of a slow disk: a write lasts while `_hangs`."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._begun = False

    def begin(self, fd: int, offset: int, data: bytes, /) -> bool:
        self._begun = self._appender.begin(fd, offset, data)
        return self._begun

    def wait(self, seconds: float, /) -> bool:
        if self._begun and _hangs():
            time.sleep(seconds)
            return False
        return self._appender.wait(seconds)

    def result(self) -> tuple[int, int]:
        while _hangs():
            time.sleep(0.005)
        self._begun = False
        return self._appender.result()

    def close(self) -> None:
        self._appender.close()


def slow_trail() -> None:
    """No guard: each write to the trail waits while the file that HANG names is there."""
    append, build = Segment.append, Offload.__init__

    def slow(self: Segment, data: bytes) -> None:
        while _hangs():
            time.sleep(0.005)
        append(self, data)

    def slowly(self: Offload, appender: Appender, *parts: Any, **calls: Any) -> None:
        build(self, _Slow(appender), *parts, **calls)

    put(Segment, "append", slow)
    put(Offload, "__init__", slowly)


def proven_before_the_record() -> None:
    """Whether a lease proves a file's kind is asked before the open is put on record, and not after it."""
    put(Preconditions, "still_proven", lambda self, opening: None)


def written_on_the_loop() -> None:
    """The event loop itself writes what must be on record."""

    def inline(self: Journal, tickets: Sequence[Ticket]) -> Commit:
        commit = Commit(tickets)
        self.commit(tickets)
        commit.end()
        return commit

    put(Journal, "at_once", inline)


def policy_changes_untold() -> None:
    """A new policy is in force, and the trail does not say so."""
    put(Policies, "replace", lambda self, engine, sources, by, generation, written: written())
    put(Policies, "save_text", lambda self, engine, sources: None)


def digests_unread(put_back: Callable[[object, str, Any], None]) -> None:
    """`audit verify` believes each line its digest, and no seal. put_back: monkeypatch.setattr."""
    assert audit_module.Verifier is Verifier

    def believe(self: Verifier, check: Any, lines: Sequence[bytes], seal: Any) -> None:
        last = chain.split(lines[-1][:-1])
        assert last is not None
        self._seq, self._head = chain.seq_of(last.body) or 0, last.chain

    put_back(Verifier, "_diagnose", believe)
    put_back(Verifier, "_check_seal", lambda self, check, proof, *, broken: None)
    put_back(Verifier, "_check_told_seals", lambda self: None)


def signatures_unread(put_back: Callable[[object, str, Any], None]) -> None:
    """`audit verify` believes each seal what it says. put_back: monkeypatch.setattr."""

    def believed(line: bytes, _keys: Any, _check: Any) -> seal_module.Proof | None:
        found = seal_module.split(line)
        seal = seal_module.seal_of(found.body) if found else None
        return seal_module.Proof(seal, found.digest, "") if found and seal else None

    assert verification_module.read_seal is seal_module.read_seal
    put_back(verification_module, "read_seal", believed)


RECORDING: Final = named(
    refused_unrecorded, required_is_best_effort, unfolded, unbudgeted, low_budgets, denials_unbudgeted,
    whole_paths, slow_trail, proven_before_the_record, written_on_the_loop, policy_changes_untold,
)  # fmt: skip

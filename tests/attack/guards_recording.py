"""Guards of the trail (threats D), taken out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import policyfs.cli.audit as audit_module
from policyfs.domain import Audit, Decision
from policyfs.fs.gate import Gate
from policyfs.kernel.bridge import pyfuse3
from policyfs.sinks.journal import Journal
from policyfs.trail.event import Event
from policyfs.trail.fold import AppFold
from policyfs.trail.verify import Verifier
from tests.attack.guards import put


def refused_unrecorded() -> None:
    """What is refused is not put on record."""

    def refuse(self: Gate, caller: Any, call: Any, path: bytes, decision: Decision, **more: Any) -> None:
        raise pyfuse3.FUSEError(more.get("error") or decision.errno)

    put(Gate, "refuse", refuse)


def required_is_best_effort() -> None:
    """What must be on record is put on record when there is time, if there is room."""
    record = Journal.record

    def later(self: Journal, event: Event, audit: Audit) -> None:
        record(self, event, Audit.BEST_EFFORT if audit else audit)

    put(Journal, "record", later)


def unfolded() -> None:
    """Each repeated denial is recorded in full."""
    put(AppFold, "absorb", lambda self, event: False)


def digests_unread(put_back: Callable[[object, str, Any], None]) -> None:
    """`audit verify` believes each line its digest. put_back: monkeypatch.setattr."""
    assert audit_module.Verifier is Verifier
    put_back(Verifier, "_check_digest", lambda self, record, sealed: None)


RECORDING: Final[dict[str, Callable[[], None]]] = {
    "refused-unrecorded": refused_unrecorded,
    "required-is-best-effort": required_is_best_effort,
    "unfolded": unfolded,
}

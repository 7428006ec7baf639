"""The sink of events that is closed until the mount is proved."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from policyfs.daemon.proof import MutableSink
from policyfs.domain import Audit
from tests.support.mount.file_system import Sink


def test_late_events_of_the_canaries_are_not_on_record() -> None:
    sink = Sink()
    muted = MutableSink(sink, muted=True)
    event: Any = SimpleNamespace(name="open")
    muted.unmute(after=lambda: muted.admit(event, Audit.BEST_EFFORT))
    assert sink.events == []
    muted.admit(event, Audit.BEST_EFFORT)
    assert sink.events == [event]

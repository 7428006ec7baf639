"""A whole configuration at work: sinks and alerts side by side."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.forward.config import parse_config
from policyfs.forward.cursors import CursorStore
from policyfs.forward.forwarder import STATUS, Forwarder
from policyfs.forward.source import DirectAccess, Source
from policyfs.policy.text.parse import SourceText
from tests.support.machine.inchild import in_child
from tests.support.machine.processes import wait_for
from tests.support.mount.trail import a_denial, a_journal, an_event

CONFIG = """\
apiVersion: policyfs/v1
kind: Forward
sinks:
  - {{id: copy, file: "{0}/copy"}}
  - {{id: dead, file: "{0}/none/dead"}}
alerts:
  - {{id: guard, on: rule, rules: no-private, file: "{0}/alerts", every: 200ms}}
  - {{id: policies, on: policy, command: [/bin/sh, -c, "cat >>{0}/policies"]}}
"""


def lines(file: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_each_part_does_its_work_beside_a_dead_one(tmp_path: Path) -> None:
    config = parse_config(SourceText("x", CONFIG.format(tmp_path).encode()))
    trail = tmp_path / "trail"
    source = Source(DirectAccess(trail))
    log: list[str] = []
    with a_journal(trail) as journal:
        forwarder = Forwarder(config, source, CursorStore(str(tmp_path / "state")), log.append)
        thread = threading.Thread(target=forwarder.run)
        thread.start()
        try:
            wait_for(lambda: lines(tmp_path / "copy"), "the header")
            for number in range(11):
                journal.record(a_denial(b"/Private/%d" % number), Audit.REQUIRED)
            journal.record(an_event(), Audit.REQUIRED)
            journal.tell("policy", {"result": "refused", "policy": "ab" * 32, "reason": "x"})
            wait_for(lambda: [line["count"] for line in lines(tmp_path / "alerts")] == [1, 10], "alerts")
            wait_for(lambda: lines(tmp_path / "policies"), "the alert about the policy")
            wait_for(lambda: len(lines(tmp_path / "copy")) == 14, "the copy")
        finally:
            forwarder.stop()
            thread.join()
    assert lines(tmp_path / "alerts")[0]["text"] == "guard: gallery open /Private/0: deny EACCES no-private"
    assert log == [f"dead: {tmp_path}/none/dead: No such file or directory; trying again"]
    status = json.loads((tmp_path / "state" / STATUS).read_text())["sinks"]
    assert status["dead"]["failing"]
    assert status["copy"]["failing"] == ""
    assert status["copy"]["delivered"] == 14


def test_an_alert_counts_what_is_recorded_once_the_forwarder_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not only what comes after its own thread, which may begin much later, has read where the trail ends."""
    config = parse_config(SourceText("x", CONFIG.format(tmp_path).encode()))
    trail = tmp_path / "trail"
    source = Source(DirectAccess(trail))
    with a_journal(trail) as journal:
        journal.record(a_denial(b"/Private/earlier"), Audit.REQUIRED)

        class Late(threading.Thread):
            def start(self) -> None:
                journal.record(a_denial(b"/Private/meanwhile"), Audit.REQUIRED)
                super().start()

        forwarder = Forwarder(config, source, CursorStore(str(tmp_path / "state")), lambda _: None)
        monkeypatch.setattr("policyfs.forward.forwarder.threading.Thread", Late)
        forwarder.run(once=True)
    assert ["/Private/meanwhile" in str(line) for line in lines(tmp_path / "alerts")] == [True]


def test_a_bug_in_a_part_ends_the_process_loudly(tmp_path: Path) -> None:
    config = parse_config(SourceText("x", CONFIG.format(tmp_path).encode()))
    log: list[str] = []
    source = Source(DirectAccess(tmp_path / "trail"))
    forwarder = Forwarder(config, source, CursorStore(str(tmp_path / "state")), log.append)
    broken = forwarder._consumers[0]
    broken._round = lambda **_: {}["x"]  # type: ignore[method-assign]
    assert forwarder.run() == 1
    assert log[0] == "copy: ended by a bug: KeyError('x')"


def _stopped_by_signals(place: Path) -> int:
    """Stop a forwarder 200 times at a random moment of its waits. Return how often."""
    config = parse_config(SourceText("x", CONFIG.format(place).encode()))
    source = Source(DirectAccess(place / "trail"))
    forwarder = Forwarder(config, source, CursorStore(str(place / "state")), lambda _text: None)
    signal.signal(signal.SIGUSR1, lambda *_: forwarder.stop())
    stopped = 0

    def send() -> None:
        for number in range(200):
            time.sleep(random.uniform(0.0005, 0.002))
            os.kill(os.getpid(), signal.SIGUSR1)
            while stopped == number:
                time.sleep(0.0001)

    threading.Thread(target=send, daemon=True).start()
    while stopped < 200:
        stopped += forwarder._is_stopped(0.000001)
    return stopped


def test_a_signal_handler_may_stop_it_at_any_moment(tmp_path: Path) -> None:
    """threading.Event is not reentrant: after a signal inside its wait() only SIGKILL helped."""
    assert in_child(lambda: _stopped_by_signals(tmp_path)) == 200

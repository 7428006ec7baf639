"""A policy of thousands of rules replaced by another one, while apps work."""

from __future__ import annotations

import os
import time

import pytest

from tests.bench.big_policy import FIRST_UID, big_policy
from tests.support.machine.counts import count
from tests.support.machine.processes import call_as, start_as
from tests.support.models.twins import error
from tests.support.mount.stores import Mounts

RULES = 1500
RELOADS = count(2, 20)


def work(channel, mountpoint: str) -> tuple[float, list[str]]:
    """Open what every policy shows, and look at what one of them shows; the longest open, and what failed."""
    longest, wrong = 0.0, []
    while not channel.poll(0.002):
        start = time.perf_counter()
        try:
            os.close(os.open(f"{mountpoint}/open", os.O_RDONLY))
        except OSError as failed:
            wrong.append(repr(failed))
        longest = max(longest, time.perf_counter() - start)
        for variant in (0, 1):
            try:
                os.close(os.open(f"{mountpoint}/variant-{variant}/file", os.O_RDONLY))
            except FileNotFoundError:
                pass
            except OSError as failed:
                wrong.append(repr(failed))
    return longest, wrong[:5]


@pytest.mark.load
def test_apps_work_on_while_a_large_policy_is_replaced(mounts: Mounts, empty_store) -> None:
    """Each request is decided by one of the two policies, as a whole: the one that its event names."""
    (empty_store / "open").write_bytes(b"x")
    for variant in (0, 1):
        (empty_store / f"variant-{variant}").mkdir()
        (empty_store / f"variant-{variant}" / "file").write_bytes(b"x")
    mount = mounts.start(big_policy(RULES).decode(), empty_store)
    workers = [start_as(FIRST_UID + number, work, str(mount.mountpoint)) for number in range(2)]
    for number in range(RELOADS + 1):
        if number:
            mount.policy.write_bytes(big_policy(RULES, variant=number % 2))
            said = mount.reload()
            assert said.returncode == 0, said.stderr
        for variant in (0, 1):
            answer = call_as(FIRST_UID, error, os.stat, f"{mount.mountpoint}/variant-{variant}/file")
            assert (answer == "ENOENT") is (variant != number % 2)
        time.sleep(0.1)
    for worker in workers:
        worker.send("end")
    results = [worker.result() for worker in workers]
    assert [wrong for _, wrong in results] == [[], []]
    assert max(longest for longest, _ in results) < 1.0
    status = mount.status()
    assert status["policy"]["generation"] == RELOADS + 1
    assert status["bugs"] == 0
    about = [event for event in mount.events() if event.get("path", "").startswith("/variant-")]
    assert {event["generation"] for event in about} == set(range(1, RELOADS + 2))
    for event in about:
        shown = event["path"].startswith(f"/variant-{(event['generation'] - 1) % 2}")
        assert (event["decision"] == "allow") is shown, event

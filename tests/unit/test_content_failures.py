"""Failures of requests, counted by their cause."""

from __future__ import annotations

import time

from policyfs.content.failures import Failures


def test_failures_are_counted_and_the_last_one_is_kept() -> None:
    failures = Failures()
    failures.count("busy", "no worker was free")
    failures.count("busy", "no worker was free")
    failures.count("refused", "no")
    assert (failures.counts, failures.last_error) == ({"busy": 2, "refused": 1}, "no")


def test_only_the_loss_of_a_worker_has_a_time() -> None:
    failures = Failures()
    failures.count("deadline", "too late")
    assert failures.last_loss_ns == 0
    before_ns = time.time_ns()
    failures.count("died", "killed")
    assert before_ns <= failures.last_loss_ns <= time.time_ns()

"""Accounts of apps and strangers: budgets, counts beyond them, and how many there are."""

from __future__ import annotations

from policyfs.journal.writing.accounts import ACCOUNTS, Accounts, Limits
from policyfs.trail.lines.bounds import line_bytes
from policyfs.trail.lines.event import DENY, STRANGER, Event
from tests.support.mount.trail import SECOND_NS, START_NS, an_event

WINDOW_NS = 60 * SECOND_NS


def denial(app: str = "camera", uid: int = 7, path: bytes = b"/a", errno: int = 13) -> Event:
    return an_event(app=app, uid=uid, decision=DENY, errno=errno, path=path)


def accounts(rate: int = 1000, burst: int = 10_000, window_ns: int = WINDOW_NS) -> Accounts:
    return Accounts(Limits(rate, burst), window_ns)


def test_an_app_beyond_its_budget_is_counted_and_others_are_not():
    made = accounts(burst=100)
    assert not made.absorb(denial(), 0)
    assert made.spend(denial(), 0) > 0
    assert made.absorb(denial(path=b"/other"), 0)
    assert not made.absorb(denial(app="maps"), 0)
    assert not made.absorb(denial(path=b"/third"), 1000 * SECOND_NS)


def test_a_denial_is_paid_for_with_its_later_count():
    for window_ns, times in ((WINDOW_NS, 2), (0, 1)):
        made = accounts(rate=1, burst=0, window_ns=window_ns)
        assert made.spend(denial(), 0) == times * line_bytes(denial())
        allowed = an_event(app="maps")
        assert made.spend(allowed, 0) == line_bytes(allowed)


def test_denials_have_a_part_of_the_budget_and_grants_do_not_wait_for_them():
    made = Accounts(Limits(1000, 10_000, 10, 100), WINDOW_NS)
    made.spend(denial(), 0)
    assert made.absorb(denial(path=b"/other"), 0)
    grant = an_event(app="camera")
    assert not made.absorb(grant, 0)
    assert made.spend(grant, 0) == 0.0
    made.collect(START_NS, 20 * SECOND_NS, everything=True)
    assert len(made) == 1, "what denials have cost is not forgotten"
    assert not made.absorb(denial(path=b"/third"), 1000 * SECOND_NS)


def test_a_repeat_of_a_recorded_denial_is_counted():
    made = accounts()
    assert not made.absorb(denial(), 0)
    made.recorded(denial(), 0)
    assert made.absorb(denial(), 0)
    assert made.absorb(denial(), 0)
    assert not made.absorb(denial(path=b"/other"), 0)
    (told,) = made.collect(START_NS, 0, everything=True)
    assert (told.repeats, told.path) == (2, b"/a")


def test_counts_are_told_when_they_are_due():
    made = accounts()
    made.recorded(denial(), 0)
    made.absorb(denial(), 0)
    assert made.collect(START_NS + SECOND_NS, 0, everything=False) == []
    assert len(made.collect(START_NS + 2 * WINDOW_NS, 0, everything=False)) == 1
    assert made.collect(START_NS + 4 * WINDOW_NS, 0, everything=True) == []


def test_an_account_without_counts_and_debts_goes():
    made = accounts(rate=1000, burst=100)
    made.spend(an_event(app="camera"), 0)
    made.collect(START_NS, 0, everything=True)
    assert len(made) == 1
    made.collect(START_NS, 1000 * SECOND_NS, everything=True)
    assert len(made) == 0


def test_strangers_beyond_the_last_account_share_one_and_apps_do_not():
    made = accounts(burst=100)
    for uid in range(ACCOUNTS):
        made.absorb(denial(STRANGER, uid), 0)
    assert len(made) == ACCOUNTS
    for uid in range(5000, 5005):
        made.absorb(denial(STRANGER, uid), 0)
    assert len(made) == ACCOUNTS + 1
    made.spend(denial(STRANGER, 5000), 0)
    assert made.absorb(denial(STRANGER, 6000, b"/b"), 0)
    assert not made.absorb(denial(STRANGER, 3), 0)
    assert not made.absorb(denial("camera"), 0)
    assert len(made) == ACCOUNTS + 2

"""The intake: put aside or not, events have the order, the counts and the bounds that they had one by one."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.domain import Audit
from policyfs.journal.writing import intake as intake_module
from policyfs.journal.writing.accounts import Accounts, Limits
from policyfs.journal.writing.backlog import Backlog, Item
from policyfs.journal.writing.entry import Entry
from policyfs.journal.writing.gap import Gap
from policyfs.journal.writing.intake import YOUNG, Intake
from policyfs.trail.lines.event import Event
from tests.support.mount.trail import ROOMY, SECOND_NS, START_NS, a_denial, an_event

ALL = 1 << 30


def an_intake(queue: int = 10_000, limits: Limits = ROOMY) -> Intake:
    return Intake(Backlog(queue, ALL), Accounts(limits, SECOND_NS), lambda: 0)


def told(items: list[Item]) -> list[object]:
    """What would be written, in order."""
    return [
        item.text
        if isinstance(item, Entry)
        else (item.dropped, item.reason)
        if isinstance(item, Gap)
        else item
        for item in items
    ]


def handles(items: list[Item]) -> list[int]:
    return [int(item.text.partition(b'"handle":')[2]) for item in items if isinstance(item, Entry)]


def test_what_is_put_aside_is_taken_before_what_comes_later() -> None:
    made = an_intake()
    for number in range(YOUNG + 3):
        made.admit(an_event(handle=number), Audit.BEST_EFFORT)
    ticket = made.admit(an_event(handle=99), Audit.REQUIRED)
    made.admit(a_denial(handle=YOUNG + 3), Audit.BEST_EFFORT)
    made.admit(an_event(handle=YOUNG + 4), Audit.BEST_EFFORT)
    assert handles(made.take(100, ALL)) == list(range(YOUNG + 5))
    assert ticket is not None
    assert handles([ticket.item]) == [99]


def test_it_is_idle_until_something_waits_or_counts() -> None:
    now_ns = [0]
    made = Intake(Backlog(1, ALL), Accounts(ROOMY, SECOND_NS), lambda: now_ns[0])
    assert made.is_idle
    made.admit(an_event(), Audit.BEST_EFFORT)
    assert not made.is_idle, "it is put aside"
    made.take(1, ALL)
    assert not made.is_idle, "its app has spent of its budget"
    now_ns[0] += SECOND_NS
    made.collect(START_NS, everything=False)
    assert made.is_idle


def test_only_what_takes_little_memory_is_put_aside() -> None:
    large = [
        an_event(redacted=((1, 2),) * 100_000), an_event(b"/" + b"x" * 5000), an_event(note="x" * 5000),
        an_event(new_path=b"/" + b"x" * 5000),
    ]  # fmt: skip
    made = an_intake()
    for event in large:
        made.admit(event, Audit.BEST_EFFORT)
        assert not made.aside
    assert len(made.take(100, ALL)) == len(large)


def test_an_end_takes_in_what_was_put_aside_and_drops_what_comes_then() -> None:
    made = an_intake()
    made.admit(an_event(handle=1), Audit.BEST_EFFORT)
    made.close()
    made.admit(an_event(handle=2), Audit.BEST_EFFORT)
    assert made.counts() == (2, 1, 0)  # the event and the gap
    assert handles(made.take(100, ALL)) == [1]


def test_what_was_put_aside_counts_as_waiting_and_is_lost_with_the_rest() -> None:
    made = an_intake()
    made.admit(an_event(), Audit.BEST_EFFORT)
    assert made.waiting() == 1
    gap = made.lost("no room", START_NS)
    assert gap is not None
    assert (gap.dropped, made.counts()[1]) == (1, 1)
    made.clear()
    assert made.lost("no room", START_NS) is None


def test_what_was_put_aside_and_not_looked_at_is_lost_with_the_rest() -> None:
    made = an_intake()
    made.admit(an_event(), Audit.BEST_EFFORT)
    gap = made.lost("no room", START_NS)
    assert gap is not None
    assert gap.dropped == 1


steps = st.lists(
    st.sampled_from(["a", "b", "deny a", "required a", "required b", "take", "collect"]), max_size=60
)


@given(steps, st.sampled_from([3, 10_000]), st.sampled_from([500, 3000, 1 << 40]))
def test_together_or_one_by_one_makes_no_difference(words: list[str], queue: int, burst: int) -> None:
    """The rate is so low that an app is soon beyond its budget; the clock stands still."""
    seen = []
    for young in (1, YOUNG):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(intake_module, "YOUNG", young)
            made, out = an_intake(queue, Limits(1, burst, 1, burst)), []
            for number, word in enumerate(words):
                app = word[-1]
                if word == "take":
                    out += told(made.take(2, ALL))
                elif word == "collect":
                    made.collect(START_NS + 2 * SECOND_NS, everything=False)
                elif word.startswith("required"):
                    ticket = made.admit(an_event(b"/%d" % number, app=app), Audit.REQUIRED)
                    assert ticket is not None
                    out += [ticket.wait_s, *told([ticket.item])]
                else:
                    event = an_event if len(word) == 1 else a_denial
                    made.admit(event(b"/%d" % (number % 5), app=app), Audit.BEST_EFFORT)
            made.collect(START_NS + 2 * SECOND_NS, everything=True)
            seen.append((made.counts(), out + told(made.take(1000, ALL))))
    assert seen[0] == seen[1]


def test_threads_lose_nothing_and_keep_their_order() -> None:
    made, found = an_intake(1_000_000), []
    apps, each = 4, 3000
    going = threading.Event()

    def ask(number: int) -> None:
        for handle in range(each):
            made.admit(an_event(app=f"app{number}", handle=handle), Audit.BEST_EFFORT)

    def take() -> None:
        while not going.is_set():
            found.extend(made.take(50, ALL))

    taker = threading.Thread(target=take)
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(apps)]
    for thread in (taker, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    going.set()
    taker.join()
    found.extend(made.take(1_000_000, ALL))
    for number in range(apps):
        mine = [item for item in found if isinstance(item, Entry) and item.holder == f"app{number}"]
        assert handles(mine) == list(range(each))


def test_an_event_whose_line_cannot_be_made_is_left_to_the_writer() -> None:
    made = an_intake()
    wrong: Event = an_event(since_ns="no time")
    text = an_event()._replace(path="no bytes")
    for event in (wrong, text):
        made.admit(event, Audit.BEST_EFFORT)
    made.admit(an_event(handle=3), Audit.REQUIRED)  # not the one who hears of it
    assert made.take(10, ALL) == [wrong, text]
    made.give_up([wrong], "bug")
    assert told(made.take(10, ALL)) == [(1, "bug")]

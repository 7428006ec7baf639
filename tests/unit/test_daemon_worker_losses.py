"""Lost workers are on record, counted exactly, at most once a second."""

from __future__ import annotations

from policyfs.daemon.worker_losses import WorkerLosses
from policyfs.journal.writing.stats import JournalStats


class Told:
    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, object]]] = []
        self.flushes = 0
        self.now_s = 10.0
        self.failing = False
        self.kept_back = self.last_end = ""
        self.logged: list[str] = []

    def tell(self, kind: str, *records: dict[str, object]) -> None:
        self.records += [(kind, fields) for fields in records]

    def flush(self) -> None:
        self.flushes += 1

    def stats(self) -> JournalStats:
        return JournalStats(
            0, 0, 0, 0, 0, "", 0, 0, "", self.failing, 0, "", kept_back=self.kept_back, last_end=self.last_end
        )


def test_each_loss_is_counted_once() -> None:
    told = Told()
    losses = WorkerLosses(told, told.logged.append, lambda: told.now_s)
    losses.flush({"replaced": 0, "died": 0}, "")
    assert told.records == []
    assert not losses.is_due({"replaced": 0, "died": 0})
    assert losses.is_due({"replaced": 2, "died": 0})
    losses.flush({"replaced": 2, "died": 0}, "the worker died of signal 9")
    assert not losses.is_due({"replaced": 2, "died": 0})
    losses.flush({"replaced": 5, "died": 1}, "x")
    assert losses.is_due({"replaced": 5, "died": 1}), "they were lost within a second of the last record"
    told.now_s += 1
    losses.flush({"replaced": 6, "died": 1}, "y")
    told.now_s += 1
    losses.flush({"replaced": 6, "died": 1}, "y")
    assert told.records == [
        ("worker", {"lost": {"replaced": 2}, "reason": "the worker died of signal 9"}),
        ("worker", {"lost": {"replaced": 4, "died": 1}, "reason": "y"}),
    ]
    assert told.flushes == 5


def test_while_nothing_can_be_written_losses_are_only_counted() -> None:
    """Each record would wait in memory, and a hostile file can make a worker die each second."""
    told = Told()
    told.failing = True
    losses = WorkerLosses(told, told.logged.append, lambda: told.now_s)
    for count in range(1, 100):
        losses.flush({"died": count}, "x")
        told.now_s += 1
    assert (told.records, told.flushes) == ([], 99)
    told.failing = False
    losses.flush({"died": 100}, "x")
    assert told.records == [("worker", {"lost": {"died": 100}, "reason": "x"})]


def test_each_defect_of_the_trail_is_logged_once() -> None:
    told = Told()
    losses = WorkerLosses(told, told.logged.append, lambda: told.now_s)
    losses.flush({}, "")
    assert told.logged == []
    told.last_end = "the previous daemon crashed"
    losses.flush({}, "")
    told.kept_back = "rotation has stopped"
    for _ in range(3):
        losses.flush({}, "")
    assert told.logged == ["the previous daemon crashed", "rotation has stopped"]

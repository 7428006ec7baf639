"""Lost workers are on record, counted exactly, at most once a second."""

from __future__ import annotations

from policyfs.daemon.worker_losses import WorkerLosses


class Told:
    def __init__(self) -> None:
        self.records: list[tuple[str, dict[str, object]]] = []
        self.flushes = 0
        self.now_s = 10.0

    def tell(self, kind: str, *records: dict[str, object]) -> None:
        self.records += [(kind, fields) for fields in records]

    def flush(self) -> None:
        self.flushes += 1


def test_each_loss_is_counted_once() -> None:
    told = Told()
    losses = WorkerLosses(told, lambda: told.now_s)
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

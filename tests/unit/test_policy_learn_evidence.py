"""Evidence from the requests of a trail."""

from __future__ import annotations

import pytest

from policyfs.domain import Op
from policyfs.policy.learn import evidence as module
from policyfs.policy.learn.evidence import Evidence, Use, extension
from policyfs.policy.learn.guards import Guard
from policyfs.policy.replay.recorded import Cause, Recorded

READ = Recorded("a", 7, None, "open", "open(O_RDONLY)", True, 0, Cause.NONE, (), view="raw")
CREATE = READ._replace(operation="create", syscall="open(O_WRONLY|O_CREAT)")


def add(
    evidence: Evidence, recorded: Recorded, path: bytes, count: int = 1, *, denied: bool = False
) -> Guard | None:  # fmt: skip
    return evidence.add(recorded, path, count, lambda: "0:1", denied_by_rule=denied)


def test_places_hold_operations_counts_and_a_few_names():
    evidence = Evidence()
    for number in range(9):
        add(evidence, READ, b"/D/%d.jpg" % number, 2)
    [(place, sample)] = evidence.places.items()
    assert place == ("a", 7, Use.READ, ("D",), "jpg")
    assert (sample.ops, sample.count, len(sample.names), len(sample.ids)) == (Op.SEE | Op.READ, 18, 9, 3)
    assert (evidence.used, evidence.uids, evidence.raw_readers) == (18, {7: "a"}, {"a"})


def test_changes_of_what_the_app_made():
    evidence = Evidence()
    chmod = READ._replace(operation="attr", syscall="chmod")
    assert add(evidence, chmod, b"/D/x.jpg") is Guard.OVERWRITE
    assert add(evidence, CREATE, b"/D/x.jpg") is None
    assert add(evidence, chmod, b"/D/x.jpg") is None
    assert add(evidence, chmod._replace(app="b"), b"/D/x.jpg") is Guard.OVERWRITE
    [sample] = evidence.places.values()
    assert sample.ops == Op.SEE | Op.WRITE | Op.CREATE | Op.ATTR


def test_denials():
    evidence = Evidence()
    refused = READ._replace(allowed=False)
    assert add(evidence, refused, b"/D/x.jpg") is None
    assert (evidence.denied, evidence.used) == (1, 0)
    assert add(evidence, refused, b"/D/x.jpg", denied=True) is Guard.DENIED
    assert add(evidence, READ._replace(app=None), b"/D/x.jpg", denied=True) is Guard.STRANGER
    assert evidence.refused.keys() == {("a", 7)}
    assert evidence.refused["a", 7].paths == {("D", "x.jpg"): Op.READ}


def test_exceptions_teach_nothing():
    evidence = Evidence()
    for recorded in (READ, READ._replace(app=None)):
        evidence.add(recorded, b"/D/x.jpg", 1, lambda: "0:1", denied_by_rule=False, by_exception=True)
    assert [guard for guard, _, _ in evidence.kept_back] == [Guard.EXCEPTION, Guard.STRANGER]
    assert evidence.places == {}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PLACES", 2)
    monkeypatch.setattr(module, "MADE", 1)
    evidence = Evidence()
    guards = [add(evidence, READ, b"/%d/x.jpg" % number) for number in range(4)]
    assert guards == [None, None, Guard.MANY, Guard.MANY]
    evidence = Evidence()
    guards = [add(evidence, CREATE, b"/D/%d.jpg" % number) for number in range(3)]
    assert guards == [None, Guard.MANY, Guard.MANY]
    monkeypatch.setattr(module, "PLACES", 200)
    evidence = Evidence()
    guards = [add(evidence, READ, b"/%d" % (number % 101)) for number in range(202)]
    assert guards.count(Guard.MANY) == 2


@pytest.mark.parametrize(
    ("name", "found"),
    [("a.jpg", "jpg"), (".part", ""), ("a", ""), ("a.tar.gz", "gz"), ("a.b c", ""), ("a.", "")],
)
def test_extensions(name: str, found: str):
    assert extension(name) == found

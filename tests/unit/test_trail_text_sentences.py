"""Sentences about the journal's own records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyfs.trail.chain.chain import seq_of
from policyfs.trail.lines.record import Place, Record
from policyfs.trail.lines.schema import RECORDS
from policyfs.trail.text.sentences import describe
from tests.support.mount.trail import START_NS

PLACE = Place("0123456789abcdef", "00000001-20260301T080000Z.jsonl", 3)


def test_sentences() -> None:
    def said(kind: str, **fields: object) -> str:
        return describe(Record(PLACE, kind, 1, START_NS, fields, None))

    assert said("header", segment=2) == "segment 2 begins"
    assert said("pruned", segments=["a", "b"]) == "rotation removed 2 segments"
    assert said("damage", segment="s", found="deleted") == "segment s was changed from outside: deleted"
    assert said("close") == "recording ended"
    assert said("close", cause="signal", how="SIGTERM", pid=7, uid=0, exe="/bin/kill") == (
        "recording ended: signal, SIGTERM, by /bin/kill (pid 7, uid 0)"
    )
    by = {"pid": 7, "uid": 0, "exe": "/bin/bash", "login": 1000}
    assert said("close", cause="command", how="policyfs umount", **by) == (
        "recording ended: policyfs umount, by /bin/bash (pid 7, uid 0, logged in as uid 1000)"
    )
    assert said("detached", cause="outside", how="detached") == ("unmounted while in use: outside, detached")
    assert said("gap", dropped=2, refused=0, first="a", last="b", reason="queue full") == (
        "2 events dropped, 0 requests refused between a and b (queue full)"
    )
    assert (
        said("killed", pid=7, uid=10, exe="/bin/x", reason="both waited", blocked_s=30.1)
        == "killed /bin/x (pid 7, uid 10) after 30.1 s: both waited"
    )
    assert (
        said("worker", lost={"died": 2}, reason="of signal 9")
        == "workers were lost: {'died': 2}: of signal 9"
    )


@pytest.mark.parametrize("kind", RECORDS)
def test_each_record_has_a_sentence_and_a_number_that_is_read(kind: str) -> None:
    assert "unknown" not in describe(Record(PLACE, kind, 1, START_NS, {}, None))
    assert seq_of(f'{{"type":"{kind}","seq":12,"time":""'.encode()) == 12


@given(
    st.sampled_from([*RECORDS, "\x1b[2J"]),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_a_sentence_is_harmless_whatever_the_record_holds(kind: str, fields: dict[str, object]) -> None:
    assert describe(Record(PLACE, kind, 1, START_NS, fields, None)).isprintable()

"""A chain names the ends of the others after each seal, so that a removed end is seen."""

from __future__ import annotations

from pathlib import Path

from policyfs.domain import Audit
from policyfs.journal.sealing.heads import heads_if_any
from policyfs.journal.sealing.keys import KeyStore
from policyfs.journal.writing.journal import Journal
from tests.support.machine.processes import wait_for
from tests.support.mount.daemons import policyfs
from tests.support.mount.trail import MOUNT_ID, an_event, read_all, segments, write_trail

OTHER = "fedcba9876543210"


def test_without_other_chains_nothing_is_said(tmp_path: Path) -> None:
    directory = write_trail(tmp_path, [an_event()])
    assert heads_if_any(directory) == []
    assert heads_if_any(tmp_path / "gone" / MOUNT_ID) == []


def test_an_end_that_is_cut_off_after_a_seal_is_seen(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys")
    root = tmp_path / "trail"
    directory = write_trail(root, [an_event()] * 3)
    journal = Journal(str(root / OTHER), OTHER, keep=0, segment_bytes=2000, keys=keys)
    for _ in range(10):
        journal.record(an_event(), Audit.REQUIRED)

    def said() -> list[object]:
        journal.record(an_event(), Audit.REQUIRED)
        return [record.fields["chains"] for record in read_all(root / OTHER) if record.kind == "others"]

    seen = wait_for(said, "a seal, and a record behind it")
    journal.close()
    assert all(list(one) == [MOUNT_ID] for one in seen)  # type: ignore[call-overload]
    (segment,) = segments(directory)
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:2]))
    found = policyfs("audit", "verify", "--trail", str(root))
    assert found.returncode == 1
    assert "truncated" in found.stdout

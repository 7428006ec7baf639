"""The ends of hash chains beside the keys: the last sealed line of each chain of a trail root."""

from __future__ import annotations

from pathlib import Path

from policyfs.domain import Audit
from policyfs.journal.sealing.ends import ends, file_name, last_seqs, lines_of
from policyfs.journal.sealing.keys import KeyStore
from tests.support.mount.trail import MOUNT_ID, a_journal, an_event, read_all


def test_an_end_has_the_number_of_the_last_sealed_line(tmp_path: Path) -> None:
    keys, root = tmp_path / "keys", tmp_path / "trail"
    with a_journal(root, segment_bytes=4096, keys=KeyStore(keys)) as journal:
        for number in range(40):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    last = read_all(root / MOUNT_ID)[-1].seq
    assert list(ends(keys, root)) == [keys / file_name(MOUNT_ID, root)]
    assert last_seqs(keys, root) == {MOUNT_ID: last}
    assert last_seqs(keys, tmp_path) == {}, "of another root"


def test_without_a_file_or_a_checkpoint_there_is_no_end(tmp_path: Path) -> None:
    assert ends(tmp_path / "none", tmp_path) == {}
    assert lines_of(tmp_path / "none") == []
    (tmp_path / file_name("a", tmp_path)).write_bytes(b"no checkpoint\n")
    assert last_seqs(tmp_path, tmp_path) == {}

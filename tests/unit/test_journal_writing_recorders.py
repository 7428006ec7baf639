"""Several recorders below one root: each has a chain of its own, and each has seen the others."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from policyfs.domain import Audit
from policyfs.journal.sealing.heads import heads
from policyfs.journal.writing.journal import Journal, JournalError
from policyfs.journal.writing.recorders import open_journal, recorder_id
from tests.support.mount.trail import MOUNT_ID, an_event, read_all, segments, verified

SECOND = recorder_id(MOUNT_ID, 2)


def opened(root: Path, mount_id: str = MOUNT_ID) -> tuple[Journal, Path]:
    return open_journal(root, mount_id, keep=0, segment_bytes=1 << 20)


def others(directory: Path) -> list[dict[str, str]]:
    return [record.fields["chains"] for record in read_all(directory) if record.kind == "others"]  # type: ignore[misc]


def test_a_mounts_first_chain_has_its_name_and_the_next_ones_names_of_their_own() -> None:
    names = [recorder_id(MOUNT_ID, turn) for turn in (1, 2, 3)] + [recorder_id("f" * 16, 2)]
    assert names[0] == MOUNT_ID
    assert len(set(names)) == 4
    assert all(len(name) == 16 and set(name) <= set("0123456789abcdef") for name in names)


def test_while_one_daemon_lives_the_next_records_in_a_chain_of_its_own(tmp_path: Path) -> None:
    with ExitStack() as stack:
        first, one = opened(tmp_path)
        stack.enter_context(closing(first))
        second, two = opened(tmp_path)
        stack.enter_context(closing(second))
        assert (one, two) == (tmp_path / MOUNT_ID, tmp_path / SECOND)
        assert others(one) == [{}]
        assert list(others(two)[0]) == [MOUNT_ID]
    third, directory = opened(tmp_path)
    third.close()
    assert directory == one, "the first chain is free again"
    assert list(others(one)[-1]) == [SECOND]


def test_what_was_seen_of_another_chain_is_its_last_line(tmp_path: Path) -> None:
    journal, directory = opened(tmp_path)
    journal.record(an_event(), Audit.REQUIRED)
    journal.close()
    last = read_all(directory)[-1]
    report = verified(directory)
    assert heads(tmp_path, but="another") == {MOUNT_ID: f"{last.seq}={report.head}"}
    assert heads(tmp_path, but=MOUNT_ID) == {}


def test_an_unfinished_line_does_not_count(tmp_path: Path) -> None:
    journal, directory = opened(tmp_path)
    journal.close()
    before = heads(tmp_path, but="")
    with segments(directory)[-1].open("ab") as file:
        file.write(b'{"half a line')
    assert heads(tmp_path, but="") == before


def test_a_chain_that_cannot_be_read_keeps_no_mount_from_starting(tmp_path: Path) -> None:
    for name, content in (("a" * 16, b"no line\n"), ("b" * 16, b"")):
        (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / name / "00000001-20260301T080000Z.jsonl").write_bytes(content)
    (tmp_path / ("c" * 16)).mkdir(mode=0o700)
    (tmp_path / ("c" * 16) / "00000001-20260301T080000Z.jsonl").mkdir()
    (tmp_path / "not a chain").mkdir()
    journal, directory = opened(tmp_path)
    journal.close()
    assert others(directory) == [{}]


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOENT, errno.EACCES])
def test_nor_does_a_chain_whose_directory_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    opened(tmp_path)[0].close()
    bad, listed = tmp_path / ("b" * 16), os.listdir
    bad.mkdir(mode=0o700)

    def unless_bad(path: int | Path) -> list[str]:
        if path == bad:
            raise OSError(code, "a bad disk, or another process removes the directory")
        return listed(path)

    monkeypatch.setattr(os, "listdir", unless_bad)
    assert list(heads(tmp_path, but="")) == [MOUNT_ID]


def test_a_place_that_is_no_directory_is_an_error_and_not_another_turn(tmp_path: Path) -> None:
    (tmp_path / MOUNT_ID).write_bytes(b"")
    with pytest.raises(JournalError):
        opened(tmp_path)
    assert not (tmp_path / SECOND).exists()


def test_a_journal_that_cannot_say_what_it_saw_is_not_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(os.listdir("/proc/self/fd"))

    def refuse(self: Journal, *_arguments: object) -> None:
        raise JournalError("no room")

    with monkeypatch.context() as patched, pytest.raises(JournalError, match="no room"):
        patched.setattr(Journal, "tell", refuse)
        opened(tmp_path)
    assert set(os.listdir("/proc/self/fd")) == before
    journal, directory = opened(tmp_path)
    journal.close()
    assert directory.name == MOUNT_ID

"""Texts of policies beside a trail: saved whole, found again, removed when no record names them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.journal.files.policy_texts import (
    POLICIES,
    PolicyTexts,
    kept_digests,
    policy_text,
    read_pointer,
    read_policy,
)
from policyfs.journal.files.segments import TrailDirectory

ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[TrailDirectory]:
    made = TrailDirectory(str(tmp_path / "trail"))
    yield made
    made.close()


@pytest.fixture
def texts(directory: TrailDirectory) -> PolicyTexts:
    return PolicyTexts(directory)


def place(directory: TrailDirectory) -> Path:
    return Path(directory.path)


def files(directory: TrailDirectory, digest: str) -> dict[str, bytes]:
    return {os.path.basename(path): text for path, text in read_policy(place(directory), digest)}


def keep(texts: PolicyTexts, *digests: str) -> None:
    for digest in digests:
        texts.keep(policy_text(digest, [("p.yaml", digest.encode())]))
    texts.save()


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/etc/a.yaml", "b.yaml"], ["a.yaml", "b.yaml"]),
        (["/etc/policy"], ["policy.yaml"]),
        (["/one/a.yaml", "/two/a.yaml"], ["2.yaml", "a.yaml"]),
        (["/one/" + "n" * 235], ["n" * 235 + ".yaml"]),
        (["/one/" + "n" * 236], ["1.yaml"]),
        (["/2.yaml", "/one/" + "n" * 236], ["2.yaml", "3.yaml"]),
        (["/3.yaml", "/one/a.yaml", "/two/a.yaml"], ["3.yaml", "4.yaml", "a.yaml"]),
        (["/dev/stdin/"], [".yaml"]),
    ],
)
def test_files_are_kept_by_their_names_or_by_number(paths: list[str], names: list[str]) -> None:
    text = policy_text(ONE, [(path, path.encode()) for path in paths])
    assert [name for name, _ in text.files] == names
    assert sorted(data for _, data in text.files) == sorted(path.encode() for path in paths)


def test_a_text_is_saved_for_root_alone_and_read_back(directory: TrailDirectory, texts: PolicyTexts) -> None:
    texts.keep(policy_text(ONE, [("a.yaml", b"one"), ("b.yaml", b"two")]))
    assert kept_digests(place(directory)) == []
    texts.save()
    assert kept_digests(place(directory)) == [ONE]
    assert files(directory, ONE) == {"a.yaml": b"one", "b.yaml": b"two"}
    policies = place(directory) / POLICIES
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (policies, policies / ONE)}
    assert modes == {0o700}
    assert stat.S_IMODE((policies / ONE / "a.yaml").stat().st_mode) == 0o600


def test_a_text_that_is_damaged_or_left_half_written_is_saved_again(
    directory: TrailDirectory, texts: PolicyTexts
) -> None:
    keep(texts, ONE)
    policies = place(directory) / POLICIES
    for harm in (
        lambda: (policies / ONE / "p.yaml").write_bytes(b"other"),
        lambda: (policies / ONE / "more.yaml").write_bytes(b"more"),
        (policies / ONE / "p.yaml").unlink,
    ):
        harm()
        keep(texts, ONE)
        assert files(directory, ONE) == {"p.yaml": ONE.encode()}
    (policies / ".new").mkdir()
    (policies / ".new" / "rest").write_bytes(b"of a crash")
    keep(texts, TWO)
    assert kept_digests(place(directory)) == [ONE, TWO]
    assert not (policies / ".new").exists()


def test_no_symlink_is_followed(directory: TrailDirectory, texts: PolicyTexts, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (place(directory) / POLICIES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"symbolic|directory"):
        keep(texts, ONE)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_failed_save_is_tried_again(directory: TrailDirectory, texts: PolicyTexts) -> None:
    (place(directory) / POLICIES).write_bytes(b"no directory")
    texts.in_force(ONE, "")
    with pytest.raises(NotADirectoryError):
        keep(texts, ONE)
    (place(directory) / POLICIES).unlink()
    texts.save()
    assert kept_digests(place(directory)) == [ONE]
    assert read_pointer(place(directory)) == (ONE, "")


def test_the_pointer_names_the_policy_in_force_and_the_one_before(
    directory: TrailDirectory, texts: PolicyTexts
) -> None:
    assert read_pointer(place(directory)) == ("", "")
    texts.in_force(ONE, "")
    texts.save()
    assert read_pointer(place(directory)) == (ONE, "")
    texts.in_force(TWO, ONE)
    texts.save()
    assert read_pointer(place(directory)) == (TWO, ONE)
    pointer = place(directory) / POLICIES / "in-force"
    written = pointer.stat().st_ino
    texts.in_force(TWO, ONE)
    texts.save()
    assert pointer.stat().st_ino == written  # no wait for the disk
    for damaged, read in ((b"../../etc " + ONE.encode(), ("", ONE)), (b"", ("", "")), (b"\xff\n", ("", ""))):
        pointer.write_bytes(damaged)
        assert read_pointer(place(directory)) == read


def test_texts_are_removed_once_no_segment_names_them(directory: TrailDirectory, texts: PolicyTexts) -> None:
    keep(texts, ONE, TWO, THREE)
    for digest, segment in ((ONE, 4), (TWO, 5), (THREE, 6)):
        texts.named(digest, segment)
    texts.prune(4)
    assert kept_digests(place(directory)) == [ONE, TWO, THREE]
    texts.prune(5)
    assert kept_digests(place(directory)) == [TWO, THREE]
    texts.prune(9)
    assert kept_digests(place(directory)) == []


def test_what_is_in_force_or_unsaved_or_no_policy_is_never_removed(
    directory: TrailDirectory, texts: PolicyTexts
) -> None:
    keep(texts, ONE, TWO, THREE)
    (place(directory) / POLICIES / "notes").mkdir()
    texts.in_force(ONE, TWO)
    texts.keep(policy_text(THREE, [("p.yaml", b"x")]))
    texts.prune(9)
    assert kept_digests(place(directory)) == [ONE, TWO, THREE]
    assert (place(directory) / POLICIES / "notes").is_dir()


def test_texts_of_an_earlier_daemon_stay_as_long_as_its_segments(
    directory: TrailDirectory, texts: PolicyTexts
) -> None:
    keep(texts, ONE)
    later = PolicyTexts(directory)
    later.oldest_unknown = 7
    later.prune(7)
    assert kept_digests(place(directory)) == [ONE]
    later.prune(8)
    assert kept_digests(place(directory)) == []


def test_where_there_are_no_texts_nothing_is_pruned(directory: TrailDirectory, texts: PolicyTexts) -> None:
    texts.prune(9)
    assert kept_digests(place(directory)) == []


def test_in_another_directory_all_is_saved_again(directory: TrailDirectory, texts: PolicyTexts) -> None:
    texts.in_force(ONE, TWO)
    keep(texts, ONE, TWO, THREE)
    place(directory).rename(place(directory).with_name("moved"))
    directory.reopen()
    texts.again()
    texts.save()
    assert kept_digests(place(directory)) == [ONE, TWO], "the third was in force never"
    assert read_pointer(place(directory)) == (ONE, TWO)

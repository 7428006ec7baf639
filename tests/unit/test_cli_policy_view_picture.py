"""Entries of a picture."""

from __future__ import annotations

from policyfs.cli.policy.view.picture import Entry, Picture, Rest, words_of
from policyfs.domain import RAW_VIEW, FileType, Op


def entry(path: bytes, may: Op, ftype: FileType = FileType.REGULAR) -> Entry:
    return Entry(path, ftype, may, False, RAW_VIEW, (), (), None, None)


def test_operations_as_letters_and_words() -> None:
    assert entry(b"/a", Op.READ | Op.DELETE).letters == "r--d-"
    assert entry(b"/a", Op(0)).letters == "-----"
    assert words_of(Op.ALL) == ["read", "write", "create", "delete", "attr"]


def test_the_rests_count_apart() -> None:
    picture = Picture("gallery", "/srv", "p.yaml", "0")
    picture.entries = [entry(b"/", Op(0), FileType.DIRECTORY), entry(b"/a", Op.READ)]
    picture.rests = [Rest(b"/", ".jpg", 7)]
    assert (picture.counts()[FileType.REGULAR], picture.skipped) == (1, 7)
    assert picture.counts()[FileType.DIRECTORY] == 1

"""Threat D1: an index that is changed, replaced or given by another user hides no event of its segment."""

from __future__ import annotations

import contextlib
import io
import os
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from policyfs.cli import audit
from policyfs.domain import Audit
from policyfs.journal import index_cache
from policyfs.journal.index_cache import IndexCache
from policyfs.trail.index_build import IndexBuilder
from tests.support.mount.trail import MOUNT_ID, a_denial, a_journal, an_event, segments

APP: Final = 10011


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trail with a denial in its first, closed segment, whose index is kept."""
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    with a_journal(tmp_path / "trail", segment_bytes=4000) as journal:
        journal.record(a_denial(b"/Private/seen.jpg"), Audit.REQUIRED)
        for number in range(20):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    assert found(tmp_path / "trail") == 1
    return tmp_path / "trail"


def found(trail: Path) -> int:
    """The number of denials that a search finds."""
    parser, out = ArgumentParser(), io.StringIO()
    audit.add_parser(parser.add_subparsers())
    args = parser.parse_args(["audit", "search", "--json", "decision:deny", "--trail", str(trail)])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        args.run(args)
    return len(out.getvalue().splitlines())


def indexes(trail: Path) -> list[Path]:
    return sorted((trail.parent / "cache").glob("*.index"))


def empty(digest: str) -> bytes:
    """An index with right checksums, in which nothing is."""
    return IndexBuilder().finish("x", 0, digest)


def flipped(trail: Path) -> None:
    for path in indexes(trail):
        data = bytearray(path.read_bytes())
        at = data.index(b"\n") + 1
        data[at:] = bytes(len(data) - at)
        path.write_bytes(data)


def exchanged(trail: Path) -> None:
    """Each index takes the place of another one."""
    data = [path.read_bytes() for path in indexes(trail)]
    for path, other in zip(indexes(trail), [*data[1:], data[0]], strict=True):
        path.write_bytes(other)


def of_another_user(trail: Path) -> None:
    for path in indexes(trail):
        path.write_bytes(empty(path.stem))
        os.chown(path, APP, APP)


def writable(trail: Path) -> None:
    for path in indexes(trail):
        path.write_bytes(empty(path.stem))
        path.chmod(0o666)


def linked(trail: Path) -> None:
    for path in indexes(trail):
        away = path.parent / "away"
        away.write_bytes(empty(path.stem))
        path.unlink()
        path.symlink_to(away)


WAYS: Final[dict[str, Callable[[Path], None]]] = {
    way.__name__: way for way in (flipped, exchanged, of_another_user, writable, linked)
}


@pytest.mark.parametrize("way", WAYS)
def test_an_edited_index_hides_nothing(trail: Path, way: str) -> None:
    assert len(indexes(trail)) >= 2
    WAYS[way](trail)
    assert found(trail) == 1


def test_it_does_where_anyone_may_have_written_it(trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_cache, "_is_private", lambda info: True)
    of_another_user(trail)
    assert found(trail) == 0


def test_a_segment_that_was_changed_has_no_index(trail: Path) -> None:
    """Whatever times it has."""
    path = segments(trail / MOUNT_ID)[1]
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b'"decision":"allow"', b'"decision":"deny"', 1))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(trail) == 2


def test_a_planted_directory_is_not_used(trail: Path) -> None:
    cache = trail.parent / "cache"
    for path in indexes(trail):
        path.write_bytes(empty(path.stem))
    os.chown(cache, APP, APP)
    assert IndexCache(cache).problem
    assert found(trail) == 1

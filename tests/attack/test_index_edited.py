"""Threat D1: an index that is changed, replaced or given by another user hides no event of its segment."""

from __future__ import annotations

import contextlib
import io
import json
import os
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from policyfs.cli.audit import command as audit
from policyfs.domain import Audit
from policyfs.journal.index import cache as index_cache
from policyfs.journal.index import known_digests
from policyfs.journal.index.cache import IndexCache
from policyfs.journal.index.database import Index, build
from policyfs.journal.index.seal import SEAL_BYTES, IndexSeal
from tests.support.mount.trail import MOUNT_ID, a_denial, a_journal, an_event, segments

APP: Final = 10011


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A trail with a denial in its first, closed segment, whose index is kept."""
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(known_digests, "_SETTLED_NS", -1)
    with a_journal(tmp_path / "trail", segment_bytes=4000) as journal:
        journal.record(a_denial(b"/Private/seen.jpg"), Audit.REQUIRED)
        for number in range(20):
            journal.record(an_event(b"/%d" % number), Audit.REQUIRED)
    assert found(tmp_path / "trail") == 1
    return tmp_path / "trail"


def found(trail: Path) -> int:
    """The number of denials that a search finds."""
    lines = said(trail, "search", "--json", "decision:deny").splitlines()
    return sum(json.loads(line)["type"] == "event" for line in lines)


def said(trail: Path, *words: str) -> str:
    """What a command prints, or the page that `report` writes."""
    parser, out, page = ArgumentParser(), io.StringIO(), trail.parent / "page.html"
    audit.add_audit(parser)
    more = ["--html", str(page)] if words == ("report",) else []
    args = parser.parse_args([*words, *more, "--trail", str(trail)])
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        args.run(args)
    return page.read_text() if more else out.getvalue()


SEEN: Final = "/Private/seen.jpg"
COMMANDS: Final = {
    "search": ("search", "decision:deny"), "timeline": ("timeline", SEEN), "summary": ("summary",),
    "report": ("report",),
}  # fmt: skip


def indexes(trail: Path) -> list[Path]:
    return sorted((trail.parent / "cache").glob("*.index"))


def empty(digest: str, size: int = 0) -> bytes:
    """An index in which nothing is."""
    return build((), size, digest)


def sealed(path: Path, data: bytes) -> None:
    """Put bytes in the place of those behind the seal of a kept file."""
    path.write_bytes(path.read_bytes()[:SEAL_BYTES] + data)


def flipped(trail: Path) -> None:
    for path in indexes(trail):
        data = path.read_bytes()
        path.write_bytes(data[: SEAL_BYTES + 4096] + bytes(len(data) - SEAL_BYTES - 4096))


def emptied(trail: Path) -> None:
    """The owner and mode of an index are right: the seal alone tells."""
    for path in indexes(trail):
        sealed(path, empty(path.stem, Index(path.read_bytes()[SEAL_BYTES:]).size))


def emptied_under_another_key(trail: Path) -> None:
    others = IndexCache(trail.parent / "cache", trail.parent / "others")
    for path in indexes(trail):
        others.save_index(path.stem, empty(path.stem, Index(path.read_bytes()[SEAL_BYTES:]).size))


def taken_for_another(trail: Path) -> None:
    """The list of known digests names for each segment the digest of another one, whose index is in order."""
    path = trail.parent / "cache/digests"
    known = json.loads(path.read_bytes()[SEAL_BYTES:])
    assert len(known) >= 2
    digests = list(known.values())
    sealed(path, json.dumps(dict(zip(known, [*digests[1:], digests[0]], strict=True))).encode())


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
    way.__name__: way
    for way in (
        flipped, emptied, emptied_under_another_key, taken_for_another, exchanged, of_another_user, writable,
        linked,
    )
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_an_edited_index_hides_nothing(trail: Path, way: str) -> None:
    """Attack D1.12: Change or replace the index of a segment, or the list of known digests, so that a
    command does not find an event
    Guard: policyfs/journal/index/seal.py::IndexSeal.fits,
    policyfs/journal/index/cache.py::IndexCache.load
    Also: ::test_no_command_believes_an_edited_index, ::test_a_segment_that_was_changed_has_no_index
    Without: ::test_each_does_where_no_seal_is_compared, ::test_it_does_where_anyone_may_have_written_it
    """
    assert len(indexes(trail)) >= 2
    WAYS[way](trail)
    assert found(trail) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_believes_an_edited_index(trail: Path, command: str) -> None:
    assert SEEN in said(trail, *COMMANDS[command])
    emptied(trail)
    assert SEEN in said(trail, *COMMANDS[command])


@pytest.mark.parametrize("command", COMMANDS)
def test_each_does_where_no_seal_is_compared(
    trail: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IndexSeal, "fits", lambda *_: True)
    emptied(trail)
    assert SEEN not in said(trail, *COMMANDS[command])


def test_it_does_where_anyone_may_have_written_it(trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the seal: what another user owns is not read at all."""
    monkeypatch.setattr(IndexSeal, "fits", lambda *_: True)
    monkeypatch.setattr(index_cache, "_is_private", lambda info: True)
    emptied(trail)
    for path in indexes(trail):
        os.chown(path, APP, APP)
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

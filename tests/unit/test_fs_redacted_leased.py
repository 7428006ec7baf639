"""Leases of large files, where what matters is the order of things."""

from __future__ import annotations

import time
from pathlib import Path

from policyfs.fs.redacted import leased as leased_module
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts

POLICY = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: hide, require: {redact: location}, who: {app: gallery}, paths: "/**"}
"""


@on_trio
async def test_after_a_break_no_lease_is_taken_for_a_moment(tmp_path: Path) -> None:
    """A writer in another mount asks every few milliseconds, and does not wait in between."""
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff")
    with parts(tmp_path, engine_of(POLICY)) as made:
        leased = made.leased
        node, other = [await made.walk(name, 10011) for name in ("/a.jpg", "/b.jpg")]
        start = time.monotonic()
        leased._broken(node)
        await leased._rest(other.ino)
        quick = time.monotonic() - start
        await leased._rest(node.ino)
        assert time.monotonic() - start >= leased_module._REST_S > quick
        start = time.monotonic()
        await leased._rest(node.ino)
        assert time.monotonic() - start < leased_module._REST_S, "the moment is over"
        assert made.notes.pages == [node.nodeid]

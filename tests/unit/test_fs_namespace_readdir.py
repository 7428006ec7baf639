"""Listings without a kernel in front: a snapshot holds until the directory is rewound."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.kernel.bridge import pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts

GALLERY = 10011
ANYTHING = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
"""


class Told:
    """What READDIR answers: names by position."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._shown: list[bytes] = []
        monkeypatch.setattr(pyfuse3, "readdir_reply", self._reply)

    def _reply(self, _token, name, _entry, _position) -> bool:
        self._shown.append(bytes(name))
        return True

    async def names(self, listings, index: int, start: int) -> set[bytes]:
        self._shown.clear()
        await listings.readdir(index, start, None)
        return set(self._shown) - {b".", b".."}


@on_trio
async def test_a_rewound_listing_is_taken_anew(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "DCIM").mkdir()
    (tmp_path / "DCIM/old").touch()
    with parts(tmp_path, engine_of(ANYTHING)) as made:
        told, listings = Told(monkeypatch), made.listings
        directory = await made.walk("/DCIM", GALLERY)
        index = await listings.opendir(directory, made.caller(GALLERY)) & 0xFFFFFF
        assert await told.names(listings, index, 0) == {b"old"}
        (tmp_path / "DCIM/new").touch()
        (tmp_path / "DCIM/old").unlink()
        assert await told.names(listings, index, 2) == {b"old"}, "positions hold until it is rewound"
        assert await told.names(listings, index, 0) == {b"new"}
        (tmp_path / "DCIM/new").unlink()
        assert await told.names(listings, index, 0) == set()
        await listings.releasedir(index)
        assert not len(listings)


@on_trio
async def test_a_listing_rewound_after_a_failed_answer_is_taken_anew(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "DCIM").mkdir()
    (tmp_path / "DCIM/old").touch()

    def broken(*_) -> bool:
        raise OSError(5, "no answer")

    with parts(tmp_path, engine_of(ANYTHING)) as made:
        directory = await made.walk("/DCIM", GALLERY)
        index = await made.listings.opendir(directory, made.caller(GALLERY)) & 0xFFFFFF
        monkeypatch.setattr(pyfuse3, "readdir_reply", broken)
        with pytest.raises(OSError, match="no answer"):
            await made.listings.readdir(index, 0, None)
        (tmp_path / "DCIM/old").rename(tmp_path / "DCIM/new")
        assert await Told(monkeypatch).names(made.listings, index, 0) == {b"new"}
        await made.listings.releasedir(index)

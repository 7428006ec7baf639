"""Words that are hidden in an open file now: by its owner at this moment, and by all its names."""

from __future__ import annotations

import os
from pathlib import Path

from policyfs.fs.redacted.hidden_words import HiddenWords
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, REDACTED


@on_trio
async def test_the_owner_and_who_has_the_grant_see_all(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        words = HiddenWords(made.fs)
        own, _ = await made.creator.create(made.root, b"own.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(own, 0, PHOTO)
        assert words.of(own) == frozenset()
        other = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        assert words.of(other) == {"location"}
        assert words.of(await made.open("/a.jpg", os.O_RDONLY, MAPS)) == frozenset()


@on_trio
async def test_the_owner_of_this_moment_counts(store: Path) -> None:
    """Not the one at the open."""
    with parts(store, engine_of(REDACTED)) as made:
        words = HiddenWords(made.fs)
        own, _ = await made.creator.create(made.root, b"own.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        assert words.of(own) == frozenset()
        made.owners.set(own.fd, made.tree.fstat(own.fd), "gallery")
        assert words.of(own) == {"location"}


@on_trio
async def test_a_policy_that_came_meanwhile_counts(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        words = HiddenWords(made.fs)
        handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        assert words.of(handle) == frozenset()
        made.reload(engine_of(REDACTED))
        assert words.of(handle) == {"location"}

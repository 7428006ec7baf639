"""Words that are hidden in an open file now: by its owner at this moment, and by all its names."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, MAPS, OPEN, PHOTO, REDACTED


@on_trio
async def test_the_owner_and_who_has_the_grant_see_all(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        words = made.gate.hidden_words
        own, _ = await made.creator.create(made.root, b"own.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        await made.write(own, 0, PHOTO)
        assert words(own) == frozenset()
        other = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        assert words(other) == {"location"}
        assert words(await made.open("/a.jpg", os.O_RDONLY, MAPS)) == frozenset()


@on_trio
async def test_the_owner_of_this_moment_counts(store: Path) -> None:
    """Not the one at the open."""
    with parts(store, engine_of(REDACTED)) as made:
        words = made.gate.hidden_words
        own, _ = await made.creator.create(made.root, b"own.jpg", 0o644, os.O_RDWR, made.caller(CAMERA))
        assert words(own) == frozenset()
        made.owners.set(own.fd, made.tree.fstat(own.fd), "gallery")
        assert words(own) == {"location"}


@on_trio
async def test_a_policy_that_came_meanwhile_counts(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        words = made.gate.hidden_words
        handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        assert words(handle) == frozenset()
        made.reload(engine_of(REDACTED))
        assert words(handle) == {"location"}

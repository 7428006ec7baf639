"""Owners of directories above: read once, and again when they may have changed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from policyfs.domain import Decision
from policyfs.fs.access.hiding_owners import Chain
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts

MAPS = 10012
OPEN = '- {id: all, allow: [all], who: {app: any}, paths: "/**"}\n'
DENIED = Decision(allowed=False, errno=errno.ENOENT)


class Asked:
    """A policy that hides what is below the camera's directories, and counts how often it is asked."""

    def __init__(self) -> None:
        self.chains: list[list[str | None]] = []

    def __call__(self, who: object, chain: Chain) -> Decision | None:
        del who
        self.chains.append([facts.owner for _, facts in chain])
        return DENIED if "camera" in self.chains[-1] else None


def own(made: Parts, path: Path, app: str) -> None:
    fd = os.open(path, os.O_PATH)
    made.owners.set(fd, made.tree.fstat(fd), app)
    os.close(fd)


@on_trio
async def test_an_answer_is_given_again_until_something_changed(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    with parts(tmp_path, engine_of(OPEN)) as made:
        deep = await made.walk("/a/b/c", MAPS)
        asked, who = Asked(), made.caller(MAPS).principal

        def hidden(generation: int = 1) -> Decision | None:
            return made.owners_above.hidden(who, deep, generation, asked)

        assert hidden() is None
        assert hidden() is None
        assert asked.chains == [["none"] * 3]
        own(made, tmp_path / "a/b", "camera")
        assert hidden() is None  # nobody has said so yet
        made.owners_above.changed(deep.parent)
        assert hidden() == DENIED
        assert asked.chains[1:] == [["none", "camera", "none"]]
        hidden(generation=2)
        made.resolver.drop_all()
        hidden(generation=2)
        assert len(asked.chains) == 4
        os.rename(tmp_path / "a/b", tmp_path / "z")
        made.resolver.moved(deep.parent)
        assert hidden() == DENIED
        assert asked.chains[4:] == [["camera", "none"]]


@on_trio
async def test_without_a_watch_a_second_is_the_longest(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    now = [1000.0]
    monkeypatch.setattr("policyfs.fs.access.hiding_owners.time.monotonic", lambda: now[0])
    with parts(tmp_path, engine_of(OPEN)) as made:
        made.owners_above._watched = lambda: False
        deep = await made.walk("/a/b", MAPS)
        asked, who = Asked(), made.caller(MAPS).principal
        for later_s, answer in ((0.0, None), (0.9, None), (0.2, DENIED)):
            now[0] += later_s
            assert made.owners_above.hidden(who, deep, 1, asked) == answer
            own(made, tmp_path / "a", "camera")

"""The file system's part of the status: plain values, which follow what happens."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from policyfs.fs.report import fields, report
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA, OPEN, REDACTED


@dataclass
class Stats:
    count: int = 3
    pids: tuple[int, ...] = (1, 2)
    name: str = "a"


def test_fields_of_statistics_are_json() -> None:
    assert fields(Stats()) == {"count": 3, "pids": [1, 2], "name": "a"}
    assert fields(object()) == {}


@on_trio
async def test_counts_follow_what_is_open(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        made.whole.kernel_cache.notifier = None
        before = report(made.whole)
        assert json.loads(json.dumps(before)) == before
        assert before["handles"] == {"open": 0, "files": 0, "directories": 0, "mediated": 0}
        first = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        second = await made.open("/empty", os.O_RDWR, CAMERA)
        now = report(made.whole)
        assert now["handles"] == {"open": 2, "files": 2, "directories": 0, "mediated": 2}
        assert now["nodes"] == len(made.nodes) > before["nodes"]  # type: ignore[operator]
        assert (now["backing_ids"], now["vectors"]) == (0, None)
        for handle in (first, second):
            await made.release(handle)
        assert report(made.whole)["handles"] == before["handles"]


@on_trio
async def test_copies_and_refusals_are_counted(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        made.whole.kernel_cache.notifier = None
        handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
        copies = report(made.whole)["copies"]
        assert isinstance(copies, dict)
        assert (copies["count"], copies["pinned"], copies["misses"]) == (1, 1, 1)
        assert report(made.whole)["notifications"] is None
        await made.release(handle)
        copies = report(made.whole)["copies"]
        assert isinstance(copies, dict)
        assert copies["pinned"] == 0

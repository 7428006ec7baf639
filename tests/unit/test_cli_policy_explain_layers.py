"""Layers that refuse requests; tests/mount/test_policy_explain_live.py compares them with real calls."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.cli.policy.explain_layers import Layer, refusing_layer_of_move, told
from policyfs.cli.policy.explain_live import Caller, LiveFile
from policyfs.domain import Facts, FileType
from policyfs.linux.statx import statx
from policyfs.policy.explain.explain import explain_move
from tests.support.models.policies import engine_of
from tests.support.mount.steps import CAMERA, OPEN


def test_the_line_of_a_layer() -> None:
    assert told(None) == "  refused by: nothing"
    assert told(Layer("mode bits", 13, "why")) == "  refused by: mode bits"


BRAKED = {"brakes": {"on": {"camera": {}}}}


@pytest.mark.parametrize(
    ("move", "old", "new", "options", "layer", "error"),
    [
        ("rename", "a", "b", BRAKED, "brake", errno.EDQUOT),
        ("rename", "a", "b", {"brakes": {"on": {"gallery": {}}}}, None, 0),
        ("link", "a", "b", BRAKED, None, 0),
        ("rename", "a", "b", {}, None, 0),
        ("rename", "a", "a", {}, None, 0),
        ("rename", "none", "b", {}, "store", errno.ENOENT),
        ("link", "a", "b", {}, None, 0),
        ("link", "a", "a", {}, "store", errno.EEXIST),
        ("rename", "a", "b", {"read_only": True}, "read-only", errno.EROFS),
        ("link", "a", "b", {"read_only": True}, "read-only", errno.EROFS),
        ("rename", "a", "b", {"admits": {"any": False, "uid": 7, "gids": [7]}}, "mount", errno.EACCES),
        ("rename", "a", "b", {"admits": {"any": False, "uid": CAMERA, "gids": [7]}}, "mount", errno.EACCES),
        ("rename", "a", "b", {"admits": {"any": False, "uid": CAMERA, "gids": [7, CAMERA]}}, None, 0),
        ("rename", "a", "none/b", {}, "store", errno.ENOENT),
    ],
)
def test_the_layer_that_refuses_a_move(
    tmp_path: Path, move: str, old: str, new: str, options: dict, layer: str | None, error: int
) -> None:
    (tmp_path / "a").write_bytes(b"words")
    status = {"admits": {"any": True}, "read_only": False, "posix": False, "store": str(tmp_path)} | options
    engine = engine_of(OPEN + "- {id: brake, limit: {changes: 9, within: 1h}}\n")
    directory = os.open(tmp_path, os.O_RDONLY)
    stat = statx(directory, b"a")
    os.close(directory)
    ends = [
        LiveFile(
            os.fsencode(f"/{name}"), stat if name == "a" else None, Facts("text/plain", "none"),
            above=[(b"/", Facts())],
        )
        for name in (old, new)
    ]
    told = explain_move(
        engine, engine.principal(CAMERA), move, ends[0].path, ends[1].path, FileType.REGULAR, ends[0].facts
    )
    found = refusing_layer_of_move(status, told, (ends[0], ends[1]), Caller(CAMERA, CAMERA, ()), None)
    assert (found and found.name, found.error if found else 0) == (layer, error)

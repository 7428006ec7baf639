"""`moves: free`: an app moves directories and links files to where another app has other rights.

The other one then has the rights of the new path, whatever it had open, looked up or listed before. No app
gains by moves of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, code_of, start_as
from tests.support.mount.stores import Mounts

ARR, TV = 10341, 10342
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps: {{arr: {{uid: {ARR}, moves: free}}, tv: {{uid: {TV}, moves: free}}}}
rules:
  - {{id: arr, allow: [all], who: {{app: arr}}, paths: ["/in/***", "/tv/***"]}}
  - {{id: tv, allow: [see, read], who: {{app: tv}}, paths: "/tv/***"}}
  - {{id: own, allow: [all], who: {{app: tv}}, paths: "/own/***"}}
"""


WAYS: dict[str, tuple[str, ...]] = {"posix": ("--posix",), "plain": (), "mediated": ("--no-passthrough",)}


@pytest.fixture(params=first(1, zip(WAYS)))
def top(request: pytest.FixtureRequest, mounts: Mounts, empty_store: Path) -> Path:
    for name in ("in/season/inner", "tv/show", "own"):
        (empty_store / name).mkdir(parents=True)
    (empty_store / "in/season/inner/one").write_bytes(b"one")
    (empty_store / "tv/show/two").write_bytes(b"two")
    for path in [empty_store, *empty_store.rglob("*")]:
        path.chmod(0o777)
    return mounts.start(POLICY, empty_store, *WAYS[request.param]).mountpoint


def _serve(channel: Any, top: Path) -> None:
    """Be the other app: hold the directory /tv/show, look at names, and answer what it finds."""
    held = os.open(top / "tv/show", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir(top / "tv/show")

    def tried(function: Callable[[], object]) -> object:
        try:
            return function()
        except OSError as error:
            return errno.errorcode[error.errno or 0]

    while True:
        channel.send({
            "held": tried(lambda: os.listdir(held)),
            "below": tried(lambda: os.stat("two", dir_fd=held).st_size),
            "cwd": tried(Path("two").read_bytes),
            "show": tried(lambda: sorted(os.listdir(top / "tv/show"))),
            "season": tried(lambda: sorted(os.listdir(top / "tv/season/inner"))),
            "one": tried((top / "tv/season/inner/one").read_bytes),
            "in": tried(lambda: os.listdir(top / "in/season")),
        })  # fmt: skip
        if not channel.recv():
            return


def test_the_other_app_has_the_rights_of_the_new_path(top: Path) -> None:
    child = start_as(TV, _serve, top)
    assert child.receive() == {
        "held": ["two"], "below": 3, "cwd": b"two", "show": ["two"], "season": "ENOENT", "one": "ENOENT",
        "in": "ENOENT",
    }  # fmt: skip
    call_as(ARR, os.rename, top / "in/season", top / "tv/season")
    child.send(1)
    seen = child.receive()
    assert (seen["season"], seen["one"], seen["show"]) == (["one"], b"one", ["two"])
    call_as(ARR, os.rename, top / "tv/show", top / "in/show")
    child.send(1)
    gone = child.receive()
    assert [gone[key] for key in ("held", "below", "cwd", "show")] == ["ENOENT"] * 4
    call_as(ARR, os.rename, top / "in/show", top / "tv/show")
    child.send(1)
    back = child.receive()
    assert (back["below"], back["cwd"]) == (3, b"two")
    child.send(0)


def test_an_app_gains_nothing_by_its_own_moves(top: Path) -> None:
    """The same key gives no right where it may not do everything."""
    assert call_as(TV, code_of, os.link, top / "tv/show/two", top / "own/two") == "EACCES"
    assert call_as(TV, code_of, os.rename, top / "tv/show", top / "own/show") == "EACCES"
    assert call_as(ARR, code_of, os.link, top / "in/season/inner/one", top / "tv/one") == ""
    assert call_as(TV, (top / "tv/one").read_bytes) == b"one"
    assert call_as(TV, code_of, (top / "in/season/inner/one").read_bytes) == "ENOENT"

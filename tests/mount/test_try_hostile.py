"""`policyfs try` with what a hostile command leaves in its layer."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.support.mount.tries import APP, Tries

pytestmark = pytest.mark.mount

_DEEP = "import os\nfor _ in range(1200):\n os.mkdir('d' * 100)\n os.chdir('d' * 100)\n"


@pytest.fixture
def tries(arena: Path, empty_store: Path) -> Tries:
    for name in ("file", "link"):
        (empty_store / name).write_text("old\n")
    for path in (empty_store, *empty_store.iterdir()):
        os.chown(path, APP, APP)
    return Tries(arena, empty_store)


def test_a_tree_deeper_than_paths_hides_no_other_change_and_is_dropped(tries: Tries) -> None:
    assert tries.run("sh", "-c", f'echo x > z; exec python3 -c "{_DEEP}"').returncode == 0
    assert {one["path"] for one in tries.diff()} >= {"z", "d" * 100 + "/"}
    told = tries.commit()
    assert told["z"] == ""
    assert {why for why in told.values() if why} == {"File name too long"}
    assert tries.policyfs("try", "drop").returncode == 0
    assert tries.layers() == []


def test_what_no_commit_makes_takes_no_place_in_the_store(tries: Tries) -> None:
    tries.shell("rm file; mkfifo file; ln -sf z link; echo z > z")
    with socket.socket(socket.AF_UNIX) as made:
        at = tries.work / "layers/l/top/upper/z"
        at.unlink()
        here = os.open(at.parent, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{here}/z")
        os.close(here)
        os.chown(at, APP, APP)
    told = tries.commit()
    refused = "fifos, sockets and devices are not committed"
    assert told == {"file": refused, "link": "", "z": refused}
    assert (tries.at / "file").read_text() == "old\n"
    assert os.readlink(tries.at / "link") == "z"
    assert sorted(os.listdir(tries.at)) == ["file", "link"]

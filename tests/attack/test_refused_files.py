"""What is left in sight of a file whose content was refused."""

from __future__ import annotations

import os
from pathlib import Path

from tests.attack.test_drafts import CAMERA, PLACED, POLICY, shares
from tests.support.mounts import Mount
from tests.support.processes import call_as, code_of


def _refused(path: Path) -> tuple[str, str, list[str]]:
    """What close() says of one of two descriptors, and what is seen of the file then."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    os.write(fd, PLACED)
    said = code_of(os.close, os.dup(fd))
    return said, code_of(os.stat, path), os.listdir(path.parent)


def seen(mount: Mount, store: Path) -> tuple[str, str, list[str]]:
    _, share = shares(store, mount)
    answer: tuple[str, str, list[str]] = call_as(CAMERA, _refused, share / "a.jpg")
    return answer


def test_a_refused_file_is_out_of_sight_while_its_writer_has_it_open(mounts_on, store_on) -> None:
    store = store_on("ext4")
    assert seen(mounts_on.start(POLICY, store), store) == ("EPERM", "ENOENT", [])


def test_it_is_in_sight_where_names_are_not_withheld(without, store_on) -> None:
    store = store_on("ext4")
    assert seen(without("shown-while-refused", POLICY, store), store) == ("EPERM", "", ["a.jpg"])

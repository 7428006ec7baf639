"""Binds of directories at places of their own: what is on top, what stays below, and what is refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli.common.target_places import WHOLE, places_beside
from policyfs.kernel.placeholder import cover
from policyfs.kernel.targets import bind, clear, held_elsewhere, remove
from policyfs.linux.mountinfo import ABSENT, mounts_at
from tests.support.machine.namespace import detach
from tests.support.mount import layers

pytestmark = pytest.mark.mount


@pytest.fixture
def at(tmp_path: Path) -> Iterator[str]:
    """A mountpoint with a file system in memory, and a place beside it. It stands for a mount of policyfs."""
    at, place = tmp_path / WHOLE, tmp_path / "targets/films"
    for directory in (at, place):
        directory.mkdir(parents=True)
    layers.mount("-t", "tmpfs", "live", at)
    (at / "Films").mkdir()
    (at / "Films/one").touch()
    yield str(at)
    for path in (str(place), str(at)):
        for _ in mounts_at(path):
            detach(path)


def _types(place: str) -> list[str]:
    return [mount.fstype for mount in mounts_at(place)]


def test_a_place_has_a_placeholder_below_the_bind(at: str) -> None:
    [place] = places_beside(at)
    cover(place)
    assert os.stat(place).st_nlink == 2, "engines look at it before they start a container"
    with pytest.raises(OSError) as found:
        os.listdir(place)
    assert found.value.errno == errno.ENOTCONN
    bind(place, at, "/Films", set(), read_only=True)
    assert os.listdir(place) == ["one"]
    assert "ro" in mounts_at(place)[-1].options
    bind(place, at, "/", set(), read_only=False)
    assert (os.listdir(place), _types(place)) == (["Films"], [ABSENT, "tmpfs"])
    layers.mount("-t", "tmpfs", "inner", f"{place}/Films")
    assert os.listdir(f"{at}/Films") == ["one"], "what is mounted there stays there"
    layers.unmount(f"{place}/Films")
    clear(place, set())
    assert _types(place) == [ABSENT]
    remove(place)
    assert places_beside(at) == []


@pytest.mark.parametrize(
    ("name", "code"),
    [("gone", errno.ENOENT), ("file", errno.ENOTDIR), ("link", errno.ELOOP), ("inner", errno.EXDEV)],
)
def test_only_a_directory_of_the_mount_is_bound(at: str, name: str, code: int) -> None:
    [place] = places_beside(at)
    cover(place)
    bind(place, at, "/Films", set(), read_only=False)
    Path(at, "file").touch()
    Path(at, "link").symlink_to("/etc")
    Path(at, "inner").mkdir()
    layers.mount("-t", "tmpfs", "inner", f"{at}/inner")
    try:
        with pytest.raises(OSError) as found:
            bind(place, at, f"/{name}", set(), read_only=False)
        assert found.value.errno == code
        assert _types(place) == [ABSENT], "errors, not what was bound before"
    finally:
        layers.unmount(f"{at}/inner")


def test_a_mount_that_another_place_has_stays_below_the_next(at: str, tmp_path: Path) -> None:
    [place] = places_beside(at)
    other = tmp_path / "other"
    other.mkdir()
    cover(place)
    bind(place, at, "/Films", set(), read_only=False)
    layers.mount("--bind", place, other)
    layers.mount("--make-slave", other)
    try:
        held = held_elsewhere(at, [place])
        assert "/Films" in {root for _, root in held}
        bind(place, at, "/", held, read_only=False)
        assert _types(place) == [ABSENT, "tmpfs", "tmpfs"]
        assert os.listdir(other) == ["Films"], "the next appears on a bind of the one before"
        clear(place, held)
        assert _types(place) == [ABSENT, "tmpfs", ABSENT]
    finally:
        for _ in mounts_at(str(other)):
            detach(str(other))
    clear(place, held_elsewhere(at, [place]))
    assert _types(place) == [ABSENT]

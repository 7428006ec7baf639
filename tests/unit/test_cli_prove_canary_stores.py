"""The files of canaries: planted in an empty store, or those of the real store, which is only read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli.prove.canary_stores import is_there, known_files, planted
from policyfs.domain import Op
from policyfs.policy.analysis.canaries import Canary, Sort
from tests.support.models.policies import engine_of

CAMERA = 10010
ALL = '- {id: all, allow: [all], who: {app: camera}, paths: "/**"}\n'


def canary(path: bytes, sort: Sort = Sort.DENIAL) -> Canary:
    return Canary(sort, path, Op.READ)


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


def test_files_are_planted_that_any_caller_could_use_if_the_policy_let_it(empty: int, tmp_path: Path) -> None:
    wanted = [canary(path) for path in (b"/a", b"/d/b", b"/d/e/c", b"/d/b")]
    kept = planted(empty, wanted, b"words")
    assert all(kept(one) for one in wanted)
    for name in ("a", "d/b", "d/e/c"):
        file = tmp_path / name
        assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"words", 0o666)
    for name in ("d", "d/e"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o777
    assert not kept(canary(b"/none"))


def test_where_others_need_a_directory_only_hiding_is_tested(empty: int, tmp_path: Path) -> None:
    """The deepest paths are planted first."""
    wanted = [canary(b"/d"), canary(b"/d", Sort.HIDING), canary(b"/d/x"), canary(b"/")]
    kept = planted(empty, wanted, b"")
    assert [kept(one) for one in wanted] == [False, True, True, False]
    assert (tmp_path / "d").is_dir()


def test_a_path_that_no_request_can_have_is_not_planted(empty: int) -> None:
    deep = [b"/" + b"/".join([b"d" * 15] * 255 + [b"f" * length]) for length in (15, 16)]
    wide = [b"/" + b"n" * length for length in (255, 256)]
    wanted = [canary(path, sort) for path in (*deep, *wide) for sort in (Sort.DENIAL, Sort.HIDING)]
    kept = planted(empty, wanted, b"")
    assert [kept(one) for one in wanted] == [True, True, False, False] * 2
    assert os.stat(wide[0].lstrip(b"/"), dir_fd=empty).st_size == 0


# -- the real store -------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Path:
    made = tmp_path / "store"
    (made / "d/inner").mkdir(parents=True)
    for name in ("a", "d/b", "d/inner/c"):
        (made / name).touch()
    os.mkfifo(made / "fifo")
    (made / "link").symlink_to("d")
    return made


def found(store: Path, rules: str) -> list[tuple[Sort, bytes]]:
    engine = engine_of(rules)
    return [(one.sort, one.path) for one in known_files(str(store), engine, engine.principal(CAMERA))]


def test_known_names_are_found_nearest_first_and_two_of_each_sort(store: Path) -> None:
    hide = ALL + '- {id: hide, deny: [see], paths: ["/a", "/d/b", "/d/inner/c"], errno: ENOENT}\n'
    for number in range(5):
        (store / f"free-{number}").touch()
    names = found(store, hide)
    assert [path for sort, path in names if sort is Sort.HIDING] == [b"/a", b"/d/b"]
    assert len([path for sort, path in names if sort is Sort.PASSTHROUGH]) <= 2
    assert all(b"link" not in path and b"fifo" not in path for _, path in names)


def test_a_canary_knows_its_file_and_changes_nothing(store: Path) -> None:
    engine = engine_of(ALL + '- {id: no, deny: [read, write, delete], paths: "/d/b"}\n')
    os.utime(store / "d/b", ns=(5, 6))
    canaries = known_files(str(store), engine, engine.principal(CAMERA))
    denials = [one for one in canaries if one.sort is Sort.DENIAL]
    assert [(one.path, one.op, one.inode) for one in denials] == [
        (b"/d/b", Op.READ, (store / "d/b").stat().st_ino)
    ]
    assert {one.op for one in canaries} <= {Op.READ, Op.SEE}
    assert (store / "d/b").stat().st_atime_ns == 5


def test_a_file_is_there_until_it_is_removed_or_replaced(store: Path) -> None:
    denial, passthrough = (
        canary(b"/d/b", sort)._replace(inode=(store / "d/b").stat().st_ino)
        for sort in (Sort.DENIAL, Sort.PASSTHROUGH)
    )
    assert is_there(str(store), denial)
    assert is_there(str(store), passthrough)
    (store / "other").touch()
    (store / "other").rename(store / "d/b")
    assert is_there(str(store), denial)
    assert not is_there(str(store), passthrough)
    (store / "d/b").unlink()
    assert not is_there(str(store), denial)
    assert not is_there(str(store), canary(b"/none/b"))


def test_names_that_hang_on_a_fact_are_left_out(store: Path) -> None:
    rules = ALL + '- {id: kind, deny: [read], paths: "/a", when: {type: "text/*"}}\n'
    assert (Sort.DENIAL, b"/a") not in found(store, rules)
    owned = ALL + '- {id: own, deny: [see], paths: "/d/***", unless: {owner: self}, errno: ENOENT}\n'
    assert not [path for _, path in found(store, owned) if path.startswith(b"/d")]


def test_a_hidden_directory_is_a_canary_and_a_readable_one_is_none(store: Path) -> None:
    names = found(store, ALL + '- {id: hide, deny: [all], paths: "/d/***", errno: ENOENT}\n')
    assert (Sort.HIDING, b"/d") in names
    assert all(path != b"/d" for _, path in found(store, ALL))


def test_a_store_that_cannot_be_read_has_no_canaries(tmp_path: Path) -> None:
    open_before = os.listdir("/proc/self/fd")
    assert found(tmp_path / "none", ALL) == []
    assert os.listdir("/proc/self/fd") == open_before


def test_only_some_directories_and_names_are_looked_at(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"d{number:03}").mkdir()
        (tmp_path / f"d{number:03}/hidden").touch()
    hide = ALL + '- {id: hide, deny: [see], paths: "/*/hidden", errno: ENOENT}\n'
    opened: list[object] = []
    scandir = os.scandir
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", lambda fd: opened.append(fd) or scandir(fd))
        assert len([path for sort, path in found(tmp_path, hide) if sort is Sort.HIDING]) == 2
    assert len(opened) == 32

"""Files made, where another comes to their name."""

from __future__ import annotations

import errno
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from policyfs.fs.inodes.handles import Handle
from policyfs.store.names.new_names import NOT_MADE, NewNames
from policyfs.store.owner import Owners
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import (
    CAMERA,
    MAPS,
    OPEN,
    PHOTO,
    REDACTED,
    TYPES,
    before_names_are_locked,
    errno_of,
    replace,
)


def without_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store have no unnamed files, as NFS and others."""

    def fails(*_: object, **__: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "no unnamed files")

    monkeypatch.setattr(Tree, "create_unnamed", fails)


@pytest.mark.parametrize("names", ["link", "rename2", "create_file"])
def test_mknod_makes_nobody_the_owner_of_a_file_that_is_moved_there(
    store: Path, monkeypatch: pytest.MonkeyPatch, names: str
) -> None:
    """Another file comes to the name in the moment in which it is made."""
    (store / "other.jpg").write_bytes(PHOTO)
    if names != "link":
        without_unnamed_files(monkeypatch)
    if names == "create_file":
        monkeypatch.setattr(NewNames, "make", lambda *_: NOT_MADE)
    make_name = getattr(Tree, names)

    def named(*request: Any, **options: Any) -> int:
        fd = make_name(*request, **options)
        os.rename(store / "other.jpg", store / "new.jpg")
        return fd

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(REDACTED)) as made:
            monkeypatch.setattr(Tree, names, named)
            await made.creator.mknod(made.root, b"new.jpg", 0o100644, 0, made.caller(CAMERA))
            fd = os.open(store / "new.jpg", os.O_RDONLY)
            assert os.pread(fd, 1 << 20, 0) == PHOTO
            assert made.owners.get(fd, made.tree.fstat(fd)) == "none"
            os.close(fd)

    run()


async def make_new(made: Parts, way: str) -> None:
    """Make the file `new` for the camera, by CREATE or MKNOD."""
    caller = made.caller(CAMERA)
    if way == "create":
        await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, caller)
    else:
        await made.creator.mknod(made.root, b"new", 0o100644, 0, caller)


@pytest.mark.parametrize("way", ["create", "mknod"])
def test_a_new_file_has_its_owner_before_its_name(
    store: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Else an app of another mount could open it for writing, and its bytes would be those of the owner."""
    set_owner, named = Owners.set, list[bool]()

    def late(owners: Owners, *request: Any) -> None:
        named.append((store / "new").exists())
        set_owner(owners, *request)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            monkeypatch.setattr(Owners, "set", late)
            await make_new(made, way)
            assert named == [False]
            assert (store / "new").stat().st_nlink == 1
            again = made.creator.create(made.root, b"new", 0o644, os.O_EXCL, made.caller(CAMERA))
            assert await errno_of(again) == errno.EEXIST

    run()


@pytest.mark.parametrize("way", ["create", "mknod"])
def test_a_new_file_that_another_app_opens_at_once_gets_no_owner_again(
    store: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The other mount has ended the ownership when it opened the file for writing."""
    link = Tree.link

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:

            def opened(tree: Tree, fd: int, dirfd: int, name: bytes) -> None:
                link(tree, fd, dirfd, name)
                made.owners.set(fd, made.tree.fstat(fd), "none")

            monkeypatch.setattr(Tree, "link", opened)
            await make_new(made, way)
            with (store / "new").open("rb") as file:
                assert made.owners.get(file.fileno(), made.tree.fstat(file.fileno())) == "none"

    run()


def make_other(made: Parts, way: str, name: bytes) -> Coroutine[object, object, object]:
    """Make a directory or a symlink for the camera."""
    caller = made.caller(CAMERA)
    if way == "mkdir":
        return made.creator.mkdir(made.root, name, 0o755, caller)
    return made.creator.symlink(made.root, name, b"target", caller)


@pytest.mark.parametrize("way", ["mkdir", "symlink"])
def test_a_new_directory_has_its_owner_before_its_name(
    store: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Else an app of another mount could use it as nobody's, or another one could take its name and owner."""
    set_owner, named = Owners.set, list[bool]()

    def late(owners: Owners, *request: Any) -> None:
        named.append(os.path.lexists(store / "new"))
        set_owner(owners, *request)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            monkeypatch.setattr(Owners, "set", late)
            await make_other(made, way, b"new")
            assert named == [False]
            fd = made.tree.open_path(made.tree.root_fd, b"new")
            assert made.owners.get(fd, made.tree.fstat(fd)) == "camera"
            os.close(fd)
            assert await errno_of(make_other(made, way, b"new")) == errno.EEXIST
            assert sorted(os.listdir(store)) == ["a.jpg", "empty", "new"]

    run()


@pytest.mark.parametrize("way", ["mkdir", "symlink"])
def test_a_new_directory_whose_owner_cannot_be_kept_is_not_made(
    store: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            monkeypatch.setattr(Owners, "set", full)
            before = len(os.listdir("/proc/self/fd"))
            assert await errno_of(make_other(made, way, b"new")) == errno.ENOSPC
            assert await errno_of(make_other(made, way, b"a.jpg")) == errno.EEXIST
            assert sorted(os.listdir(store)) == ["a.jpg", "empty"]
            assert len(os.listdir("/proc/self/fd")) == before

    run()


async def code_of_new(made: Parts, way: str, name: bytes, flags: int = os.O_RDWR) -> int:
    """The errno with which the camera gets no new file of that name."""
    caller = made.caller(CAMERA)
    if way == "create":
        return await errno_of(made.creator.create(made.root, name, 0o644, flags, caller))
    return await errno_of(made.creator.mknod(made.root, name, 0o100644, 0, caller))


@pytest.mark.parametrize("fails", ["create_unnamed", "set"])
def test_in_a_full_store_a_name_that_exists_is_told_as_natively(
    store: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The kernel of a local file system looks for the name before it looks for room."""

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "no room")

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            monkeypatch.setattr(Tree if fails == "create_unnamed" else Owners, fails, full)
            before = len(os.listdir("/proc/self/fd"))
            assert await code_of_new(made, "create", b"a.jpg") == errno.ESTALE  # the kernel opens the file
            assert await code_of_new(made, "create", b"a.jpg", os.O_RDWR | os.O_EXCL) == errno.EEXIST
            assert await code_of_new(made, "mknod", b"a.jpg") == errno.EEXIST
            assert await code_of_new(made, "create", b"new") == errno.ENOSPC
            assert await code_of_new(made, "mknod", b"new") == errno.ENOSPC
            assert len(os.listdir("/proc/self/fd")) == before

    run()


@pytest.mark.parametrize("removals", [1, 3])
def test_a_name_that_comes_and_goes_in_another_mount_is_made_anew(
    store: Path, monkeypatch: pytest.MonkeyPatch, removals: int
) -> None:
    """open(2) with O_CREAT never answers ENOENT natively, and the kernel tries only once more after ESTALE.
    """
    make_name, calls = Tree.link, list[bool]()

    def removed(tree: Tree, fd: int, dirfd: int, name: bytes) -> None:
        if len(calls) < removals:
            calls.append(True)
            (store / "new").touch()
            try:
                make_name(tree, fd, dirfd, name)
            finally:
                (store / "new").unlink()
        make_name(tree, fd, dirfd, name)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            monkeypatch.setattr(Tree, "link", removed)
            assert await code_of_new(made, "create", b"new") == 0
            assert len(calls) == removals
            assert (store / "new").exists()

    run()


@on_trio
async def test_the_path_of_a_new_file_is_found_after_a_move(store: Path) -> None:
    """The kernel tells no path of a descriptor of an unnamed file, even once it has a name."""
    with parts(store, engine_of(OPEN)) as made:
        handle, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(CAMERA))
        (store / "new").rename(store / "moved")
        dirfd, name = made.tree.find(handle.fd)
        os.close(dirfd)
        assert name == b"moved"


@on_trio
async def test_what_cannot_be_recorded_is_not_made(store: Path) -> None:
    text = OPEN.replace("}\n", ", audit: required}\n")
    with parts(store, engine_of(text)) as made:
        node = await made.walk("/a.jpg", MAPS)
        made.sink.broken = True
        caller, before = made.caller(MAPS), len(made.nodes)
        for request in (
            lambda: made.creator.mkdir(made.root, b"n", 0o755, caller),
            lambda: made.creator.symlink(made.root, b"n", b"a.jpg", caller),
            lambda: made.creator.mknod(made.root, b"n", 0o100644, 0, caller),
        ):
            assert await errno_of(request()) == errno.EIO
        assert await errno_of(made.linker.link(node, made.root, b"n", caller)) == errno.EIO
        assert await errno_of(made.creator.create(made.root, b"n", 0o644, os.O_RDWR, caller)) == errno.EIO
        assert (
            await errno_of(made.renamer.rename(made.root, b"a.jpg", made.root, b"n", 0, caller)) == errno.EIO
        )
        assert not (store / "n").exists()
        assert len(made.nodes) == before
        assert not len(made.handles)


@pytest.mark.parametrize("how", ["unrecorded", "reload"])
def test_a_new_file_whose_open_is_refused_stays_while_another_daemon_holds_bytes_of_it(
    store: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Else that daemon would store them in a file without a name."""
    engine, latches = engine_of(OPEN + TYPES), tmp_path_factory.mktemp("run") / "lock"

    @on_trio
    async def run() -> None:
        with parts(store, engine, latches=latches) as here, parts(store, engine, latches=latches) as there:
            recorded, seconds = type(here.gate.recorder).recorded, list[Handle]()

            async def late(recorder: object, *more: Any, **options: Any) -> bool:
                if recorder is here.gate.recorder:
                    seconds.append(await there.open("/new", os.O_WRONLY, CAMERA))
                    await there.write(seconds[0], 0, PHOTO[:2])
                    if how == "unrecorded":
                        raise OSError(errno.EIO, "not on record")
                    here.reload(engine)
                return await recorded(recorder, *more, **options)

            monkeypatch.setattr(type(here.gate.recorder), "recorded", late)
            made = here.creator.create(here.root, b"new", 0o666, os.O_RDWR, here.caller(CAMERA))
            assert await errno_of(made) == (errno.EIO if how == "unrecorded" else errno.ESTALE)
            await there.write(seconds[0], 2, PHOTO[2:])
            await there.release(seconds[0])
            assert (store / "new").read_bytes() == PHOTO

    run()


def test_an_empty_directory_that_takes_the_name_of_a_new_one_is_not_removed_with_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a store without temporary names; another machine has moved the new directory, and made its own."""

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    def another() -> None:
        (store / "new").rename(store / "moved")
        (store / "new").mkdir()

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            monkeypatch.setattr(NewNames, "make", lambda *_: NOT_MADE)
            monkeypatch.setattr(type(made.owners), "set", no_room)
            before_names_are_locked(monkeypatch, another)
            request = made.creator.mkdir(made.root, b"new", 0o755, made.caller(CAMERA))
            assert await errno_of(request) == errno.ENOSPC
            assert sorted(os.listdir(store)) == ["a.jpg", "empty", "moved", "new"]

    run()


@pytest.mark.parametrize("fails", ["owner", "record"])
def test_a_file_that_takes_the_name_of_a_new_one_is_not_removed_with_it(
    store: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The new file is taken back: its owner cannot be kept, or its creation is not on record."""

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN.replace("}\n", ", audit: required}\n"))) as made:
            if fails == "owner":
                without_unnamed_files(monkeypatch)
                monkeypatch.setattr(NewNames, "make", lambda *_: NOT_MADE)
                monkeypatch.setattr(type(made.owners), "set", no_room)
            made.sink.broken = fails == "record"
            before_names_are_locked(monkeypatch, lambda: replace(store / "new", PHOTO))
            request = made.creator.create(made.root, b"new", 0o644, os.O_RDWR, made.caller(CAMERA))
            assert await errno_of(request) == (errno.ENOSPC if fails == "owner" else errno.EIO)
            assert (store / "new").read_bytes() == PHOTO
            assert sorted(os.listdir(store)) == ["a.jpg", "empty", "new"]

    run()


@on_trio
async def test_symlink_makes_nobody_the_owner_of_a_file_that_is_moved_there(store: Path, monkeypatch) -> None:
    """The owner of a photo sees its place. Another app's photo takes the name of a new symlink."""
    with parts(store, engine_of(REDACTED)) as made:
        symlink = type(made.tree).symlink

        def created(*arguments: Any) -> None:
            symlink(*arguments)
            replace(store / "new", PHOTO)

        monkeypatch.setattr(type(made.tree), "symlink", created)
        request = made.creator.symlink(made.root, b"new", b"target", made.caller(CAMERA))
        assert await errno_of(request) == errno.EEXIST
        fd = os.open(store / "new", os.O_RDONLY)
        assert made.owners.get(fd, made.tree.fstat(fd)) == "none"
        assert os.pread(fd, 1 << 20, 0) == PHOTO
        os.close(fd)


def test_an_open_that_fails_after_its_record_leaves_no_handle(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel never releases that handle. Its descriptor would be another file's soon."""

    def failing(*_: object) -> None:
        raise OSError(errno.EIO, "the disk fails")

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            before, caller = len(os.listdir("/proc/self/fd")), made.caller(CAMERA)
            monkeypatch.setattr(type(made.lookup), "told", failing)
            request = made.creator.create(made.root, b"new", 0o644, os.O_RDWR, caller)
            assert await errno_of(request) == errno.EIO
            assert list(made.handles) == []
            made.passthrough.expire(everything=True)
            assert len(os.listdir("/proc/self/fd")) == before

    run()

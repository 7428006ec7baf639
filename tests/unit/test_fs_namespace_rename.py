"""Renames, where somebody else changes a name between two steps."""

from __future__ import annotations

import errno
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from policyfs.fs.checked.moved_file import Named
from policyfs.fs.namespace import rename as rename_module
from policyfs.fs.namespace.entries import Entries
from policyfs.fs.namespace.rename import Renamer
from policyfs.linux import libc
from policyfs.store.locking import latches as latches_module
from policyfs.store.tree import Tree
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import (
    CAMERA,
    MAPS,
    OPEN,
    PHOTO,
    TYPES,
    before_names_are_locked,
    errno_of,
    replace,
    right_before_removals,
)


class _Settled(Named):
    """A file without writers, and a source of it: it is a photo."""

    kind, free_of = "image/jpeg", frozenset[str]()

    def __init__(self, path: Path) -> None:
        super().__init__(os.open(path, os.O_PATH))
        self.path = path

    async def settled(self, *_: object) -> _Settled:
        return _Settled(self.path)


@on_trio
async def test_what_is_not_to_be_replaced_is_not_replaced_where_content_is_looked_at(store: Path) -> None:
    """RENAME_NOREPLACE comes to us only where the kernel saw no such name: somebody has made it since."""
    (store / "in").mkdir()
    (store / "in/new.jpg").write_bytes(b"somebody's")
    checked = OPEN + '- {id: types, require: {content: [image/jpeg]}, paths: "/in/**"}\n'
    with parts(store, engine_of(checked)) as made:
        settling = _Settled(store / "a.jpg")
        made.renamer._moved_files = settling  # type: ignore[assignment]
        to, caller = await made.walk("/in", CAMERA), made.caller(CAMERA)
        moved = made.renamer.rename(made.root, b"a.jpg", to, b"new.jpg", libc.RENAME_NOREPLACE, caller)
        assert await errno_of(moved) == errno.ESTALE  # the kernel looks again, and says EEXIST
        assert (store / "in/new.jpg").read_bytes() == b"somebody's"
        await made.renamer.rename(made.root, b"a.jpg", to, b"new.jpg", 0, caller)
        assert (store / "in/new.jpg").read_bytes() == PHOTO
        assert not (store / "a.jpg").exists()
        settling.close()


@pytest.mark.parametrize("moved", ["from", "in"])
def test_a_directory_that_is_moved_while_a_file_is_checked_has_other_rules(store: Path, moved: str) -> None:
    """The decision counted for the old path: a file left a directory that had become closed to the app."""

    @on_trio
    async def run() -> None:
        for name in ("from", "in"):
            (store / name).mkdir()
        (store / "from/f.jpg").write_bytes(PHOTO)
        closed = '- {id: closed, deny: [all], who: {app: camera}, paths: "/closed/***"}\n'
        checked = OPEN + '- {id: types, require: {content: [image/jpeg]}, paths: "/in/**"}\n' + closed
        with parts(store, engine_of(checked)) as made:
            settling = _Settled(store / "from/f.jpg")

            async def settled(*_: object) -> _Settled:
                os.rename(store / moved, store / "closed")
                await made.walk("/closed", MAPS)  # from here on the daemon knows the new path
                return _Settled(store / ("closed" if moved == "from" else "from") / "f.jpg")

            settling.settled = settled  # type: ignore[method-assign]
            made.renamer._moved_files = settling  # type: ignore[assignment]
            old, new = await made.walk("/from", CAMERA), await made.walk("/in", CAMERA)
            renamed = made.renamer.rename(old, b"f.jpg", new, b"f.jpg", 0, made.caller(CAMERA))
            assert await errno_of(renamed) == errno.ESTALE
            assert os.listdir(store / ("in" if moved == "from" else "closed")) == []
            settling.close()

    run()


@pytest.mark.parametrize("names", [(b"new", b"a.jpg"), (b"a.jpg", b"new")])
def test_held_bytes_are_judged_before_an_exchange(store: Path, names: tuple[bytes, bytes]) -> None:
    """Else the app removes the photo under its new name, and the later refusal drops the new file."""

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN + TYPES)) as made:
            caller = made.caller(MAPS)
            held, _ = await made.creator.create(made.root, b"new", 0o644, os.O_RDWR, caller)
            assert await made.write(held, 0, PHOTO[:2]) == 2
            await made.walk("/a.jpg", MAPS)
            old, new = names
            swapped = made.renamer.rename(made.root, old, made.root, new, libc.RENAME_EXCHANGE, caller)
            assert await errno_of(swapped) == errno.EPERM
            assert (store / "a.jpg").read_bytes() == PHOTO
            await errno_of(made.sync.flush(held))
            await made.release(held)
            assert (store / "a.jpg").read_bytes() == PHOTO

    run()


def old_over_photo(made: Parts, flags: int = 0) -> Awaitable[None]:
    """Give the photo's name to the file `empty`."""
    return made.renamer.rename(made.root, b"empty", made.root, b"a.jpg", flags, made.caller(MAPS))


@pytest.mark.parametrize("flags", [0, libc.RENAME_EXCHANGE])
def test_a_file_of_which_another_daemon_holds_bytes_replaces_none(
    store: Path, tmp_path_factory: pytest.TempPathFactory, flags: int
) -> None:
    """Else both are lost once that daemon refuses the bytes, or is killed."""
    latches = tmp_path_factory.mktemp("run") / "lock"

    @on_trio
    async def run() -> None:
        engine = engine_of(OPEN + TYPES)
        with parts(store, engine, latches=latches) as there, parts(store, engine, latches=latches) as made:
            handle = await there.open("/empty", os.O_WRONLY, CAMERA)
            assert await there.write(handle, 0, PHOTO[:2]) == 2
            assert await errno_of(old_over_photo(made, flags)) == errno.EBUSY
            refused = made.sink.events[-1]
            assert (refused.decision, refused.errno) == ("deny", errno.EBUSY)
            assert "another mount" in refused.note
            renamed = made.renamer.rename(made.root, b"empty", made.root, b"moved", 0, made.caller(MAPS))
            assert await errno_of(renamed) == 0, "it replaces no file"
            os.rename(store / "moved", store / "empty")
            await there.release(handle)
            assert (store / "a.jpg").read_bytes() == PHOTO
            assert await errno_of(old_over_photo(made, flags)) == 0
            assert (store / "a.jpg").read_bytes() == b""

    run()


@on_trio
async def test_what_nobody_else_holds_costs_one_look(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    with parts(store, engine_of(OPEN)) as made:
        find = latches_module.find_blocker
        monkeypatch.setattr(
            latches_module, "find_blocker", lambda fd, asked: looks.append(asked.start) or find(fd, asked)
        )
        caller = made.caller(CAMERA)
        await made.renamer.rename(made.root, b"empty", made.root, b"new", 0, caller)
        assert looks == []
        await made.renamer.rename(made.root, b"new", made.root, b"a.jpg", 0, caller)
        assert len(looks) == 1


OWN = """\
- {id: look, allow: [see, read, create], who: {app: any}, paths: "/**"}
- {id: own, allow: [write, delete], who: {app: camera}, paths: "/**", when: {owner: self}}
"""


def _owned(made: Parts, *names: str) -> None:
    for name in names:
        fd = os.open(made.store / name, os.O_RDWR)
        made.owners.set(fd, made.tree.fstat(fd), "camera")
        os.close(fd)


@pytest.mark.parametrize("taken", ["a.jpg", "empty"], ids=["moved", "replaced"])
@pytest.mark.parametrize("exists", [True, False], ids=["replaces", "new"])
def test_only_the_files_that_were_decided_on_are_moved_and_replaced(
    store: Path, monkeypatch: pytest.MonkeyPatch, taken: str, exists: bool
) -> None:
    """Another app's file takes one of the names in the last moment."""
    if not exists:
        (store / "empty").unlink()

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OWN)) as made:
            _owned(made, *(("a.jpg", "empty") if exists else ("a.jpg",)))
            caller, before = made.caller(CAMERA), sorted({*os.listdir(store), taken})
            before_names_are_locked(monkeypatch, lambda: replace(store / taken, b"another app's"))
            code = await errno_of(made.renamer.rename(made.root, b"a.jpg", made.root, b"empty", 0, caller))
            # Another target is decided on at once; another moved file only after the kernel has looked again.
            assert code == (errno.ESTALE if taken == "a.jpg" else errno.EACCES)
            assert (store / taken).read_bytes() == b"another app's"
            assert sorted(os.listdir(store)) == before
            code = await errno_of(made.renamer.rename(made.root, b"a.jpg", made.root, b"empty", 0, caller))
            assert code == errno.EACCES
            assert (store / taken).read_bytes() == b"another app's"

    run()


ANOTHER = b"another app's"


@pytest.mark.parametrize("flags", [True, False], ids=["flags", "no-flags"])
def test_a_decision_by_facts_moves_and_replaces_as_rename_does(
    store: Path, monkeypatch: pytest.MonkeyPatch, flags: bool
) -> None:
    """Also on a store that knows no flags of renameat2(2), where another machine makes the name meanwhile."""
    rename2, rename_to_free = Tree.rename2, Tree.rename_to_free

    def late(*arguments: Any) -> None:
        (store / "new").write_bytes(ANOTHER)
        rename_to_free(*arguments)

    def plain(self: Tree, *arguments: Any) -> None:
        if len(arguments) > 4 and arguments[4]:
            raise OSError(errno.EINVAL, "no flags")
        rename2(self, *arguments)

    if not flags:
        monkeypatch.setattr(Tree, "rename2", plain)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OWN)) as made:
            made.tree.noreplace = flags
            _owned(made, "a.jpg", "empty")
            await made.renamer.rename(made.root, b"a.jpg", made.root, b"empty", 0, made.caller(CAMERA))
            assert os.listdir(store) == ["empty"]
            assert (store / "empty").read_bytes() == PHOTO
            await made.renamer.rename(made.root, b"empty", made.root, b"b.jpg", 0, made.caller(CAMERA))
            assert os.listdir(store) == ["b.jpg"]

            monkeypatch.setattr(Tree, "rename_to_free", late)
            request = made.renamer.rename(made.root, b"b.jpg", made.root, b"new", 0, made.caller(CAMERA))
            assert await errno_of(request) == errno.EACCES
            assert (store / "new").read_bytes() == ANOTHER
            assert (store / "b.jpg").read_bytes() == PHOTO

    run()


@pytest.mark.parametrize("taken", ["a.jpg", "empty"])
def test_only_the_files_that_were_decided_on_are_exchanged(
    store: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OWN)) as made:
            _owned(made, "a.jpg", "empty")
            caller = made.caller(CAMERA)

            async def exchange() -> int:
                request = made.renamer.rename(
                    made.root, b"a.jpg", made.root, b"empty", libc.RENAME_EXCHANGE, caller
                )
                return await errno_of(request)

            assert await exchange() == 0
            assert (store / "empty").read_bytes() == PHOTO
            before_names_are_locked(monkeypatch, lambda: replace(store / taken, b"another app's"))
            kept = (store / ("empty" if taken == "a.jpg" else "a.jpg")).read_bytes()
            assert await exchange() == errno.ESTALE
            assert (store / taken).read_bytes() == b"another app's"
            assert (store / ("empty" if taken == "a.jpg" else "a.jpg")).read_bytes() == kept
            assert await exchange() == errno.EACCES

    run()


def test_a_rename_does_not_store_held_bytes_again_and_again(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer may write again each time, and to check its bytes may take seconds. Meanwhile the kernel lets
    all requests for names in the two directories wait."""
    stored: list[object] = []

    async def held(*_: object) -> None:
        raise rename_module._HeldError(handle)

    async def settle(_sync: object, one: object) -> bool:
        stored.append(one)
        return True

    @on_trio
    async def run() -> None:
        nonlocal handle
        with parts(store, engine_of(OPEN + TYPES)) as made:
            handle = await made.open("/empty", os.O_WRONLY, CAMERA)
            with monkeypatch.context() as patch:
                patch.setattr(type(made.renamer), "_rename", held)
                patch.setattr(type(made.sync), "settle", settle)
                assert await errno_of(old_over_photo(made)) == errno.EBUSY
            await made.release(handle)

    handle: object = None
    run()
    assert len(stored) == 10


def test_slow_decisions_on_other_targets_end(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each decision may check the moved file, and another program may replace the target each time."""
    tries, clock = 0, 0.0

    async def changed(*_: object) -> None:
        nonlocal tries, clock
        tries, clock = tries + 1, clock + 0.14
        raise rename_module._TargetChangedError

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN + TYPES)) as made, monkeypatch.context() as patch:
            patch.setattr(type(made.renamer), "_rename", changed)
            patch.setattr("trio.current_time", lambda: clock)
            assert await errno_of(old_over_photo(made)) == errno.ESTALE

    run()
    assert tries == 3


def test_what_takes_the_new_name_while_the_old_file_is_opened_is_not_replaced(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An open may take a moment, and so may a look at the caller's program."""
    keep_open = Entries.keep_open

    def opened_slowly(self: Entries, *arguments: Any, replaced: bool) -> None:
        keep_open(self, *arguments, replaced=replaced)
        replace(store / "empty", b"another app's")

    @on_trio
    async def run() -> None:
        monkeypatch.setattr(Entries, "keep_open", opened_slowly)
        with parts(store, engine_of(OWN)) as made:
            _owned(made, "a.jpg", "empty")
            request = made.renamer.rename(made.root, b"a.jpg", made.root, b"empty", 0, made.caller(CAMERA))
            assert await errno_of(request) == errno.EACCES
            assert (store / "empty").read_bytes() == b"another app's"

    run()


def test_a_decision_on_a_file_that_has_gone_meanwhile_is_not_recorded(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trail would tell of a replacement that never was."""
    wait, files = Renamer._keep_apart, [b"another of the camera", b"another app's"]

    async def replaced_meanwhile(*arguments: Any) -> None:
        if files:
            replace(store / "empty", files.pop(0))
            if files:
                _owned(made, "empty")
        await wait(*arguments)

    made: Any = None

    @on_trio
    async def run() -> None:
        nonlocal made
        monkeypatch.setattr(Renamer, "_keep_apart", replaced_meanwhile)
        with parts(store, engine_of(OWN)) as made:
            _owned(made, "a.jpg", "empty")
            request = made.renamer.rename(made.root, b"a.jpg", made.root, b"empty", 0, made.caller(CAMERA))
            assert await errno_of(request) == errno.EACCES
            assert [one.decision for one in made.sink.events if one.operation == "rename"] == ["deny"]

    run()
    assert (store / "empty").read_bytes() == b"another app's"


APART = """\
- {id: types, require: {content: [image/jpeg]}, paths: "/in/**"}
- {id: kept, deny: [all], who: {app: maps}, paths: "/free/*/**"}
"""


def _swapped(store: Path, kind: str) -> Callable[[], None]:
    """Return a function that gives the names /free/x and /out/y to other objects. kind: of the object that
    gets /free/x. A directory cannot replace a file, so /out/y is an empty directory then."""

    def act() -> None:
        os.rename(store / "free/x", store / "free/before")
        if kind == "file":
            (store / "free/x").write_bytes(b"words")
            return
        (store / "free/x").mkdir()
        (store / "free/x/secret").write_bytes(PHOTO)
        if (store / "out/y").exists():
            (store / "out/y").unlink()
            (store / "out/y").mkdir()

    return act


@pytest.mark.parametrize(
    ("decided", "kind", "to", "exists", "flags"),
    [
        ("symlink", "file", "in", False, 0),
        ("symlink", "file", "in", True, 0),
        ("symlink", "file", "in", True, libc.RENAME_EXCHANGE),
        ("file", "directory", "out", False, 0),
        ("file", "directory", "out", True, 0),
        ("file", "directory", "out", True, libc.RENAME_EXCHANGE),
    ],
)
def test_an_object_of_another_type_is_not_moved_to_where_other_rules_hold(
    store: Path, monkeypatch: pytest.MonkeyPatch, decided: str, kind: str, to: str, exists: bool, flags: int
) -> None:
    """The decision was by paths alone. But a symlink needs no content, and a file has nothing below it."""
    for name in ("free", "in", "out"):
        (store / name).mkdir()
    if decided == "symlink":
        (store / "free/x").symlink_to("target")
    else:
        (store / "free/x").write_bytes(b"words")
    if exists:
        if decided == "symlink":
            (store / to / "y").symlink_to("other")
        else:
            (store / to / "y").write_bytes(b"")

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN + APART)) as made:
            free, there = await made.walk("/free", CAMERA), await made.walk(f"/{to}", CAMERA)
            before_names_are_locked(monkeypatch, _swapped(store, kind))
            renamed = made.renamer.rename(free, b"x", there, b"y", flags, made.caller(CAMERA))
            assert await errno_of(renamed) == errno.ESTALE
            moved = store / "free/x"
            assert (moved / "secret").is_file() if kind == "directory" else moved.read_bytes() == b"words"
            monkeypatch.undo()
            os.unlink(moved) if kind == "file" else os.rename(moved, store / "free/after")
            os.rename(store / "free/before", moved)
            assert await errno_of(made.renamer.rename(free, b"x", there, b"z", 0, made.caller(CAMERA))) == 0

    run()


@pytest.mark.parametrize("to", ["drop", "free"])
def test_a_file_that_is_made_under_the_new_name_meanwhile_is_not_replaced_unasked(
    store: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """Where no file had the name, nobody asked if the app may delete one there."""
    for name in ("free", "drop"):
        (store / name).mkdir()
    (store / "free/x").write_bytes(b"words")
    rules = OPEN + '- {id: drop, deny: [delete], who: {app: maps}, paths: ["/drop/**", "/free/y"]}\n'

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            free, there = await made.walk("/free", MAPS), await made.walk(f"/{to}", MAPS)
            right_before_removals(monkeypatch, lambda: (store / to / "y").write_bytes(ANOTHER))
            renamed = made.renamer.rename(free, b"x", there, b"y", 0, made.caller(MAPS))
            assert await errno_of(renamed) == errno.EACCES
            assert (store / to / "y").read_bytes() == ANOTHER
            assert (store / "free/x").read_bytes() == b"words"

    run()


@pytest.mark.parametrize("taken", ["link", "other"], ids=["moved", "replaced"])
def test_a_file_that_takes_the_name_of_a_symlink_is_not_moved_if_only_symlinks_may_be(
    store: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    for name in ("link", "other"):
        (store / name).symlink_to("a.jpg")
    rules = """\
- {id: all, allow: [see, read, write, create, attr], who: {app: any}, paths: "/**"}
- {id: links, allow: [delete], who: {app: any}, paths: "/**", when: {type: inode/symlink}}
"""

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules)) as made:
            before_names_are_locked(monkeypatch, lambda: replace(store / taken, ANOTHER))
            caller = made.caller(CAMERA)
            renamed = made.renamer.rename(made.root, b"link", made.root, b"other", 0, caller)
            assert await errno_of(renamed) == (errno.ESTALE if taken == "link" else errno.EACCES)
            assert (store / taken).read_bytes() == ANOTHER

    run()


GIVES = """\
- {id: all, allow: [all], who: {app: camera}, paths: "/***"}
- {id: share, allow: [all], who: {app: maps}, paths: "/in/**"}
"""


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_that_gets_a_second_name_at_the_last_moment_gives_nobody_rights(
    store: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """By the new path, another app could change the file under its second name."""
    (store / "in").mkdir()

    async def linked_meanwhile(*_: object) -> None:
        if linked:
            os.link(store / "a.jpg", store / "b.jpg")

    monkeypatch.setattr(Renamer, "_keep_apart", linked_meanwhile)

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(GIVES)) as made:
            to, caller = await made.walk("/in", CAMERA), made.caller(CAMERA)
            renamed = made.renamer.rename(made.root, b"a.jpg", to, b"a.jpg", 0, caller)
            assert await errno_of(renamed) == (errno.EXDEV if linked else 0)
            assert (store / "in/a.jpg").exists() is not linked

    run()


READ_ONLY = OPEN + '- {id: ro, deny: [write], paths: "/b/*"}\n'


@pytest.mark.parametrize(("rules", "told"), [(OPEN, 0), (READ_ONLY, 1)])
def test_after_a_rename_between_two_names_of_one_file_the_kernel_looks_again(
    store: Path, monkeypatch: pytest.MonkeyPatch, rules: str, told: int
) -> None:
    """Rename does nothing, but the kernel gives the new name the node of the old name."""
    for name in ("a", "b"):
        (store / name).mkdir()
        os.link(store / "a.jpg", store / name / "f")

    @on_trio
    async def run() -> None:
        with parts(store, engine_of(rules), app="maps") as made:
            calls: list[int] = []
            monkeypatch.setattr(made.renamer, "_forget_all_names", lambda: calls.append(1))
            a, b = await made.walk("/a", MAPS), await made.walk("/b", MAPS)
            one, two = await made.walk("/a/f", MAPS), await made.walk("/b/f", MAPS)
            assert (one is not two) == bool(told)
            calls.clear()
            assert await errno_of(made.renamer.rename(a, b"f", b, b"f", 0, made.caller(MAPS))) == 0
            assert (store / "a/f").exists()
            assert len(calls) == told

    run()

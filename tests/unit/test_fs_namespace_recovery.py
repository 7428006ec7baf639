"""A daemon that dies at each step of each change: the next one makes the change once, and answers it."""

from __future__ import annotations

import gc
import itertools
import os
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from policyfs.daemon.keeper.clone import close_others, fork_sharing_descriptors, now_open
from policyfs.fs.access.ledger import Ledger
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import Node
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.namespace.recovery import Recovery
from policyfs.fs.saved.intents import ChangeKind, Intent, Intents, Outcome, Side
from policyfs.kernel.bridge import pyfuse3
from policyfs.store.tree import Tree
from tests.support.machine.counts import count
from tests.support.machine.inchild import in_child
from tests.support.models.policies import engine_of
from tests.support.models.saved_nodes import all_in
from tests.support.mount.dying import CHANGES, RECORDS
from tests.support.mount.file_system import Parts, parts

UID = 10010
ENGINE = engine_of(
    '- {id: a, allow: [see, read, write, create, delete, attr], who: {app: any}, paths: ["/**"]}\n'
)
UNIQUE = 4242
SONG, ODE, END = b"a song", b"an ode", b" and its end"
MOST_STEPS = 200

Ask = Callable[[Parts, Node, Node, Caller], Awaitable[object]]
"""A request in the directory (first node), about `song` (second node) and other names."""


async def _append(made: Parts, _above: Node, song: Node, caller: Caller) -> object:
    handle = next(iter(made.handles.of_node(song)))
    return await made.writer.write(handle, 0, END, append=True, kill_priv=False, unique=caller.unique)


ASKS: dict[str, Ask] = {
    "create": lambda made, d, _, who: made.creator.create(d, b"new", 0o640, os.O_RDWR | os.O_EXCL, who),
    "mkdir": lambda made, d, _, who: made.creator.mkdir(d, b"new", 0o750, who),
    "symlink": lambda made, d, _, who: made.creator.symlink(d, b"new", b"target", who),
    "mknod": lambda made, d, _, who: made.creator.mknod(d, b"new", 0o640, 0, who),
    "link": lambda made, d, song, who: made.linker.link(song, d, b"new", who),
    "unlink": lambda made, d, _, who: made.remover.remove(d, b"song", who, directory=False),
    "rmdir": lambda made, d, _, who: made.remover.remove(d, b"empty", who, directory=True),
    "rename": lambda made, d, _, who: made.renamer.rename(d, b"song", d, b"new", 0, who),
    "replace": lambda made, d, _, who: made.renamer.rename(d, b"song", d, b"ode", 0, who),
    "exchange": lambda made, d, _, who: made.renamer.rename(
        d, b"song", d, b"ode", int(pyfuse3.RENAME_EXCHANGE), who),
    "removexattr": lambda made, _, song, who: made.xattrs.removexattr(song, b"user.one", who),
    "append": _append,
}  # fmt: skip
WANTED: dict[str, dict[str, bytes]] = {
    "create": {"new": b""}, "mkdir": {"new": b"directory"}, "symlink": {"new": b"-> target"},
    "mknod": {"new": b""}, "link": {"new": SONG}, "unlink": {"song": b"absent"},
    "rmdir": {"empty": b"absent"}, "rename": {"song": b"absent", "new": SONG},
    "replace": {"song": b"absent", "ode": SONG}, "exchange": {"song": ODE, "ode": SONG},
    "removexattr": {}, "append": {"song": SONG + END},
}  # fmt: skip


def fill(store: Path) -> None:
    (store / "d").mkdir(parents=True)
    (store / "d/empty").mkdir()
    (store / "d/song").write_bytes(SONG)
    (store / "d/ode").write_bytes(ODE)
    os.setxattr(store / "d/song", "user.one", b"1")


def found(store: Path) -> dict[str, bytes]:
    seen = {}
    for path in (store / "d").iterdir():
        if path.is_symlink():
            seen[path.name] = b"-> " + os.readlink(bytes(path))
        else:
            seen[path.name] = b"directory" if path.is_dir() else path.read_bytes()
    return seen


def wanted(what: str) -> dict[str, bytes]:
    all_ = {"empty": b"directory", "song": SONG, "ode": ODE} | WANTED[what]
    return {name: content for name, content in all_.items() if content != b"absent"}


def asker(made: Parts) -> Caller:
    caller = made.caller(UID)
    caller.unique = UNIQUE
    return caller


def die_at(store: Path, state: SavedState, what: str, last: int) -> bool:
    """Run a daemon that dies right before step *last* of a request, or after all steps, but before it
    answers. Return True if the request had more steps."""
    steps: list[int] = []

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **names: Any) -> Any:
            for _ in range(2):
                if steps:
                    steps[0] += 1
                    if steps[0] == last:
                        os.kill(os.getpid(), signal.SIGKILL)
                if not _:
                    result = real(*arguments, **names)
            return result

        return call

    async def run() -> None:
        with parts(store, ENGINE, app="camera", latches=store.parent / "lock") as made:
            made.whole.restoration.save_to(state)
            song = await made.walk("d/song", UID)
            above = await made.walk("d", UID)
            for name in ("d/ode", "d/empty"):
                await made.walk(name, UID)
            if what in {"append", "unlink", "replace"}:
                await made.open("d/song" if what != "replace" else "d/ode", os.O_RDWR, UID)
            steps.append(0)
            with Ledger():
                await ASKS[what](made, above, song, asker(made))
            os._exit(7)

    pid = fork_sharing_descriptors()
    if pid == 0:
        try:
            for owner, names in (*CHANGES, *RECORDS):
                for name in names:
                    setattr(owner, name, counted(getattr(owner, name)))
            trio.run(run)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in {7, -signal.SIGKILL}
    return code != 7


async def goes_on(store: Path, state: SavedState, what: str) -> None:
    """The next daemon: its nodes are those of the store, and the request that comes again is answered."""
    with parts(store, ENGINE, app="camera", latches=store.parent / "lock") as made:
        made.whole.restoration.restore(state)
        made.whole.restoration.save_to(state)
        above, song = (made.nodes.get(nodeid) for nodeid in (2, 3))
        for node in (above, song):
            if node.parent is not None:
                made.lookup.stat(node)
        made.whole.restoration.comes_again(UNIQUE)
        with Ledger():
            await ASKS[what](made, above, song, asker(made))
        assert found(store) == wanted(what)
        for name in wanted(what):
            await made.walk(f"d/{name}", UID)
        for node in made.nodes:
            if node.parent is not None and node.open is None:
                made.lookup.stat(node)  # each node has its name
        if what == "append":
            assert [handle.writable for handle in made.handles] == [True]
        with Ledger():
            later = made.caller(UID)
            later.unique = UNIQUE + 2
            await made.creator.mkdir(above, b"later", 0o750, later)  # the first is answered
        assert not made.bugs
        saved = {each.nodeid: {(each.parent, each.name)} for each in all_in(state).values() if each.named}
        for nodeid, parent, name in state.nodes.read().links:
            saved[nodeid].add((parent, name))
        assert saved == {
            node.nodeid: {(parent.nodeid, name) for parent, name in node.all_names()}
            for node in made.nodes if node.parent is not None
        }  # fmt: skip


@pytest.mark.timeout(600)
@pytest.mark.parametrize("what", ASKS)
def test_a_change_is_made_once_wherever_the_daemon_dies(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for step in itertools.count(1, count(5, 1)):
        assert step < MOST_STEPS
        # In a process of its own: descriptors of other tests' objects must not be closed.
        has_more = in_child(partial(_dies_and_goes_on, tmp_path / str(step), what, step))
        assert isinstance(has_more, bool), has_more
        if not has_more:
            break


def _dies_and_goes_on(store: Path, what: str, step: int) -> bool:
    """Have a daemon die, and the next one go on; return if the request had more steps."""
    gc.disable()
    state, known = SavedState(100), now_open()
    fill(store)
    has_more = die_at(store, state, what, step)
    close_others(known, state)
    trio.run(goes_on, store, state, what)
    assert what != "removexattr" or os.listxattr(store / "d/song") == []
    return has_more


def settled(store: Path, intent: Intent, change: Callable[[], object]) -> Outcome:
    """The outcome of an intent whose daemon has died, after changes by other programs."""
    with parts(store, ENGINE, app="camera", latches=store.parent / "lock") as made:

        async def run() -> None:
            await made.walk("d", UID)

        trio.run(run)
        change()
        intents = Intents(lambda: None)
        Recovery(made.fs, made.entries).settle(intents, [intent])
        outcome = intents.before(intent.unique)
        assert outcome is not None
        return outcome[1]


def side(store: Path, name: str, inode_of: str | None = None) -> Side:
    if inode_of is None:
        return Side(2, name.encode())
    with Tree.open(str(store / "d")) as tree:
        stat = tree.stat(tree.root_fd, inode_of.encode())
    return Side(2, name.encode(), stat.ino, stat.btime_ns)


def test_where_nothing_tells_the_outcome_is_not_known(tmp_path: Path) -> None:
    at = tmp_path / "store"
    fill(at)
    song, ode, new = side(at, "song", "song"), side(at, "ode", "ode"), side(at, "new")
    elsewhere = Side(99, b"song", song.key, song.btime_ns)
    unknown, made, not_made = Outcome.UNKNOWN, Outcome.MADE, Outcome.NOT_MADE
    nothing = lambda: None  # noqa: E731
    away, back = (lambda: (at / "d/song").rename(at / "away")), lambda: (at / "away").rename(at / "d/song")
    for kind, old, to, change, expected in (
        (ChangeKind.MOVE, song, new, nothing, not_made),
        (ChangeKind.MOVE, song, new, away, unknown),  # another program took it away from either name
        (ChangeKind.EXCHANGE, song, ode, nothing, unknown),
        (ChangeKind.REMOVAL, song, Side(), nothing, made),
        (ChangeKind.NAME, song, Side(), nothing, not_made),
        (ChangeKind.NAME, side(at, "new"), Side(), nothing, not_made),
        (ChangeKind.NAME, side(at, "ode"), Side(), nothing, unknown),  # somebody's
        (ChangeKind.REMOVAL, song, Side(), back, not_made),
        (ChangeKind.NAME, song, Side(), nothing, made),
        (ChangeKind.EXCHANGE, song, ode, nothing, not_made),
        (ChangeKind.REMOVAL, elsewhere, Side(), nothing, unknown),  # a directory that nobody knows
    ):
        assert settled(at, Intent(7, kind, old, to), change) is expected, (kind, change)


@pytest.mark.parametrize("way", ["rename", "append"])
def test_a_request_whose_outcome_is_not_known_gets_eio_on_record(tmp_path: Path, way: str) -> None:
    store, state = tmp_path / "store", SavedState(100)
    fill(store)

    async def run() -> None:
        with parts(store, ENGINE, app="camera", latches=store.parent / "lock") as made:
            song, above = await made.walk("d/song", UID), await made.walk("d", UID)
            await made.open("d/song", os.O_RDWR, UID)
            intent = Intent(UNIQUE, ChangeKind.APPEND, Side(song.nodeid), size=len(SONG))
            made.fs.intents.save_to(state)
            made.fs.intents.settle(intent, Outcome.UNKNOWN if way == "rename" else Outcome.NOT_MADE)
            (store / "d/song").write_bytes(SONG + b"by another program")
            with pytest.raises(pyfuse3.FUSEError) as refused:
                await ASKS[way](made, above, song, asker(made))
            assert refused.value.errno == 5
            assert "was killed during this request" in made.sink.events[-1].note

    trio.run(run)
    assert found(store)["song"] == SONG + b"by another program"

"""`policyfs` that is killed by each look-up of `poison`, after each open of a file `fatal`, and by a look-up
of `late-poison` beside other work.

    python -m tests.support.mount.poisoned mount --foreground ...

The first two daemons do not finish a FLUSH of a file `flushed`, a RELEASE of `released`, and a RELEASEDIR of
`listed`, and die of `late-poison` only once all three are in work."""

from __future__ import annotations

import signal
import sys
import threading
from typing import Any, Final

import trio

from policyfs.cli.main import main
from policyfs.fs.data.sync import FileSync
from policyfs.fs.inodes.saved_state import SavedState
from policyfs.fs.namespace.lookup import Lookup
from policyfs.fs.namespace.readdir import DirectoryListings
from policyfs.fs.opening.opener import Opener

DEATHS: Final = 2
_held: Final[set[bytes]] = set()
_all_held: Final = trio.Event()
_takeovers: Final = [0]
_lookup, _flush, _finish = Lookup.lookup, FileSync.flush, FileSync.finish
_releasedir, _serves, _open = DirectoryListings.releasedir, SavedState.serves, Opener.open


def _die() -> None:
    signal.pthread_kill(threading.get_ident(), signal.SIGKILL)  # the only process that it may kill


async def _killed(self: Lookup, parent: Any, name: bytes, caller: Any) -> Any:
    if name == b"late-poison":
        await _all_held.wait()
    if name.endswith(b"poison"):
        _die()
    return await _lookup(self, parent, name, caller)


async def _opened(self: Opener, node: Any, *arguments: Any) -> Any:
    handle = await _open(self, node, *arguments)
    if node.name == b"fatal":
        _die()
    return handle


async def _holding(name: bytes, wanted: bytes) -> None:
    if name == wanted and _takeovers[0] < DEATHS:
        _held.add(name)
        if len(_held) == 3:
            _all_held.set()
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()


async def _flushed(self: FileSync, handle: Any, **options: Any) -> None:
    await _holding(handle.node.name, b"flushed")
    await _flush(self, handle, **options)


async def _finished(self: FileSync, handle: Any, **options: Any) -> None:
    await _holding(handle.node.name, b"released")
    await _finish(self, handle, **options)


async def _unlisted(self: DirectoryListings, fh: int) -> None:
    await _holding(self.open.find(fh).node.name, b"listed")
    await _releasedir(self, fh)


def _served(self: SavedState, now_ns: int) -> None:
    _serves(self, now_ns)
    _takeovers[0] = self.takeovers


if __name__ == "__main__":
    for owner, name, patch in (
        (Lookup, "lookup", _killed), (FileSync, "flush", _flushed), (FileSync, "finish", _finished),
        (DirectoryListings, "releasedir", _unlisted), (SavedState, "serves", _served),
        (Opener, "open", _opened),
    ):  # fmt: skip
        setattr(owner, name, patch)  # for this process only
    sys.exit(main(sys.argv[1:]))

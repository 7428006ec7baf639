"""The daemon's side of a mount's control socket. control.py has the clients' side."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Final

import trio

from policyfs.daemon.control.control import DEADLINE_S, Json, leaving_path, leaving_paths, socket_path
from policyfs.errors import PolicyfsError
from policyfs.kernel.operations import BugLog
from policyfs.linux.peer import Peer, peer_of
from policyfs.linux.private_files import make_private

Command = Callable[[Peer, Json], Coroutine[object, object, Json]]
"""A function that executes a command. It gets the process that sent the command, and the whole request."""
Question = Callable[[str], Coroutine[object, object, Json]]
"""A function that answers a command about one path in the mount."""

_LINE_MAX: Final = 1 << 20
_PATH_MAX: Final = 107
"""The longest path of a socket, in bytes (unix(7))."""


def claim(path: Path) -> socket.socket:
    """Bind the control socket of a mount, and return it; no client can connect before answer_on(). Raises
    PolicyfsError. A dead daemon's socket at this path is removed, another one's renamed, even if it hangs."""
    if len(os.fsencode(path)) > _PATH_MAX:
        raise PolicyfsError(
            f"cannot open the control socket {path}: the path is longer than {_PATH_MAX} bytes;"
            " set POLICYFS_RUNTIME_DIR to a directory with a shorter path"
        )
    server = socket.socket(socket.AF_UNIX)
    before = os.umask(0o077)
    try:
        make_private(path.parent)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.stat().st_mode):
                _put_aside(path)
        os.umask(0o177)
        server.bind(str(path))
    except OSError as error:
        server.close()
        reason = os.strerror(error.errno or errno.EIO)
        raise PolicyfsError(
            f"cannot open the control socket {path}: {reason};"
            " set POLICYFS_RUNTIME_DIR to a writable directory"
        ) from error
    finally:
        os.umask(before)
    return server


def _put_aside(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(DEADLINE_S)
        try:
            asking.connect(str(path))
            name = str(peer_of(asking).pid)
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError:  # a daemon that hangs: its queue of connections is full. Its pid is not known
            name = f"h{path.stat().st_ino % 1_000_000}"
    path.rename(path.with_name(f"{path.stem}.{name}.sock"))


def step_aside(inode: int, mountpoint: str) -> None:
    """Rename this daemon's control socket, so that the next daemon of the mountpoint can have the name.
    inode: the inode number of this daemon's socket."""
    path = socket_path(mountpoint)
    if _is_inode(path, inode):
        path.rename(leaving_path(mountpoint, os.getpid()))


def release(inode: int, mountpoint: str) -> None:
    """Remove this daemon's control socket, by its inode number: another daemon's stays."""
    for path in (socket_path(mountpoint), *leaving_paths(mountpoint)):
        if _is_inode(path, inode):
            path.unlink(missing_ok=True)


def _is_inode(path: Path, inode: int) -> bool:
    try:
        return path.lstat().st_ino == inode
    except FileNotFoundError:
        return False


def answer_on(server: socket.socket) -> trio.SocketListener:
    """Let clients connect to a socket of claim(), once the daemon is ready for them."""
    server.listen(1024)  # a daemon that hangs accepts nothing, and its queue must not be full at once
    server.setblocking(False)
    return trio.SocketListener(trio.socket.from_stdlib_socket(server))


async def serve(
    listener: trio.SocketListener,
    commands: dict[str, Command],
    bugs: BugLog,
    questions: Mapping[str, Question],
) -> None:
    """Answer commands, and questions about paths, until cancelled. A client that stalls or leaves early does
    no harm; a bug of a command is logged, and an error for the client.

    A command takes as long as it needs, and is finished without its client: after half a reload, parts of the
    daemon would use different policies."""

    async def answer(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async with stream:
                with trio.move_on_after(DEADLINE_S) as reading:
                    line = await _line(stream)
                    peer = peer_of(stream.socket)
                if reading.cancelled_caught:
                    return
                reply = await _reply(line, commands, questions, peer, bugs)
                with trio.move_on_after(DEADLINE_S):
                    await stream.send_all(reply)

    await trio.serve_listeners(answer, [listener])


async def _line(stream: trio.SocketStream) -> bytes:
    data = b""
    while b"\n" not in data and len(data) < _LINE_MAX:
        chunk = await stream.receive_some(65536)
        if not chunk:
            break
        data += chunk
    return data


async def _reply(
    line: bytes, commands: dict[str, Command], questions: Mapping[str, Question], peer: Peer, bugs: BugLog
) -> bytes:
    try:
        request = json.loads(line)
        name = request["command"]
        about = str(request["path"]) if name in questions else ""
        command = None if name in questions else commands[name]
    except (ValueError, TypeError, KeyError, RecursionError):
        known = ", ".join(sorted({*commands, *questions}))
        return _encoded({"error": f"unknown command; the commands are {known}"})
    try:
        return _encoded(await (questions[name](about) if command is None else command(peer, request)))
    except PolicyfsError as error:
        return _encoded({"error": str(error), "exit_code": error.exit_code})
    except Exception as error:  # noqa: BLE001 - would end the daemon, and with it the mount
        bugs.bug(name, error)
        return _encoded({"error": f"a bug in {name}: {error!r}; the daemon's log has more"})


def _encoded(reply: Json) -> bytes:
    return json.dumps(reply).encode()

"""The control socket of a mount: one JSON line as the request, and one JSON line as the answer.

Only root can use it (the socket has mode 0600, in a 0700 directory). Commands: status, kept (the answers that
the kernel may keep about a path), file (how a file is open now), reload, previous (load the previous policy
again), ending (an unmount will follow), staying (this unmount was given up), abort (end the mount). This
module is for the clients; control_server.py is for the daemon.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import time
from pathlib import Path
from typing import Final

from policyfs.errors import EXIT_REFUSED, PolicyfsError
from policyfs.linux.peer import peer_of

Json = dict[str, object]

DEADLINE_S: Final = 10.0
"""The longest wait for an answer of a daemon, or for all bytes of a client's request."""
MAX_BYTES: Final = 16 << 20
"""The most bytes of an answer."""
_HARMFUL: Final = {
    number: rf"\u{number:04x}"
    for first, last in ((0, 8), (11, 31), (127, 159), (0x202A, 0x202E), (0x2066, 0x2069))
    for number in range(first, last + 1)
}
"""The escape of each control character except tab and newline: a terminal would obey it."""
RELOAD_S: Final = 300.0
"""The longest wait for a reload: 10,000 rules take a second, and much longer on a small or busy machine."""


def runtime_dir() -> Path:
    """Return the directory of control sockets: POLICYFS_RUNTIME_DIR, else /run/policyfs."""
    return Path(os.environ.get("POLICYFS_RUNTIME_DIR") or "/run/policyfs")


def has_own_runtime_dir() -> bool:
    """Return True if POLICYFS_RUNTIME_DIR is set. Mounts without this variable have other control sockets."""
    return bool(os.environ.get("POLICYFS_RUNTIME_DIR"))


def mount_id(mountpoint: str) -> str:
    """Return the name of a mount: 16 hex digits of the SHA-256 of its absolute mountpoint."""
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:16]


def socket_path(mountpoint: str) -> Path:
    """Return the control socket of the mount at an absolute mountpoint."""
    return runtime_dir() / f"{mount_id(mountpoint)}.sock"


def start_lock_path(mountpoint: str) -> Path:
    """Return the file that a process locks while it makes a mount at an absolute mountpoint."""
    return runtime_dir() / f"{mount_id(mountpoint)}.lock"


def leaving_path(mountpoint: str, pid: int) -> Path:
    """Return the control socket of a daemon that lives on after its mount has left the mountpoint."""
    return runtime_dir() / f"{mount_id(mountpoint)}.{pid}.sock"


def leaving_paths(mountpoint: str) -> list[Path]:
    """Return the control sockets of the daemons that lived on after their mount had left this mountpoint. A
    daemon may have ended since then without removing its socket."""
    first, directory = f"{mount_id(mountpoint)}.", runtime_dir()
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        names = [name for name in os.listdir(directory) if name.startswith(first) and name.count(".") > 1]
        return sorted(directory / name for name in names if name.endswith(".sock"))
    return []


class ControlError(PolicyfsError):
    """Error: a daemon refuses a command, or does not answer. exit_code: the exit code for the reason."""

    def __init__(self, message: str, exit_code: int = EXIT_REFUSED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class LateError(ControlError):
    """Error: a daemon does not answer in time. It may execute the command later."""


class NoDaemonError(ControlError):
    """Error: no process listens at a control socket. The mount does not exist, or its daemon has ended."""


def ask(
    path: Path, command: str, timeout_s: float = DEADLINE_S, *, about: str | None = None, **more: object
) -> Json:
    """Send one command, and return the answer, with control characters in its texts escaped. about: a path in
    the mount. more: further fields. timeout_s: the limit for the whole answer.

    Raises NoDaemonError, LateError, or ControlError if the daemon refuses, or if another user than root or
    this one listens at the socket."""
    request = more | {"command": command} | ({} if about is None else {"path": about})
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout_s)
        try:
            client.connect(str(path))
            if (uid := peer_of(client).uid) not in {0, os.geteuid()}:
                raise ControlError(f"no policyfs daemon answers at {path}: the socket belongs to uid {uid}")
            client.sendall(json.dumps(request).encode() + b"\n")
            client.shutdown(socket.SHUT_WR)
            data = _received(client, timeout_s)
        except (FileNotFoundError, ConnectionError) as error:
            reason = error.strerror or str(error)
            raise NoDaemonError(f"no policyfs daemon answers at {path}: {reason}") from error
        except PermissionError as error:
            raise ControlError(f"only root may use the daemon at {path}") from error
        except BlockingIOError as error:  # connections that a daemon has not accepted fill its queue
            raise LateError(f"the daemon at {path} hangs: it takes no commands") from error
        except TimeoutError as error:
            late = f"the daemon at {path} did not answer within {timeout_s:g} s, but may answer later"
            raise LateError(f"{late}: see `policyfs status`") from error
        except OSError as error:  # for example a path that is too long for a socket
            raise ControlError(f"cannot reach a daemon at {path}: {error.strerror or error}") from error
    try:
        answer = _harmless(json.loads(data))
    except ValueError as error:
        raise ControlError("the daemon ended before it answered") from error
    except RecursionError:
        answer = None
    if not isinstance(answer, dict):
        raise ControlError("the daemon's answer cannot be read")
    if "error" in answer:
        code = answer.get("exit_code")
        raise ControlError(str(answer["error"]), code if isinstance(code, int) else EXIT_REFUSED)
    return answer


def _received(client: socket.socket, timeout_s: float) -> bytes:
    """Return all bytes up to the end of a connection. Raises TimeoutError, or ControlError for too many."""
    until_s, data = time.monotonic() + timeout_s, bytearray()
    while len(data) <= MAX_BYTES:
        client.settimeout(max(0.001, until_s - time.monotonic()))
        part = client.recv(65536)
        if not part:
            return bytes(data)
        data += part
        if time.monotonic() > until_s:
            raise TimeoutError
    raise ControlError("the daemon's answer is too long")


def _harmless(value: object) -> object:
    """Return a JSON value with escapes for the control characters in its texts."""
    match value:
        case str():
            return value.translate(_HARMFUL)
        case list():
            return [_harmless(one) for one in value]
        case dict():
            return {_harmless(key): _harmless(one) for key, one in value.items()}
    return value

"""The control socket of a mount: one JSON line as the request, and one JSON line as the answer.

Only root can use it (the socket has mode 0600, in a 0700 directory). Commands: status, kept (the answers that
the kernel may keep about a path), file (how a file is open now), reload, previous (load the previous policy
again), ending (an unmount will follow), staying (this unmount was given up), abort (end the mount). This
module is for the clients; control_server.py is for the daemon.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Final

from policyfs.errors import EXIT_REFUSED, PolicyfsError

Json = dict[str, object]

DEADLINE_S: Final = 10.0
"""The longest wait for an answer of a daemon, or for all bytes of a client's request."""
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
    """Return the control sockets of the daemons that lived on after their mount had left this mountpoint.

    A daemon may have ended since then without removing its socket.
    """
    return sorted(runtime_dir().glob(f"{mount_id(mountpoint)}.*.sock"))


class ControlError(PolicyfsError):
    """Error: a mount's daemon refuses a command, or does not answer. exit_code: the exit code for the reason.
    """

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
    """Send one command, and return the answer. about: a path in the mount, if the command is about a path.

    more: further fields of the request.

    Raises NoDaemonError, LateError, or ControlError if the daemon refuses.
    """
    request = more | {"command": command} | ({} if about is None else {"path": about})
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout_s)
        try:
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            client.shutdown(socket.SHUT_WR)
            data = b"".join(iter(lambda: client.recv(65536), b""))
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
        answer = json.loads(data)
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

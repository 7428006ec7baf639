"""A second mount for canaries (sample requests): a daemon with a mount's policy and options, over a store in
memory that no other process sees."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from policyfs.cli.common.live_mounts import part
from policyfs.cli.mounts import mount
from policyfs.cli.mounts.serve import fork_daemon
from policyfs.cli.mounts.start import Start
from policyfs.cli.prove.prover import NotProvedError, Prover, WrongAnswerError
from policyfs.daemon.control import control
from policyfs.daemon.control.control import Json
from policyfs.errors import PolicyfsError
from policyfs.kernel import mount_api
from policyfs.kernel.session import MountError, unmount
from policyfs.linux.child import answer_of
from policyfs.linux.confinement.namespaces import enter_own_mounts
from policyfs.linux.mountinfo import FSTYPE, mounts
from policyfs.policy.text.parse import SourceText

_MEMORY_BYTES: Final = 64 << 20
_SAME: Final = (
    "app", "any_uid", "uid", "gid", "monitor", "posix", "idmap", "modes", "no_xattrs", "read_only", "avc",
    "no_passthrough", "copy_max", "copies_max", "nodes_max",
)  # fmt: skip
"""The options that the second mount has in common with the first one."""


def prove_in_memory(prover: Prover, status: Json, sources: Sequence[SourceText]) -> Counter[str]:
    """Start a daemon over a store in memory, and make requests that also read, write and remove files.

    All this happens in a forked process with mounts of its own, which end with it. status: the status of the
    mount whose options the second mount gets. sources: the policy's texts. Return the number of right answers
    by the sort of the request. Raises WrongAnswerError, NotProvedError.
    """
    data = answer_of(lambda: json.dumps(_result(prover, status, sources)).encode(), kept=(0, 1, 2))
    if not data:
        raise NotProvedError("the process that tests a store in memory has ended")
    kind, told = json.loads(data)
    if kind == "counts":
        return Counter(told)
    raise (WrongAnswerError if kind == "wrong" else NotProvedError)(told)


def _result(prover: Prover, status: Json, sources: Sequence[SourceText]) -> tuple[str, object]:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with _second_mount(status, sources) as (mount_fd, store_fd, path):
            return "counts", prover.prove_planted(mount_fd, store_fd, lambda: control.ask(path, "status"))
    except WrongAnswerError as error:
        return "wrong", str(error)
    except NotProvedError as error:
        return "unproved", str(error)
    except Exception as error:  # noqa: BLE001 - the command reports it
        reason = str(error) if isinstance(error, PolicyfsError) else repr(error)
        return "unproved", f"no second daemon, whose store is in memory, serves a mount: {reason}"


@contextlib.contextmanager
def _second_mount(status: Json, sources: Sequence[SourceText]) -> Iterator[tuple[int, int, Path]]:
    """Yield descriptors of the mountpoint and of the store of a second mount, and its control socket."""
    enter_own_mounts()
    _leave_other_mounts()
    place = control.runtime_dir()  # it exists, and its files are root's; here it is covered
    memory = mount_api.detached(
        "tmpfs", [("size", str(_MEMORY_BYTES)), ("mode", "0700")],
        mount_api.MOUNT_NOSUID | mount_api.MOUNT_NODEV,
    )  # fmt: skip
    mount_api.attach(memory, str(place))
    os.environ["POLICYFS_KEY_DIR"] = str(place / "keys")
    for name in ("store", "mount", "policy"):
        (place / name).mkdir(mode=0o755)
    for number, source in enumerate(sources):
        (place / "policy" / f"{number:06}.yaml").write_bytes(source.text)
    args = _arguments(part(status, "options"), place)
    start = Start.of(args)
    with contextlib.redirect_stderr(io.StringIO()):  # warnings about this store concern nobody
        options, loader = mount.prepared(args, start)
    daemon = fork_daemon(options, loader, None, start, lifeline=os.pipe())
    try:
        mount_fd, store_fd = map(_opened, (options.mountpoint, options.store))
        yield mount_fd, store_fd, control.socket_path(options.mountpoint)
    finally:
        os.kill(daemon, signal.SIGKILL)  # its files exist only in memory
        os.waitpid(daemon, 0)


def _leave_other_mounts() -> None:
    """Detach all policyfs mounts in this namespace: they would be in use while this process runs."""
    for one in mounts():
        if one.fstype == FSTYPE:
            with contextlib.suppress(MountError, OSError):  # it may have gone with a mount above it
                unmount(one.path, lazy=True)


def _arguments(told: Json, place: Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.set_defaults(command="mount")
    mount.add_mount(parser)
    names = ("policy", "trail", "store", "mount")
    policy, trail, store, mountpoint = (str(place / name) for name in names)
    args = parser.parse_args(["--policy", policy, "--trail", trail, store, mountpoint])
    for name in _SAME:
        setattr(args, name, told.get(name, getattr(args, name)))
    return args


def _opened(path: str) -> int:
    return os.open(path, os.O_PATH | os.O_CLOEXEC)

"""Checks of what `policyfs run` needs without root, and with ``--try``; the namespaces of such a command."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from policyfs.cli.common.on_record import existing
from policyfs.cli.machine.findings import Finding, State
from policyfs.errors import PolicyfsError
from policyfs.journal.files.directories import layers_directory
from policyfs.kernel import mount_api
from policyfs.kernel.session import DEVICE_PATH
from policyfs.linux.confinement.identity import become_root_of_namespace
from policyfs.linux.confinement.user_namespaces import (
    FILES,
    FIRST,
    Nested,
    become_root_inside,
    free_range,
    in_namespace,
    nested,
    subordinate_ids,
)
from policyfs.linux.private_files import make_private

_SWITCHES: Final = (
    ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=16384"),
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
    ("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
     "kernel.apparmor_restrict_unprivileged_userns=0"),
)  # fmt: skip
"""Settings that forbid user namespaces: file, value, and what root sets to allow them."""
_OF_APP: Final = 65_534


def account_of(uid: int) -> pwd.struct_passwd:
    """Return the account of a user who may have subordinate ids. Raises PolicyfsError."""
    try:
        return pwd.getpwuid(uid)
    except KeyError as error:
        raise PolicyfsError(f"the uid {uid} has no account, and so no subordinate ids") from error


def check_device_of_user() -> None:
    """Raise PolicyfsError, with the remedy, if this user may not open the FUSE device."""
    if not os.access(DEVICE_PATH, os.R_OK | os.W_OK):
        is_there = os.path.exists(DEVICE_PATH)
        why = "is closed to this user" if is_there else "is missing: `sudo modprobe fuse`"
        raise PolicyfsError(
            f"{DEVICE_PATH} {why}; in a container: start it with --device {DEVICE_PATH}, or let its root"
            f" `chmod 666 {DEVICE_PATH}`"
        )


def ids_of(account: pwd.struct_passwd) -> tuple[range, range]:
    """Return the subordinate uids and gids of a user. Raises PolicyfsError with the remedy."""
    return _subordinate(FILES[0], account), _subordinate(FILES[1], account)


def _subordinate(path: str, account: pwd.struct_passwd) -> range:
    name = account.pw_name
    found = subordinate_ids(path, name, account.pw_uid)
    if found is None:
        ids = free_range()
        line = f"{name}:{ids.start}:{len(ids)}"
        raise PolicyfsError(
            f"{name} has no subordinate ids in {path}: without them the command would have the uid of the"
            f" daemon, and could stop it. Let root add this line to {' and '.join(FILES)}: {line}"
        )
    return found


def enter_namespaces(account: pwd.struct_passwd, ids: tuple[range, range]) -> Nested:
    """Make this process, which has one thread, root of a user namespace. Return those of the command. Raises
    PolicyfsError with the remedy."""
    try:
        become_root_inside(*ids)
        return nested((FIRST, FIRST), (account.pw_uid, account.pw_gid))
    except OSError as error:
        raise PolicyfsError(_why_forbidden(error)) from error
    except subprocess.CalledProcessError as error:
        raise PolicyfsError(f"the subordinate ids cannot be used: {error.stderr}") from error


def _why_forbidden(error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "newuidmap is missing; install the package uidmap"
    if switch := _forbidding():
        return switch
    if error.errno == errno.ENOSPC:
        return "there are too many user namespaces: see /proc/sys/user/max_user_namespaces"
    return (
        f"a user namespace cannot be made: {error.strerror}. In a container, its engine decides: allow"
        " the system calls unshare and mount (for Docker: --security-opt seccomp=unconfined), or run as root"
    )


def _forbidding() -> str:
    for file, value, todo in _SWITCHES:
        with contextlib.suppress(OSError):
            if Path(file).read_text(encoding="ascii").strip() == value:
                return f"{file} is {value}, which forbids user namespaces; root allows them: `sysctl {todo}`"
    return ""


def check_run_of_user() -> Finding:
    """Make the namespaces of `policyfs run` without root. For root: look at the settings that forbid them."""
    name = "run without root"
    if os.geteuid() == 0:
        if switch := _forbidding():
            return Finding(name, State.OFF, "refused to users", switch)
        return Finding(name, State.OK, "user namespaces are allowed; `doctor` as a user checks the rest")

    def make() -> None:
        check_device_of_user()
        account = account_of(os.getuid())
        enter_namespaces(account, ids_of(account))

    why = _in_child(make)
    return Finding(name, State.OFF, "refused to this user", why) if why else Finding(name, State.OK, "works")


def check_try() -> Finding:
    """Make an overlay in the directory of the layers, as `policyfs run --try` does."""
    place = existing(str(layers_directory()))
    why = _in_child(lambda: _make_layer(str(place)))
    if why:
        return Finding("run --try", State.OFF, "refused", why)
    return Finding("run --try", State.OK, f"layers can lie in {place}")


def _make_layer(place: str) -> None:
    if os.geteuid() == 0:
        owner, namespace = _OF_APP, nested((_OF_APP, _OF_APP), (_OF_APP, _OF_APP)).root
    else:
        account = account_of(os.getuid())
        owner, namespace = FIRST, enter_namespaces(account, ids_of(account)).root
    with tempfile.TemporaryDirectory(prefix=".policyfs-", dir=place) as top:
        for one in (top, *(f"{top}/{name}" for name in ("lower", "upper", "work"))):
            make_private(one)
            os.chown(one, owner, owner)
        os.chdir(top)  # the user needs no right to search the directories above

        def create() -> list[int]:
            become_root_of_namespace()
            os.setxattr("upper", "user.overlay.opaque", b"n")
            return [mount_api.detached_overlay()]

        try:
            os.close(in_namespace(namespace, create)[0])
        except OSError as error:
            if error.errno == errno.ENODEV:
                raise PolicyfsError("this kernel has no overlay: `sudo modprobe overlay`") from error
            raise PolicyfsError(
                f"the file system of {place} carries no overlay with user.* attributes ({error.strerror}):"
                " set POLICYFS_LAYERS_DIR (without root: XDG_STATE_HOME) to a directory on ext4, XFS or btrfs"
            ) from error
        finally:
            os.chdir("/")


def _in_child(function: Callable[[], None]) -> str:
    """Call a function that enters namespaces in a child. Return what it raised; empty if it returned."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        text = "the check did not end"
        try:
            function()
            text = ""
        except Exception as error:  # noqa: BLE001 - no exception may reach the code of the other process
            text = str(error) or repr(error)
        finally:
            os.write(told, text.encode(errors="replace"))
            os._exit(0)
    os.close(told)
    with open(heard, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text

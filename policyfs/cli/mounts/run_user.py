"""`policyfs run` for a user other than root: the namespaces, and the file systems that the command finds.

Daemon, workers and command get uids of their own: the daemon the user's, the others *subordinate* uids. So
the kernel keeps the command from the daemon, from the trail and from all other files of the user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policyfs.cli.machine.user_checks import account_of, check_device_of_user, enter_namespaces, ids_of
from policyfs.cli.mounts.run_command import Identity, detached_view
from policyfs.errors import PolicyfsError
from policyfs.journal.files.directories import directories_of_user
from policyfs.kernel import mount_api
from policyfs.linux.confinement.identity import become
from policyfs.linux.confinement.user_namespaces import FIRST, Nested, enter
from policyfs.linux.private_files import make_private
from policyfs.trail.lines.table import shown

_TEMPORARY: Final = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - they are covered by empty ones


LIMITS: Final = (
    "policyfs: without root, each read and write goes through the daemon (no passthrough), and changes by"
    " other programs are seen after a second"
)


@dataclass(frozen=True, slots=True)
class User(Identity):
    """The identity of the command for the daemon, and the user whose account it has. namespaces: those in
    which its uid is the user's."""

    store: str
    user: pwd.struct_passwd
    namespaces: Nested

    @property
    def account(self) -> pwd.struct_passwd:
        """The user's account."""
        return self.user

    def take(self) -> None:
        """Make this process run as the command's user, in the command's namespaces. Raises OSError."""
        enter(self.namespaces.user)
        become(self.user.pw_uid, self.user.pw_gid)

    def show(self, shown: int, mountpoint: str, at: str) -> None:
        """Attach *shown*, and put empty directories in place of the user's other files.

        The store, if it is elsewhere, is covered by the mount, too, read-only. The user's home, the
        directories of temporary files, and each directory on the way to *at* that the command could not
        search, are covered by file systems in memory, which end with the command.
        """
        views = {at: shown}
        if self.store != at:
            views[self.store] = detached_view(mountpoint, read_only=True)
        before = os.umask(0o022)  # the command must be able to search the directories that are made here
        for directory, mode, owner in self._covers(at):
            if any(f"{directory}/".startswith(place.rstrip("/") + "/") for place in views):
                continue  # the mount covers it
            make_private(directory, 0o755)
            ids = [("uid", str(owner)), ("gid", str(owner))]
            options = [("mode", f"{mode:o}"), *ids, ("source", "policyfs")]
            cover = mount_api.detached("tmpfs", options, mount_api.MOUNT_NOSUID | mount_api.MOUNT_NODEV)
            mount_api.attach(cover, directory)
            os.close(cover)
        for place, view in views.items():
            make_private(place, 0o755)
            mount_api.attach(view, place)
            os.close(view)
        os.umask(before)

    def _covers(self, at: str) -> Iterator[tuple[str, int, int]]:
        """Yield the directories to cover, each before those in it: path, mode and owner of the empty one."""
        home = os.path.realpath(self.user.pw_dir)
        found = {path: (0o1777, 0) for path in map(os.path.realpath, _TEMPORARY) if os.path.isdir(path)}
        for above in map(str, Path(at).parents):
            is_covered = any(above.startswith(f"{one}/") for one in (*found, home))
            if not (is_covered or os.stat(above).st_mode & 0o001):
                found[above] = (0o755, 0)
        if os.path.isdir(home):
            found[home] = (0o700, self.uid)
        for path in sorted(found):
            yield path, *found[path]


def become_root_of_user(store: str) -> User:
    """Make this process root of a user namespace, with state in the user's own directories. Raises
    PolicyfsError with the remedy if the machine does not permit it."""
    account = account_of(os.getuid())
    check_device_of_user()
    _check_store(store, account.pw_uid)
    ids = ids_of(account)
    os.environ.update(directories_of_user())
    if not os.path.exists(os.environ["POLICYFS_TRAIL_DIR"]):  # once
        print(LIMITS, file=sys.stderr)
    namespaces = enter_namespaces(account, ids)
    return User(FIRST, FIRST, os.path.realpath(store), account, namespaces)


def _check_store(store: str, uid: int) -> None:
    with contextlib.suppress(OSError):  # if it is missing, the mount will tell
        if os.stat(store).st_uid != uid:
            raise PolicyfsError(
                f"the store {shown(store)} is not yours: without root, a policy guards only directories"
                " of your own; run this command with sudo"
            )

"""The overlay of a layer over an app's mount: overlayfs in a user namespace (``userxattr``)."""

from __future__ import annotations

import os

from policyfs.kernel import mount_api
from policyfs.linux.confinement.identity import become_root_of_namespace
from policyfs.linux.confinement.user_namespaces import in_namespace


def overlay(top: int, view: int, namespace: int) -> int:
    """Return a detached mount of a layer over a view. Raises OSError.

    top: the layer's directory, in a mount of this mount namespace. view: a detached mount, which is attached
    below *top*, where no path leads the command. namespace: a user namespace whose root is the command's
    user: as that user the kernel reads the view, and it owns what it puts into the layer.
    """
    lower = os.open("lower", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        mount_api.attach(view, lower)
        os.fchdir(top)  # names from here on need no right to search the directories above

        def create() -> list[int]:
            become_root_of_namespace()
            return [mount_api.detached_overlay()]

        return in_namespace(namespace, create)[0]
    finally:
        os.fchdir(here)
        os.close(here)
        os.close(lower)

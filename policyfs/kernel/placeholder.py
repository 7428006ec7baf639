"""A FUSE mount without a daemon, for the time in which a mount is absent: each call on it gets ENOTCONN.

Otherwise a program would find an empty directory, take all files for deleted, and delete them elsewhere, too.
Mode bits cannot prevent this for root. The real mount goes over the placeholder; its end uncovers it again.
"""

from __future__ import annotations

import os

from policyfs.kernel import mount_api
from policyfs.kernel.session import DEVICE_PATH
from policyfs.linux.mountinfo import ABSENT, mounts_at


def put_placeholder(path: str) -> None:
    """Mount a placeholder on a directory, unless a mount is there already.

    path: absolute, without symlinks. The connection ends before any process can reach the mount: neither a
    process nor a descriptor is left. Raises OSError.
    """
    if mounts_at(path):
        return
    device = os.open(DEVICE_PATH, os.O_RDWR | os.O_CLOEXEC)
    try:
        options = [
            ("source", "absent"), ("subtype", ABSENT.partition(".")[2]), ("rootmode", "40000"),
            ("user_id", "0"), ("group_id", "0"), ("fd", str(device)),
        ]  # fmt: skip
        attributes = mount_api.MOUNT_NOSUID | mount_api.MOUNT_NODEV
        mount = mount_api.detached("fuse", [*options, "allow_other"], attributes)
    finally:
        os.close(device)
    try:
        mount_api.attach(mount, path)
    finally:
        os.close(mount)

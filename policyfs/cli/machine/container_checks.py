"""Checks of a container in which daemons are to serve programs outside of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from policyfs.cli.common.on_record import existing
from policyfs.cli.machine.findings import Finding, State
from policyfs.linux.mountinfo import MOUNTINFO, mount_id_of_fd

FIRST_PID_NAMESPACE: Final = 0xEFFFFFFC  # PROC_PID_INIT_INO of include/linux/proc_ns.h
MOUNTS: Final = "/run/policyfs"


def check_callers(namespace: int | None = None) -> Finding:
    """Check that daemons see the pids of all callers. namespace: inode number of a PID namespace; None: this
    process's."""
    found = os.stat("/proc/self/ns/pid").st_ino if namespace is None else namespace
    if found == FIRST_PID_NAMESPACE:
        return Finding("callers", State.OK, "the trail can name the program of each request")
    return Finding(
        "callers",
        State.OFF,
        "the trail cannot name programs outside of this container",
        "run the container with --pid=host, unless all programs that use its mounts run in it",
    )


def check_propagation(directory: str = MOUNTS, lines: Iterable[str] | None = None) -> Finding:
    """Check that new mounts below a directory appear in other mount namespaces (mount_namespaces(7)). lines:
    of mountinfo; None: this process's. Raises OSError, LookupError."""
    place = os.open(existing(directory), os.O_PATH | os.O_CLOEXEC)
    try:
        mount_id = mount_id_of_fd(place)
    finally:
        os.close(place)
    if lines is None:
        with open(MOUNTINFO, encoding="latin-1", newline="\n") as file:
            lines = file.readlines()
    fields = {int(line.split(" ", 1)[0]): line.partition(" - ")[0].split(" ")[6:] for line in lines}
    if mount_id is None or mount_id not in fields:
        raise LookupError(f"{directory} is in no known mount")
    if any(field.startswith("shared:") for field in fields[mount_id]):
        return Finding("propagation", State.OK, f"new mounts below {directory} are seen elsewhere")
    return Finding(
        "propagation",
        State.OFF,
        f"services and other containers do not see new mounts below {directory}",
        f"mount --make-rshared / on the machine; in a container: --volume {MOUNTS}:{MOUNTS}:rshared",
    )

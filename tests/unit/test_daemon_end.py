"""The mount table that a daemon watches."""

from __future__ import annotations

import os
import resource

from policyfs.daemon.end import MountTable
from tests.support.machine.processes import call_as


def _root_without_descriptors() -> list[str]:
    table = MountTable()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
    used_up = []
    try:
        while True:
            used_up.append(os.open("/", os.O_PATH))
    except OSError:
        return [table.at("/")[-1].path, *(mount.path for mount in table.at("/nowhere"))]


def test_it_is_read_again_where_no_descriptor_is_left() -> None:
    assert call_as(0, _root_without_descriptors) == ["/"]

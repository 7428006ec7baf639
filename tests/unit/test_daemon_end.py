"""The end of a mount: whose it is, and the mount table that a daemon watches."""

from __future__ import annotations

import os
import resource

from policyfs.daemon.end import EndOfMount, MountEnd, MountTable
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


def test_an_end_that_was_announced_and_did_not_come_is_soon_forgotten() -> None:
    """The client was killed before it unmounted. Much later the app takes the mount away."""
    outside, client = MountEnd("outside", "unmounted"), MountEnd("command", "policyfs umount", 7, 0)
    for later_s, whose in ((59.0, client), (61.0, outside)):
        clock = [100.0]
        end = EndOfMount(lambda clock=clock: clock[0])
        end.announce(client)
        clock[0] += later_s
        assert end.by(outside) == whose
        assert end.end.ordered == (whose is client)

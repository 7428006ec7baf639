"""Rights of processes: dropped for good, and read back, also of several threads."""

from __future__ import annotations

import os
import threading

import pytest

from policyfs.linux.confinement.capabilities import (
    ZYGOTE,
    Capability,
    _rights_of_thread,
    keep,
    name_of,
    no_new_privs,
    rights_of,
)
from tests.support.machine.inchild import in_child

STATUS = """\
Name:\tpolicyfs
CapInh:\t0000000000000001
CapPrm:\t0000000000000006
CapEff:\t0000000000000002
CapBnd:\t8000000000000000
CapAmb:\t0000000000000008
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t3
"""


def test_rights_are_read_from_the_kernels_text() -> None:
    found = _rights_of_thread(STATUS)
    assert (found.effective, found.permitted, found.bounding) == ({1}, {1, 2}, {63})
    assert found.handed_on == {0, 3}, "inherited and ambient ones"
    assert (found.no_new_privs, found.seccomp) == (True, "filter")
    older = _rights_of_thread(STATUS.replace("Seccomp:\t2\n", "").replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"))
    assert (older.no_new_privs, older.seccomp) == (False, "off")


def _kept(wanted: frozenset[Capability]) -> list[object]:
    no_new_privs()
    keep(wanted)
    own = rights_of()
    try:
        os.chown("/proc/self/fd", 1, 1)
        chowned = True
    except OSError:
        chowned = False
    return [sorted(own.effective), sorted(own.permitted), sorted(own.bounding), sorted(own.handed_on),
            own.no_new_privs, chowned]  # fmt: skip


@pytest.mark.parametrize("wanted", [frozenset(), ZYGOTE, frozenset({Capability.SETFCAP})])
def test_all_others_are_dropped_for_good(wanted: frozenset[Capability]) -> None:
    before = rights_of("thread-self")
    numbers = sorted(wanted)
    found = in_child(lambda: _kept(wanted))
    assert found == [numbers, numbers, numbers, [], True, False]
    assert rights_of("thread-self") == before


def _again() -> list[int]:
    keep(frozenset({Capability.KILL}))
    keep(frozenset({Capability.KILL, Capability.CHOWN}))
    return sorted(rights_of().effective)


def test_what_was_dropped_does_not_come_back() -> None:
    assert in_child(_again) == [Capability.KILL]


def _two_threads() -> list[list[int]]:
    """Drop in the main thread only: the process still has what another thread has."""
    go, end = threading.Event(), threading.Event()

    def wait() -> None:
        go.set()
        end.wait(10)

    thread = threading.Thread(target=wait)
    thread.start()
    go.wait(10)
    keep(frozenset())
    found = [sorted(rights_of("thread-self").effective), sorted(rights_of().effective)]
    end.set()
    thread.join()
    return found


def test_rights_of_a_process_are_those_of_all_its_threads() -> None:
    own, all_of_them = in_child(_two_threads)
    assert own == []
    assert Capability.CHOWN in all_of_them


def test_a_process_that_is_gone_has_no_rights() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(OSError, match="No such"):
        rights_of(pid)


def test_names_are_those_of_the_man_pages() -> None:
    assert name_of(21) == "CAP_SYS_ADMIN"
    assert name_of(40) == "capability 40"

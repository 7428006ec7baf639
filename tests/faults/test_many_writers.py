"""Many writes of one app at once, which the store accepts: none may fail."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path

import pytest

from policyfs.kernel.session import UNDER_WAY
from policyfs.linux.memory import usable_bytes
from tests.faults.test_hanging import ANYBODY
from tests.support.machine.processes import code_of, start_as
from tests.support.mount.stores import Mounts

WRITERS = 200
"""More than could have a write each while the bridge kept at most 128 MiB of an app."""
WRITES = 2
WHOLE = 1 << 20
"""The largest WRITE."""


def _write_all_at_once(channel, directory: Path) -> Counter[str]:
    """Writes of WHOLE bytes to each of WRITERS files, one thread for each file; how many had which result."""
    results: list[str] = []

    def one(number: int) -> None:
        fd = os.open(directory / str(number), os.O_WRONLY | os.O_CREAT, 0o666)
        opened.wait()
        results.extend(code_of(os.pwrite, fd, data, at * WHOLE) for at in range(WRITES))
        os.close(fd)

    data = os.urandom(WHOLE)
    opened = threading.Barrier(WRITERS)
    threads = [threading.Thread(target=one, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(results)


def test_no_write_fails_however_many_an_app_has(arena: Path, mounts: Mounts) -> None:
    """Each was answered ENOMEM that came while 128 MiB of the app's writes waited.

    Fault store.22: An app writes to hundreds of mediated files at once
    App: Each write succeeds. A write may wait for its turn
    ([limits](#what-the-tests-cannot-show-and-limits))
    Store: all bytes that write(2) accepted
    Trail: as usual
    """
    if usable_bytes() // 16 < (WRITERS - UNDER_WAY) * WHOLE:
        pytest.skip("this machine has too little memory to keep them")
    store = arena / "store"
    store.mkdir()
    store.chmod(0o777)
    mount = mounts.prepare(ANYBODY, store, "--no-passthrough")
    mount.expected_mediated = True
    mount.start()
    writer = start_as(20000, _write_all_at_once, mount.mountpoint)
    assert writer.result(60) == {"": WRITERS * WRITES}
    assert {path.stat().st_size for path in store.iterdir()} == {WRITES * WHOLE}
    assert mount.stop() == []

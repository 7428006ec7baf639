"""E and D2: one app does all it can to wear out the daemon; an honest app beside it hardly waits.

In a shared mount both have one daemon; with app mounts each has its own, and they share trail root, store
and machine. The quick run bounds what one attempt may take; the long one holds the honest app's waiting
times, too, and is for a machine that has nothing else to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import SOAK, count, daily
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts
from tests.support.programs import wear

pytestmark = [pytest.mark.mount, pytest.mark.load, *([pytest.mark.alone] if SOAK else [])]

SECONDS: Final = count(1, 240) / 4
LINKS: Final = count(3_000, 20_000)
MEMORY_BYTES: Final = 64 << 20
NODE_BYTES: Final = 1_400
"""Of each file that the kernel knows, with a name of 250 bytes; test_known_files.py has what bounds those."""
TRAIL_BURST_BYTES: Final = 1_000_000
TRAIL_BYTES_PER_S: Final = 800_000
"""What one app may add to the trail (policyfs/trail/lines/budget.py)."""
DESCRIPTORS: Final = 3_000
WORST_US: Final = 5e6
"""Of an open beside the attempt, where other tests run as well."""
SLOWER: Final = 3
P99_US: Final = 20e3
WORST_ALONE_US: Final = 100e3
"""Where nothing else runs."""


@pytest.fixture(scope="module")
def worn_store(module_arena: Path) -> Iterator[Path]:
    store = module_arena / "store"
    wear.furnish(store, links=LINKS)
    yield store
    wear.clear(store)


@pytest.fixture(scope="module", params=["shared", "apps"] if SOAK else ["shared"])
def both(request, module_mounts: Mounts, worn_store: Path) -> tuple[Mount, Mount]:
    """The mounts that the hostile and the quiet app look through."""
    apps = ("hostile", "quiet") if request.param == "apps" else (None,)
    made = []
    for app in apps:
        mount = module_mounts.prepare(wear.POLICY, worn_store, *([] if app is None else ["--app", app]))
        mount.expected_mediated = True  # bombs are refused
        made.append(mount.start())
    return made[0], made[-1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("processes", [1, 8] if SOAK else [8])
@pytest.mark.parametrize("attempt", daily(wear.ATTEMPTS, "deep", "names", "bombs"))
def test_an_honest_app_hardly_waits(both: tuple[Mount, Mount], attempt: str, processes: int) -> None:
    worn = wear.measure(*both, attempt, processes=processes, seconds=SECONDS)
    print(attempt, processes, worn)
    assert worn.turns > processes
    assert worn.memory_bytes < MEMORY_BYTES + NODE_BYTES * worn.nodes, worn
    assert worn.trail_bytes < TRAIL_BURST_BYTES + TRAIL_BYTES_PER_S * (worn.seconds + 1), worn
    assert worn.descriptors < DESCRIPTORS, worn
    assert worn.worst_beside < WORST_US, worn
    if SOAK:
        assert worn.overflows == 0, worn
        assert worn.p99_beside < min(SLOWER * worn.p99_alone, P99_US), worn
        assert worn.worst_beside < WORST_ALONE_US, worn

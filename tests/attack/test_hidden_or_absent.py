"""B5: a name that is hidden from an app, and one that is not there, take the same time to say no.

An attacker who sees a clock asks for names that the policy would hide if they were there. From one
answer to each he is to guess no better than by tossing a coin: of a hidden and an absent name taken at
random, the hidden one takes longer in half of the cases (the area under the ROC curve).
"""

from __future__ import annotations

import os
import random
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import call_as
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts

pytestmark = pytest.mark.alone
CAMERA, GALLERY = 10010, 10011
NAMES: Final = count(700, 3000)
"""Names of each sort at each place, each asked for once."""
FAIR: Final = 0.08
"""How far from a coin's 0.5 a guess may be: five standard errors of the quick count, and a little."""
POLICY = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {{uid: {CAMERA}}}
  gallery: {{uid: {GALLERY}}}
rules:
  - {{id: all, allow: [all], who: {{app: any}}, paths: ["/data/***", "/kept/***"]}}
  - {{id: own, deny: [all], paths: "/data/*/***", unless: {{path: "/data/{{app}}/***"}}, errno: ENOENT}}
  - {{id: kept, deny: [all], who: {{app: gallery}}, paths: "/kept/*", errno: ENOENT}}
  - {{id: way, allow: [see], who: {{app: gallery}}, paths: "/way/*/shown/**"}}
"""
PLACES: Final[dict[str, Callable[[Path], object]]] = {
    # a directory of another app's; a file under a deny; a file where directories could be seen
    "data": Path.mkdir,
    "kept": Path.touch,
    "way": Path.touch,
}


def furnish(store: Path) -> None:
    for place, make in PLACES.items():
        (store / place).mkdir()
        for number in range(NAMES):
            make(store / place / f"name-{number:05}")


def timed(directory: str, paths: list[str]) -> list[int]:
    """Nanoseconds of one access(2) of each path."""
    os.listdir(directory)
    took = []
    for path in paths:
        start = time.perf_counter_ns()
        found = os.access(path, os.F_OK)
        took.append(time.perf_counter_ns() - start)
        assert not found
    return took


def told_apart(mount: Mount, place: str) -> float:
    """How often a hidden name takes longer than one that is not there; 0.5 tells nothing."""
    return told_by_rounds(mount, place, 1)[0]


def told_by_rounds(mount: Mount, place: str, rounds: int) -> list[float]:
    """The same for each of several rounds over all names."""
    names = [f"name-{number:05}" for number in range(2 * NAMES)]  # the second half is not there
    random.Random(5).shuffle(names)
    directory = str(mount / place)
    paths = [f"{directory}/{name}" for name in names]
    all_took = call_as(GALLERY, lambda: [timed(directory, paths) for _ in range(rounds)], deadline_s=90)
    return [told_from(names, took) for took in all_took]


def told_from(names: list[str], took: list[int]) -> float:
    """The same from the nanoseconds that each name took."""
    hidden = [ns for name, ns in zip(names, took, strict=True) if int(name[5:]) < NAMES]
    absent = sorted(ns for name, ns in zip(names, took, strict=True) if int(name[5:]) >= NAMES)
    longer = sum(bisect_left(absent, ns) + bisect_right(absent, ns) for ns in hidden) / 2
    return longer / (len(hidden) * len(absent))


@pytest.mark.alone
@pytest.mark.parametrize("options", [(), ("--app", "gallery")], ids=["shared", "app"])
def test_time_does_not_tell_hidden_from_absent(mounts: Mounts, empty_store: Path, options) -> None:
    """Attack B5.5: Find out by the time of the answer whether a name is hidden or missing
    Guard: policyfs/fs/access/gate.py::Gate.asked_for
    Without: ::test_time_tells_where_the_store_is_asked_first
    """
    furnish(empty_store)
    mount = mounts.start(POLICY, empty_store, *options)
    told = {place: told_apart(mount, place) for place in ("data", "kept")}
    assert abs(told["data"] - 0.5) < FAIR, told
    assert abs(told["kept"] - 0.5) < FAIR, told
    # The store is asked, whose own caches answer faster for what was used lately: it is never slower.
    first, *again = told_by_rounds(mount, "way", 4)
    assert first < 0.5 + FAIR, (first, again)
    # The store then remembers both, and an attacker may take the mean of any number of rounds.
    assert abs(sum(again) / len(again) - 0.5) < FAIR, (first, again)


def told_at_last(without, store: Path, place: str) -> float:
    """The clearest of at most three measurements: other work blurs times."""
    told = 0.5
    for _ in range(3):
        told = max(told, told_apart(without("looked-at-first", POLICY, store), place))
        if told > 0.5 + FAIR:
            break
    return told


@pytest.mark.alone
@pytest.mark.parametrize("place", PLACES)
def test_time_tells_where_the_store_is_asked_first(without, empty_store: Path, place: str) -> None:
    furnish(empty_store)
    told = told_at_last(without, empty_store, place)
    assert told > 0.5 + FAIR, told

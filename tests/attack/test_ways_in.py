"""What `require: {content: ...}` and `{no: ...}` keep out comes in by no way at all.

Every way by which a name can come to hold bytes, for apps that may write, that may only create, and that
may do nothing there but under `--monitor`, with every sort of file. What is in the store at the end is judged
by libmagic and exiftool.
"""

from __future__ import annotations

import errno
import functools
import itertools
import json
import mmap
import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.machine.counts import count
from tests.support.machine.processes import call_as, code_of, start_as, tool_as, wait_for
from tests.support.mount.daemons import Mount
from tests.support.mount.stores import Mounts, open_handles
from tests.support.programs import ways_in
from tests.support.programs.ways_in import Door
from tests.support.samples import jpegs, pngs
from tests.support.samples.media import HOME

WRITER, CREATOR, WATCHED = 10010, 10011, 10012
APPS: Final = {"writer": WRITER, "creator": CREATOR, "watched": WATCHED}
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  writer: {{uid: {WRITER}}}
  creator: {{uid: {CREATOR}}}
  watched: {{uid: {WATCHED}}}
rules:
  - {{id: outside, allow: [all], paths: "/{{app}}/Outside/**"}}
  - {{id: looked-at, allow: [see, read], paths: "/{{app}}/***"}}
  - {{id: writer, allow: [all], paths: "/writer/**"}}
  - {{id: creator, allow: [create, delete, attr], paths: "/creator/**"}}
  - {{id: photos, require: {{content: [image/jpeg]}}, paths: "/*/{{Content,Both}}/**"}}
  - {{id: no-place, require: {{no: [location]}}, paths: "/*/{{No,Both}}/**"}}
  - {{id: clean, require: {{clean: [location]}}, paths: "/*/Clean/**"}}
"""
RULES: Final = {"Content": ("content",), "No": ("no",), "Both": ("content", "no"), "Clean": ("clean",)}
ALSO: Final = {"Content": "No", "No": "Content", "Both": "Content", "Clean": "No"}
FILES: Final = {
    "right": jpegs.plain(3, 64),
    "wrong": b"in front of the house, " + jpegs.TEXT_COORDINATES.encode() + b", at noon\n" * 20,
    "wrong without a place": b"words, and nothing but words\n" * 20,
    "empty": b"",
    "right head, then other": jpegs.plain(3, 64) + bytes(70_000) + jpegs.TEXT_COORDINATES.encode(),
    "with a place": jpegs.photo_with(jpegs.exif()),
    "with a place at its end": jpegs.with_segments(
        jpegs.plain(), jpegs.segment(jpegs.COM, bytes(65_000)), jpegs.segment(jpegs.COM, bytes(65_000)),
        jpegs.exif_segment(jpegs.exif()),
    ),
    "another picture with a place": pngs.plain(pngs.chunk(b"eXIf", jpegs.exif())),
}  # fmt: skip


class Case(NamedTuple):
    """One way, with one sort of file, into one directory."""

    way: int
    file: str
    directory: str

    @property
    def told(self) -> str:
        return f"{ways_in.WAYS[self.way].__name__}, {self.file}, into {self.directory}"


EVERY: Final = [
    Case(way, file, directory)
    for way, file, directory in itertools.product(range(len(ways_in.WAYS)), FILES, RULES)
]


def chosen(seed: str) -> list[Case]:
    """Some cases of each way, others in each mount."""
    of_way: dict[int, list[Case]] = {}
    for case in EVERY:
        of_way.setdefault(case.way, []).append(case)
    some = random.Random(seed)
    each = count(1, 32)
    return [case for cases in of_way.values() for case in some.sample(cases, each)]


def _try_all(mountpoint: Path, who: str, cases: Sequence[tuple[int, Case]]) -> dict[str, int]:
    """Make each attempt; how often each errno was the answer."""
    said: dict[str, int] = {}
    for number, case in cases:
        names = ("Outside", case.directory, ALSO[case.directory])
        door = Door(*(mountpoint / who / name for name in names), f"n-{number}")
        try:
            ways_in.WAYS[case.way](door, FILES[case.file])
            word = "done"
        except OSError as error:
            word = errno.errorcode[error.errno or 0]
        said[word] = said.get(word, 0) + 1
    return said


def furnish(store: Path) -> Path:
    for who, name in itertools.product(APPS, ("Outside", *RULES)):
        (store / who / name).mkdir(parents=True)
        (store / who / name).chmod(0o777)
    return store


def _below(store: Path, name: str) -> list[Path]:
    return [path for who in APPS for path in sorted((store / who / name).rglob("*"))]


def _wrong_kind(store: Path) -> dict[str, str]:
    """Files, by path in the store, that libmagic calls something other than a photo (or empty)."""
    files = [path for name in ("Content", "Both") for path in _below(store, name) if path.is_file()]
    if not files:
        return {}
    done = subprocess.run(
        ["file", "--brief", "--mime-type", *files], capture_output=True, text=True, check=True, timeout=60
    )
    kinds = dict(zip(files, done.stdout.splitlines(), strict=True))
    return {
        str(path.relative_to(store)): kind
        for path, kind in kinds.items()
        if kind not in {"image/jpeg", "inode/x-empty"}
    }


def _placed(store: Path) -> dict[str, str]:
    """Files, by path in the store, in which exiftool or a search finds the place, or that have attributes."""
    found: dict[str, str] = {}
    for name in ("No", "Both", "Clean"):
        for path in _below(store, name):
            named = [each for each in os.listxattr(path) if each.startswith("user.")]
            leaks = jpegs.leaks(path.read_bytes()) if path.is_file() else []
            if named or leaks:
                found[str(path.relative_to(store))] = str(named or leaks)
        command = ["exiftool", "-q", "-r", "-j", "-n", "-ee", "-GPSLatitude", "-GPSLongitude"]
        command += [os.fspath(store / who / name) for who in APPS]
        done = subprocess.run(command, capture_output=True, check=False, timeout=300)
        for tags in json.loads(done.stdout or b"[]"):
            if abs(float(tags.get("GPSLatitude") or 0) - HOME.latitude) < 1:
                found[str(Path(tags["SourceFile"]).relative_to(store))] = "exiftool finds the place"
    return found


def escaped(store: Path, cases: Sequence[tuple[int, Case]]) -> dict[str, str]:
    """What is where it may not be, by path and the case that put it there."""
    named = dict(cases)
    found = _wrong_kind(store) | _placed(store)
    return {path: f"{what}: {_case(path, named)}" for path, what in found.items()}


def _case(path: str, named: dict[int, Case]) -> str:
    name = path.split("/")[2]
    return named[int(name.split("-")[1])].told if name.startswith("n-") else "the honest one"


def all_tried(mount: Mount, who: str, cases: Sequence[tuple[int, Case]]) -> dict[str, int]:
    said = call_as(APPS[who], _try_all, mount.mountpoint, who, cases, deadline_s=600)
    wait_for(lambda: open_handles(mount.status()) == 0, "all that was opened to be closed", 30)
    return said


def honest(mount: Mount, who: str) -> bool:
    """Does what may be there get there: by writing, or where an app may only create, by a move within."""
    for directory in RULES:
        at, there = mount.store / who / directory, mount / who / directory
        if who == "creator":
            (at / "stored.jpg").write_bytes(FILES["right"])
            call_as(APPS[who], os.rename, there / "stored.jpg", there / "a.jpg")
        else:
            call_as(APPS[who], (there / "a.jpg").write_bytes, FILES["right"])
        if (at / "a.jpg").read_bytes() != FILES["right"]:
            return False
    return who == "creator" or _moved_without_attributes(mount, who)


def _moved_without_attributes(mount: Mount, who: str) -> bool:
    """Does mv bring a file to where no attributes may be, and leave them out."""
    source, target = mount / who / "Outside/marked.jpg", mount / who / "No/marked.jpg"
    call_as(APPS[who], source.write_bytes, FILES["right"])
    call_as(APPS[who], os.setxattr, source, ways_in.ATTRIBUTE, ways_in.PLACE)
    tool_as(APPS[who], "mv", source, target, check=True)
    stored = mount.store / who / "No/marked.jpg"
    return stored.read_bytes() == FILES["right"] and ways_in.ATTRIBUTE not in os.listxattr(stored)


MOUNTS: Final = {
    "shared": ((), ("writer", "creator")),
    "shared, monitored": (("--monitor",), ("watched", "creator")),
    "app mount": (("--app", "creator"), ("creator",)),
    "app mount, monitored": (("--app", "watched", "--monitor"), ("watched",)),
}


@pytest.mark.timeout(count(120, 3_000))
@pytest.mark.parametrize("kind", MOUNTS)
def test_no_way_leads_past_a_requirement(kind: str, mounts: Mounts, empty_store: Path) -> None:
    """Attack C1.10: Keep the place in a file that must be stored without it
    Guard: policyfs/fs/checked/cleaning.py::Cleaner.clean,
    policyfs/fs/namespace/rename.py::Renamer._settled
    Also: tests/mount/test_share_folder.py::test_twenty_photos_are_stored_without_their_places
    Without: ::test_each_way_is_open_where_its_guard_is_gone

    Attack C1.12: Bring refused content in without a write: by rename, exchange, link, linkat, the rename
    of a directory; by a mapping kept across a move; under `--monitor`
    Guard: policyfs/policy/rules/profile.py::Profile.content,
    policyfs/fs/namespace/rename.py::Renamer._settled
    Without: ::test_each_way_is_open_where_its_guard_is_gone

    Attack C1.14: Give a file a second name, move one of the two names into a place with content
    requirements, or out of it, and write by the other name
    Guard: policyfs/fs/checked/moved_file.py::Named.holds
    Without: ::test_each_way_is_open_where_its_guard_is_gone

    Attack C1.15: Put forbidden data into an extended attribute, set after the move or before it
    Guard: policyfs/fs/namespace/xattr.py::AttributeBans.check,
    policyfs/fs/checked/moved_file.py::Settled.holds
    Without: ::test_each_way_is_open_where_its_guard_is_gone
    """
    options, apps = MOUNTS[kind]
    mount = mounts.start(POLICY, furnish(empty_store), *options)
    mount.expected_mediated = True  # a file that is mapped in another view may go without
    cases = list(enumerate(chosen(kind)))
    for who in apps:
        assert not set(all_tried(mount, who, cases)) & {"EIO", "ENOSYS"}
        assert honest(mount, who)
    assert escaped(empty_store, cases) == {}


WEAKENED: Final = {
    # the guard that is gone, and under it: options, the app, what it brings to where it may not
    "writers-only": ((), "creator", ("renamed", "wrong", "Content")),
    "dry-run-of-content": (("--monitor",), "watched", ("write", "with a place", "No")),
    "attributes-anywhere": ((), "writer", ("attribute_set", "right", "No")),
    "stored-as-written": ((), "writer", ("write", "with a place", "Clean")),
    "other-names": ((), "writer", ("by_its_other_name", "with a place", "No")),
}


@pytest.mark.parametrize("guard", WEAKENED)
def test_each_way_is_open_where_its_guard_is_gone(guard: str, without, empty_store: Path) -> None:
    options, who, (name, file, directory) = WEAKENED[guard]
    mount = without(guard, POLICY, furnish(empty_store), *options)
    way = next(number for number, way in enumerate(ways_in.WAYS) if way.__name__ == name)
    cases = [(0, Case(way, file, directory))]
    all_tried(mount, who, cases)
    assert list(escaped(empty_store, cases)) == [f"{who}/{directory}/n-0"]


TWO: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  writer: {{uid: {WRITER}}}
  creator: {{uid: {CREATOR}}}
rules:
  - {{id: all, allow: [all], paths: "/**"}}
  - {{id: no-place, require: {{no: [location]}}, who: {{app: creator}}, paths: "/creator/No/**"}}
"""


def _keeps(channel, path: Path, *, mapped: bool) -> None:
    """Opens a file, and writes a place into it when told to: by the descriptor, or by a mapping alone."""
    data = FILES["with a place"]
    fd = os.open(path, os.O_RDWR)
    memory = mmap.mmap(fd, len(data)) if mapped else None
    if memory is not None:
        os.close(fd)
    channel.send("open")
    channel.recv()
    if memory is None:
        os.pwrite(fd, data, 0)
        os.close(fd)
    else:
        memory[:] = data
        memory.close()


def _moved_by_another(mount: Mount, name: str, *, mapped: bool) -> str:
    """What rename says to an app that may put there what it likes, of a file that another has open."""
    source, target = mount / "creator/Outside" / name, mount / "creator/No" / name
    call_as(CREATOR, source.write_bytes, FILES["right"].ljust(len(FILES["with a place"]), b"\0"))
    keeper = start_as(CREATOR, functools.partial(_keeps, mapped=mapped), source)
    keeper.receive()
    said = call_as(WRITER, code_of, os.rename, source, target)
    keeper.send("go on")
    keeper.result()
    return said


def test_what_another_app_has_open_is_not_moved_to_where_that_app_is_asked_more(
    mounts: Mounts, empty_store: Path
) -> None:
    """Attack C1.13: Have an app with fewer requirements move the file in, while an app with more
    requirements has it open or mapped
    Guard: policyfs/policy/decide.py::Engine.asks_more, policyfs/fs/checked/moved_file.py::Settled.holds
    Without: ::test_it_is_moved_where_nobody_asks_for_others
    """
    mount = mounts.start(TWO, furnish(empty_store))
    said = {mapped: _moved_by_another(mount, f"{mapped}.jpg", mapped=mapped) for mapped in (False, True)}
    assert said == {False: "EXDEV", True: "EXDEV"}
    honest = mount / "creator/Outside/honest.jpg"
    call_as(WRITER, honest.write_bytes, FILES["right"])
    call_as(WRITER, os.rename, honest, mount / "creator/No/honest.jpg")
    assert os.listdir(empty_store / "creator/No") == ["honest.jpg"]


def test_it_is_moved_where_nobody_asks_for_others(without, empty_store: Path) -> None:
    mount = without("moved-for-the-mover", TWO, furnish(empty_store))
    assert _moved_by_another(mount, "a.jpg", mapped=True) == ""
    assert jpegs.leaks((empty_store / "creator/No/a.jpg").read_bytes())

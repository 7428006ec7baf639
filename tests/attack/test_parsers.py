"""A5 and A6: parsers that look in the wrong place, hang, crash, eat memory or lie.

The real ones have no such bug that is known. So the workers of these daemons have some: each file sets
one off by a word in it. Whatever a parser does, its file is refused, and who reads others notices nothing.
"""

from __future__ import annotations

import errno
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.attack.parsers_broken import BUGS, marked
from tests.attack.test_places_gone import FAMILY, corpus, fill
from tests.support.machine.counts import first
from tests.support.machine.processes import call_as, start_as
from tests.support.samples import jpegs
from tests.support.samples.jpegs import leaks

GALLERY, OTHER = 10011, 10012
POLICY: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  gallery: {{uid: {GALLERY}, gid: {GALLERY}}}
  other: {{uid: {OTHER}, gid: {OTHER}}}
rules:
  - {{id: read, allow: [see, read], who: {{app: any}}, paths: "/***"}}
  - {{id: no-location, require: {{redact: location}}, paths: "/**"}}
"""
PHOTO: Final = jpegs.with_segments(jpegs.plain(1, 64), jpegs.exif_segment(jpegs.exif()))
HONEST: Final = 20
assert leaks(PHOTO)


def name_of(word: bytes) -> str:
    return word.decode().replace(" ", "-") + ".jpg"


@pytest.fixture
def store(empty_store: Path) -> Path:
    (empty_store / "hostile").mkdir()
    (empty_store / "honest").mkdir()
    for word in BUGS:
        data = jpegs.with_segments(PHOTO, jpegs.segment(jpegs.COM, marked(word)))
        (empty_store / "hostile" / name_of(word)).write_bytes(data)
    for number in range(HONEST):
        (empty_store / "honest" / f"{number}.jpg").write_bytes(PHOTO)
    return empty_store


def read(path: Path) -> bytes | str:
    try:
        return path.read_bytes()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def read_at_once(paths: list[Path]) -> dict[str, bytes | str]:
    """Read each in a thread of its own: all of them are under way together."""
    found: dict[str, bytes | str] = {}

    def one(path: Path) -> None:
        found[path.name] = read(path)

    threads = [threading.Thread(target=one, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _read_others(channel: Connection, directory: Path) -> list[bytes | str]:
    channel.send("reading")
    return [read(directory / f"{number}.jpg") for number in range(HONEST)]


@pytest.mark.parametrize("apps", first(1, [(False,), (True,)]), ids=["shared", "app"])
def test_what_a_parser_stumbles_over_is_refused_and_nothing_else(without, store: Path, apps: bool) -> None:
    """Attack A6.1: Make the parser hang, crash or run wild
    Guard: policyfs/content/sniffer.py::Sniffer.locate
    Also: tests/unit/test_content_sniffer.py::test_a_hanging_worker_is_replaced_at_the_deadline,
    tests/unit/test_content_sniffer.py::test_workers_have_no_rights
    Without: ::test_it_is_read_where_a_failure_means_that_there_is_nothing
    """
    words = [word for word in BUGS if not apps or word != b"hang"]
    mount = without("broken-parser", POLICY, store, *(("--app", "gallery") if apps else ()))
    honest = start_as(GALLERY if apps else OTHER, _read_others, mount / "honest")
    honest.receive()
    hostile = call_as(GALLERY, read_at_once, [mount / "hostile" / name_of(word) for word in words])
    assert hostile == {name_of(word): "EACCES" for word in words}
    shown = honest.result()
    assert all(isinstance(one, bytes) and not leaks(one) for one in shown), shown
    assert {jpegs.pixels(one) for one in shown} == {jpegs.pixels(PHOTO)}
    assert read(mount.store / "hostile" / "crash.jpg") != "EACCES"
    assert mount.status()["bugs"] == 0
    refused = {event["path"] for event in mount.events(app="gallery", decision="deny", operation="open")}
    assert refused == {f"/hostile/{name_of(word)}" for word in words}


def test_it_is_read_where_a_failure_means_that_there_is_nothing(without, store: Path) -> None:
    mount = without("broken-parser,failure-is-clean", POLICY, store)
    assert leaks(call_as(GALLERY, read, mount / "hostile" / name_of(b"crash")))


def test_places_are_read_where_the_parser_is_lazy(without, empty_store: Path) -> None:
    files = corpus()
    fill(empty_store, files)
    mount = without("lazy-parser", FAMILY, empty_store)
    paths = [mount / "DCIM" / name for name in files]
    shown = call_as(GALLERY, lambda: {path.name: read(path) for path in paths})
    assert len([one for one in shown.values() if isinstance(one, bytes) and leaks(one)]) > len(files) // 2

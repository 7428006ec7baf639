"""The count of names that a kernel with a check at each directory could keep."""

from __future__ import annotations

from pathlib import Path

from tests.bench.one_node import Count, File, Gates, table
from tests.support.models.policies import engine_of

APPS = "apps:\n  camera: {uid: 1}\n  maps: {uid: 2}\n  frame: {uid: 3}\n"
RULES = """\
- {id: photos, allow: [see, read], who: {app: any}, paths: "/Photos/***"}
- {id: own, allow: [all], who: {app: any}, paths: "/Home/{app}/***"}
- {id: help, allow: [see], who: {app: maps}, paths: "/Home/camera/***"}
- id: places
  require: {redact: location}
  who: {app: frame}
  paths: "/Photos/Frame/**"
  unless: {owner: self}
"""


def counted(*paths: str, owner: str = "none") -> tuple[Count, Count]:
    return Gates(engine_of(RULES, apps=APPS)).count(File(path, owner) for path in paths)


def test_a_name_in_one_raw_view_counts_where_strangers_cannot_pass() -> None:
    files, directories = counted("/Photos/a.jpg", "/Photos/Trip/b.jpg")
    assert files == (2, 0, 2, 2, 2, 2)
    assert directories == (2, 0, 1, 1, 1, 1)  # /Photos itself: strangers may pass the root


def test_a_redacted_and_a_raw_reader_have_two_nodes_unless_nothing_is_hidden_now() -> None:
    files, _ = counted("/Photos/Frame/a.jpg")
    assert files == (1, 0, 0, 0, 0, 0)
    files, _ = counted("/Photos/Frame/a.jpg", owner="frame")
    assert files == (1, 0, 0, 0, 0, 0)  # read live, where others read raw


def test_gates_at_the_top_do_not_divide_what_is_below() -> None:
    files, directories = counted("/Home/frame/a", "/Home/camera/b")
    assert files == (2, 0, 0, 2, 2, 2)
    assert directories.all == 3
    assert directories.each == 0  # at /Home the three apps see different names


def test_what_hangs_on_an_owner_counts_by_the_facts_of_today_alone() -> None:
    engine = engine_of(
        "- {id: in, allow: [see], who: {app: any}, paths: /In}\n"
        "- {id: two, allow: [see], who: {app: [camera, maps]}, paths: '/In/**', when: {owner: camera}}\n"
        "- {id: one, allow: [see], who: {app: frame}, paths: '/In/**', when: {owner: [camera, maps]}}\n",
        apps=APPS,
    )
    gates = Gates(engine)
    assert gates.count([File("/In/a", "camera")])[0] == (1, 0, 0, 0, 1, 0)
    assert gates.count([File("/In/a", "maps")])[0] == (1, 0, 0, 0, 0, 0)


def test_a_file_that_nobody_reaches_is_left_out() -> None:
    assert counted("/Secret/a")[0] == Count()


def test_the_page_has_the_table() -> None:
    page = Path(__file__).resolve().parents[2] / "docs/architecture/kernel-caches.md"
    told = page.read_text().partition("<!-- one node -->\n")[2].partition("\n<!-- /one node -->")[0]
    assert told.splitlines() == list(table())

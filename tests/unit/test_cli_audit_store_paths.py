"""`policyfs audit` asked for paths of a store, of a mountpoint, and of a container."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import pytest

from policyfs.cli.audit import store_paths
from policyfs.cli.audit.query import add_query, opened
from policyfs.cli.audit.store_paths import StorePaths, quoted
from policyfs.domain import Audit
from policyfs.errors import UsageError
from policyfs.trail.query.expression import text_of
from tests.support.mount.audited import DIGEST, Cli, recorded
from tests.support.mount.trail import a_journal, an_event

SITE = """\
apiVersion: policyfs/v1
kind: Site
name: media
store: /srv/media
policy: /etc/policyfs/media.yaml
mounts:
- {app: gallery, container: gallery, targets: {/library: /DCIM, /data: /}}
- {app: tv, container: tv, targets: {/data: /films}}
- {app: old, container: old, path: /old/media}
"""


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    found = recorded(tmp_path, monkeypatch, capsys)
    site = tmp_path / "media.site.yaml"
    site.write_text(SITE)
    monkeypatch.setattr(store_paths, "known_sites", lambda: [str(site)])
    with a_journal(found.root) as journal:
        options = {"store": "/srv/media/", "mountpoint": "/m"}
        journal.tell("mount", {"policy": DIGEST, "options": options})
        journal.record(an_event(b"/DCIM/a.jpg", operation="unlink", mount="/m"), Audit.REQUIRED)
        journal.record(an_event(b"/DCIM/a.jpg", operation="unlink", mount="/other"), Audit.REQUIRED)
    return found


PATHS = ["/srv/media/DCIM/a.jpg", "/srv/media/**", "/m/DCIM/a.*", "/library/a.jpg", "/old/media/DCIM/a.jpg"]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_of_the_store_finds_what_its_mounts_did(cli: Cli, path: str) -> None:
    (found,) = cli.json("search", f"path:{path} op:unlink mount:/m,/other")
    assert found["mount"] == "/m"
    assert "in the mounts of /srv/media" in cli.err
    assert cli.json("search", f"not path:{path} op:unlink mount:/m", code=1) == []
    assert "/m is" not in cli.err


@pytest.mark.parametrize("path", ["/srv/media/DCIM/a.jpg", "/library/a.jpg", "/DCIM/a.jpg"])
def test_all_actions_with_a_path_know_it(cli: Cli, path: str) -> None:
    assert "unlink" in cli("timeline", path)
    assert "unlink" in cli("summary", f"path:{path}")
    assert "gallery" in cli("who-could", path)


def test_a_path_that_two_containers_have_for_different_directories_finds_both(cli: Cli) -> None:
    (found,) = cli.json("search", "path:/data/DCIM/a.jpg op:unlink mount:/m,/other")
    assert found["mount"] == "/m"
    assert cli.err.count(" in the mounts of /srv/media") == 2
    assert "unlink" in cli("timeline", "/data/DCIM/a.jpg")
    with pytest.raises(UsageError, match=r"may be '/DCIM/a.jpg' or '/films/DCIM/a.jpg' in the mounts"):
        cli("who-could", "/data/DCIM/a.jpg")


@pytest.mark.parametrize(
    "glob", ["/srv/**", "/srv/***", "/srv/m*/DCIM/a.jpg", "/srv/{media,x}/**", "/srv/**/a.jpg",
             "/srv/./media//DCIM/a.jpg", "/srv/**/media/DCIM/*", "/srv/media/x/../DCIM/a.jpg"]
)  # fmt: skip
def test_a_glob_above_a_store_finds_what_is_in_it(cli: Cli, glob: str) -> None:
    (found,) = cli.json("search", f"path:{glob} op:unlink mount:/m,/other")
    assert found["mount"] == "/m"


def test_a_glob_in_the_mounts_is_none_of_a_store(cli: Cli) -> None:
    for glob in ("/**", "/*/media/*", "/**/a.jpg"):
        cli("search", f"path:{glob} op:unlink", code=int(glob == "/*/media/*"))
        assert " in the mounts of /srv/media\n" not in cli.err


def test_a_store_in_another_one(cli: Cli) -> None:
    """What programs did in the mounts of the outer store is not left out."""
    with a_journal(cli.root) as journal:
        options = {"store": "/srv", "mountpoint": "/whole"}
        journal.tell("mount", {"policy": DIGEST, "options": options})
        event = an_event(b"/media/DCIM/a.jpg", operation="unlink", mount="/whole")
        journal.record(event, Audit.REQUIRED)
    found = cli.json("search", "path:/srv/media/DCIM/a.jpg op:unlink")
    assert sorted(one["mount"] for one in found) == ["/m", "/whole"]
    assert cli("timeline", "/srv/media/DCIM/a.jpg").count("unlink") >= 2


def test_the_paths_of_a_store_whose_start_is_not_kept(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount may be up for longer than the trail keeps events: then its daemon is asked."""
    monkeypatch.setattr(StorePaths, "_add_site", lambda *_: None)
    monkeypatch.setattr(store_paths, "MOUNTS", frozenset({"forgotten"}))
    assert cli.json("search", "path:/srv/media/DCIM/a.jpg op:unlink", code=1) == []
    (cli.root / "m.sock").touch()
    monkeypatch.setattr(store_paths.control, "runtime_dir", lambda: cli.root)
    status = {"store": "/srv/media", "mountpoint": "/m"}
    monkeypatch.setattr(store_paths.control, "ask", lambda *_: status)
    assert cli.json("search", "path:/srv/media/DCIM/a.jpg op:unlink")


def test_nothing_found_tells_what_is_on_record(cli: Cli) -> None:
    searches = (
        ["search", "path:/srv/media/none"],
        ["summary", "path:/none"],
        ["timeline", "/none"],
        ["export", "path:/none"],
        ["report", "path:/none", "--html", str(cli.root.parent / "report.html")],
    )
    for words in searches:
        cli(*words, code=1)
        assert "on record is what programs did in the mounts of /srv/media; not what they changed" in cli.err


def test_names_with_the_characters_of_globs(cli: Cli) -> None:
    with a_journal(cli.root) as journal:
        options = {"store": "/srv/my [new] {media}", "mountpoint": "/n"}
        journal.tell("mount", {"policy": DIGEST, "options": options})
    parser = argparse.ArgumentParser()
    add_query(parser)
    parser.set_defaults(trail=str(cli.root))
    _, wanted = opened(parser.parse_args([r'path:"/srv/my \[new\] \{media\}/*.jpg"']))
    assert text_of(wanted.tree).endswith('path:/*.jpg mount:"/n"')
    with a_journal(cli.root) as journal:
        journal.record(an_event(b"/a [1].jpg", operation="unlink", mount="/n"), Audit.REQUIRED)
    assert "unlink" in cli("timeline", "/srv/my [new] {media}/a [1].jpg")
    assert "gallery" in cli("who-could", "/srv/my [new] {media}/a [1].jpg")


def test_names_that_are_no_text(cli: Cli) -> None:
    name = b"/DCIM/\xff\x1b[31m.jpg"
    with a_journal(cli.root) as journal:
        journal.record(an_event(name, operation="unlink", mount="/m"), Audit.REQUIRED)
    asked = os.fsdecode(b"/srv/media" + name)
    assert "unlink" in cli("timeline", asked)
    assert "\\xff\\x1b[31m.jpg" in cli.err
    assert "\x1b" not in cli.err
    assert cli.json("search", "--path", quoted(asked), "op:unlink")


def test_a_store_without_a_trail_or_a_site_is_not_known(cli: Cli) -> None:
    from policyfs.cli.audit.query import open_trail

    paths = StorePaths(open_trail(argparse.Namespace(trail=str(cli.root))))
    assert paths.find("/srv/media2/x") == set()
    assert paths.find("/srv/media") == {("/srv/media", "/")}

"""`policyfs audit` asked for paths of a store, of a mountpoint, and of a container."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from policyfs.cli.audit import store_paths
from policyfs.cli.audit.query import add_query, opened
from policyfs.cli.audit.store_paths import StorePaths
from policyfs.domain import Audit
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


def test_a_path_that_two_containers_have_for_different_directories_stays(cli: Cli) -> None:
    assert cli.json("search", "path:/data/DCIM/a.jpg", code=1) == []
    assert "in the mounts of /srv/media;" in cli.err
    assert "past its mounts" in cli.err


def test_nothing_found_tells_what_is_on_record(cli: Cli) -> None:
    for words in (["search", "path:/srv/media/none"], ["summary", "path:/none"], ["timeline", "/none"]):
        cli(*words, code=1)
        assert "on record is what programs did in the mounts of /srv/media; not what they changed" in cli.err


def test_names_with_the_characters_of_globs(cli: Cli) -> None:
    with a_journal(cli.root) as journal:
        options = {"store": "/srv/my [new] {media}", "mountpoint": "/n"}
        journal.tell("mount", {"policy": DIGEST, "options": options})
    parser = argparse.ArgumentParser()
    add_query(parser)
    parser.set_defaults(trail=str(cli.root))
    _, wanted = opened(parser.parse_args(["--path", r"/srv/my \[new\] \{media\}/*.jpg"]))
    assert text_of(wanted.tree).endswith('path:/*.jpg mount:"/n"')


def test_a_store_without_a_trail_or_a_site_is_not_known(cli: Cli) -> None:
    from policyfs.cli.audit.query import open_trail

    paths = StorePaths(open_trail(argparse.Namespace(trail=str(cli.root))))
    assert paths.find("/srv/media2/x") is None
    assert paths.find("/srv/media") == ("/srv/media", "/")

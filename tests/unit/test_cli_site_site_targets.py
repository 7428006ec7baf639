"""The places of a site's targets: made with placeholders, removed with the target, and told if unbound."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.cli.common.target_places import TARGETS, WHOLE
from policyfs.cli.site.site_document import Site, site_of
from policyfs.cli.site.site_targets import bind_targets, make_places, remove_places, unbound
from policyfs.linux.mountinfo import mounts_at
from tests.support.machine.namespace import detach

pytestmark = pytest.mark.mount


@pytest.fixture
def above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path))
    yield (place := tmp_path / "mounts/home/tv")
    for path in place.rglob(f"{TARGETS}/*"):
        for _ in mounts_at(str(path)):
            detach(str(path))


def a_site(targets: str) -> Site:
    text = (
        "apiVersion: policyfs/v1\nkind: Site\nname: home\nstore: /srv/media\npolicy: /etc/home.yaml\n"
        f"mounts:\n  - {{app: tv, container: tv, targets: {{{targets}}}}}\n"
    )
    return site_of("/etc/home.site.yaml", text.encode())


def test_a_place_answers_with_errors_until_it_is_bound(above: Path) -> None:
    (above / WHOLE).mkdir(parents=True)
    site = a_site("/films: /Films, /a/b: /")
    (mount,) = site.mounts
    make_places(mount, str(above))
    make_places(mount, str(above))
    places = [site.target_place(mount, target) for target in mount.targets]
    assert sorted(places) == sorted(str(path) for path in (above / TARGETS).iterdir())
    for place in places:
        with pytest.raises(OSError) as found:
            os.listdir(place)
        assert (found.value.errno, len(mounts_at(place))) == (errno.ENOTCONN, 1)
    films, whole = unbound(site, mount)
    assert films.startswith("nothing is at /films: the mount has no directory /Films (a symlink is none)")
    assert whole.endswith("run `policyfs up /etc/home.site.yaml`")
    assert bind_targets(site, mount) == [films, whole], "no mount is up"

    (fewer,) = a_site("/a/b: /").mounts
    make_places(fewer, str(above))
    assert [path.name for path in (above / TARGETS).iterdir()] == ["a%2Fb"]
    remove_places(fewer)
    remove_places(fewer)
    assert os.listdir(above) == [WHOLE]


def test_a_mount_without_targets_needs_nothing(above: Path) -> None:
    text = a_site("/a: /A")._replace(mounts=())
    (mount,) = a_site("/a: /A").mounts
    assert bind_targets(text, mount.model_copy(update={"targets": {}})) == []

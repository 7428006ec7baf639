"""Users of a library, from compose files as their users write them: which access and which paths they get."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from policyfs.cli.policy.init.wishes import Level
from policyfs.cli.setup.library_users import User, likely_library, of_compose, of_unit, site_text
from policyfs.cli.site.compose_document import read_compose
from policyfs.cli.site.site_document import site_of

TOPS = ["Films", "Music", "Photos"]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "srv/media"
    for name in ("Films", "Music", "Photos/upload", "Photos/thumbs"):
        (place / name).mkdir(parents=True)
    return place


def users(store: Path, **volumes: list[str]) -> list[User | str]:
    """The users of a compose file with these services, where S stands for the store."""
    services = {
        name: {"volumes": [re.sub(r"\AS\b", str(store), one) for one in its]} for name, its in volumes.items()
    }
    file = store.parent.parent / "app/compose.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps({"services": services}))
    compose = read_compose(str(file))
    assert likely_library(compose) in {"", str(store)} or len(services) == 1 or "a" in services
    return list(of_compose(compose, str(store), TOPS))


@pytest.mark.parametrize(
    ("volumes", "path", "directories", "moved"),
    [
        (["S:/data/media"], "/data/media", {}, {}),
        (["S:/media"], "/media/library", {"Films": "/Films", "Music": "/Music", "Photos": "/Photos"}, {}),
        (
            ["S/Films:/data/films", "S/Music:/data/music"], "/data/library",
            {"films": "/Films", "music": "/Music"}, {},
        ),
        (["S:/mnt/all", "S/Films:/mnt/films"], "/mnt/all", {"films": "/Films"}, {}),
        (
            ["S/Photos:/usr/src/app/upload"], "/usr/src/app/upload/library",
            {"thumbs": "/Photos/thumbs", "upload": "/Photos/upload"}, {},
        ),
        (["S/Films:/data/library"], "/data/whole-library", {"library": "/Films"}, {}),
        (
            ["S/Films:/movies", "S/Music:/tv"], "/movies/library", {"Films": "/Films", "Music": "/Music"},
            {"/movies": "/movies/Films", "/tv": "/tv/Music"},
        ),
        (["S/Films:/movies"], "/movies/library", {"Films": "/Films"}, {"/movies": "/movies/Films"}),
    ],
)  # fmt: skip
def test_a_container_finds_its_files_where_they_were_or_is_told(
    store: Path, volumes: list[str], path: str, directories: dict[str, str], moved: dict[str, str]
) -> None:
    (user,) = users(store, app=["./config:/config", *volumes])
    assert isinstance(user, User)
    assert (user.path, user.directories, user.moved) == (path, directories, moved)
    assert user.kept == ["./config:/config"]
    site = site_of("/x/media.site.yaml", site_text("media", "/srv/media", "/x/media.yaml", [user]).encode())
    assert [mount.path for mount in site.mounts] == [path]


def test_the_access_that_is_proposed(store: Path) -> None:
    player, gallery = ["S/Films:/media:ro"], ["S/Photos:/data"]
    found = users(store, Jellyfin=player, immich=gallery, syncthing=["S:/data1"], db=["./db:/x"])
    wishes = [user.wish() for user in found if isinstance(user, User)]
    assert [(wish.name, wish.shares, wish.trusted) for wish in wishes] == [
        ("jellyfin", {"Films": Level.READ}, False), ("immich", {"Photos": Level.ADD}, False),
        ("syncthing", dict.fromkeys(TOPS, Level.EDIT), True),
    ]  # fmt: skip
    assert of_unit("mpd.service", "/srv/media", TOPS).path == "/srv/media"


def test_a_service_with_more_or_less_than_directories_of_the_library_is_told(store: Path) -> None:
    (store / "one.conf").touch()
    more, file, none = users(store, a=[f"{store.parent}:/srv"], b=["S/one.conf:/x"], c=["S/Books:/books"])
    assert f"a has {store.parent}, and so more than the library" in str(more)
    assert "b has no directory of the library" in str(file)
    assert "c has no directory of the library" in str(none)

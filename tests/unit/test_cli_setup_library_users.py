"""Users of a library, from compose files as their users write them: each gets what it had, where it was."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from policyfs.cli.setup import library_users
from policyfs.cli.setup.library_users import (
    User,
    likely_library,
    of_compose,
    of_others,
    of_unit,
    plain_name,
    site_text,
)
from policyfs.cli.setup.unit_rights import Bind, UnitRights
from policyfs.cli.site.compose_document import read_compose
from policyfs.cli.site.site_document import Target, site_of


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = tmp_path / "srv/my media"
    for name in ("Films", "Music", "Bücher, alt", "Photos/upload", "Photos/anna"):
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
    return list(of_compose(compose, str(store)))


@pytest.mark.parametrize(
    ("volumes", "targets", "shares"),
    [
        (["S:/data/media"], {"/data/media": "/"}, {"/": True}),
        (["S/Films:/movies", "S/Music:/tv:ro"], {"/movies": "/Films", "/tv": "ro /Music"},
         {"/Films": True, "/Music": False}),
        (["S:/mnt/all:ro", "S/Films:/mnt/films"], {"/mnt/all": "ro /", "/mnt/films": "/Films"},
         {"/": False, "/Films": True}),
        (["S/Photos/anna:/p:ro", "S/Photos/anna:/q"], {"/p": "ro /Photos/anna", "/q": "/Photos/anna"},
         {"/Photos/anna": True}),
        (["S/Bücher, alt:/ä ö"], {"/ä ö": "/Bücher, alt"}, {"/Bücher, alt": True}),
    ],
)  # fmt: skip
def test_a_container_has_the_same_directories_at_the_same_paths(
    store: Path, volumes: list[str], targets: dict[str, str], shares: dict[str, bool]
) -> None:
    (user,) = users(store, app=["./config:/config", *volumes])
    assert isinstance(user, User)
    wanted = {
        at: Target(path=one.removeprefix("ro "), read_only=one.startswith("ro "))
        for at, one in targets.items()
    }
    assert user.targets == wanted
    assert dict(user.access().shares) == shares
    site = site_of("/x/media.site.yaml", site_text("media", str(store), "/x/media.yaml", [user]).encode())
    assert [mount.targets for mount in site.mounts] == [wanted]
    assert [mount.options.posix for mount in site.mounts] == [True]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Müsik, alt", "muesik-alt"), ("Musik & Größe", "musik-groesse"), ("Été à la mer", "ete-a-la-mer"),
        ("Mu\u0308ller", "mueller"), ("_my_photos--2024.", "my_photos-2024"), ("写真", ""),
    ],
)  # fmt: skip
def test_names_are_spelt_in_plain_letters(name: str, plain: str) -> None:
    assert plain_name(name) == plain


def test_absent_directories_and_other_libraries_of_the_same_services_are_told(store: Path) -> None:
    disk = store.parent.parent / "disk2/films"
    disk.mkdir(parents=True)
    (alone := store.parent.parent / "opt/a").mkdir(parents=True)
    volumes = ["./config:/config", "S/Films:/films", f"{disk}:/films2"]
    file, found = (
        store.parent.parent / "app/compose.yaml",
        users(store, a=[*volumes, f"{alone}:/a"], b=volumes),
    )
    absent = [f"{store.parent}/fims:/more", "./none:/none", "S/none:/n"]
    found += users(store, a=[*volumes, f"{alone}:/a"], b=volumes, c=absent)
    told = list(
        of_others(read_compose(str(file)), str(store), [one for one in found if isinstance(one, User)])
    )
    assert told == [
        f"a, b: {disk} is no part of this library: `policyfs init` it, too",
        f"c: {store.parent}/fims is not there: a typing error, or a disk that is absent?",
    ]
    with_disk = [f"{alone}:/a", "S:/s"]
    users(store, a=with_disk)
    assert list(of_others(read_compose(str(file)), str(store), [User("a", container="a")])) == []


def test_a_service_with_more_than_the_library_or_what_is_absent_is_told(store: Path) -> None:
    (store / "one.conf").touch()
    more, none, file = users(store, a=[f"{store.parent}:/srv"], c=["S/Books:/books"], b=["S/one.conf:/x"])
    assert f"a has {store.parent}, and so more than the library" in str(more)
    assert f"c has the volume {store}/Books, which is no directory: give it one" in str(none)
    assert f"b has the volume {store}/one.conf, which is no directory" in str(file)


def test_a_unit_has_the_library_at_its_own_path_and_where_it_binds_it(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binds = (Bind("/music", f"{store}/Music", True), Bind("/etc/x", "/etc", False))
    found = UnitRights({"/": False, "/Music": True}, False, binds)
    monkeypatch.setattr(library_users, "rights_of", lambda *_: found)
    user = of_unit("mpd.service", str(store))
    assert user.bound == ["/music"]
    assert user.targets == {
        str(store): Target(path="/", read_only=False), "/music": Target(path="/Music", read_only=True),
    }  # fmt: skip
    assert user.shares == {"/": False, "/Music": True}
    site = site_of("/x/m.site.yaml", site_text("m", str(store), "/x/m.yaml", [user]).encode())
    assert site.mounts[0].service == ("mpd.service",)

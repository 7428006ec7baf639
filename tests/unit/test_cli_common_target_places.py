"""The places of targets: beside a mountpoint with their name, and one for each path."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policyfs.cli.common.target_places import (
    VARIABLE,
    WHOLE,
    Bind,
    binds_of_unit,
    place_in,
    place_name,
    places_beside,
    variable_of,
)  # fmt: skip


def test_only_a_mount_with_its_name_has_places(tmp_path: Path) -> None:
    for name in (WHOLE, "media", "targets/a", "targets/b"):
        (tmp_path / name).mkdir(parents=True)
    assert places_beside(str(tmp_path / "media")) == []
    assert places_beside(str(tmp_path / WHOLE)) == [str(tmp_path / "targets/a"), str(tmp_path / "targets/b")]


def test_a_unit_names_its_binds(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ("/", "/Films", "/a b/=,%:ro", "/Größe")
    binds = [Bind(place_name(path), path, ro) for path in paths for ro in (True, False)]
    text = variable_of(binds)
    assert re.fullmatch(r"[\w.~%=,-]+", text, re.ASCII)
    monkeypatch.setenv(VARIABLE, text)
    assert binds_of_unit() == binds
    monkeypatch.delenv(VARIABLE)
    assert binds_of_unit() == []


def test_each_path_has_a_place_of_its_own() -> None:
    assert place_in("/run/x", "/movies") == "/run/x/targets/movies"
    assert len({place_in("/run/x", path) for path in ("/a/b", "/a%2Fb", "/a", "/b")}) == 4

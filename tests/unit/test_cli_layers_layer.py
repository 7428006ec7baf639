"""Layers on disk: their names, their lock and their end."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from policyfs.cli.layers import layer as layers
from policyfs.cli.layers.layer import Layer
from policyfs.errors import PolicyfsError, UsageError


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("POLICYFS_LAYERS_DIR", str(tmp_path / "layers"))
    monkeypatch.setattr(layers, "_WAIT_S", 0.05)
    return tmp_path / "layers"


def made(name: str | None = None) -> Layer:
    layer = Layer.made(name, "app")
    layer.make_directories(7, 8)
    layer.note(options={"app": "app"})
    return layer


def test_a_layer_has_the_first_free_name_and_is_found_again(root: Path) -> None:
    for _ in range(2):
        made().close()
    assert layers.names() == ["app-0", "app-1"]
    with pytest.raises(UsageError, match="name one of the layers app-0, app-1"):
        layers.named(None)
    found = layers.named("app-1")
    assert found.about == {"options": {"app": "app"}}
    status = (found.place / "top").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (7, 8, 0o700)
    assert stat.S_IMODE(found.place.stat().st_mode) == 0o700
    found.drop()
    found.close()
    layers.named(None).close()


def test_two_commands_do_not_use_one_layer(root: Path) -> None:
    layer = made("x")
    with pytest.raises(PolicyfsError, match="another command uses the layer x"):
        layers.named("x")
    layer.close()
    layers.named("x").close()


@pytest.mark.parametrize("name", ["../x", ".x", "a/b", "", "a" * 101])
def test_a_name_is_no_path(root: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name for a layer"):
        Layer.made(name, "app")


def test_an_unknown_or_damaged_layer_is_told(root: Path) -> None:
    with pytest.raises(UsageError, match="there is no layer"):
        layers.named(None)
    with pytest.raises(PolicyfsError, match="there is no layer none"):
        layers.named("none")
    layer = made("x")
    layer.close()
    (root / "x/about.json").write_text("{")
    with pytest.raises(PolicyfsError, match="cannot be read"):
        layers.named("x")


def test_only_an_empty_layer_ends_by_itself(root: Path) -> None:
    layer = made("x")
    upper = layer.place / "top/upper"
    (upper / "d").mkdir()
    (upper / "d").chmod(0)
    os.mknod(upper / "d/gone", stat.S_IFCHR, os.makedev(0, 0))
    assert layer.drop_if_empty()
    (upper / "d/gone").unlink()
    (upper / "d").rmdir()
    assert not layer.drop_if_empty()
    assert layers.names() == []
    layer.close()


def test_states_are_those_of_what_is_in_the_layer(root: Path) -> None:
    layer = made("x")
    (layer.place / "states").write_text('["here", null, 1]\n["away", null, 1]\n0\n')
    (layer.place / "top/upper/here").touch()
    assert list(layer.states()) == [b"here"]
    layer.drop()
    layer.close()

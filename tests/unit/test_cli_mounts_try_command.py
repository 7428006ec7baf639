"""`policyfs try` without a mount."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policyfs.cli import main
from policyfs.cli.layers.layer import Layer
from policyfs.cli.layers.replay import Outcome
from policyfs.cli.mounts import try_command
from policyfs.errors import EXIT_OK, EXIT_REFUSED, EXIT_USAGE


@pytest.fixture
def store(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("POLICYFS_LAYERS_DIR", str(tmp_path / "layers"))
    layer = Layer.made("l", "app")
    layer.make_directories(7, 7)
    layer.note(options={"app": "app", "store": str(tmp_path / "store"), "policy": "p"}, begun_ns=1)
    layer.close()
    return tmp_path / "store"


def test_layers_are_listed(store: Path, capsys) -> None:
    assert main.main(["try", "list"]) == EXIT_OK
    assert capsys.readouterr().out == f"l  {store} as app\n"
    (store.parent / "layers/l/journal").write_text('["x"]')
    assert main.main(["try", "list", "--json"]) == EXIT_OK
    told = {"name": "l", "app": "app", "store": str(store), "policy": "p", "interrupted": True}
    assert json.loads(capsys.readouterr().out) == told


def test_a_layer_whose_store_is_gone_stays(store: Path, capsys) -> None:
    assert main.main(["try", "diff"]) == EXIT_REFUSED
    assert f"the store {store} of the layer l is not there" in capsys.readouterr().err
    assert main.main(["try", "commit"]) == EXIT_REFUSED
    assert f"the store {store} of the layer l is not there" in capsys.readouterr().err
    assert main.main(["try", "drop", "l"]) == EXIT_OK
    assert main.main(["try", "drop"]) == EXIT_USAGE


def test_globs_choose_paths() -> None:
    assert try_command._chosen([])(b"any")
    wanted = try_command._chosen(["src/*", "a?"])
    assert all(wanted(path) for path in (b"src/x", b"src/d/x", b"ab"))
    assert not any(wanted(path) for path in (b"b", b"src"))


def test_an_outcome_is_told_to_people_and_programs(capsys) -> None:
    for as_json in (False, True):
        try_command._tell(Outcome(b"a\x1b", ""), as_json=as_json)
        try_command._tell(Outcome(b"b", "no"), as_json=as_json)
    said = capsys.readouterr()
    assert said.err == "policyfs: b stays in the layer: no\n"
    lines = said.out.splitlines()
    assert "\x1b" not in lines[0]
    assert list(map(json.loads, lines[1:])) == [
        {"path": "a\x1b", "committed": True}, {"path": "b", "committed": False, "why": "no"},
    ]  # fmt: skip

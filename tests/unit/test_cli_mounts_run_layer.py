"""`policyfs run --try` around its command: the layer that is made, kept and told."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from policyfs.cli.layers import layer as layers
from policyfs.cli.mounts import run_layer


@pytest.mark.parametrize("changes", [True, False])
def test_only_a_layer_with_changes_is_kept(tmp_path: Path, monkeypatch, capsys, changes: bool) -> None:
    monkeypatch.setenv("POLICYFS_LAYERS_DIR", str(tmp_path / "layers"))

    def runs(args: argparse.Namespace, _user: object, _work: object) -> int:
        assert Path(args.policy).read_text() == "text"
        layer = Path(args.policy).parent
        (layer / "top/upper").mkdir(parents=True)
        (layer / "about.json").write_text("{}")
        if changes:
            (layer / "top/upper/file").touch()
        return 7

    monkeypatch.setattr(run_layer, "in_view", runs)
    assert run_layer.run_on_layer(argparse.Namespace(keep=None, app="a"), ["true"], None, "text") == 7
    assert layers.names() == (["a-0"] if changes else [])
    assert ("`policyfs try diff a-0` shows it" in capsys.readouterr().err) == changes

"""A file that was written without a check gets by no move to where its content is checked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import pytest

from tests.support.machine.processes import call_as, code_of
from tests.support.mount.stores import Mounts
from tests.support.samples import jpegs

MOVER, WRITER = 10010, 10011
HEAD: Final = f"""\
apiVersion: policyfs/v1
kind: Policy
apps:
  mover: {{uid: {MOVER}}}
  writer: {{uid: {WRITER}}}
rules:
  - {{id: mover, allow: [all], who: {{app: mover}}, paths: ["/In/**", "/Share/**"]}}
"""
WRITES: Final = '  - {id: writer, allow: [all], who: {app: writer}, paths: ["/In/**", "/Share/**"]}\n'
WRITES_IN: Final = '  - {id: writer, allow: [all], who: {app: writer}, paths: "/In/**"}\n'


@pytest.mark.parametrize("require", ["no: [location]", "clean: [location]"])
@pytest.mark.parametrize(
    ("writes", "at_in", "at_share"),
    [
        pytest.param(WRITES, ", who: {app: mover}", "", id="only the mover is asked at the old path"),
        pytest.param(WRITES, ", unless: {owner: self}", "", id="the writer's own files are spared"),
        pytest.param(WRITES_IN, ", who: {app: mover}", "", id="the writer has no rights at the new path"),
        pytest.param(WRITES_IN, ", who: {app: mover}", ", who: {app: mover}", id="one rule for the mover"),
    ],
)
def test_the_movers_rules_prove_nothing_about_the_writer(
    mounts: Mounts, empty_store: Path, writes: str, at_in: str, at_share: str, require: str
) -> None:
    for name in ("In", "Share"):
        (empty_store / name).mkdir()
        (empty_store / name).chmod(0o777)
    share = mounts.start(
        f"{HEAD}{writes}"
        f'  - {{id: in, require: {{{require}}}, paths: "/In/**"{at_in}}}\n'
        f'  - {{id: share, require: {{{require}}}, paths: "/Share/**"{at_share}}}\n',
        empty_store,
    )
    placed, plain = share / "In/a.jpg", share / "In/b.jpg"
    for path, photo in ((placed, jpegs.photo_with(jpegs.exif())), (plain, jpegs.plain())):
        assert call_as(WRITER, code_of, path.write_bytes, photo) == ""
    refusal = "EPERM" if require.startswith("no") else "EXDEV"
    assert call_as(MOVER, code_of, os.rename, placed, share / "Share/a.jpg") == refusal
    assert call_as(MOVER, code_of, os.link, placed, share / "Share/c.jpg") in ("EPERM", "EXDEV")
    assert call_as(MOVER, code_of, os.rename, plain, share / "Share/b.jpg") == ""
    assert os.listdir(empty_store / "Share") == ["b.jpg"]

"""What the kernel keeps of one path, and why not for longer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from policyfs.errors import PolicyfsError
from policyfs.fs.kernel_cache.attributes import COLD_S, LONG_S, UNWATCHED_S, Timeouts
from policyfs.fs.kernel_cache.kept import Kept, find, kept, names_in
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts

RULES = """\
- {id: a, allow: [all]}
- {id: d, deny: [see], who: {app: maps}, paths: "/hidden/**"}
"""


def told(
    store: Path, path: str, *, rules: str = RULES, alone: bool = False, watched: bool = True,
    age_s: float = 1e6, **more: Any,
) -> Kept:  # fmt: skip
    """What is said of a path in a mount with these properties."""
    engine = engine_of(rules)
    timeouts = Timeouts(alone=alone, **more)
    timeouts.use(engine)
    timeouts.watched = timeouts.forgets_absent = watched
    with parts(store, engine) as made:
        names = names_in(path)
        stat = find(made.tree, names)
        if stat is not None:
            then = time.time_ns() - int(age_s * 1e9)
            stat = stat._replace(mtime_ns=then, ctime_ns=then)
        return kept(names, stat, gate=made.gate, timeouts=timeouts, nodes=made.nodes)


@on_trio
async def test_each_timeout_has_its_reason(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    for name in ("file", "hidden/file"):
        (tmp_path / name).touch()
    old = told(tmp_path, "/file")
    assert (old.type, old.name_s, old.listing) == ("regular", LONG_S, None)
    assert old.attributes_s is not None
    assert 0.75 * COLD_S <= old.attributes_s <= COLD_S
    assert "the longer its attributes are kept, up to a minute" in old.why[1]
    hidden = told(tmp_path, "/hidden/file")
    assert (hidden.name_s, hidden.attributes_s) == (0, 0)
    assert "(rules: d)" in hidden.why[0]
    alone = told(tmp_path, "/hidden/file", alone=True).why[0]
    assert alone == "keeps every answer: only one app uses this mount"
    new = told(tmp_path, "/file", age_s=5)
    assert new.attributes_s == pytest.approx(5, abs=2)
    unwatched = told(tmp_path, "/file", watched=False)
    assert unwatched.name_s == unwatched.attributes_s == UNWATCHED_S
    assert "no watch" in unwatched.why[1]
    guarded = told(tmp_path, "/file", alone=True, guarded=True)
    assert guarded.name_s == 0
    assert "admits only some callers" in guarded.why[0]
    assert "--posix" in told(tmp_path, "/hidden/file", posix=True).why[0]


@on_trio
async def test_where_every_uid_is_admitted_rules_about_uids_keep_the_kernel_from_keeping(tmp_path) -> None:
    (tmp_path / "file").touch()
    alike = told(tmp_path, "/file", alone=True, any_uid="maps")
    assert alike.name_s == LONG_S
    rules = RULES + '- {id: u, deny: [see], who: {uid: 10011}, paths: "/other"}\n'
    apart = told(tmp_path, "/file", rules=rules, alone=True, any_uid="maps")
    assert (apart.name_s, apart.attributes_s) == (0, 0)
    assert "rules distinguish uids" in apart.why[0]
    assert told(tmp_path, "/", rules=rules, alone=True, any_uid="maps").listing is False


@on_trio
async def test_directories_and_absent_names(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    assert told(tmp_path, "/").listing is False
    directory = told(tmp_path, "/hidden")
    assert (directory.name_s, directory.attributes_s, directory.listing) == (LONG_S, UNWATCHED_S, False)
    assert "not opened this directory yet" in directory.why[1]
    absent = told(tmp_path, "/nothing/here")
    assert (absent.type, absent.name_s, absent.attributes_s) == ("absent", LONG_S, None)


@pytest.mark.parametrize("path", ["DCIM", "/a/../b", "/./a"])
def test_a_path_is_one_within_the_mount(path: str) -> None:
    with pytest.raises(PolicyfsError, match="within the mount"):
        names_in(path)


@on_trio
async def test_a_name_too_long_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(PolicyfsError, match="too long"):
        told(tmp_path, "/" + "x" * 300)


@pytest.mark.parametrize("alone", [True, False])
def test_a_name_that_a_kind_may_hide_is_kept_by_an_app_mount_alone(tmp_path: Path, alone: bool) -> None:
    by_kind = '- {id: photos, allow: [see], paths: "/**", when: {type: image/jpeg}}\n'

    @on_trio
    async def run() -> None:
        assert told(tmp_path, "/none", alone=alone).name_s == LONG_S
        # What one app's worker finds decides for that app alone.
        assert told(tmp_path, "/none", alone=alone, rules=by_kind).name_s == (UNWATCHED_S if alone else 0)

    run()

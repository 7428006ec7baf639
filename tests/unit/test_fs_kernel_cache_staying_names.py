"""Which names stay over a reload: an answer of the old policy about them would do no harm."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.fs.kernel_cache.staying_names import StayingNames
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import on_trio, parts
from tests.support.mount.steps import CAMERA

ALL = "- {id: all, allow: [all], paths: '/***'}\n"
DENIED = "- {{id: hide, deny: [see], who: {{app: {}}}, paths: '/***', errno: ENOENT}}\n"


@pytest.mark.parametrize(
    ("rules", "directory", "file"),
    [
        (ALL, True, True),
        (ALL + "- {id: some, deny: [write], who: {app: gallery}, paths: '/***'}\n", True, True),
        (ALL + "- {id: hide, deny: [see], paths: '/***', errno: ENOENT}\n", False, False),
        (ALL + DENIED.format("gallery"), False, False),
        (ALL + "- {id: places, require: {redact: location}, paths: '/***'}\n", True, False),
        (
            ALL + "- {id: owned, deny: [see], when: {owner: camera}, paths: '/***'}\n",
            False,
            False,
        ),
        (ALL + "- {id: own, deny: [write], paths: '/{uid}/***'}\n", False, False),
        ("- {id: deep, allow: [all], paths: '/d/x/**'}\n", True, False),
    ],
    ids=["the same", "written less", "hidden", "for some", "redacted", "by owner", "by uid", "on the way"],
)
@on_trio
async def test_names_stay_that_all_callers_see_as_before(
    store: Path, rules: str, *, directory: bool, file: bool
) -> None:
    (store / "d").mkdir()
    with parts(store, engine_of(ALL)) as made:
        d, photo = await made.walk("/d", CAMERA), await made.walk("/a.jpg", CAMERA)
        made.reload(engine_of(rules))
        stays = StayingNames(made.whole.timeouts, made.gate).stays
        assert (stays(d), stays(photo)) == (directory, file)
        assert stays(d), "nothing was kept of it since"


@on_trio
async def test_a_file_with_several_names_does_not_stay(store: Path) -> None:
    os.link(store / "a.jpg", store / "b.jpg")
    with parts(store, engine_of(ALL)) as made:
        photo = await made.walk("/a.jpg", CAMERA)
        assert await made.walk("/b.jpg", CAMERA) is photo
        assert not StayingNames(made.whole.timeouts, made.gate).stays(photo)


@on_trio
async def test_what_the_kernel_could_not_keep_stays(store: Path) -> None:
    with parts(store, engine_of(ALL + DENIED.format("gallery"))) as made:
        photo = await made.walk("/a.jpg", CAMERA)
        made.reload(engine_of(ALL + DENIED.format("any")))
        assert StayingNames(made.whole.timeouts, made.gate).stays(photo)


@on_trio
async def test_in_an_app_mount_the_app_alone_counts(store: Path) -> None:
    with parts(store, engine_of(ALL), app="camera") as made:
        photo = await made.walk("/a.jpg", CAMERA)
        for hidden_from, stays in (("gallery", True), ("camera", False)):
            photo.kept = True
            made.reload(engine_of(ALL + DENIED.format(hidden_from)))
            assert StayingNames(made.whole.timeouts, made.gate).stays(photo) is stays

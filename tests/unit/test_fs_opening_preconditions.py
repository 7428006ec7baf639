"""What must hold before an app gets a handle: the right node, no running program, an emptied file, a
proven kind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from policyfs.domain import OWNER_NONE
from policyfs.fs.access.audit import Call
from policyfs.fs.inodes.node import Node, StaleNodeError
from policyfs.fs.opening.preconditions import Preconditions
from policyfs.fs.opening.request import OpenContext, OpenRequest
from policyfs.kernel.bridge import pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, REDACTED, errno_of

BY_KIND = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: texts, deny: [read], who: {app: any}, paths: "/**", when: {type: text/plain}}
"""
RUNNING = 0x20
"""The kernel's flag of an open by execve(2)."""


def of(made: Parts) -> Preconditions:
    return made.opener._preconditions


def opening(made: Parts, node: Node, flags: int, uid: int = CAMERA, owner: str = OWNER_NONE) -> OpenContext:
    context = OpenContext(OpenRequest.of(node, made.caller(uid), flags))
    context.stat = made.tree.stat(made.tree.root_fd, node.name)
    context.owner = owner
    return context


@on_trio
async def test_a_node_is_for_apps_with_its_view_only(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        hidden, whole = await made.walk("/a.jpg", CAMERA), await made.walk("/a.jpg", MAPS)
        of(made).check_view(opening(made, hidden, os.O_RDONLY))
        of(made).check_view(opening(made, whole, os.O_RDONLY, MAPS))
        for node, uid in ((hidden, MAPS), (whole, CAMERA)):
            with pytest.raises(StaleNodeError):
                of(made).check_view(opening(made, node, os.O_RDONLY, uid))
        hidden.whose = "gallery"
        with pytest.raises(StaleNodeError):
            of(made).check_view(opening(made, hidden, os.O_RDONLY))


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (os.O_RDONLY | os.O_TRUNC, errno.ETXTBSY),
        (os.O_RDONLY, 0),
        (os.O_WRONLY | os.O_TRUNC, 0),  # the kernel refuses it by itself
    ],
)
def test_a_running_program_is_not_emptied(store: Path, flags: int, code: int) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(OPEN)) as made:
            handle = await made.open("/a.jpg", os.O_RDONLY, CAMERA)
            of(made).check_running(handle.node, os.O_RDONLY | os.O_TRUNC)
            handle.flags |= RUNNING
            try:
                of(made).check_running(handle.node, flags)
            except OSError as error:
                assert error.errno == code  # noqa: PT017
            else:
                assert code == 0

    run()


@pytest.mark.parametrize(
    ("owner", "flags", "uid", "refused", "emptied"),
    [
        (OWNER_NONE, os.O_WRONLY, CAMERA, True, False),
        (OWNER_NONE, os.O_RDWR, CAMERA, True, False),
        (OWNER_NONE, os.O_WRONLY | os.O_TRUNC, CAMERA, False, True),
        (OWNER_NONE, os.O_RDONLY, CAMERA, False, False),
        ("camera", os.O_RDWR, CAMERA, False, False),
        ("camera", os.O_RDWR, GALLERY, True, False),
        (OWNER_NONE, os.O_RDWR, MAPS, False, False),
    ],
)
def test_under_redaction_another_owners_file_is_written_only_by_emptying_it(
    store: Path, owner: str, flags: int, uid: int, refused: bool, emptied: bool
) -> None:
    @on_trio
    async def run() -> None:
        with parts(store, engine_of(REDACTED)) as made:
            context = opening(made, await made.walk("/a.jpg", uid), flags, uid, owner)
            with (store / "a.jpg").open("rb") as file:
                context.fd = file.fileno()
                if refused:
                    with pytest.raises(pyfuse3.FUSEError) as caught:
                        of(made).check_emptying(context)
                    assert caught.value.errno == errno.EACCES
                    assert "can open the file for writing only with O_TRUNC" in made.sink.events[-1].note
                else:
                    of(made).check_emptying(context)
            assert context.emptied is emptied

    run()


@on_trio
async def test_an_empty_file_has_nothing_to_lose(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        context = opening(made, await made.walk("/empty", CAMERA), os.O_WRONLY)
        of(made).check_emptying(context)
        assert context.emptied


@on_trio
async def test_a_reader_whose_kind_is_not_proven_looks_the_name_up_again(store: Path) -> None:
    with parts(store, engine_of(BY_KIND)) as made:
        node, call = await made.walk("/a.jpg", CAMERA), Call("open", "open(O_RDONLY)")
        with pytest.raises(StaleNodeError):
            of(made).unproven(node, made.caller(CAMERA), call, writing=False)
        before = len(made.sink.events)
        with pytest.raises(pyfuse3.FUSEError) as caught:
            of(made).unproven(node, made.caller(CAMERA), call, writing=True)
        assert caught.value.errno == errno.EACCES, "leases mean nothing here: it will not be proven later"
        assert [event.errno for event in made.sink.events[before:]] == [errno.EACCES]
        await made.remover.remove(made.root, b"a.jpg", made.caller(CAMERA), directory=False)
        with pytest.raises(pyfuse3.FUSEError):
            of(made).unproven(node, made.caller(CAMERA), call, writing=False)


@on_trio
async def test_only_an_open_that_depends_on_the_kind_needs_a_proof(store: Path) -> None:
    with parts(store, engine_of(BY_KIND)) as made:
        copied = await made.walk("/a.jpg", CAMERA)
        node = (await made.open("/a.jpg", os.O_WRONLY, CAMERA)).node
        assert copied is not node
        shown = opening(made, copied, os.O_RDWR)
        shown.evidence.asked = True
        of(made).demand_proof(shown)  # its kind is found in the copy
        for flags, asked, code in (
            (os.O_RDWR, True, errno.EACCES),
            (os.O_WRONLY, True, 0),
            (os.O_RDWR, False, 0),
        ):
            context = opening(made, node, flags)
            context.evidence.asked = asked

            async def demanded(context: OpenContext = context) -> None:
                of(made).demand_proof(context)

            assert await errno_of(demanded()) == code
            assert not context.by_kind


@on_trio
async def test_where_no_rule_asks_for_the_kind_nothing_is_demanded(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        context = opening(made, await made.walk("/a.jpg", CAMERA), os.O_RDWR)
        context.evidence.asked = True
        of(made).demand_proof(context)
        assert not context.by_kind
        handle = await made.open("/a.jpg", os.O_RDWR, CAMERA)
        assert os.pread(handle.fd, 1 << 20, 0) == PHOTO

"""Extended attributes: those of user.*, where the app may read, and none under redaction."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from policyfs.domain import NO_FACTS, Need
from policyfs.fs.access.audit import Call
from policyfs.fs.namespace.xattr import AttributeBans, ExtendedAttributes, _is_user
from policyfs.kernel.bridge import pyfuse3
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, PHOTO, REDACTED, TYPES, between, errno_of

RULES = """\
- {id: own, allow: [all], who: {app: camera}, paths: "/**"}
- {id: look, allow: [see], who: {app: gallery}, paths: "/**"}
- {id: read, allow: [see, read], who: {app: maps}, paths: "/**"}
"""
NO_PLACES = OPEN + '- {id: no, require: {no: [location]}, paths: "/**"}\n'


@pytest.fixture(autouse=True)
def named(store: Path) -> None:
    os.setxattr(store / "a.jpg", "user.note", b"a quince")
    os.setxattr(store / "a.jpg", "user.policyfs.x", b"ours")
    os.setxattr(store / "a.jpg", "trusted.other", b"root's")


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"user.note", True), (b"user.policyfs.owner", False), (b"trusted.x", False), (b"security.x", False),
     (b"user.", True), (b"USER.note", False), (b"system.posix_acl_access", False)],
)  # fmt: skip
def test_only_attributes_of_users_are_shown(name: bytes, shown: bool) -> None:
    assert _is_user(name) is shown


@on_trio
async def test_attributes_are_read_set_and_removed(store: Path) -> None:
    with parts(store, engine_of(RULES)) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
        xattrs: ExtendedAttributes = made.xattrs
        assert await xattrs.listxattr(node, caller) == [b"user.note"]
        assert await xattrs.getxattr(node, b"user.note", caller) == b"a quince"
        await xattrs.setxattr(node, b"user.more", b"value", caller)
        assert os.getxattr(store / "a.jpg", "user.more") == b"value"
        await xattrs.removexattr(node, b"user.more", caller)
        assert "user.more" not in os.listxattr(store / "a.jpg")
        for name in (b"user.absent", b"user.policyfs.x", b"trusted.other", b"security.capability"):
            assert await errno_of(xattrs.getxattr(node, name, caller)) == errno.ENODATA
        for name in (b"system.posix_acl_access", b"system.other", b"security.selinux"):
            assert await errno_of(xattrs.getxattr(node, name, caller)) == errno.EOPNOTSUPP


@on_trio
async def test_other_namespaces_cannot_be_changed(store: Path) -> None:
    with parts(store, engine_of(RULES)) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
        for name, code in (
            (b"trusted.other", errno.EPERM),
            (b"security.capability", errno.EPERM),
            (b"user.policyfs.x", errno.EPERM),
            (b"system.posix_acl_access", errno.EOPNOTSUPP),
        ):
            assert await errno_of(made.xattrs.setxattr(node, name, b"x", caller)) == code
            assert await errno_of(made.xattrs.removexattr(node, name, caller)) == code
        assert os.getxattr(store / "a.jpg", "trusted.other") == b"root's"
        assert os.getxattr(store / "a.jpg", "user.policyfs.x") == b"ours"


@on_trio
async def test_who_may_not_read_sees_none_and_who_may_not_change_changes_none(store: Path) -> None:
    with parts(store, engine_of(RULES)) as made:
        node = await made.walk("/a.jpg", GALLERY)
        for uid, names in ((GALLERY, []), (MAPS, [b"user.note"])):
            caller = made.caller(uid)
            assert await made.xattrs.listxattr(node, caller) == names
            found = await errno_of(made.xattrs.getxattr(node, b"user.note", caller))
            assert found == (0 if names else errno.ENODATA)
            assert await errno_of(made.xattrs.setxattr(node, b"user.x", b"", caller)) == errno.EACCES
            assert await errno_of(made.xattrs.removexattr(node, b"user.note", caller)) == errno.EACCES
        assert os.getxattr(store / "a.jpg", "user.note") == b"a quince"


@on_trio
async def test_under_redaction_there_are_none(store: Path) -> None:
    """Not even the answer to a change tells whether one is there."""
    with parts(store, engine_of(REDACTED)) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
        assert await made.xattrs.listxattr(node, caller) == []
        for name in (b"user.note", b"user.absent"):
            assert await errno_of(made.xattrs.getxattr(node, name, caller)) == errno.ENODATA
            assert await errno_of(made.xattrs.setxattr(node, name, b"", caller)) == errno.EOPNOTSUPP
            assert await errno_of(made.xattrs.removexattr(node, name, caller)) == errno.ENODATA
        assert os.getxattr(store / "a.jpg", "user.note") == b"a quince"
        exempt = made.caller(MAPS)
        assert await made.xattrs.listxattr(await made.walk("/a.jpg", MAPS), exempt) == [b"user.note"]


PHOTOS_READ = """\
- {id: see, allow: [see, attr], who: {app: any}, paths: "/**"}
- {id: read, allow: [read], who: {app: any}, paths: "/**", when: {type: image/jpeg}}
- {id: hide, require: {redact: location}, who: {app: gallery}, unless: {owner: self}}
"""


@on_trio
async def test_under_redaction_there_are_none_where_the_kind_decides_who_reads(store: Path) -> None:
    with parts(store, engine_of(PHOTOS_READ)) as made:
        node, caller = await made.walk("/a.jpg", GALLERY), made.caller(GALLERY)
        assert await made.xattrs.listxattr(node, caller) == []
        assert await errno_of(made.xattrs.getxattr(node, b"user.note", caller)) == errno.ENODATA
        assert await errno_of(made.xattrs.setxattr(node, b"user.note", b"", caller)) == errno.EOPNOTSUPP
        assert await errno_of(made.xattrs.removexattr(node, b"user.note", caller)) == errno.ENODATA
        assert os.getxattr(store / "a.jpg", "user.note") == b"a quince"
        (store / "own.jpg").write_bytes(PHOTO)
        os.setxattr(store / "own.jpg", "user.note", b"a quince")
        with (store / "own.jpg").open() as file:
            made.owners.set(file.fileno(), made.tree.fstat(file.fileno()), "gallery")
        assert await made.xattrs.listxattr(await made.walk("/own.jpg", GALLERY), caller) == [b"user.note"]


@pytest.mark.parametrize("more", [", when: {type: image/*}", ", raw_types: [text/plain]"])
@pytest.mark.parametrize("content", [b"", b"words"])
def test_who_empties_a_redacted_file_does_not_see_those_that_it_had(
    store: Path, more: str, content: bytes
) -> None:
    """The file is of another kind then, for which the rule hides nothing."""

    @on_trio
    async def run() -> None:
        hide = f"- {{id: hide, require: {{redact: location}}, who: {{app: gallery}}{more}}}\n"
        with parts(store, engine_of(OPEN + hide)) as made:
            caller = made.caller(GALLERY)
            handle = await made.open("/a.jpg", os.O_WRONLY | os.O_TRUNC, GALLERY)
            await made.write(handle, 0, content)
            for node in (handle.node, await made.walk("/a.jpg", GALLERY)):
                assert await made.xattrs.listxattr(node, caller) == []
                assert await errno_of(made.xattrs.getxattr(node, b"user.note", caller)) == errno.ENODATA
                assert await errno_of(made.xattrs.removexattr(node, b"user.note", caller)) == errno.ENODATA
            await made.release(handle)
            new = await made.walk("/a.jpg", GALLERY)
            assert await errno_of(made.xattrs.setxattr(new, b"user.new", b"", caller)) == (
                0 if content or "when" in more else errno.EOPNOTSUPP
            )

    run()


@on_trio
async def test_an_absent_one_is_answered_at_once_only_to_who_sees_the_file(store: Path) -> None:
    with parts(store, engine_of(RULES)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        with pytest.raises(OSError, match="no such xattr") as caught:
            made.xattrs.absent_now(node, b"security.capability", made.caller(GALLERY))
        assert caught.value.errno == errno.ENODATA
        made.xattrs.absent_now(node, b"security.capability", made.caller(4242))
        made.xattrs.absent_now(node, b"user.note", made.caller(GALLERY))


@on_trio
async def test_a_mount_without_them_says_so_to_every_request(store: Path) -> None:
    with parts(store, engine_of(RULES)) as made:
        made.xattrs._enabled = False
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
        for request in (
            made.xattrs.getxattr(node, b"user.note", caller),
            made.xattrs.listxattr(node, caller),
            made.xattrs.setxattr(node, b"user.x", b"", caller),
            made.xattrs.removexattr(node, b"user.note", caller),
        ):
            assert await errno_of(request) == errno.ENOSYS


@on_trio
async def test_none_is_set_where_a_rule_forbids_what_it_could_hold(store: Path) -> None:
    with parts(store, engine_of(NO_PLACES)) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
        assert await errno_of(made.xattrs.setxattr(node, b"user.x", b"", caller)) == errno.EOPNOTSUPP
        assert "user.x" not in os.listxattr(store / "a.jpg")
        denied = made.sink.events[-1]
        assert denied.decision == "deny"
        assert "location" in denied.note
        await made.xattrs.removexattr(node, b"user.note", caller)
    with parts(store, engine_of(OPEN + TYPES)) as made:
        node = await made.walk("/a.jpg", CAMERA)
        await made.xattrs.setxattr(node, b"user.x", b"", made.caller(CAMERA))


@on_trio
async def test_what_cannot_be_recorded_is_not_changed(store: Path) -> None:
    with parts(store, engine_of(OPEN.replace("}\n", ", audit: required}\n"))) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
        made.sink.broken = True
        assert await errno_of(made.xattrs.setxattr(node, b"user.x", b"", caller)) == errno.EIO
        assert await errno_of(made.xattrs.removexattr(node, b"user.note", caller)) == errno.EIO
        assert os.getxattr(store / "a.jpg", "user.note") == b"a quince"
        assert "user.x" not in os.listxattr(store / "a.jpg")


# ---------------------------------------------------------------- what comes before the change

FROZEN = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: frozen, deny: [attr], paths: "/frozen.jpg"}
"""
NOT_NOW = """\
- {id: look, allow: [see, read], who: {app: any}, paths: "/**"}
"""
BY_KIND = """\
- {id: all, allow: [all], who: {app: any}, paths: "/**"}
- {id: no-text, deny: [read], paths: "/**", when: {type: text/plain}}
"""


async def _while_the_file_changes(made: Parts, path: Path, request, meanwhile) -> int:
    """Start a request while a thread changes the file, do something else, let the thread end: its errno."""
    begun, go_on = threading.Event(), threading.Event()
    fd = os.open(path, os.O_RDONLY)
    found: list[int] = []

    def change() -> None:
        begun.set()
        assert go_on.wait(10)

    async def run() -> None:
        found.append(await errno_of(request))

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.change_lock.in_thread, fd, lambda: None, change)
            await trio.to_thread.run_sync(begun.wait, 10)
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not found, "it waits for the other change"
            await meanwhile()
            go_on.set()
    finally:
        go_on.set()
        os.close(fd)
    return found[0]


@on_trio
async def test_none_is_set_where_the_file_moved_before_the_change(store: Path) -> None:
    """The app may set attributes at the old path, and not at the new one.

    Attack B10.7: Set an attribute of a file while the file moves to a path where the app may change
    nothing, or while a reload forbids the change
    Guard: policyfs/fs/namespace/xattr.py::ExtendedAttributes._decided
    Also: ::test_none_is_set_where_a_reload_forbids_it_before_the_change,
    ::test_none_is_removed_where_a_reload_forbids_it_while_the_kind_is_found
    """
    with parts(store, engine_of(FROZEN)) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)

        async def move() -> None:
            await made.renamer.rename(made.root, b"a.jpg", made.root, b"frozen.jpg", 0, made.caller(GALLERY))

        request = made.xattrs.setxattr(node, b"user.x", b"", caller)
        code = await _while_the_file_changes(made, store / "a.jpg", request, move)
        assert "user.x" not in os.listxattr(store / "frozen.jpg")
        assert code == errno.EACCES
        assert made.sink.events[-1].rules == ("frozen",)


@on_trio
async def test_none_is_set_where_a_reload_forbids_it_before_the_change(store: Path) -> None:
    with parts(store, engine_of(OPEN)) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)

        async def reload() -> None:
            made.reload(engine_of(NOT_NOW))

        request = made.xattrs.setxattr(node, b"user.x", b"", caller)
        assert await _while_the_file_changes(made, store / "a.jpg", request, reload) == errno.ESTALE
        assert "user.x" not in os.listxattr(store / "a.jpg")
        assert await errno_of(made.xattrs.setxattr(node, b"user.x", b"", caller)) == errno.EACCES


@on_trio
async def test_none_is_removed_where_a_reload_forbids_it_while_the_kind_is_found(store: Path) -> None:
    with parts(store, engine_of(BY_KIND)) as made:
        node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)

        async def reload() -> None:
            made.reload(engine_of(NOT_NOW))

        code = await between(made, made.xattrs.removexattr(node, b"user.note", caller), reload)
        assert os.getxattr(store / "a.jpg", "user.note") == b"a quince"
        assert code == errno.ESTALE


CALL = Call("xattr", "setxattr")
IN = OPEN + '- {id: no, require: {no: [location, time]}, paths: "/in/**"}\n'
CLEAN = OPEN + '- {id: clean, require: {clean: [location]}, paths: "/in/**", who: {app: camera}}\n'


async def banned(made: Parts, path: str, uid: int = CAMERA) -> int:
    bans, node, caller = AttributeBans(made.gate), await made.walk(path, uid), made.caller(uid)
    need = bans.need(node, caller)
    facts = await made.gate.facts_of(node, need, caller.principal) if need else NO_FACTS
    try:
        bans.check(node, caller, CALL, facts)
    except pyfuse3.FUSEError as refused:
        return refused.errno
    return 0


@pytest.fixture
def inside(store: Path) -> Path:
    (store / "in").mkdir()
    (store / "in/b.jpg").write_bytes(b"words")
    return store


@on_trio
async def _asked(store: Path, rules: str, wanted: dict[tuple[str, int], int]) -> None:
    with parts(store, engine_of(rules)) as made:
        found = {(path, uid): await banned(made, path, uid) for path, uid in wanted}
        assert found == wanted


def test_where_a_rule_forbids_words_none_may_be_set(inside: Path) -> None:
    refused = errno.EOPNOTSUPP
    _asked(inside, IN, {("/a.jpg", CAMERA): 0, ("/in/b.jpg", CAMERA): refused, ("/in/b.jpg", MAPS): refused})
    _asked(inside, CLEAN, {("/in/b.jpg", CAMERA): refused, ("/in/b.jpg", MAPS): 0})


def test_a_rule_about_some_kinds_holds_for_files_that_may_become_such(inside: Path) -> None:
    (inside / "in/empty").write_bytes(b"")
    photos = IN.replace('"/in/**"', '"/in/**", when: {type: image/*}')
    refused = errno.EOPNOTSUPP
    _asked(inside, photos, {("/in/b.jpg", CAMERA): refused, ("/in/empty", CAMERA): refused})


def test_one_of_a_files_names_is_enough(inside: Path) -> None:
    os.link(inside / "a.jpg", inside / "in/a.jpg")

    @on_trio
    async def run() -> None:
        with parts(inside, engine_of(IN)) as made:
            node = await made.walk("/a.jpg", CAMERA)
            bans, caller = AttributeBans(made.gate), made.caller(CAMERA)
            assert bans.need(node, caller) is Need.NOTHING
            bans.check(node, caller, CALL, NO_FACTS)
            await made.linker.link(node, made.root, b"c.jpg", caller)
            assert await banned(made, "/in/a.jpg") == errno.EOPNOTSUPP

    run()


def test_the_refusal_is_on_record_and_names_the_words(inside: Path) -> None:
    @on_trio
    async def run() -> None:
        with parts(inside, engine_of(IN)) as made:
            await banned(made, "/in/b.jpg")
            event = made.sink.events[-1]
            assert (event.decision, event.errno, event.path) == ("deny", errno.EOPNOTSUPP, b"/in/b.jpg")
            assert "could contain location, time," in event.note
            made.sink.broken = True
            assert await banned(made, "/in/b.jpg") == errno.EIO

    run()


def test_where_no_rule_forbids_anything_no_fact_is_needed(inside: Path) -> None:
    @on_trio
    async def run() -> None:
        with parts(inside, engine_of(IN)) as made:
            node, caller = await made.walk("/a.jpg", CAMERA), made.caller(CAMERA)
            assert AttributeBans(made.gate).need(node, caller) is Need.NOTHING
            node = await made.walk("/in/b.jpg", CAMERA)
            assert AttributeBans(made.gate).need(node, caller) is Need.OWNER

    run()

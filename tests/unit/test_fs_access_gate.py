"""The one door: hidden directories above, and what is on record."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import GALLERY, MAPS, errno_of

# ---------------------------------------------------------------- directories that hide by their owner

BY_OWNER = """\
- {id: all, allow: [see, read, create, delete], who: {app: any}, paths: "/**"}
- {id: hide, deny: [see], who: {app: gallery}, paths: "/*/priv", when: {owner: camera}}
"""


def owned_by_camera(made: Parts, path: Path) -> None:
    fd = os.open(path, os.O_PATH)
    made.owners.set(fd, made.tree.fstat(fd), "camera")
    os.close(fd)
    made.owners_above.changed_all()  # as the watch says


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "d/priv").mkdir(parents=True)
    (tmp_path / "d/priv/f").write_bytes(b"x")
    (tmp_path / "d/mine").write_bytes(b"y")
    return tmp_path


@on_trio
async def test_below_what_hides_by_its_owner_everything_is_enoent(store: Path) -> None:
    """Also what would be refused anyway (writing), and both ends of a move."""
    with parts(store, engine_of(BY_OWNER)) as made:
        node = await made.walk("/d/priv/f", MAPS)
        parent, above = node.parent, await made.walk("/d", MAPS)
        mine = await made.walk("/d/mine", GALLERY)
        owned_by_camera(made, store / "d/priv")
        caller = made.caller(GALLERY)
        requests = {
            "open": made.opener.open(node, os.O_RDONLY, caller),
            "write": made.opener.open(node, os.O_WRONLY, caller),
            "lookup": made.lookup.lookup(parent, b"f", caller),
            "create": made.creator.create(parent, b"new", 0o644, os.O_RDWR, caller),
            "unlink": made.remover.remove(parent, b"f", caller, directory=False),
            "rename out": made.renamer.rename(parent, b"f", above, b"f", 0, caller),
            "rename in": made.renamer.rename(above, b"mine", parent, b"mine", 0, caller),
            "rename onto": made.renamer.rename(above, b"mine", parent, b"f", 0, caller),
            "link in": made.linker.link(mine, parent, b"new", caller),
            "link out": made.linker.link(node, above, b"new", caller),
            "xattr": made.xattrs.setxattr(node, b"user.a", b"", caller),
        }
        found = {name: await errno_of(request) for name, request in requests.items()}
        assert found == dict.fromkeys(requests, errno.ENOENT)
    assert (store / "d/mine").exists()
    assert os.listdir(store / "d/priv") == ["f"]


@on_trio
async def test_each_name_is_hidden_by_what_is_above_it(store: Path) -> None:
    """Of two names the first is below nothing hidden; the other's directory hides by its owner."""
    (store / "d/also").mkdir()
    os.link(store / "d/priv/f", store / "d/also/g")
    text = BY_OWNER.replace("/*/priv", "/d/*")
    with parts(store, engine_of(text)) as made:
        first = await made.walk("/d/also/g", MAPS)
        second = await made.walk("/d/priv/f", MAPS)
        made.nodes.add_name(first, second.parent, b"f")
        owned_by_camera(made, store / "d/priv")
        assert await errno_of(made.opener.open(first, os.O_RDONLY, made.caller(GALLERY))) == errno.ENOENT


# ---------------------------------------------------------------- on record


@on_trio
async def test_every_refusal_by_node_number_is_on_record(store: Path) -> None:
    """A hidden directory that another app uses is found by LOOKUP: what then says ENOENT is the refusal."""
    (store / "d/link").symlink_to("mine")
    text = BY_OWNER + '- {id: deny, deny: [read], who: {app: gallery}, paths: "/d/mine"}\n'
    text += '- {id: deny-link, deny: [see], who: {app: gallery}, paths: "/d/link"}\n'
    with parts(store, engine_of(text)) as made:
        priv, mine = await made.walk("/d/priv", MAPS), await made.walk("/d/mine", MAPS)
        link = await made.walk("/d/link", MAPS)
        owned_by_camera(made, store / "d/priv")
        caller = made.caller(GALLERY)
        for request, code in (
            (made.lookup.getattr(priv, caller), errno.ENOENT),
            (made.lookup.access(priv, os.X_OK, caller), errno.ENOENT),
            (made.lookup.readlink(link, caller), errno.ENOENT),
        ):
            made.sink.events.clear()
            assert await errno_of(request) == code
            assert [(event.decision, event.errno) for event in made.sink.events] == [("deny", code)]
        made.sink.events.clear()
        assert await errno_of(made.lookup.access(mine, os.R_OK, caller)) == errno.EACCES
        assert [(event.decision, event.errno) for event in made.sink.events] == [("deny", errno.EACCES)]
        made.sink.broken = True
        assert await errno_of(made.lookup.access(mine, os.R_OK, caller)) == errno.EIO

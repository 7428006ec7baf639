"""Which node a caller gets of a file: by what is hidden from it, who writes, and which version is open."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.domain import View
from policyfs.fs.access.views import Views, version_of
from policyfs.fs.inodes.node import BytePath, Node
from policyfs.fs.inodes.open_state import OpenState
from policyfs.linux.statx import Stat
from policyfs.store.frozen import Version
from tests.support.models.policies import engine_of
from tests.support.mount.file_system import Parts, on_trio, parts
from tests.support.mount.steps import CAMERA, GALLERY, MAPS, OPEN, REDACTED, TYPES

BY_KIND = """\
- {id: all, allow: [see, write, create], who: {app: any}, paths: "/**"}
- {id: photos, allow: [read], who: {app: any}, paths: "/**", when: {type: "image/*"}}
"""
NONE = "none"


class Chosen:
    """The views of a file system, where copies are made as *copyable* says and leases prove as *proves*."""

    def __init__(self, made: Parts, path: str = "/a.jpg") -> None:
        self.made = made
        self.copyable, self.proves = True, False
        self.views = Views(made.nodes, lambda *asked: self.copyable, proves_raw=lambda: self.proves)
        self.name = path.strip("/").encode()
        fd = os.open(made.store / path.strip("/"), os.O_PATH)
        self.stat: Stat = made.tree.fstat(fd)
        os.close(fd)
        self.key = made.nodes.key_of(self.stat)
        self.state = made.gate.engine.state_of(path.encode())
        self.looked: list[str] = []

    def view(self, uid: int) -> View:
        return self.made.gate.engine.view(self.made.caller(uid).principal, self.state)

    def path(self, uid: int, *, writing: bool = False, owner: str = NONE) -> BytePath:
        def asked() -> str:
            self.looked.append(owner)
            return owner

        return self.views.byte_path(
            self.made.gate.engine, self.made.caller(uid), self.view(uid), self.state, self.stat, asked,
            writing=writing,
        )  # fmt: skip

    def node(self, uid: int, byte_path: BytePath, stat: Stat | None = None, owner: str = NONE) -> Node:
        caller, view, engine = self.made.caller(uid), self.view(uid), self.made.gate.engine
        whose = self.views.whose(engine, caller, view, byte_path, self.state, lambda: owner)
        return self.views.node(
            stat or self.stat, view, byte_path, self.state, self.made.root, self.name, caller, whose
        )  # fmt: skip


def opened(node: Node, version: Version | None, *, handles: int = 1, writers: int = 0) -> Node:
    node.open = OpenState(handles=handles, writers=writers, version=version)
    return node


def closed(*nodes: Node) -> None:
    for node in nodes:
        node.open = None


@on_trio
async def test_raw_is_raw_and_what_is_hidden_is_read_from_a_copy_or_under_a_lease(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        chosen = Chosen(made)
        assert chosen.path(MAPS) is BytePath.RAW
        assert chosen.looked == [], "nobody asks for the owner where it does not matter"
        assert chosen.path(GALLERY) is BytePath.COPY
        chosen.copyable = False
        assert chosen.path(GALLERY) is BytePath.LEASED
        assert chosen.path(GALLERY, writing=True) is BytePath.LIVE
        assert chosen.path(CAMERA, owner="camera") is BytePath.LIVE, "its own"
        assert chosen.path(CAMERA, owner="gallery") is BytePath.LEASED


@on_trio
async def test_who_may_not_read_is_shown_nothing_live(store: Path) -> None:
    """The view has words to hide, the decision none, since it is a denial."""
    denied = REDACTED + '- {id: no, deny: [read], who: {app: gallery}, when: {owner: none}, paths: "/**"}\n'
    with parts(store, engine_of(denied)) as made:
        assert Chosen(made).path(GALLERY) is BytePath.COPY


@on_trio
async def test_a_checked_view_is_live_for_all(store: Path) -> None:
    with parts(store, engine_of(OPEN + TYPES)) as made:
        chosen = Chosen(made)
        assert chosen.path(GALLERY) is BytePath.LIVE
        assert chosen.node(GALLERY, BytePath.LIVE).whose is None
    cleaned = OPEN + '- {id: clean, require: {clean: location}, paths: "/**"}\n'
    with parts(store, engine_of(cleaned)) as made:
        assert Chosen(made).node(GALLERY, BytePath.LIVE).whose == "gallery", "only it may read what will go"


@on_trio
async def test_a_view_that_refuses_has_one_node_for_all_that_may_write_the_file(store: Path) -> None:
    look = '- {id: look, allow: [see, read, create], who: {app: any}, paths: "/**"}\n'
    own = look + '- {id: own, allow: [write], who: {app: any}, when: {owner: self}, paths: "/**"}\n'
    kinds = look + '- {id: own, allow: [write], who: {app: gallery}, when: {type: "text/*"}, paths: "/**"}\n'
    cases = [
        (look, NONE, "gallery"),
        (own, "gallery", None),
        (own, "camera", "gallery"),
        (own, NONE, "gallery"),
        (kinds, NONE, None),
    ]
    for policy, owner, whose in cases:
        with parts(store, engine_of(policy + TYPES)) as made:
            chosen = Chosen(made)
            node = chosen.node(GALLERY, BytePath.LIVE, owner=owner)
            assert node.whose == whose, (policy, owner)
            again = chosen.node(CAMERA, BytePath.LIVE, owner=owner)
            assert (again is node) is (again.whose == whose)


@on_trio
async def test_a_reader_that_only_the_kind_lets_in_reads_apart_unless_it_is_proven(store: Path) -> None:
    with parts(store, engine_of(BY_KIND)) as made:
        chosen = Chosen(made)
        assert chosen.path(MAPS) is BytePath.COPY
        chosen.proves = True
        assert chosen.path(MAPS) is BytePath.RAW
        chosen.views.unproven(chosen.key + 1, made.caller(MAPS))
        assert chosen.path(MAPS) is BytePath.RAW, "it was refused for another file"
        chosen.views.unproven(chosen.key, made.caller(MAPS))
        assert chosen.path(MAPS) is BytePath.COPY, "its lease was refused"
        assert chosen.path(MAPS, writing=True) is BytePath.RAW
        chosen.views.proven(chosen.key, made.caller(MAPS))
        assert chosen.path(MAPS) is BytePath.RAW


@on_trio
async def test_a_writer_that_is_sent_back_finds_its_node(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        chosen = Chosen(made)
        view = chosen.view(GALLERY)
        chosen.views.expect_writer(chosen.key, view)
        assert chosen.path(GALLERY) is BytePath.LIVE
        chosen.views.writer_came(chosen.key, view)
        assert chosen.path(GALLERY) is BytePath.COPY
        chosen.views.expect_writing(chosen.key, made.caller(GALLERY))
        assert chosen.path(GALLERY) is BytePath.LIVE
        chosen.views.expect_writing(chosen.key + 1, made.caller(GALLERY))
        node, caller = chosen.node(GALLERY, BytePath.COPY), made.caller(GALLERY)
        chosen.views.expect_nothing(node, caller)
        assert chosen.path(GALLERY) is BytePath.COPY, "another file's writer does not count"
        chosen.views.resized(view, caller)
        assert (chosen.path(GALLERY), chosen.path(MAPS)) == (BytePath.LEASED, BytePath.RAW)
        chosen.views.expect_nothing(node, caller)
        assert chosen.path(GALLERY) is BytePath.COPY


@on_trio
async def test_while_an_app_writes_it_reads_what_it_writes_and_no_other_app_does(store: Path) -> None:
    everyone = REDACTED.replace("{app: any}", "{not: {app: maps}}")
    with parts(store, engine_of(everyone)) as made:
        chosen = Chosen(made)
        stranger = opened(chosen.node(4242, BytePath.LIVE), None, writers=1)
        assert chosen.view(4243) is chosen.view(4242)
        assert chosen.path(4242) is BytePath.LIVE
        assert chosen.path(4243) is BytePath.COPY
        closed(stranger)
        live = opened(chosen.node(GALLERY, BytePath.LIVE), None, writers=1)
        assert live.whose == "gallery"
        assert chosen.path(GALLERY) is BytePath.LIVE
        assert chosen.path(CAMERA) is BytePath.COPY, "the kernel keeps the pages of the other's node"
        assert live.open is not None
        live.open.writers = 0
        assert chosen.path(GALLERY) is BytePath.COPY
        closed(live)


@on_trio
@pytest.mark.parametrize("byte_path", [BytePath.LIVE, BytePath.COPY, BytePath.LEASED])
async def test_under_redaction_each_app_and_each_stranger_has_nodes_of_its_own(
    store: Path, byte_path: BytePath
) -> None:
    everyone = REDACTED.replace("{app: any}", "{not: {app: maps}}")
    with parts(store, engine_of(everyone)) as made:
        chosen = Chosen(made)
        nodes = [chosen.node(uid, byte_path) for uid in (GALLERY, CAMERA, 4242, 4243)]
        assert len(set(nodes)) == 4
        assert [node.whose for node in nodes] == ["gallery", "camera", 4242, 4243]
        assert [chosen.node(uid, byte_path) for uid in (GALLERY, CAMERA, 4242, 4243)] == nodes
        assert chosen.node(4242, BytePath.RAW).whose is None


@on_trio
@pytest.mark.parametrize("byte_path", [BytePath.LIVE, BytePath.COPY, BytePath.LEASED])
async def test_so_has_each_uid_of_an_app_if_rules_tell_its_uids_apart(
    store: Path, byte_path: BytePath
) -> None:
    apart = REDACTED + f'- {{id: no, deny: [read], who: {{uid: {GALLERY}}}, paths: "/**"}}\n'
    for policy, whose in ((REDACTED, "gallery"), (apart, ("gallery", GALLERY))):
        with parts(store, engine_of(policy)) as made:
            chosen = Chosen(made)
            assert chosen.node(GALLERY, byte_path).whose == whose
            assert chosen.node(CAMERA, byte_path).whose == (
                "camera" if policy is REDACTED else ("camera", CAMERA)
            )


@on_trio
async def test_an_open_version_keeps_its_node_and_a_newer_one_gets_another(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        chosen = Chosen(made)
        first = opened(chosen.node(GALLERY, BytePath.COPY), version_of(chosen.stat))
        assert chosen.node(GALLERY, BytePath.COPY) is first
        newer = chosen.stat._replace(ctime_ns=chosen.stat.ctime_ns + 1)
        second = chosen.node(GALLERY, BytePath.COPY, newer)
        assert second is not first
        opened(second, version_of(newer))
        assert chosen.node(GALLERY, BytePath.COPY, newer) is second
        assert chosen.node(GALLERY, BytePath.COPY) is first
        opened(first, version_of(chosen.stat), handles=0)
        assert Views.serves(first, version_of(newer)), "nobody holds its version any more"
        assert not Views.serves(second, version_of(chosen.stat))
        closed(first, second)


@on_trio
async def test_another_file_under_the_same_number_has_another_node(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        chosen = Chosen(made)
        first = chosen.node(GALLERY, BytePath.COPY)
        assert chosen.node(GALLERY, BytePath.COPY, chosen.stat._replace(btime_ns=1)) is not first
        assert chosen.node(GALLERY, BytePath.LIVE) is not first


@on_trio
async def test_the_node_of_a_second_try_is_for_that_thread_until_it_is_open(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        chosen = Chosen(made)
        shared = chosen.node(GALLERY, BytePath.COPY)
        chosen.views.outdated(chosen.view(GALLERY), made.caller(GALLERY))
        own = chosen.node(GALLERY, BytePath.COPY)
        assert own is not shared
        assert chosen.node(GALLERY, BytePath.COPY) is own, "the kernel looks up twice"
        chosen.views._kept.pop(own.nodeid)
        assert chosen.node(GALLERY, BytePath.COPY) in (own, shared), "and then it was the last try"
        chosen.views._kept.put(own.nodeid, -1)  # as if another thread had been sent back
        assert chosen.node(GALLERY, BytePath.COPY) is shared
        opened(own, version_of(chosen.stat))
        assert chosen.node(GALLERY, BytePath.COPY) is own, "open, it is preferred: one version has one node"
        closed(own)


@on_trio
async def test_two_names_that_the_policy_tells_apart_are_two_nodes(store: Path) -> None:
    elsewhere = '- {id: elsewhere, deny: [attr], who: {app: gallery}, paths: "/d/**"}\n'
    with parts(store, engine_of(OPEN + elsewhere)) as made:
        chosen = Chosen(made)
        first = chosen.node(MAPS, BytePath.RAW)
        chosen.state = made.gate.engine.state_of(b"/d/a.jpg")
        assert chosen.view(MAPS) is first.view
        assert chosen.node(MAPS, BytePath.RAW) is not first


@on_trio
async def test_a_second_try_that_meets_another_file_gets_a_node_of_its_own_there(store: Path) -> None:
    with parts(store, engine_of(REDACTED)) as made:
        chosen, other = Chosen(made), Chosen(made, "/empty")
        other.views = chosen.views
        shared = other.node(GALLERY, BytePath.COPY)
        chosen.views.outdated(chosen.view(GALLERY), made.caller(GALLERY))
        chosen.node(GALLERY, BytePath.COPY)
        assert other.node(GALLERY, BytePath.COPY) is not shared

"""Which decisions the bridge may repeat."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from policyfs.domain import Audit, Facts, FileType, Need, Op
from policyfs.fs.inodes.node import ROOT_ID, BytePath
from policyfs.fs.inodes.open_state import Mode, OpenState
from policyfs.fs.kernel_cache.attributes import cold
from policyfs.fs.kernel_cache.repeats import Copied, Repeats
from policyfs.kernel import vectors
from policyfs.store.frozen import Version

CALLER: Any = SimpleNamespace(principal="app", uid=1000, gid=100)


class Scene:
    """A file that was asked for before, with nothing that speaks against a repeat, and what was installed."""

    def __init__(self, ftype: FileType = FileType.REGULAR) -> None:
        self.installed: list[int] = []
        self.of_opens: list[Any] = []
        self.kept: list[float] = []
        self.parent = parent = SimpleNamespace(nodeid=2, asked=0)
        self.node: Any = SimpleNamespace(
            nodeid=9, ino=77, btime_ns=1, ftype=ftype, view=SimpleNamespace(raw=True), open=None,
            byte_path=BytePath.RAW, mediated=False, links=None, lookups=1, out_of_reach=False, reached=True,
            parent=parent, name=b"n", last_state="state", state="state", asked=~0,
        )  # fmt: skip
        self.needs: dict[Op, Need] = {}
        self.engine = SimpleNamespace(
            owner_matters_above=lambda state: False,
            needs=lambda who, ops, state, ftype: self.needs.get(ops, Need.NOTHING),
            view=lambda who, state: self.view,
            decide=lambda who, ops, state, ftype, facts: self.decision,
        )
        self.view = SimpleNamespace(raw=True)
        self.decision: Any = SimpleNamespace(
            allowed=True, audit=Audit.OFF, would_deny=(), redact=frozenset[str]()
        )
        self.shows_all = True
        self.gate = SimpleNamespace(
            engine=self.engine, shows_all_in=lambda who, state: self.shows_all,
            need=lambda who, ops, node: self.needs.get(ops, Need.NOTHING),
            judge=lambda who, ops, node, facts: self.decision,
        )  # fmt: skip
        self.others: list[Any] = []
        self.all_seen: list[Any] = []
        self.vectors = SimpleNamespace(
            in_use=True, of_names=True, install=self.install,
            see_all=lambda directory, fd, uid, keeps: self.all_seen.append((directory.nodeid, fd, uid)),
        )  # fmt: skip
        nodes = SimpleNamespace(
            vectors=self.vectors, same_inode=lambda ino: [self.node, *self.others], root_dev=3
        )
        self.kept_s, self.gone = 0.0, False
        self.timeouts = SimpleNamespace(
            is_written=lambda node: False,
            watched=True, told_apart=False, guarded=False, entry_of=lambda node, state: self.kept_s
        )
        self.views = SimpleNamespace(is_settled=True)
        fs: Any = SimpleNamespace(
            tree=SimpleNamespace(root_fd=0), nodes=nodes, gate=self.gate,
            resolver=SimpleNamespace(dirfd=self.dirfd), handles=None, name_lock=None, locks=None,
            intents=None, held=None, note_held=None, replaced_files=None, kept=None,
            facts=SimpleNamespace(remote=False),
        )  # fmt: skip
        self.repeats = Repeats(fs, self.views, self.timeouts)  # type: ignore[arg-type]
        self.reply: Any = SimpleNamespace(entry_timeout=0)

    def dirfd(self, node: Any) -> int:
        if self.gone:
            raise OSError(errno.ESTALE, "gone")
        return 7 if node is self.node else 0

    def install(self, *words: Any) -> bool:
        self.installed.append(words[5])
        self.kept.append(words[8])
        self.of_opens += [words[9:]] if words[9:] else []
        return True

    def opened(self, flags: int = os.O_RDONLY, backing_id: int = 9) -> Any:
        """Whether the bridge answers repeats after an open was answered."""
        decision = self.repeats.judged(self.node, CALLER, flags, backing_id)
        if decision is None:
            return None
        assert not self.of_opens, "what repeats need is noted first"
        return decision if self.repeats.opened(self.node, CALLER, flags, backing_id, decision) else None

    def told(self) -> list[int]:
        """What is installed after each of the three requests was answered."""
        self.repeats.looked_up(self.node, self.reply, CALLER)
        self.repeats.seen(self.node, CALLER)
        self.repeats.passed(self.node, os.R_OK, Op.SEE | Op.READ, CALLER)
        return self.installed


ALL = [vectors.LOOKUP, vectors.GETATTR, vectors.access(os.R_OK)]


@pytest.mark.parametrize("ftype", [FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK])
def test_what_hangs_on_name_and_uid_alone_may_be_repeated(ftype: FileType) -> None:
    assert Scene(ftype).told() == ALL


@pytest.mark.parametrize("ftype", [FileType.REGULAR, FileType.DIRECTORY, FileType.SYMLINK])
def test_what_was_asked_once_may_not_be_asked_again(ftype: FileType) -> None:
    scene = Scene(ftype)
    scene.node.asked = 0
    assert scene.told() == (ALL if ftype is FileType.DIRECTORY else [])
    scene.repeats.seen(scene.node, CALLER)
    assert scene.installed[-1:] == [vectors.GETATTR]
    scene.installed.clear()
    assert scene.told() == ALL


def test_a_second_look_up_makes_the_first_one_of_its_neighbours_a_repeat() -> None:
    """`ls -l` asks for each name three times."""
    scene, neighbour = Scene(), Scene()
    neighbour.node.parent = scene.parent
    neighbour.node.asked = 0
    neighbour.repeats.looked_up(neighbour.node, neighbour.reply, CALLER)
    assert neighbour.installed == []
    scene.repeats.looked_up(scene.node, scene.reply, CALLER)
    neighbour.node.asked = 0
    neighbour.repeats.looked_up(neighbour.node, neighbour.reply, CALLER)
    assert neighbour.installed == [vectors.LOOKUP]
    neighbour.repeats.seen(neighbour.node, CALLER)
    assert neighbour.installed == [vectors.LOOKUP], "attributes are asked for once"


def test_second_look_ups_of_directories_say_nothing_of_their_neighbours() -> None:
    scene = Scene(FileType.DIRECTORY)
    scene.repeats.looked_up(scene.node, scene.reply, CALLER)
    assert scene.installed == [vectors.LOOKUP]
    assert not scene.parent.asked


def test_a_listed_file_is_answered_from_the_first_request_on() -> None:
    scene = Scene()
    scene.node.asked = 0
    scene.repeats.listed(scene.node, CALLER)
    assert scene.installed == [vectors.LOOKUP | vectors.GETATTR]
    assert scene.told()[1:] == ALL[:2], "access(2) was not asked for yet"


def test_a_file_that_is_open_for_reading_only_too() -> None:
    scene = Scene()
    scene.node.open = OpenState(handles=1, mode=Mode.PASSTHROUGH)
    assert scene.told() == ALL


AGAINST = {
    "switched off": lambda s: setattr(s.vectors, "of_names", False),
    "no watch": lambda s: setattr(s.timeouts, "watched", False),
    "owners and modes by the policy": lambda s: setattr(s.timeouts, "told_apart", True),
    "several names": lambda s: setattr(s.node, "links", [1]),
    "no name": lambda s: setattr(s.node, "parent", None),
    "forgotten": lambda s: setattr(s.node, "lookups", 0),
    "out of reach": lambda s: setattr(s.node, "out_of_reach", True),
    "a restricted view": lambda s: setattr(s.node.view, "raw", False),
    "a copy": lambda s: setattr(s.node, "byte_path", BytePath.COPY),
    "mediated": lambda s: setattr(s.node, "mediated", True),
    "a writer": lambda s: setattr(s.node, "open", OpenState(handles=1, writers=1, mode=Mode.PASSTHROUGH)),
    "an open that is not answered": lambda s: setattr(s.node, "open", OpenState()),
    "another file system": lambda s: setattr(s.node, "ino", 1 << 64),
    "no birth time": lambda s: setattr(s.node, "btime_ns", 0),
    "a special file": lambda s: setattr(s.node, "ftype", FileType.SPECIAL),
    "owners above": lambda s: setattr(s.engine, "owner_matters_above", lambda state: True),
    "a fact": lambda s: s.needs.update({Op.SEE: Need.OWNER, Op.SEE | Op.READ: Need.OWNER}),
    "another raw node": lambda s: s.others.append(SimpleNamespace(byte_path=BytePath.RAW)),
}


@pytest.mark.parametrize("against", AGAINST.values(), ids=AGAINST)
def test_what_hangs_on_more_may_not(against: Any) -> None:
    scene = Scene()
    against(scene)
    scene.repeats.listed(scene.node, CALLER)
    assert scene.told() == []


LISTED_AGAINST = {
    "a directory": lambda s: setattr(s.node, "ftype", FileType.DIRECTORY),
    "a symlink": lambda s: setattr(s.node, "ftype", FileType.SYMLINK),
    "hidden by now": lambda s: setattr(s, "decision", SimpleNamespace(allowed=False)),
    "a kind that matters to readers": lambda s: s.needs.update({Op.SEE | Op.READ: Need.KIND}),
    "an open that was sent back": lambda s: setattr(s.views, "is_settled", False),
    "kept by the kernel": lambda s: setattr(s, "kept_s", 1.0),
}


@pytest.mark.parametrize("against", LISTED_AGAINST.values(), ids=LISTED_AGAINST)
def test_what_was_listed_and_may_not_be_repeated(against: Any) -> None:
    scene = Scene()
    against(scene)
    scene.timeouts.entry_of = lambda node, state: scene.kept_s
    scene.repeats.listed(scene.node, CALLER)
    assert scene.installed == []


def missed(scene: Scene) -> list[Any]:
    """The directories whose absent names the bridge answers, after a look-up of one."""
    scene.repeats.missed(scene.node, "state", CALLER)  # type: ignore[arg-type]
    return scene.all_seen


def directory() -> Scene:
    scene = Scene(FileType.DIRECTORY)
    scene.node.has_room = lambda name: len(name) <= scene.room
    scene.room = 255  # type: ignore[attr-defined]
    return scene


def test_a_second_absent_name_may_be_answered_by_the_bridge() -> None:
    scene = directory()
    scene.node.asked = 0
    assert missed(scene) == []
    assert missed(scene) == [(9, 7, CALLER.uid)]


MISSED_AGAINST = {
    "no watch": AGAINST["no watch"],
    "owners and modes by the policy": AGAINST["owners and modes by the policy"],
    "no name": AGAINST["no name"],
    "out of reach": AGAINST["out of reach"],
    "owners above": AGAINST["owners above"],
    "a fact": AGAINST["a fact"],
    "an app mount": lambda s: setattr(s.vectors, "of_names", False),
    "names that may be hidden": lambda s: setattr(s, "shows_all", False),
    "the directory's owner": lambda s: setattr(
        s.engine, "owner_matters_above", lambda state: state is not s.node.last_state
    ),
    "no room for long names": lambda s: setattr(s, "room", 254),
    "an open that was sent back": lambda s: setattr(s.views, "is_settled", False),
    "a directory that is gone": lambda s: setattr(s, "gone", True),
}


@pytest.mark.parametrize("against", MISSED_AGAINST.values(), ids=MISSED_AGAINST)
def test_absent_names_that_hang_on_more_may_not(against: Any) -> None:
    scene = directory()
    scene.node.last_state = "the directory's"
    against(scene)
    assert missed(scene) == []


def test_what_the_kernel_keeps_itself_is_not_installed() -> None:
    scene = Scene()
    scene.reply.entry_timeout = 1.0
    assert scene.told() == ALL[1:]
    assert scene.kept == [0, 0]
    scene.kept_s = 1.0
    scene.installed.clear()
    assert scene.told() == ALL[1:]
    assert scene.kept[2:] == [cold(77), 0], "attributes of a file, which a read makes the kernel forget"
    for ftype in (FileType.DIRECTORY, FileType.SYMLINK):
        scene = Scene(ftype)
        scene.reply.entry_timeout = scene.kept_s = 1.0
        assert scene.told() == ALL[2:]


@pytest.mark.parametrize(
    ("ftype", "kept_s", "found"),
    [(FileType.REGULAR, 1.0, [vectors.GETATTR]), (FileType.REGULAR, 0.0, []), (FileType.DIRECTORY, 1.0, [])],
)
def test_where_all_names_are_kept_only_a_file_s_attributes_are_repeated(
    ftype: FileType, kept_s: float, found: list[int]
) -> None:
    scene = Scene(ftype)
    scene.vectors.of_names, scene.reply.entry_timeout, scene.kept_s = False, kept_s, kept_s
    assert scene.told() == found
    scene.vectors.in_use = False
    assert scene.told() == found


def test_a_look_up_may_hang_on_more_than_the_attributes_do() -> None:
    scene = Scene()
    scene.needs = {Op.SEE | Op.READ: Need.KIND}  # another byte path, as the kind is
    assert scene.told() == [vectors.GETATTR]
    scene = Scene()
    scene.views.is_settled = False
    assert scene.told() == ALL[1:]
    scene = Scene(FileType.DIRECTORY)
    scene.node.reached = False
    assert scene.told() == ALL[1:]


def test_names_that_may_be_hidden_are_not_counted() -> None:
    scene = Scene(FileType.DIRECTORY)
    scene.shows_all = False
    assert scene.told() == [grant | vectors.UNCOUNTED for grant in ALL]


def test_the_root_s_attributes_are_told_to_everyone() -> None:
    scene = Scene(FileType.DIRECTORY)
    scene.node.nodeid, scene.node.parent = ROOT_ID, None
    scene.repeats.seen(scene.node, CALLER)
    assert scene.installed == [vectors.GETATTR]


def test_execution_hangs_on_the_mode_of_a_file() -> None:
    scene = Scene()
    scene.repeats.passed(scene.node, os.X_OK, Op.SEE | Op.READ, CALLER)
    scene.repeats.passed(scene.node, 8, Op.SEE, CALLER)
    assert scene.installed == []
    scene = Scene(FileType.DIRECTORY)
    scene.repeats.passed(scene.node, os.X_OK, Op.SEE, CALLER)
    assert scene.installed == [vectors.access(os.X_OK)]


def test_an_open_for_reading_may_be_repeated_with_the_same_gid_and_flags() -> None:
    scene = Scene()
    scene.node.open = OpenState(handles=1, mode=Mode.PASSTHROUGH, backing_id=9)
    assert scene.opened(os.O_RDONLY | os.O_NOFOLLOW)
    assert scene.installed == [vectors.OPEN | vectors.GETATTR]
    assert scene.of_opens == [(100, os.O_RDONLY | os.O_NOFOLLOW, 9)]
    assert scene.kept == [0]


@pytest.mark.parametrize(
    ("of_names", "kept_s", "found"), [(False, 1.0, True), (True, 1.0, True), (False, 0.0, False)]
)
def test_attributes_of_a_file_that_is_opened_again_are_repeats(
    of_names: bool, kept_s: float, found: bool
) -> None:
    """A read makes the kernel ask. Where nothing is kept and no name is repeated, neither are they."""
    scene = Scene()
    scene.vectors.of_names, scene.kept_s = of_names, kept_s
    assert scene.opened()
    assert scene.installed == [vectors.OPEN | (vectors.GETATTR if found else 0)]
    assert scene.kept == [cold(77) if found else 0]


def test_repeats_of_a_recorded_open_are_events() -> None:
    scene = Scene()
    scene.decision.audit = Audit.BEST_EFFORT
    assert scene.opened() is scene.decision
    assert scene.installed == [vectors.OPEN | vectors.RECORDED | vectors.GETATTR]


AGAINST_OPENS = {
    **{name: against for name, against in AGAINST.items() if name != "switched off"},
    "a directory": lambda s: setattr(s.node, "ftype", FileType.DIRECTORY),
    "the caller's view": lambda s: setattr(s.view, "raw", False),
    "denied": lambda s: setattr(s.decision, "allowed", False),
    "required": lambda s: setattr(s.decision, "audit", Audit.REQUIRED),
    "monitored": lambda s: setattr(s.decision, "would_deny", ("rule",)),
    "redacted": lambda s: setattr(s.decision, "redact", frozenset({"location"})),
}


@pytest.mark.parametrize("against", AGAINST_OPENS.values(), ids=AGAINST_OPENS)
def test_an_open_that_hangs_on_more_may_not(against: Any) -> None:
    scene = Scene()
    against(scene)
    assert scene.opened() is None
    assert scene.installed == []


ODD = (os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_APPEND, os.O_DIRECT, os.O_SYNC, os.O_NOATIME, os.O_PATH, 0x20)


@pytest.mark.parametrize("flags", ODD)
def test_an_open_with_other_flags_may_not(flags: int) -> None:
    scene = Scene()
    assert not scene.opened(flags)
    assert not scene.opened(backing_id=0)
    assert scene.installed == []


COPIED = Copied(Facts("image/jpeg", None), frozenset({"location"}), Version(4, 2, 3))


def copied() -> Scene:
    """A redacted copy that was opened, and nothing that speaks against a repeat."""
    scene = Scene()
    scene.node.byte_path, scene.node.view = BytePath.COPY, SimpleNamespace(raw=False, redact={"location"})
    scene.node.open = OpenState(handles=1, mode=Mode.PASSTHROUGH, backing_id=9)
    scene.decision.redact = COPIED.hidden
    scene.needs[Op.SEE | Op.READ] = Need.KIND  # which was found in this version
    return scene


def test_the_open_of_a_copy_may_be_repeated_for_its_version() -> None:
    scene = copied()
    decision = scene.repeats.judged(scene.node, CALLER, os.O_RDONLY, 9, COPIED)
    assert decision is not None
    assert scene.repeats.opened(scene.node, CALLER, os.O_RDONLY, 9, decision, COPIED)
    assert scene.installed == [vectors.OPEN], "its attributes are not the file's"
    assert scene.of_opens == [(100, os.O_RDONLY, 9, 4, 2, 3)]


AGAINST_A_COPY: dict[str, Any] = {
    "another word is hidden now": lambda s: setattr(s.decision, "redact", frozenset({"location", "time"})),
    "nothing is hidden any more": lambda s: setattr(s.decision, "redact", frozenset()),
    "denied": lambda s: setattr(s.decision, "allowed", False),
    "on record first": lambda s: setattr(s.decision, "audit", Audit.REQUIRED),
    "a monitored rule": lambda s: setattr(s.decision, "would_deny", ("rule",)),
    "by its owner": lambda s: s.needs.update({Op.SEE | Op.READ: Need.OWNER}),
    "seen by its kind": lambda s: s.needs.update({Op.SEE: Need.KIND}),
    "a view that hides nothing": lambda s: setattr(s.node.view, "redact", frozenset()),
    "a large file": lambda s: setattr(s.node, "byte_path", BytePath.LEASED),
    "its own writer": lambda s: setattr(s.node, "byte_path", BytePath.LIVE),
    "mediated": lambda s: setattr(s.node, "mediated", True),
    "mediated now": lambda s: setattr(s.node.open, "mode", Mode.MEDIATED),
    "a writer": lambda s: s.others.append(SimpleNamespace(open=OpenState(writers=1))),
    "two names": lambda s: setattr(s.node, "links", [1]),
    "no watch": lambda s: setattr(s.timeouts, "watched", False),
}


@pytest.mark.parametrize("against", AGAINST_A_COPY.values(), ids=AGAINST_A_COPY)
def test_the_open_of_a_copy_that_hangs_on_more_is_not_repeated(against: Any) -> None:
    scene = copied()
    against(scene)
    assert scene.repeats.judged(scene.node, CALLER, os.O_RDONLY, 9, COPIED) is None


def test_an_open_is_not_repeated_while_another_node_has_bytes_that_the_store_lacks() -> None:
    """Perhaps they empty the file; opens then wait for the writer's release (Lifecycle.emptied)."""
    scene = Scene()
    scene.node.open = OpenState(handles=1, mode=Mode.PASSTHROUGH, backing_id=9)
    other: Any = SimpleNamespace(open=SimpleNamespace(unsaved=True, writers=1), byte_path=BytePath.LIVE)
    scene.others.append(other)
    assert scene.opened() is None
    other.open.unsaved = False
    assert scene.opened() is not None


def listed(scene: Scene) -> Any:
    """The decision by which the bridge may open the node's directory again, or None."""
    decision = scene.repeats.judged_listing(scene.node, CALLER)
    if decision is not None:
        assert scene.repeats.opened_directory(scene.node, CALLER, decision)
    return decision


@pytest.mark.parametrize(
    ("audit", "grant"),
    [(Audit.OFF, vectors.LIST), (Audit.BEST_EFFORT, vectors.LIST | vectors.RECORDED)],
)
def test_a_directory_may_be_opened_again_by_the_same_group(audit: Audit, grant: int) -> None:
    scene = Scene(FileType.DIRECTORY)
    scene.decision.audit = audit
    assert listed(scene) is scene.decision
    assert (scene.installed, scene.of_opens) == ([grant], [(CALLER.gid,)])


AGAINST_LISTINGS = {
    "off": lambda s: setattr(s.vectors, "in_use", False),
    **{
        name: AGAINST[name]
        for name in (
            "no watch", "owners and modes by the policy", "several names", "no name", "forgotten",
            "out of reach", "another file system", "no birth time", "a special file", "owners above",
            "a fact",
        )
    },
    "denied": lambda s: setattr(s.decision, "allowed", False),
    "required": lambda s: setattr(s.decision, "audit", Audit.REQUIRED),
    "monitored": lambda s: setattr(s.decision, "would_deny", ("rule",)),
}  # fmt: skip


@pytest.mark.parametrize("against", AGAINST_LISTINGS.values(), ids=AGAINST_LISTINGS)
def test_a_directory_whose_open_hangs_on_more_may_not(against: Any) -> None:
    scene = Scene(FileType.DIRECTORY)
    against(scene)
    assert listed(scene) is None


def test_a_fact_decides_on_the_root_too() -> None:
    scene = Scene(FileType.DIRECTORY)
    scene.node.nodeid, scene.node.parent = ROOT_ID, None
    assert listed(scene) is not None
    scene.needs[Op.SEE] = Need.OWNER
    assert listed(scene) is None

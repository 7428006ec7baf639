"""Orders for the announcer, and what it is answered: only its own requests, and only those of its order."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import trio

from policyfs.content.workers import announcer
from policyfs.fs.kernel_cache import announcements
from policyfs.fs.kernel_cache.announcements import Announcements, Order, Place
from policyfs.kernel.bridge import pyfuse3

PID, ELSE = 40, 41
PARENT = 7
AT = Place(PARENT, b"name")
TO = Place(8, b"other")


def node(nodeid: int, *, lookups: int = 1) -> SimpleNamespace:
    return SimpleNamespace(nodeid=nodeid, ino=100 + nodeid, lookups=lookups, path=lambda: b"/d%d" % nodeid)


class Nodes:
    """The directories that the kernel knows."""

    def __init__(self) -> None:
        self.known = {number: node(number) for number in (PARENT, TO.parent)}
        self.referred: list[int] = []

    def find(self, nodeid: int) -> SimpleNamespace | None:
        return self.known.get(nodeid)

    def refer(self, found: SimpleNamespace) -> None:
        self.referred.append(found.nodeid)


class Kernel:
    """Names that the kernel was made to look up again."""

    def __init__(self) -> None:
        self.expired: list[tuple[int, bytes]] = []
        self.forgotten: list[tuple[int, bytes]] = []

    def forget_name(self, parent: int, name: bytes) -> None:
        self.forgotten.append((parent, name))

    def expire_entries(self, names: list[tuple[int, bytes]]) -> None:
        self.expired += names

    async def forget_seen(self, nodeid: int, *, pages: bool) -> None:
        del nodeid, pages


def made() -> tuple[Announcements, Kernel]:
    kernel = Kernel()
    own = Announcements(SimpleNamespace(), Nodes(), kernel, 1000)  # type: ignore[arg-type]
    own.process = SimpleNamespace(pid=PID, is_alive=lambda: True)
    return own, kernel


def refused(function: Callable[..., object], *arguments: object) -> str:
    try:
        function(*arguments)
    except pyfuse3.FUSEError as error:
        return errno.errorcode[error.errno]
    return ""


def during(order: Order, look: Callable[[Announcements], None], code: int = 0) -> Announcements:
    """Call *look* while an order is carried out."""
    own, _ = made()
    own._queue([order])
    own._last = Order(announcer.BYTES, order.at)

    async def call(message: bytes) -> int:
        assert message.split(b"\0")[0] == order.kind
        assert message.endswith(order.places[-1].name)
        look(own)
        if not own._orders:
            scope.cancel()
        return code

    async def run() -> None:
        with scope:
            await own.run(call)

    scope = trio.CancelScope()
    trio.run(run)
    return own


def test_only_the_living_announcer_is_known() -> None:
    own, _ = made()
    assert (own.is_from(PID), own.is_from(ELSE), own.is_from(0)) == (True, False, False)
    own.process = SimpleNamespace(pid=PID, is_alive=lambda: False)
    assert not own.is_from(PID)
    own.process = None
    assert not own.is_from(PID)


def test_without_an_order_it_can_change_nothing() -> None:
    own, _ = made()
    assert own.look_up(PARENT, b"name") is None
    for kind in (announcer.FILE, announcer.DIRECTORY):
        assert refused(own.check, kind, PARENT, b"name") == "EBUSY"
    for kind in (announcer.REMOVED_FILE, announcer.REMOVED_DIRECTORY, announcer.MOVED):
        assert refused(own.check, kind, PARENT, b"name") == "EBUSY"
    assert refused(own.open, 5, os.O_WRONLY) == "EBUSY"
    assert refused(own.open, 0, os.O_WRONLY) == "EBUSY"


@pytest.mark.parametrize("kind", [announcer.REMOVED_FILE, announcer.REMOVED_DIRECTORY])
def test_a_name_is_removed_only_after_the_kernel_got_a_phantom(kind: bytes) -> None:
    def look(own: Announcements) -> None:
        assert refused(own.check, kind, PARENT, b"name") == "EBUSY"
        phantom = own.look_up(PARENT, b"name")
        assert phantom is not None
        assert (phantom.entry_timeout, phantom.st_ino > 1 << 61) == (0.0, True)
        assert own.look_up(PARENT, b"another") is None
        assert refused(own.check, kind, PARENT, b"another") == "EBUSY"
        assert refused(own.check, kind, PARENT + 1, b"name") == "EBUSY"
        assert refused(own.check, announcer.MOVED, PARENT, b"name") == "EBUSY"
        assert refused(own.open, phantom.st_ino, os.O_WRONLY) == ""
        own.check(kind, PARENT, b"name")

    assert during(Order(kind, AT), look).told == 1


def test_a_move_leads_to_its_own_place_only() -> None:
    def look(own: Announcements) -> None:
        assert own.look_up(PARENT, b"name") is not None
        assert refused(own.look_up, TO.parent, TO.name) == "ENOENT"
        assert refused(own.check, announcer.MOVED, PARENT, b"name", (TO.parent, b"x")) == "EBUSY"
        own.check(announcer.MOVED, PARENT, b"name", (TO.parent, TO.name))

    during(Order(announcer.MOVED, AT, TO), look)


def test_a_new_name_is_made_once_the_kernel_has_none() -> None:
    def look(own: Announcements) -> None:
        assert refused(own.look_up, PARENT, b"name") == "ENOENT"
        assert refused(own.check, announcer.DIRECTORY, PARENT, b"name") == "EBUSY"
        own.check(announcer.FILE, PARENT, b"name")

    during(Order(announcer.FILE, AT), look)


def test_only_a_phantom_is_opened_for_writing() -> None:
    def look(own: Announcements) -> None:
        assert not own.is_phantom(0)
        assert refused(own.open, 5, os.O_WRONLY) == "EBUSY"
        phantom = own.look_up(PARENT, b"name")
        assert phantom is not None
        assert own.open(phantom.st_ino, os.O_WRONLY).fh == announcements.PHANTOM_HANDLE
        assert own.is_phantom(phantom.st_ino)
        assert own.attributes().st_ino == phantom.st_ino
        assert refused(own.open, phantom.st_ino, os.O_WRONLY | os.O_TRUNC) == "EBUSY"

    during(Order(announcer.WRITTEN, AT), look)


def test_a_call_that_finds_an_old_answer_is_made_again_and_then_lost() -> None:
    calls = []
    own = during(Order(announcer.FILE, AT), calls.append, errno.EEXIST)
    assert len(calls) == announcements._TRIES
    assert (own.told, own.left_out, own.lost) == (0, 0, 1)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EROFS, errno.EXDEV])
def test_an_order_that_fails_is_lost(code: int) -> None:
    own = during(Order(announcer.FILE, AT), lambda _: None, code)
    assert (own.told, own.left_out, own.lost) == (0, 0, 1)


@pytest.mark.parametrize("mode", [0, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o600])
def test_only_what_the_daemon_has_answered_itself_is_left_out(mode: int) -> None:
    own = during(Order(announcer.FILE, AT), lambda own: own.answered(*AT, mode), errno.ENOENT)
    assert (own.told, own.left_out, own.lost) == (0, 1, 0)
    own = during(Order(announcer.FILE, AT), lambda own: own.answered(AT.parent, b"x", mode), errno.ENOENT)
    assert (own.left_out, own.lost) == (0, 1)
    own = during(Order(announcer.FILE, AT), lambda own: own.answered(*AT, stat.S_IFREG), errno.EIO)
    assert (own.left_out, own.lost) == (0, 1)


def test_the_second_half_of_a_write_is_counted_as_the_first() -> None:
    orders = [Order(announcer.BYTES, AT), Order(announcer.WRITTEN, AT)]
    for look, counts in ((lambda own: own.answered(*AT), (0, 2, 0)), (lambda _: None, (0, 0, 2))):
        own, _ = made()
        own._queue(orders)

        async def call(_message: bytes, own=own, look=look) -> int:
            look(own)
            return errno.ENOENT

        async def run(own=own, call=call) -> None:
            with trio.move_on_after(0.01):
                await own.run(call)

        trio.run(run)
        assert (own.told, own.left_out, own.lost) == counts


def test_a_directory_that_is_gone_is_found_by_its_number() -> None:
    own, _ = made()
    own.is_gone = lambda found: found.nodeid == PARENT
    order = Order(announcer.MOVED, AT, TO)
    name = announcements.BY_NUMBER + b"%d" % PARENT
    assert own._message(order) == b"\0".join([announcer.MOVED, name, AT.name, b"d8", TO.name])
    own._now = order
    found = own.look_up(1, name)
    assert found is not None
    assert (found.st_ino, found.st_rdev, found.entry_timeout, found.attr_timeout) == (PARENT, 107, 0.0, 0.0)
    assert own._nodes.referred == [PARENT]  # type: ignore[attr-defined]
    assert refused(own.look_up, 1, announcements.BY_NUMBER + b"9") == "ENOENT"
    own._now = None
    assert own.look_up(1, name) is None


def test_nobody_watches_a_directory_that_the_kernel_has_forgotten() -> None:
    own, _ = made()
    own._nodes.known[PARENT] = node(PARENT, lookups=0)  # type: ignore[attr-defined]
    assert own._message(Order(announcer.FILE, AT)) is None
    assert own._message(Order(announcer.FILE, Place(99, b"x"))) is None


def test_another_policy_drops_the_orders_that_do_not_ask_again() -> None:
    own, _ = made()
    kept = [Order(announcer.FILE, AT), Order(announcer.BYTES, AT)]
    own._queue([*kept, Order(announcer.REMOVED_FILE, AT), Order(announcer.MOVED, AT, TO)])
    own._new = [Order(announcer.REMOVED_DIRECTORY, AT)]
    own.policy_changed()
    assert (list(own._orders), own._new, own.lost) == (kept, [], 3)


@pytest.mark.parametrize(("kind", "code"), [(announcer.BYTES, 0), (announcer.MOVED, errno.ENOENT)])
@pytest.mark.parametrize("ends", [False, True])
def test_no_order_follows_one_under_another_policy_or_of_a_killed_announcer(
    kind: bytes, code: int, ends: bool
) -> None:
    own, _ = made()
    own._queue([Order(kind, AT, TO if kind == announcer.MOVED else None), Order(announcer.WRITTEN, AT)])
    calls: list[bytes] = []

    async def call(message: bytes) -> int:
        calls.append(message.split(b"\0")[0])
        if ends:
            raise ConnectionResetError
        own.policy_changed()
        return code

    async def run() -> None:
        for _ in range(2):
            with trio.move_on_after(0.01), contextlib.suppress(ConnectionResetError):
                await own.run(call)

    trio.run(run)
    assert calls == [kind]


def test_a_new_file_with_its_bytes_is_one_order() -> None:
    own, kernel = made()
    own._new = [Order(announcer.FILE, AT)]
    own._wrote(AT, seen=True)
    own._wrote(AT, seen=True)
    assert own._new == [Order(announcer.WRITTEN_FILE, AT)]
    own._wrote(TO, seen=True)
    own._wrote(TO, seen=True)
    assert own._new[1:] == [Order(announcer.BYTES, TO), Order(announcer.WRITTEN, TO)]
    assert kernel.expired == [(TO.parent, TO.name)]
    own._wrote(AT, seen=False)
    assert own._new[3:] == [Order(announcer.WRITTEN_FILE, AT)]


def test_orders_without_room_are_lost(monkeypatch) -> None:
    monkeypatch.setattr(announcements, "_MOST", 2)
    own, _ = made()
    own._queue([Order(announcer.FILE, AT)] * 5)
    assert (len(own._orders), own.lost) == (2, 3)

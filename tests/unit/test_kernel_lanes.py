"""The order in which waiting requests go on: their C source without Python, a mount or a device."""

from __future__ import annotations

import ctypes
import itertools
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from policyfs.kernel.bridge import pack_fh
from policyfs.kernel.protocol import Opcode
from tests.support.machine.objects import KERNEL, build, text_of

HEADER = struct.Struct("=IIQQIIIHH")
SETATTR = struct.Struct("=I84x")
MODE, SIZE = 1, 8
WRITE = struct.Struct("=QQIIQII")
WRITE_CACHE = 1
MIB = bytes(1 << 20)


class Lanes:
    """The queue of one session."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._buffer = ctypes.create_string_buffer(2 << 20)
        self._uniques = itertools.count(2, 2)

    def put(self, opcode: Opcode, uid: int = 0, body: bytes = b"") -> int:
        unique = self.offer(opcode, uid, body)
        assert unique, "it is refused"
        return unique

    def offer(self, opcode: Opcode, uid: int = 0, body: bytes = b"", unique: int = 0) -> int:
        """As put(), but 0 if the request is refused. unique: its number, if not the next one."""
        unique = unique or next(self._uniques)
        message = HEADER.pack(HEADER.size + len(body), opcode, unique, 1, uid, 0, 0, 0, 0) + body
        return unique if self._library.lanes_put(message, len(message)) else 0

    def write(self, uid: int, data: bytes = MIB, *, back: bool = False, fh: int = 1) -> int:
        """Put a WRITE. back: of the kernel, which writes a page back."""
        flags = WRITE_CACHE if back else 0
        return self.put(Opcode.WRITE, uid, WRITE.pack(fh, 0, len(data), flags, 0, 0, 0) + data)

    def interrupt(self, target: int) -> int:
        """Put an INTERRUPT of a request."""
        return self.offer(Opcode.INTERRUPT, 0, struct.pack("=Q", target), target | 1)

    def take(self) -> int:
        """Pass the next request on; its number."""
        return self.take_sized()[0]

    def take_sized(self) -> tuple[int, int]:
        """Pass the next request on; its number, and how many bytes came."""
        turn = self._library.lanes_turn()
        assert turn is not None, "no request can be passed on"
        lane = ctypes.c_void_p(turn)
        size: int = self._library.lanes_take(lane, self._buffer, len(self._buffer))
        assert size >= HEADER.size
        return HEADER.unpack_from(self._buffer)[2], size

    def begin(self) -> int:
        """Pass the next request on; from now on it is under way."""
        unique, size = self.take_sized()
        self._library.lanes_begin(self._buffer, size)
        return unique

    def end(self, unique: int) -> None:
        """The request is answered."""
        assert self._library.lanes_end(ctypes.c_uint64(unique))

    def is_full(self) -> bool:
        """True if further requests wait in the kernel, so that limits count no more."""
        return bool(self._library.lanes_full())

    def has_turn(self) -> bool:
        """True if a request can be passed on."""
        return self._library.lanes_turn() is not None


HANGS = "#define HANGS_MS 5000"
SHARED_BYTES = 256 << 20
"""The bytes of large requests that wait, of all uids."""


@pytest.fixture
def lanes(tmp_path: Path, request) -> Iterator[Lanes]:
    """A queue; in it a lane may hang for a time other than 5 s."""
    source = text_of("_lanes.c")
    assert HANGS in source
    source = source.replace(HANGS, f"#define HANGS_MS {getattr(request, 'param', 5000)}")
    build(
        tmp_path / "lanes.so",
        ("-std=gnu11", "-O1", "-fPIC", "-shared", f"-I{KERNEL}"),
        [source],
        tmp_path,
    )
    library = ctypes.CDLL(str(tmp_path / "lanes.so"))
    library.lanes_limit.argtypes = [ctypes.c_uint, ctypes.c_uint, ctypes.c_size_t]
    library.lanes_turn.restype = ctypes.c_void_p
    library.lanes_take.restype = ctypes.c_ssize_t
    library.lanes_begin.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    library.lanes_end.restype = library.lanes_put.restype = library.lanes_full.restype = ctypes.c_bool
    library.lanes_limit(32, 192, SHARED_BYTES)
    yield Lanes(library)
    library.lanes_reset()


def test_a_request_waits_for_each_release_that_came_before_it(lanes: Lanes) -> None:
    """A later request may rely on it: the last writer of a file is gone."""
    before = [lanes.put(Opcode.RELEASE) for _ in range(20)]
    asked = lanes.put(Opcode.LOOKUP, uid=1)
    assert [lanes.take() for _ in range(21)] == [*before, asked]


def test_a_request_waits_for_few_releases_that_came_after_it(lanes: Lanes) -> None:
    """A process with thousands of open files ends: for each answer to a RELEASE the kernel sends another."""
    before = [lanes.put(Opcode.RELEASE) for _ in range(5)]
    asked = lanes.put(Opcode.LOOKUP, uid=1)
    taken = []
    for _ in range(1000):
        lanes.put(Opcode.RELEASE)
        taken.append(lanes.take())
    assert taken[:5] == before
    assert taken.index(asked) <= 6


def test_releases_go_on_beside_requests_without_end(lanes: Lanes) -> None:
    """They free resources, so at least every second one that goes on is one of them."""
    asked = [lanes.put(Opcode.LOOKUP, uid=1 + number % 3) for number in range(30)]
    releases = [lanes.put(Opcode.RELEASE) for _ in range(10)]
    taken = [lanes.take() for _ in range(40)]
    assert [unique for unique in taken if unique in releases] == releases
    assert max(taken.index(unique) for unique in releases) < 20
    assert sorted(taken) == asked + releases


def test_a_name_does_not_wait_for_its_own_uids_reads(lanes: Lanes) -> None:
    """While it waits, the kernel holds the lock of its directory, for which other apps wait."""
    reads = [lanes.put(Opcode.READ, uid=1) for _ in range(40)]
    begun = [lanes.begin() for _ in range(32)]
    assert begun == reads[:32]
    made = lanes.put(Opcode.MKDIR, uid=1)
    assert lanes.begin() == made
    assert not lanes.has_turn()
    lanes.end(reads[0])
    assert lanes.begin() == reads[32]


@pytest.mark.parametrize(
    "opcode",
    [Opcode.SETATTR, Opcode.SETXATTR, Opcode.REMOVEXATTR, Opcode.OPENDIR, Opcode.FSYNCDIR, Opcode.IOCTL],
)
def test_a_change_of_a_directory_does_not_wait_for_reads(lanes: Lanes, opcode: Opcode) -> None:
    """The kernel holds the directory's lock during chmod(2), setxattr(2), fsync(2) and chattr(1), too."""
    for _ in range(32):
        lanes.put(Opcode.READ, uid=1)
        lanes.begin()
    changed = lanes.put(opcode, uid=1, body=SETATTR.pack(MODE))
    assert lanes.begin() == changed


def test_a_truncation_keeps_no_name_waiting(lanes: Lanes) -> None:
    """It may wait for another program's lease, and holds the lock of its file alone."""
    cut = [lanes.put(Opcode.SETATTR, uid=1, body=SETATTR.pack(SIZE | MODE)) for _ in range(33)]
    assert [lanes.begin() for _ in range(32)] == cut[:32]
    assert not lanes.has_turn()
    made = lanes.put(Opcode.MKDIR, uid=1)
    assert lanes.begin() == made
    lanes.end(cut[0])
    assert lanes.begin() == cut[32]


def test_names_of_one_uid_are_limited_too(lanes: Lanes) -> None:
    looked_up = [lanes.put(Opcode.LOOKUP, uid=1) for _ in range(40)]
    assert [lanes.begin() for _ in range(32)] == looked_up[:32]
    assert not lanes.has_turn()
    other = lanes.put(Opcode.LOOKUP, uid=2)
    assert lanes.begin() == other


SHARED, SURE, BACKGROUND = 45_000, 32, (1 << 16) - 1
"""READS_SHARED and READS_SURE of _lanes.c, and BACKGROUND_MAX of _lanes.h."""


def _until_refused(lanes: Lanes, uid: int) -> int:
    count = 0
    while count <= BACKGROUND and lanes.offer(Opcode.READ, uid=uid):
        count += 1
    return count


def test_reads_ahead_of_few_users_leave_all_others_some(lanes: Lanes) -> None:
    """The kernel has so many in the background at most, and one app can ask for all of them."""
    assert _until_refused(lanes, 1) == SHARED
    assert [_until_refused(lanes, uid) for uid in range(2, 512)] == [SURE] * 510
    assert lanes.offer(Opcode.READ, uid=1) == 0
    assert not lanes.is_full()
    assert lanes.put(Opcode.LOOKUP, uid=1)
    assert lanes.put(Opcode.WRITE, uid=1)
    assert SHARED + 511 * SURE + 4096 <= BACKGROUND


def test_reads_that_went_on_make_room_for_others(lanes: Lanes) -> None:
    _until_refused(lanes, 1)
    taken = lanes.begin()
    assert lanes.put(Opcode.READ, uid=1)
    assert not lanes.offer(Opcode.READ, uid=1)
    lanes.end(taken)  # under way no more, and before that it did not count
    assert not lanes.offer(Opcode.READ, uid=1)
    for _ in range(4):
        lanes.begin()
    assert lanes.put(Opcode.READ, uid=1)


WAIT = 128
"""WRITEs of one MiB of one uid that wait: half of SHARED_BYTES, and BYTES_HANGING in _lanes.c."""


def test_writes_beyond_the_share_of_a_uid_lose_their_data_and_begin_no_sooner(lanes: Lanes) -> None:
    """Whoever takes them answers at once, and drops the pages that the kernel has filled with the data."""
    written = [lanes.write(1) for _ in range(400)]
    begun, dropped = [], []
    while lanes.has_turn():
        unique, size = lanes.take_sized()
        if size == HEADER.size + WRITE.size:
            dropped.append(unique)
        else:
            lanes._library.lanes_begin(lanes._buffer, size)
            begun.append(unique)
    assert begun == written[:32]
    assert dropped == written[WAIT:]
    assert not lanes.is_full()


def _kept(lanes: Lanes) -> list[int]:
    """Pass on all that can begin; the numbers of WRITEs that have lost no data."""
    sized = [lanes.take_sized() for _ in iter(lanes.has_turn, False)]
    return [unique for unique, size in sized if size > HEADER.size + WRITE.size]


def test_a_uid_has_more_bytes_while_its_requests_go_on(lanes: Lanes) -> None:
    """An honest app that writes to many files at once has as many, and the store is healthy."""
    lanes._library.lanes_limit(32, 192, 4 * SHARED_BYTES)
    first, second = ([lanes.write(uid) for _ in range(600)] for uid in (1, 2))
    lanes._library.lanes_limit(1000, 0, 0)
    assert set(_kept(lanes)) == {*first[: 4 * WAIT], *second[: 2 * WAIT]}


@pytest.mark.parametrize("lanes", [1000], indirect=True)
def test_a_uid_whose_requests_hang_has_no_more_after_a_while(lanes: Lanes) -> None:
    lanes._library.lanes_limit(32, 192, 4 * SHARED_BYTES)
    begun = [lanes.write(1) for _ in range(32)]
    assert [lanes.begin() for _ in begun] == begun
    waiting = [lanes.write(1) for _ in range(WAIT - 1)]
    time.sleep(1.2)  # it hangs, but has no more than any may have
    waiting.append(lanes.write(1))  # from now on it has
    time.sleep(1.2)
    refused = lanes.write(1)
    forget, interrupt = lanes.offer(Opcode.FORGET), lanes.interrupt(waiting[-1])
    assert [lanes.begin(), lanes.begin()] == [forget, refused]
    assert not lanes.has_turn()
    lanes.end(begun[0])
    assert lanes.begin() == waiting[0]
    more = [lanes.write(1) for _ in range(20)]  # its requests go on again
    lanes._library.lanes_limit(1000, 2000, 4 * SHARED_BYTES)
    taken = dict(lanes.take_sized() for _ in iter(lanes.has_turn, False))
    assert list(taken) == [*waiting[1:], interrupt, *more]
    assert all(taken[unique] > len(MIB) for unique in more)


def test_small_requests_are_not_refused_for_the_bytes_of_others(lanes: Lanes) -> None:
    for _ in range(400):
        lanes.write(1)
    assert lanes.offer(Opcode.SETXATTR, 2, bytes(65_000))
    for opcode in (Opcode.FLUSH, Opcode.FSYNC, Opcode.LOOKUP, Opcode.READ):
        assert lanes.offer(opcode, 1)


def test_a_uid_has_room_beside_others_that_have_used_up_theirs(lanes: Lanes) -> None:
    for uid in range(1, 20):
        for _ in range(200):
            lanes.write(uid)
    last = lanes.write(99)
    sizes = dict(lanes.take_sized() for _ in iter(lanes.has_turn, False))
    assert sizes[last] == HEADER.size + WRITE.size + len(MIB)


def test_values_beyond_the_share_of_a_uid_are_refused(lanes: Lanes) -> None:
    got = sum(bool(lanes.offer(Opcode.SETXATTR, 1, bytes(65_000))) for _ in range(5000))
    assert got * 65_000 <= 128 << 20
    assert lanes.offer(Opcode.SETXATTR, 2, bytes(65_000))


def test_pages_written_back_are_of_whoever_opened_the_handle_and_are_never_refused(lanes: Lanes) -> None:
    """The kernel sends them without a caller. Whatever else a uid does does not wait for them."""
    for fh in (pack_fh(5, writer=1), pack_fh(6, writer=2)):
        pages = [lanes.write(0, back=True, fh=fh) for _ in range(300)]
        assert [lanes.take_sized()[1] for _ in range(1)] == [HEADER.size + WRITE.size + len(MIB)]
        assert [lanes.begin() for _ in range(32)] == pages[1:33]
        assert not lanes.has_turn()
    for uid in (0, 1):
        read = lanes.put(Opcode.READ, uid=uid)
        assert lanes.begin() == read


def test_no_number_lets_more_begin_than_a_uid_may(lanes: Lanes) -> None:
    """Numbers that are far apart may have one place in a table. An app can choose when to send."""
    for unique in range(2, 2 + 2 * 31, 2):
        lanes.offer(Opcode.READ, 1, unique=unique)
        lanes.begin()
    begun = 0
    for unique in range(2 + (1 << 20), 2 + (1 << 20) + 2 * 31, 2):
        lanes.offer(Opcode.READ, 1, unique=unique)
        if lanes.has_turn():
            lanes.begin()
            begun += 1
    assert begun == 1
    for unique in range(2, 2 + 2 * 31, 2):
        lanes.end(unique)


def test_an_interrupt_stays_behind_its_request(lanes: Lanes) -> None:
    asked = [lanes.put(Opcode.READ, uid=1) for _ in range(3)]
    interrupts = [lanes.interrupt(unique) for unique in asked[:2]]
    assert [lanes.take() for _ in range(5)] == [*asked, *interrupts]
    late = lanes.interrupt(asked[0])  # under way by now: it waits for nothing
    lanes.put(Opcode.READ, uid=1)
    assert lanes.take() == late


def test_an_interrupt_takes_no_longer_however_many_wait(lanes: Lanes) -> None:
    def interrupts() -> float:
        start = time.perf_counter()
        for unique in some:
            lanes.interrupt(unique)
        return time.perf_counter() - start

    some = [lanes.put(Opcode.READ, uid=1) for _ in range(500)]
    alone = min(interrupts() for _ in range(3))
    some = [[lanes.put(Opcode.READ, uid=1) for _ in range(500)] for _ in range(80)][-1]
    assert min(interrupts() for _ in range(3)) < 5 * alone

"""What several processes do to one directory at the same time, and what must hold all the same.

Nobody can model what others do meanwhile, so everything here has an invariant instead: appended
records stay whole and in order, tokens that are moved about are never lost or doubled, a lock
file is held by one, and a photo under redaction never shows a place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

RECORD_BYTES: Final = 64
TOKENS: Final = 12
BOXES: Final = (b"a", b"b", b"c")
RENAMED_S: Final = 10.0
"""The longest time until a photo can be renamed."""
_LOCKS: Final = 3
_ROOMS: Final = 3


def token(number: int) -> bytes:
    """What the file token-N holds, always."""
    return b"token %d " % number * 50


def furnish(shared: Path) -> None:
    """Make the shared directory in the store."""
    for name in ("", "locks", "rooms", *(os.fsdecode(box) for box in BOXES)):
        (shared / name).mkdir(mode=0o777)
    (shared / "log").touch()
    for number in range(TOKENS):
        (shared / os.fsdecode(BOXES[0]) / f"token-{number}").write_bytes(token(number))


def check_shared(shared: Path, written: Sequence[int]) -> None:
    """Fails unless the shared directory is whole. written: how many records each member logged."""
    log = (shared / "log").read_bytes()
    assert len(log) == sum(written) * RECORD_BYTES
    records = [log[i : i + RECORD_BYTES] for i in range(0, len(log), RECORD_BYTES)]
    for member, count in enumerate(written):
        expected = [_record(member, number) for number in range(count)]
        assert [r for r in records if r.startswith(b"%d " % member)] == expected, f"records of {member}"
    names = [name for box in BOXES for name in os.listdir(os.fsencode(shared) + b"/" + box)]
    assert sorted(names) == sorted(b"token-%d" % number for number in range(TOKENS)), "a token was lost"
    for box in BOXES:
        for name in os.listdir(os.fsencode(shared) + b"/" + box):
            path = os.fsencode(shared) + b"/" + box + b"/" + name
            assert os.stat(path).st_nlink == 1
            assert Path(os.fsdecode(path)).read_bytes() == token(int(name.removeprefix(b"token-")))
    assert os.listdir(shared / "locks") == []


def _record(member: int, number: int) -> bytes:
    return (b"%d %d " % (member, number)).ljust(RECORD_BYTES - 1, b".") + b"\n"


class Member:
    """One process in the crowd. logged: records it has appended."""

    def __init__(self, shared: bytes, number: int, seed: int, done: Counter[str]) -> None:
        self.shared = shared
        self.number = number
        self.chance = random.Random(seed)
        self.logged = 0
        self.done = done
        self.operations: tuple[Callable[[], None], ...] = (
            self.log, self.log, self.carry, self.carry, self.carry, self.look, self.read_token,
            self.tie, self.lock, self.visit,
        )  # fmt: skip

    def step(self) -> None:
        """One random operation."""
        operation = self.chance.choice(self.operations)
        self.done[operation.__name__] += 1
        operation()

    def log(self) -> None:
        """Append one record by one write(2)."""
        fd = os.open(self.shared + b"/log", os.O_WRONLY | os.O_APPEND)
        try:
            assert os.write(fd, _record(self.number, self.logged)) == RECORD_BYTES
            self.logged += 1
        finally:
            os.close(fd)

    def _token(self) -> tuple[int, bytes, bytes]:
        number = self.chance.randrange(TOKENS)
        return number, self.chance.choice(BOXES), b"token-%d" % number

    def carry(self) -> None:
        """Move a token to another box, unless it is not in this one."""
        _, box, name = self._token()
        other = self.chance.choice(BOXES)
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.shared + b"/" + box + b"/" + name, self.shared + b"/" + other + b"/" + name)
            self.done["carried"] += 1

    def look(self) -> None:
        """A listing names no token twice, and nothing else but ties."""
        names = os.listdir(self.shared + b"/" + self.chance.choice(BOXES))
        assert len(names) == len(set(names)), names
        assert all(name.startswith((b"token-", b"tie-")) for name in names), names

    def read_token(self) -> None:
        """A token's bytes never change, wherever it is carried meanwhile."""
        number, box, name = self._token()
        with (
            contextlib.suppress(FileNotFoundError),
            open(self.shared + b"/" + box + b"/" + name, "rb") as opened,
        ):
            assert opened.read() == token(number)
            assert os.fstat(opened.fileno()).st_size == len(token(number))
            self.done["token read"] += 1

    def tie(self) -> None:
        """One more name for a token, for a moment."""
        number, box, name = self._token()
        mine = self.shared + b"/" + box + b"/tie-%d" % self.number
        try:
            os.link(self.shared + b"/" + box + b"/" + name, mine)
        except FileNotFoundError:
            return
        assert os.stat(mine).st_nlink >= 2
        with open(mine, "rb") as opened:
            assert opened.read() == token(number)
        os.unlink(mine)
        self.done["tied"] += 1

    def lock(self) -> None:
        """O_CREAT|O_EXCL lets one in; who is in has the place for himself."""
        place = self.shared + b"/locks/%d" % self.chance.randrange(_LOCKS)
        try:
            fd = os.open(place, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        except FileExistsError:
            return
        try:
            mine = b"%d of %d" % (self.chance.randrange(1 << 40), self.number)
            os.write(fd, mine)
            with open(place, "rb") as opened:
                assert opened.read() == mine, "two held the lock"
            self.done["locked"] += 1
        finally:
            os.unlink(place)
            os.close(fd)

    def visit(self) -> None:
        """Rooms are made, used and taken away by all at once."""
        room = self.shared + b"/rooms/%d" % self.chance.randrange(_ROOMS)
        mine = room + b"/%d" % self.number
        with _allowed(errno.EEXIST):
            os.mkdir(room, 0o777)
        with _allowed(errno.ENOENT):
            os.close(os.open(mine, os.O_CREAT | os.O_WRONLY, 0o666))
            self.done["visited"] += 1
            os.unlink(mine)
        with _allowed(errno.ENOENT, errno.ENOTEMPTY):
            os.rmdir(room)


@contextlib.contextmanager
def _allowed(*codes: int):
    try:
        yield
    except OSError as error:
        if error.errno not in codes:
            raise


@dataclass(frozen=True, slots=True)
class Picture:
    """A photo as it is, and as an app under redaction must see it."""

    raw: bytes
    redacted: bytes

    def taken_out(self) -> list[bytes]:
        """What redaction took out, piece by piece."""
        pieces, start = [], None
        for at, (one, other) in enumerate(zip(self.raw + b"\0", self.redacted + b"\0", strict=True)):
            if one != other and start is None:
                start = at
            elif one == other and start is not None:
                pieces.append(self.raw[start:at])
                start = None
        return pieces


def secrets_of(pictures: Sequence[Picture]) -> list[bytes]:
    """Pieces that were taken out of some picture, long enough to mean something, and left in none."""
    return [
        piece
        for picture in pictures
        for piece in picture.taken_out()
        if len(piece) >= 6 and not any(piece in other.redacted for other in pictures)
    ]


class Photographer:
    """Keeps an album of its own and looks into those of others.

    albums: the directories of all members. others: those whose photos this app sees redacted.
    kept: files in the store that nobody owns, by the picture that they hold. sees_places: those
    and everything else are shown whole. refusals: what opening another's photo may end in.
    """

    def __init__(
        self, albums: Sequence[bytes], me: int, others: Sequence[int], pictures: Sequence[Picture],
        kept: Sequence[bytes], sees_places: bool, refusals: frozenset[int], seed: int,
        done: Counter[str],
    ) -> None:  # fmt: skip
        self.albums = albums
        self.mine = albums[me]
        self.others = others
        self.pictures = pictures
        self.secrets = secrets_of(pictures)
        self.kept = kept
        self.sees_places = sees_places
        self.refusals = refusals
        self.chance = random.Random(seed)
        self.done = done
        self.album: dict[bytes, int] = {}
        self.operations: tuple[Callable[[], None], ...] = (
            self.take, self.retake, self.replace, self.delete, self.own, self.foreign, self.foreign,
            self.foreign, self.old,
        )  # fmt: skip

    def step(self) -> None:
        """One random operation."""
        operation = self.chance.choice(self.operations)
        self.done[operation.__name__] += 1
        operation()

    def _write(self, path: bytes, number: int, flags: int) -> None:
        """As a camera does: in pieces."""
        fd = os.open(path, os.O_WRONLY | flags, 0o644)
        try:
            data = memoryview(self.pictures[number].raw)
            for offset in range(0, len(data), 8192):
                os.write(fd, data[offset : offset + 8192])
        finally:
            os.close(fd)

    def _some(self) -> tuple[bytes, int]:
        return b"p%d.jpg" % self.chance.randrange(4), self.chance.randrange(len(self.pictures))

    def take(self) -> None:
        """A new photo."""
        name, number = self._some()
        if name not in self.album:
            self._write(self.mine + b"/" + name, number, os.O_CREAT | os.O_EXCL)
            self.album[name] = number

    def retake(self) -> None:
        """Another photo in the same file."""
        name, number = self._some()
        if name in self.album:
            self._write(self.mine + b"/" + name, number, os.O_TRUNC)
            self.album[name] = number

    def replace(self) -> None:
        """Another photo by that name, all at once."""
        name, number = self._some()
        self._write(self.mine + b"/new", number, os.O_CREAT | os.O_EXCL)
        self._rename(self.mine + b"/new", self.mine + b"/" + name)
        self.album[name] = number

    def _rename(self, old: bytes, new: bytes) -> None:
        """Rename, again and again while the photo is looked at: it is not done while others would wait."""
        end = time.monotonic() + RENAMED_S
        while True:
            try:
                return os.rename(old, new)
            except OSError as error:
                if error.errno not in {errno.EBUSY, errno.EXDEV} or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def delete(self) -> None:
        """A photo goes."""
        name, _ = self._some()
        if self.album.pop(name, None) is not None:
            os.unlink(self.mine + b"/" + name)

    def own(self) -> None:
        """One's own photos are seen whole."""
        for name, number in self.album.items():
            with open(self.mine + b"/" + name, "rb") as opened:
                assert opened.read() == self.pictures[number].raw, f"{name!r} of its own album"

    def foreign(self) -> None:
        """Another's photo shows no place, whatever its owner does to it at the moment."""
        if not self.others:
            return
        album = self.albums[self.chance.choice(self.others)]
        try:
            with open(album + b"/" + self._some()[0], "rb") as opened:
                data = opened.read()
        except OSError as error:
            if error.errno not in self.refusals:
                raise
            self.done[f"foreign {errno.errorcode[error.errno or 0]}"] += 1
            return
        leaked = [secret for secret in self.secrets if secret in data]
        assert not leaked, f"a place leaked: {leaked}"
        if data:
            whole = any(data == picture.redacted for picture in self.pictures)
            self.done["foreign whole" if whole else "foreign part"] += 1

    def old(self) -> None:
        """A photo that nobody changes: exactly the redacted bytes, or the true ones."""
        number = self.chance.randrange(len(self.pictures))
        picture = self.pictures[number]
        with open(self.kept[number], "rb") as opened:
            assert opened.read() == (picture.raw if self.sees_places else picture.redacted)

    def check(self, album: Path) -> None:
        """Fails unless the album in the store is what its photographer left."""
        found = {os.fsencode(path.name): path.read_bytes() for path in album.iterdir()}
        assert found == {name: self.pictures[number].raw for name, number in self.album.items()}

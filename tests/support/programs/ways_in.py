"""Every way by which a name below a directory can come to hold bytes, as calls that an app makes.

Each way puts *data* under ``door.inside`` as well as it can and may fail at any step with an OSError. What it
left in the store is for the test to judge.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.linux import libc
from tests.support.machine import calls
from tests.support.samples import jpegs

RIGHT: Final = jpegs.with_segments(jpegs.plain(), jpegs.segment(jpegs.COM, bytes(400)))
"""What any of the directories takes: a photo without a place."""
ATTRIBUTE: Final = "user.place"
PLACE: Final = jpegs.TEXT_COORDINATES.encode()

_FICLONE: Final = 0x40049409
_READ_WRITE: Final = os.O_RDWR | os.O_CREAT
_KEEP_SIZE, _PUNCH, _ZERO = 1, 2, 16


class Door(NamedTuple):
    """Two directories of a mount and a name. inside: where something is required of content. outside: where
    nothing is. also: another directory where something else is required."""

    outside: Path
    inside: Path
    also: Path
    name: str

    @property
    def source(self) -> Path:
        """The name outside."""
        return self.outside / self.name

    @property
    def target(self) -> Path:
        """The name inside."""
        return self.inside / self.name


@contextlib.contextmanager
def opened(path: Path, flags: int = _READ_WRITE) -> Iterator[int]:
    """A descriptor; what its close says counts."""
    fd = os.open(path, flags, 0o644)
    try:
        yield fd
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(fd)
        raise
    os.close(fd)


def _rename(old: Path, new: Path, flags: int) -> None:
    with opened(old.parent, os.O_PATH) as a, opened(new.parent, os.O_PATH) as b:
        libc.rename2(a, os.fsencode(old.name), b, os.fsencode(new.name), flags)


def _put(path: Path, data: bytes) -> None:
    with opened(path, _READ_WRITE | os.O_TRUNC) as fd:
        os.write(fd, data)


def _over(fd: int, data: bytes) -> None:
    """Make an open file what *data* is."""
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))


def _mapped(fd: int, data: bytes) -> None:
    os.ftruncate(fd, max(1, len(data)))
    with mmap.mmap(fd, max(1, len(data))) as memory:
        memory[: len(data)] = data


def write(door: Door, data: bytes) -> None:
    _put(door.target, data)


def write_backwards(door: Door, data: bytes) -> None:
    with opened(door.target) as fd:
        for at in range(len(data) - 1, -1, -4099):
            first = max(0, at - 4098)
            os.pwrite(fd, data[first : at + 1], first)


def append(door: Door, data: bytes) -> None:
    for part in (data[:500], data[500:]):
        with opened(door.target, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as fd:
            os.write(fd, part)


def over_the_right_one(door: Door, data: bytes) -> None:
    _put(door.target, RIGHT)
    with opened(door.target) as fd:
        os.fsync(fd)
        _over(fd, data)


def behind_the_right_one(door: Door, data: bytes) -> None:
    _put(door.target, RIGHT)
    with opened(door.target, os.O_WRONLY | os.O_APPEND) as fd:
        os.write(fd, data)


def by_a_mapping(door: Door, data: bytes) -> None:
    _put(door.target, RIGHT)
    with opened(door.target) as fd:
        _mapped(fd, data)


def closed_twice(door: Door, data: bytes) -> None:
    with opened(door.target) as fd:
        os.write(fd, RIGHT)
        os.close(os.dup(fd))
        _over(fd, data)
        with contextlib.suppress(OSError):
            os.close(os.dup(fd))
        with contextlib.suppress(OSError):
            os.fsync(fd)


def truncated(door: Door, data: bytes) -> None:
    _put(door.target, RIGHT)
    os.truncate(door.target, min(3, len(data)))


def truncated_up(door: Door, data: bytes) -> None:
    _put(door.target, b"")
    os.truncate(door.target, 3 + len(data))


def allocated(door: Door, data: bytes) -> None:
    with opened(door.target) as fd:
        if calls.fallocate(fd, 0, 0, 300 + len(data)) != "None":
            raise OSError(errno.EOPNOTSUPP, "no room is reserved")


def punched(door: Door, data: bytes) -> None:
    _put(door.target, RIGHT + data)
    with opened(door.target) as fd:
        calls.fallocate(fd, _PUNCH | _KEEP_SIZE, 0, len(RIGHT))
        calls.fallocate(fd, _ZERO, 0, len(RIGHT))


def made_and_written(door: Door, data: bytes) -> None:
    os.mknod(door.target, 0o644)
    with opened(door.target, os.O_WRONLY) as fd:
        os.write(fd, data)


def copied_by_the_kernel(door: Door, data: bytes) -> None:
    _put(door.source, data)
    with opened(door.source, os.O_RDONLY) as source, opened(door.target) as target:
        try:
            os.copy_file_range(source, target, len(data) or 1)
        except OSError:
            os.sendfile(target, source, 0, len(data) or 1)


def cloned(door: Door, data: bytes) -> None:
    _put(door.source, data)
    with opened(door.source, os.O_RDONLY) as source, opened(door.target) as target:
        fcntl.ioctl(target, _FICLONE, source)


def renamed(door: Door, data: bytes) -> None:
    _put(door.source, data)
    os.rename(door.source, door.target)


def renamed_onto(door: Door, data: bytes) -> None:
    _put(door.target, RIGHT)
    _put(door.source, data)
    os.rename(door.source, door.target)


def renamed_anew(door: Door, data: bytes) -> None:
    _put(door.source, data)
    _rename(door.source, door.target, libc.RENAME_NOREPLACE)


def exchanged(door: Door, data: bytes) -> None:
    _put(door.source, RIGHT)
    _rename(door.source, door.target, libc.RENAME_NOREPLACE)
    _put(door.source, data)
    _rename(door.source, door.target, libc.RENAME_EXCHANGE)


def exchanged_the_other_way(door: Door, data: bytes) -> None:
    _put(door.source, RIGHT)
    os.rename(door.source, door.target)
    _put(door.source, data)
    _rename(door.target, door.source, libc.RENAME_EXCHANGE)


def with_its_directory(door: Door, data: bytes) -> None:
    door.source.mkdir()
    _put(door.source / "in", data)
    os.rename(door.source, door.target)


def with_a_directory_exchanged(door: Door, data: bytes) -> None:
    door.target.mkdir()
    door.source.mkdir()
    _put(door.source / "in", data)
    _rename(door.source, door.target, libc.RENAME_EXCHANGE)


def linked(door: Door, data: bytes) -> None:
    _put(door.source, data)
    os.link(door.source, door.target)


def linked_by_descriptor(door: Door, data: bytes) -> None:
    _put(door.source, data)
    with opened(door.source, os.O_PATH) as fd, opened(door.inside, os.O_PATH) as directory:
        libc.link_fd(fd, directory, os.fsencode(door.name))


def linked_and_written(door: Door, data: bytes) -> None:
    _put(door.source, RIGHT)
    os.link(door.source, door.target)
    _put(door.source, data)


def by_its_other_name(door: Door, data: bytes) -> None:
    other = door.outside / f"{door.name}-other"
    _put(door.source, RIGHT)
    os.link(door.source, other)
    os.rename(door.source, door.target)
    _put(other, data)


def by_a_name_that_was_moved_out(door: Door, data: bytes) -> None:
    other = door.inside / f"{door.name}-other"
    _put(door.source, RIGHT)
    os.rename(door.source, door.target)
    os.link(door.target, other)
    os.rename(other, door.source)
    _put(door.source, data)


def by_a_name_that_was_exchanged(door: Door, data: bytes) -> None:
    _put(door.target, RIGHT)
    os.link(door.target, door.inside / f"{door.name}-other")
    _put(door.source, RIGHT)
    _rename(door.source, door.target, libc.RENAME_EXCHANGE)
    _put(door.source, data)


def by_way_of_another(door: Door, data: bytes) -> None:
    first = door.also / door.name
    _put(door.source, data)
    os.rename(door.source, first)
    os.rename(first, door.target)


def linked_from_another(door: Door, data: bytes) -> None:
    first = door.also / door.name
    _put(door.source, data)
    os.rename(door.source, first)
    os.link(first, door.target)


def _moved_open(door: Door, data: bytes, move: Callable[[], None], after: Callable[[int], None]) -> None:
    """Write on by what was opened outside, before the name was inside."""
    _put(door.source, RIGHT)
    with opened(door.source) as fd:
        move()
        after(fd)


def descriptor_kept_over_rename(door: Door, data: bytes) -> None:
    _moved_open(door, data, lambda: os.rename(door.source, door.target), lambda fd: _over(fd, data))


def descriptor_kept_over_link(door: Door, data: bytes) -> None:
    _moved_open(door, data, lambda: os.link(door.source, door.target), lambda fd: _over(fd, data))


def _mapping_kept(door: Door, data: bytes, source: Path, move: Callable[[], None]) -> None:
    room = max(len(data), len(RIGHT))
    _put(source, RIGHT.ljust(room, b"\0"))
    with opened(source) as fd:
        memory = mmap.mmap(fd, room)
    with memory:
        move()
        memory[:] = data.ljust(room, b"\0")
        memory.flush()


def mapping_kept_over_rename(door: Door, data: bytes) -> None:
    _mapping_kept(door, data, door.source, lambda: os.rename(door.source, door.target))


def mapping_kept_over_link(door: Door, data: bytes) -> None:
    _mapping_kept(door, data, door.source, lambda: os.link(door.source, door.target))


def mapping_kept_over_exchange(door: Door, data: bytes) -> None:
    other = door.outside / f"{door.name}-other"
    _put(other, RIGHT)
    os.rename(other, door.target)
    _mapping_kept(door, data, door.source, lambda: _rename(door.source, door.target, libc.RENAME_EXCHANGE))


def mapping_kept_over_its_directory(door: Door, data: bytes) -> None:
    door.source.mkdir()
    _mapping_kept(door, data, door.source / "in", lambda: os.rename(door.source, door.target))


def out_and_in_again(door: Door, data: bytes) -> None:
    _put(door.target, RIGHT)
    with opened(door.target) as fd:
        os.rename(door.target, door.source)
        _over(fd, data)
        os.rename(door.source, door.target)


def attribute_set(door: Door, data: bytes) -> None:
    _put(door.source, RIGHT)
    os.rename(door.source, door.target)
    os.setxattr(door.target, ATTRIBUTE, PLACE + data[:100])


def attribute_of_a_directory(door: Door, data: bytes) -> None:
    door.target.mkdir()
    os.setxattr(door.target, ATTRIBUTE, PLACE + data[:100])


def attribute_moved_in(door: Door, data: bytes) -> None:
    _put(door.source, RIGHT)
    os.setxattr(door.source, ATTRIBUTE, PLACE + data[:100])
    os.rename(door.source, door.target)


def attribute_exchanged(door: Door, data: bytes) -> None:
    _put(door.source, RIGHT)
    os.rename(door.source, door.target)
    attribute_moved_in(door._replace(name=f"{door.name}-other"), data)
    _put(door.source, RIGHT)
    os.setxattr(door.source, ATTRIBUTE, PLACE)
    _rename(door.source, door.target, libc.RENAME_EXCHANGE)


def attribute_linked_in(door: Door, data: bytes) -> None:
    _put(door.source, RIGHT)
    os.setxattr(door.source, ATTRIBUTE, PLACE + data[:100])
    os.link(door.source, door.target)


def attribute_by_an_open_descriptor(door: Door, data: bytes) -> None:
    _put(door.source, RIGHT)
    with opened(door.source, os.O_RDONLY) as fd:
        os.rename(door.source, door.target)
        os.setxattr(fd, ATTRIBUTE, PLACE + data[:100])


WAYS: Final[tuple[Callable[[Door, bytes], None], ...]] = (
    write, write_backwards, append, over_the_right_one, behind_the_right_one, by_a_mapping, closed_twice,
    truncated, truncated_up, allocated, punched, made_and_written, copied_by_the_kernel, cloned,
    renamed, renamed_onto, renamed_anew, exchanged, exchanged_the_other_way, with_its_directory,
    with_a_directory_exchanged, linked, linked_by_descriptor, linked_and_written, by_its_other_name,
    by_a_name_that_was_moved_out, by_a_name_that_was_exchanged,
    by_way_of_another, linked_from_another,
    descriptor_kept_over_rename, descriptor_kept_over_link, mapping_kept_over_rename, mapping_kept_over_link,
    mapping_kept_over_exchange, mapping_kept_over_its_directory, out_and_in_again,
    attribute_set, attribute_of_a_directory, attribute_moved_in, attribute_exchanged, attribute_linked_in,
    attribute_by_an_open_descriptor,
)  # fmt: skip

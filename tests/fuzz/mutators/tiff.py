"""TIFFs, raws, EXIF and maker notes: entries of directories, and what they refer to."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Literal

from policyfs.redact.exif import makernote_tags, raw_tags
from tests.fuzz.mutators.parts import MOST_BYTES, Mutator, some

_STRUCTURE = (
    *(0x14A, 0x8769, 0x8825, 0xA005, 0x927C, 0xC634, 0xC68B, 0x02BC, 0x83BB, 0x8649, 0x8773, 0x103, 0x10F),
    *(0x110, 0x111, 0x117, 0x144, 0x145, 0x201, 0x202, 0x15B, 0x100, 0x101, 0x002E, 0x002F, 0xFFFF),
    *(0xB000, 0xB001, 0xB002),
)
"""Tags by which other things are found, or understood."""
TAGS = (
    *_STRUCTURE,
    *sorted(
        {tag for table in (*raw_tags.TABLES.values(), *makernote_tags.NOTE_TABLES.values()) for tag in table}
    ),
)
_DIRECTORIES = frozenset({0x14A, 0x8769, 0x8825, 0xA005, 0x2010, 0x2020, 0x2040, 0x2050, 0x3000})
_NOTE = 0x927C
_NOTE_STARTS = (0, 6, 8, 10, 12, 14, 18, 26)
"""Where in a maker's note its directory may begin."""
_SIZES = (1, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 1, 1, 8, 8, 8)
"""Of one value of each type."""
_MOST_ENTRIES = 400
_MOST_DIRECTORIES = 30


@dataclass(slots=True)
class _File:
    """The bytes, and where in them directories and entries lie."""

    data: bytearray
    order: Literal["little", "big"]
    wide: bool
    directories: list[int] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)

    def number(self, at: int, size: int) -> int:
        return int.from_bytes(self.data[at : at + size], self.order)

    def put(self, at: int, number: int, size: int) -> None:
        if 0 <= at <= len(self.data) - size:
            self.data[at : at + size] = (number % (1 << 8 * size)).to_bytes(size, self.order)

    @property
    def word(self) -> int:
        """Bytes of a count or an offset."""
        return 8 if self.wide else 4

    @property
    def lead(self) -> int:
        """Bytes of the count before a directory's entries."""
        return 8 if self.wide else 2

    @property
    def step(self) -> int:
        """Bytes of an entry."""
        return 20 if self.wide else 12

    def value_at(self, entry: int) -> int:
        """Where its value or its offset stands."""
        return entry + 4 + self.word


def mutate(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A TIFF after accidents to its directories. inside: for the values of tags."""
    if len(data) < 16:
        return inside(data, rng)
    for _ in some(rng):
        file = _File(bytearray(data), "little" if data[:1] == b"I" else "big", data[2:4] in (b"+\0", b"\0+"))
        _walk(file)
        if not file.entries:
            return inside(data, rng)
        _change(file, rng, inside)
        data = bytes(file.data)
    return data


def fuji(data: bytes, rng: Random, inside: Mutator) -> bytes:
    """A RAF: one of the three parts that its header has the places of is changed, and moved to the end."""
    pointer = rng.choice((0x54, 0x54, 0x5C, 0x64, 0x64, 0x78))
    at, size = (int.from_bytes(data[n : n + 4], "big") for n in (pointer, pointer + 4))
    if len(data) < 0x94 or rng.random() < 0.15:
        return inside(data[:0x94], rng) + data[0x94:]
    part = inside(data[at : at + size], rng)
    place = at if at + size == len(data) or rng.random() < 0.3 else len(data)
    head = data[:pointer] + place.to_bytes(4, "big") + len(part).to_bytes(4, "big") + data[pointer + 8 : 0x94]
    return head + data[0x94:place] + part + data[place + len(part) :]


def _walk(file: _File) -> None:
    """Find directories from the first one on, as far as they look like such."""
    todo = [file.number(8, 8) if file.wide else file.number(4, 4)]
    while todo and len(file.directories) < _MOST_DIRECTORIES:
        at = todo.pop(0)
        count = file.number(at, file.lead)
        end = at + file.lead + count * file.step
        if at in file.directories or not 0 < count <= _MOST_ENTRIES or end > len(file.data):
            continue
        file.directories.append(at)
        for entry in range(at + file.lead, end, file.step):
            file.entries.append(entry)
            value = file.number(file.value_at(entry), file.word)
            tag = file.number(entry, 2)
            if tag in _DIRECTORIES:
                todo += [value, *(file.number(value + n * file.word, file.word) for n in range(2))]
            elif tag == _NOTE:
                todo += [value + start for start in _NOTE_STARTS if _like_entries(file, value + start)]
        todo.append(file.number(end, file.word))


def _like_entries(file: _File, at: int) -> bool:
    """Whether a note's directory may be here: its first types are types."""
    count = file.number(at, 2)
    return 0 < count < 200 and all(
        0 < file.number(at + 4 + n * file.step, 2) < len(_SIZES) for n in range(min(count, 3))
    )


def _change(file: _File, rng: Random, inside: Mutator) -> None:
    """One accident to a file that has entries."""
    entry, other = rng.choice(file.entries), rng.choice(file.entries)
    directory = rng.choice(file.directories)
    data = file.data
    match rng.randint(0, 15):
        case 0:
            file.put(entry, rng.choice(TAGS), 2)
        case 1:
            file.put(entry, rng.choice(_STRUCTURE), 2)
        case 2:
            file.put(entry + 2, rng.choice((*range(1, 14), 16, 129, 0)), 2)
        case 3:
            count = file.number(entry + 4, file.word)
            also = file.number(other + 4, file.word)
            file.put(
                entry + 4,
                rng.choice((0, 1, 2, 4, 5, 8, 64, 300, also, count + rng.randint(-3, 9))),
                file.word,
            )
        case 4 | 5:
            where = _spot(file, rng) + rng.choice((0, 0, 0, 1, 2, 4, -1, -2, -4, 12, rng.randint(-40, 40)))
            file.put(file.value_at(entry), where, file.word)
        case 6:
            data[entry : entry + file.step] = data[other : other + file.step]
        case 7 if entry != other:
            first, second = data[entry : entry + file.step], data[other : other + file.step]
            data[entry : entry + file.step], data[other : other + file.step] = second, first
        case 8:
            count = file.number(directory, file.lead)
            file.put(directory, count + rng.randint(-2, 3), file.lead)
        case 9:
            count = file.number(directory, file.lead)
            file.put(directory + file.lead + count * file.step, _spot(file, rng), file.word)
        case 10:
            file.put(entry, file.number(other, 2), 2)
        case 11:
            file.put(rng.randrange(len(data)), _spot(file, rng), 4)
        case 12:
            del data[rng.randint(len(data) // 2, len(data)) :]
        case _:
            _change_value(file, entry, rng, inside)


def _change_value(file: _File, entry: int, rng: Random, inside: Mutator) -> None:
    """What a tag refers to, where it is or, with the new length, behind the file."""
    kind, count = file.number(entry + 2, 2), file.number(entry + 4, file.word)
    size = count * (_SIZES[kind] if kind < len(_SIZES) else 1)
    at = file.value_at(entry) if size <= file.word else file.number(file.value_at(entry), file.word)
    if at + size > len(file.data):
        return
    value = inside(bytes(file.data[at : at + size]), rng)
    if rng.random() < 0.6 or len(file.data) + len(value) > MOST_BYTES:
        file.data[at : at + size] = value[:size].ljust(size, b"\0")
        return
    file.put(entry + 4, len(value) * count // max(size, 1), file.word)
    file.put(file.value_at(entry), len(file.data), file.word)
    file.data += value


def _spot(file: _File, rng: Random) -> int:
    """A place where something is."""
    some_values = [file.number(file.value_at(entry), file.word) for entry in rng.choices(file.entries, k=4)]
    end = len(file.data)
    return rng.choice((*file.directories, *some_values, rng.choice(file.entries), 0, 8, end, end - 4))

"""Races for the bytes of a photo: who moves the secret, who watches it raw, and who must not see it.

The photo's header (metadata) is built in several layouts of one size: in each the EXIF, XMP and IPTC
blocks lie elsewhere, between segments of padding. The writer turns one into the next; the restricted
reader reads in every way there is. What counts is a pass of the reader during which the writer's
counter of moves went on (for the first pass after an open: since before the open).
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.machine.namespace import die_with_parent
from tests.support.machine.processes import wait_for
from tests.support.samples import jpegs
from tests.support.samples.carriers import HEADER_BYTES, LAYOUTS, scattered
from tests.support.samples.media import HOME

ALL: Final = (
    *("read", "pread", "readahead", "mmap-shared", "mmap-private", "held", "splice", "sendfile", "direct"),
    "copy_file_range",
)
_PADDING: Final = 0xE4  # an APP segment that nobody knows: zeros under redaction
_COUNTERS: Final = struct.Struct("=6Q")
_ENDING_S: Final = 20.0
_PAUSE_US: Final = {"map": 1}
_REQUESTS_US: Final = 1000
"""Pause of a writer that makes requests, whose daemon has to come to the reader's, too."""


def build(arena: Path) -> Path:
    """Compile race.c into a directory that plain uids may pass through."""
    binary = arena / "race"
    source = Path(__file__).with_name("race.c")
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(binary), str(source)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    binary.chmod(0o755)
    return binary


def layouts(picture_bytes: int = 40_000) -> list[bytes]:
    """One photo in LAYOUTS forms of equal size; in each the places lie elsewhere in the header."""
    chance = random.Random(7)
    picture = jpegs.plain(5, 160)[2:]
    picture += b"\0" * max(0, picture_bytes - len(picture))
    xmp = jpegs.xmp_packet(
        f"<photoshop:City>{HOME.city}</photoshop:City><exif:GPSLatitude>47,48.27186N</exif:GPSLatitude>"
    )
    blocks = [
        jpegs.exif_segment(jpegs.exif("II")),
        jpegs.exif_segment(jpegs.exif("MM")),
        jpegs.xmp_segment(xmp),
        jpegs.photoshop_segment(jpegs.resource(0x0404, jpegs.iptc_place())),
    ]
    made = [_header(chance, blocks) + picture for _ in range(LAYOUTS)]
    assert len({len(one) for one in made}) == 1 and len(set(made)) == LAYOUTS
    assert all(jpegs.leaks(one) for one in made)
    return made


def _header(chance: random.Random, blocks: Sequence[bytes]) -> bytes:
    spare = HEADER_BYTES - 2 - sum(map(len, blocks)) - 4 * (len(blocks) + 1)
    order, gaps = scattered(chance, blocks, spare)
    header = b"\xff\xd8"
    for gap, block in zip(gaps, [*order, b""], strict=True):
        header += jpegs.segment(_PADDING, b"x" * gap) + block
    assert len(header) == HEADER_BYTES
    return header


def secrets() -> list[bytes]:
    """What must not be read: places in the encodings that layouts() uses."""
    rationals = [jpegs.pack(order, *jpegs.LATITUDE[4:]) for order in ("II", "MM")]
    rationals += [jpegs.pack(order, *jpegs.LONGITUDE[4:]) for order in ("II", "MM")]
    words = [*(name.encode() for name in HOME.names), b"48.27186", str(HOME.latitude).encode()]
    return rationals + words


@dataclass(frozen=True, slots=True)
class Seen:
    """What the restricted reader saw. techniques: by name; opens: how often it got in, and
    not, and to how many of its opens the file was changed since the one before."""

    opens: dict[str, Any]
    techniques: dict[str, dict[str, Any]]
    moves: int
    raw_reader_saw: int

    @property
    def entered(self) -> int:
        """Passes, good or failed, during which the writer moved the secret."""
        return sum(tally["entered"] for tally in self.techniques.values())

    @property
    def leaked(self) -> dict[str, int]:
        """Passes that saw a secret, by technique."""
        return {name: tally["leaked"] for name, tally in self.techniques.items() if tally["leaked"]}

    def passes(self, technique: str) -> int:
        """Passes of one technique that read the file."""
        return self.techniques[technique]["passes"]


class Race:
    """The processes of one race over one file of a mount."""

    def __init__(self, binary: Path, arena: Path) -> None:
        """arena: a directory that plain uids may pass through."""
        self.binary = binary
        self.directory = arena / "race-files"
        self.directory.mkdir(mode=0o755, exist_ok=True)
        self.use(layouts())
        self._secrets = self._file("secrets", "".join(s.hex() + "\n" for s in secrets()).encode())
        self._counters = self._file("counters", b"")

    def use(self, images: list[bytes]) -> None:
        """Race over these forms of one file, LAYOUTS of one size that differ in their first HEADER_BYTES."""
        assert len(images) == LAYOUTS
        self.images = images
        self.size = len(images[0])
        self._layouts = self._file("layouts", b"".join(images))

    def look_for(self, secrets: Sequence[bytes]) -> None:
        """Race for these bytes, and no others."""
        self._secrets = self._file("secrets", "".join(s.hex() + "\n" for s in secrets).encode())

    def _file(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        path.chmod(0o666 if name == "counters" else 0o644)
        return path

    def counters(self) -> tuple[int, ...]:
        """moves, stop, asked, bumped, touched, opened (struct counters of race.c)."""
        return _COUNTERS.unpack(self._counters.read_bytes())

    def _start(self, uid: int, *words: str | Path) -> subprocess.Popen[bytes]:
        become = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--"] if uid else []
        return subprocess.Popen(
            [*become, str(self.binary), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            cwd="/",
            preexec_fn=lambda: die_with_parent(signal.SIGKILL),
        )

    def run(
        self,
        path: Path,
        *,
        mode: str,
        writer: int,
        reader: int,
        entered: int,
        seconds: float,
        in_store: Path | None = None,
        donor: Path | None = None,
        pause_us: int | None = None,
        techniques: Sequence[str] = ALL,
        leaks: int = 0,
        writer_path: Path | None = None,
    ) -> Seen:
        """Race until *entered* passes had the writer at work, or *seconds* have gone, or *leaks* were
        seen (0: to the end).

        writer, reader: uids; the writer also is the raw reader that maps the file and touches its
        pages. pause_us: the writer's between two moves. in_store: the same file in the store, which gets
        new times before each open. writer_path: where the writer finds the file, if not where the reader
        does.
        """
        self._counters.write_bytes(bytes(_COUNTERS.size))
        pause = _PAUSE_US.get(mode, _REQUESTS_US) if pause_us is None else pause_us
        with self._helpers(writer_path or path, mode, writer, pause, in_store) as helpers:
            wanted = [name for name in techniques if donor is not None or name != "copy_file_range"]
            limits = [str(entered), str(seconds), str(leaks)]
            words = [donor or "-", *limits, "1" if in_store else "0", path, *wanted]
            said = self._end(
                self._start(reader, "reader", self._counters, self._secrets, *words), seconds + _ENDING_S
            )
        return Seen(said["opens"], said["techniques"], helpers["writer"]["moves"], helpers["toucher"]["seen"])

    @contextlib.contextmanager
    def _helpers(
        self, path: Path, mode: str, uid: int, pause_us: int, in_store: Path | None
    ) -> Iterator[dict[str, Any]]:
        """Writer, raw reader and bumper at work; their last words are in the dict afterwards."""
        count, header, pause = str(LAYOUTS), str(HEADER_BYTES), str(pause_us)
        words = ["writer", mode, self._counters, self._layouts, count, header, pause, path]
        running = {"writer": self._start(uid, *words)}
        try:
            wait_for(lambda: self._alive(running["writer"]) and self.counters()[0] > 2, "the writer writes")
            running["toucher"] = self._start(uid, "toucher", self._counters, self._secrets, path)
            if in_store is not None:
                running["bumper"] = self._start(0, "bumper", self._counters, in_store)
            wait_for(
                lambda: self._alive(running["toucher"]) and self.counters()[4] > 0,
                "the raw reader sees the secret",
            )
            said: dict[str, Any] = {}
            yield said
            self._stop()
            said |= {name: self._end(process, _ENDING_S) for name, process in running.items()}
        finally:
            self._stop()
            for process in running.values():
                if process.poll() is None:
                    process.kill()
                process.wait()
                for pipe in (process.stdout, process.stderr):
                    if pipe is not None:
                        pipe.close()

    def _stop(self) -> None:
        with self._counters.open("r+b") as file:
            file.seek(8)
            file.write(struct.pack("=Q", 1))

    @staticmethod
    def _alive(process: subprocess.Popen[bytes]) -> bool:
        if process.poll() is not None and process.stderr is not None:
            raise AssertionError(f"a racer ended: {process.stderr.read()!r}")
        return True

    @staticmethod
    def _end(process: subprocess.Popen[bytes], deadline_s: float) -> dict[str, Any]:
        try:
            out, error = process.communicate(timeout=deadline_s)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        assert process.returncode == 0, (process.args, error.decode(errors="replace"))
        said: dict[str, Any] = json.loads(out)
        return said

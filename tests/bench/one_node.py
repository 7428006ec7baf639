"""Count the names that the kernel could keep if it checked permissions at each directory of a shared mount.

`python -m tests.bench.one_node` prints the table of docs/architecture/kernel-caches.md. A name counts if all
callers that may pass its directory get the same answer: the same node of a file, the same sight of a
directory. The answers are the engine's. The trees are made up: such files, kinds and owners as users have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.common.policy_files import read_sources
from policyfs.domain import OWNER_NONE, Facts, FileType, Op, Principal
from policyfs.fs.access.views import Views
from policyfs.fs.inodes.caller import Caller
from policyfs.fs.inodes.node import BytePath
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.decide import Engine, PathState
from policyfs.policy.rules.callers import CallerClass
from policyfs.policy.rules.distinctions import Distinctions

NO_OWNER: Final = Facts(None, OWNER_NONE)
POLICIES: Final = Path(__file__).resolve().parents[2] / "policies"
_KINDS: Final = {
    "jpg": "image/jpeg", "png": "image/png", "mp4": "video/mp4", "mkv": "video/x-matroska",
    "mp3": "audio/mpeg", "pdf": "application/pdf", "zip": "application/zip", "xmp": "application/rdf+xml",
    "json": "application/json", "db": "application/x-sqlite3",
}  # fmt: skip


class File(NamedTuple):
    """One file of a tree. owner: an app, or OWNER_NONE."""

    path: str
    owner: str = OWNER_NONE

    @property
    def facts(self) -> Facts:
        """Its content kind, by the extension, and its owner."""
        return Facts(_KINDS.get(self.path.rpartition(".")[2], "text/plain"), self.owner)


def _files(directory: str, count: int, kinds: str, owner: str = OWNER_NONE) -> Iterator[File]:
    """Yield a number of files in each directory. Names with braces stand for each of their alternatives."""
    parts = [part.strip("{}").split(",") for part in directory.split("/")]
    for names in product(*parts):
        for number, kind in product(range(count), kinds.split()):
            yield File(f"{'/'.join(names)}/{number:04}.{kind}", owner)


def _numbered(first: int, last: int) -> str:
    return "{" + ",".join(f"{number:02}" for number in range(first, last + 1)) + "}"


_MONTHS: Final = _numbered(1, 12)
_ALBUMS: Final = "/Music/" + _numbered(1, 25) + "/" + _numbered(1, 4)


def _android() -> Iterator[File]:
    yield from _files("/DCIM/Camera", 1_500, "jpg", "camera")
    yield from _files("/DCIM/Camera", 120, "mp4", "camera")
    yield from _files("/Pictures/Screenshots", 300, "png")
    yield from _files("/Pictures/Messenger", 400, "jpg", "messenger")
    yield from _files("/Movies", 20, "mp4")
    yield from _files("/Music/" + _numbered(1, 40), 12, "mp3")
    yield from _files("/Download", 40, "pdf jpg zip")
    yield from _files("/Documents", 60, "pdf", "files")
    yield from _files("/Android/media/messenger/" + "{Images,Sent}", 400, "jpg", "messenger")
    for app in ("camera", "gallery", "maps", "player", "messenger", "files"):
        yield from _files(f"/Android/data/{app}/cache", 100, "jpg", app)


def _dataset() -> Iterator[File]:
    yield from _files("/images/{train,test}/" + _numbered(1, 50), 30, "jpg")
    yield from _files("/labels/{train,test}/" + _numbered(1, 50), 30, "json", "labeler")
    for app, runs in (("trainer", 20), ("labeler", 2), ("curator", 2)):
        yield from _files(f"/scratch/{app}/" + _numbered(1, runs), 10, "log db", app)


def _downloads() -> Iterator[File]:
    yield from _files("/Downloads/complete/" + _numbered(1, 60), 4, "mkv", "downloader")
    yield from _files("/Films/" + _numbered(1, 300), 1, "mkv srt nfo jpg", "importer")
    yield from _files("/Series/" + _numbered(1, 20) + "/" + _numbered(1, 3), 10, "mkv srt", "importer")


def _drop_box() -> Iterator[File]:
    yield from _files("/In", 60, "jpg", "website")
    yield from _files("/In/scans", 40, "pdf", "scanner")
    yield from _files("/Filed/{2025,2026}/" + _MONTHS, 40, "jpg pdf", "collector")


def _family_photos() -> Iterator[File]:
    yield from _files("/DCIM/{2022,2023,2024,2025}/" + _MONTHS, 60, "jpg", "camera")
    yield from _files("/DCIM/{2022,2023,2024,2025}/" + _MONTHS, 5, "mp4", "camera")
    yield from _files("/Pictures/" + _numbered(1, 40), 30, "jpg")
    yield from _files("/Movies/" + _numbered(1, 80), 1, "mkv srt")
    yield from _files(_ALBUMS, 12, "mp3")
    for app in ("camera", "gallery", "maps", "player"):
        yield from _files(f"/Android/data/{app}/cache", 200, "jpg", app)


def _home_server() -> Iterator[File]:
    yield from _files("/Photos/{anna,ben}/{2022,2023,2024,2025}/" + _MONTHS, 40, "jpg", "syncthing")
    yield from _files("/Photos/{anna,ben}/{2022,2023,2024,2025}/" + _MONTHS, 3, "mp4", "syncthing")
    yield from _files("/Photos/{anna,ben}/.stversions", 100, "jpg", "syncthing")
    yield from _files("/Films/" + _numbered(1, 150), 1, "mkv srt nfo jpg")
    yield from _files(_ALBUMS, 12, "mp3")
    yield from _files("/Immich/thumbs/" + _numbered(0, 99), 80, "jpg", "immich")
    yield from _files("/Immich/encoded-video/" + _numbered(0, 99), 3, "mp4", "immich")


def _kiosk() -> Iterator[File]:
    yield from _files("/Album", 60, "jpg", "curator")
    yield from _files("/Album/" + _numbered(1, 12), 40, "jpg", "curator")
    yield from _files("/Drafts/" + _numbered(1, 6), 50, "jpg", "curator")


def _legal_hold() -> Iterator[File]:
    cases = "{" + ",".join(f"2026-{number:03}" for number in range(1, 41)) + "}"
    yield from _files(f"/Cases/{cases}/{{Mail,Contracts,Notes}}", 10, "pdf txt", "staff")


def _two_galleries() -> Iterator[File]:
    years = _numbered(2018, 2025)
    yield from _files(f"/Photos/{years}/" + _numbered(1, 8), 40, "jpg xmp", "anna")
    yield from _files("/Photos/Shared/" + _numbered(1, 6), 50, "jpg xmp", "ben")
    for person, count in (("anna", 60), ("ben", 30)):
        yield from _files(f"/Home/{person}/Documents/" + _numbered(1, 20), count, "pdf", person)


TREES: Final = {
    "android-scoped-storage": _android, "dataset": _dataset, "downloads": _downloads,
    "drop-box": _drop_box, "family-photos": _family_photos, "home-server": _home_server,
    "kiosk": _kiosk, "legal-hold": _legal_hold, "two-galleries": _two_galleries,
}  # fmt: skip


class Count(NamedTuple):
    """The number of names, and of those that a kernel could keep. now: without gates. top: if only the top
    directories are gates. each: if every directory is one. known: the same by today's kinds and owners, which
    can change. tested: as *each*, by the engine's quick test, which calls some equal answers different."""

    all: int = 0
    now: int = 0
    top: int = 0
    each: int = 0
    known: int = 0
    tested: int = 0

    def and_(self, *kept: bool) -> Count:
        """Return the numbers with another name, and whether it could be kept in each case."""
        return Count(self.all + 1, *(number + one for number, one in zip(self[1:], kept, strict=True)))


Classes = tuple[CallerClass, ...]


class Gates:
    """The callers of a shared mount that may pass each directory, under one policy, and their answers."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Final = engine
        self._passing: Final[dict[str, Classes]] = {"": tuple(engine.table.callers.of_shared_mount())}
        self._tests: Final[dict[Classes, Distinctions]] = {}

    def passing(self, directory: str) -> Classes:
        """Return the callers that see a directory and all directories above it. "" is the root."""
        found = self._passing.get(directory)
        if found is None:
            state = self._engine.state_of(directory.encode())
            above = self.passing(directory.rpartition("/")[0])
            found = tuple(of for of in above if self._sees(of, state, FileType.DIRECTORY, NO_OWNER))
            self._passing[directory] = found
        return found

    def count(self, files: Iterable[File]) -> tuple[Count, Count]:
        """Return the numbers for the files, and for the directories above: those that some caller reaches."""
        counted, directories = Count(), dict[str, None]()
        for file in files:
            names = file.path.split("/")[:-1]
            directories |= dict.fromkeys("/".join(names[: depth + 1]) for depth in range(1, len(names)))
            if callers := self.passing("/".join(names)):
                state = self._engine.state_of(file.path.encode())
                tested = self._test(callers)
                counted = counted.and_(
                    not self._engine.distinctions.node(state),
                    self._one_node(self.passing("/".join(names[:2])), state),
                    self._one_node(callers, state),
                    len({self._node(of, state, file) for of in callers}) == 1,
                    not tested.node(state),
                )
        return counted, self._count_directories(directories)

    def _count_directories(self, paths: Iterable[str]) -> Count:
        counted = Count()
        for path in paths:
            if callers := self.passing(path.rpartition("/")[0]):
                state = self._engine.state_of(path.encode())
                names = path.split("/")
                top = self.passing("/".join(names[:2])) if len(names) > 2 else callers
                each = not self._test(callers).sight(state)
                counted = counted.and_(
                    not self._engine.distinctions.sight(state),
                    not self._test(top).sight(state),
                    each,
                    len({of in self.passing(path) for of in callers}) == 1,
                    each,
                )
        return counted

    def _principal(self, of: CallerClass) -> Principal:
        assert of.sample_uid is not None
        return self._engine.principal(of.sample_uid)

    def _sees(self, of: CallerClass, state: PathState, ftype: FileType, facts: Facts) -> bool:
        return self._engine.decide(self._principal(of), Op.SEE, state, ftype, facts).allowed

    def _test(self, callers: Classes) -> Distinctions:
        if callers not in self._tests:
            self._tests[callers] = self._engine.distinctions_of(list(callers))
        return self._tests[callers]

    def _one_node(self, callers: Classes, state: PathState) -> bool:
        """Return True if the callers get one node of a file here, whatever its kind and owner are."""
        if self._test(callers).sight(state):
            return False
        views = {self._engine.view(self._principal(of), state) for of in callers}
        return len(views) == 1 and (views.pop().raw or len(callers) == 1)

    def _node(self, of: CallerClass, state: PathState, file: File) -> object:
        """Return what tells a caller's node of a file from other nodes now; None if the file is hidden."""
        who, engine = self._principal(of), self._engine
        if not self._sees(of, state, FileType.REGULAR, file.facts):
            return None
        view = engine.view(who, state)
        byte_path = BytePath.RAW if view.raw else BytePath.LIVE
        if view.redact and Views.hidden_now(engine, who, state, lambda: file.owner):
            byte_path = BytePath.COPY
        caller = Caller(engine.principal, of.sample_uid, of.sample_uid, 0, 0)
        return view.key, byte_path, Views.whose(engine, caller, view, byte_path, state, lambda: file.owner)


def rows() -> Iterator[tuple[str, Count, Count]]:
    """Yield the name of each shipped policy with the numbers of its tree's files and directories."""
    for name, tree in TREES.items():
        gates = Gates(load_policy(read_sources(str(POLICIES / f"{name}.yaml")), at_ns=0))
        yield name, *gates.count(tree())


def table() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| policy | files | now | at the top | everywhere | facts of today | quick test | directories |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, files, directories in rows():
        shares = " | ".join(f"{number / files.all:.2f}" for number in files[1:])
        yield f"| {name} | {files.all:,} | {shares} | {directories.each / directories.all:.2f} |"


if __name__ == "__main__":
    print(*table(), sep="\n")

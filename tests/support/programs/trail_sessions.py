"""Sessions of apps, as events for a generated trail (trail_generator.py)."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections.abc import Callable
from typing import Final, NamedTuple

from policyfs.trail.lines.event import Event

START_NS: Final = 1_772_352_000_000_000_000
"""2026-03-01T08:00:00Z."""
_DAY_NS: Final = 86_400_000_000_000

STORY: Final = b"/Upload/20260301_story.jpg"
STORY_NAMES: Final = (STORY, b"/DCIM/2026/03/20260301_story.jpg", b"/Pictures/Best/story.jpg")
"""The names of one file through its life."""

POLICIES: Final = tuple(
    f"apiVersion: policyfs/v1\nkind: Policy\nmetadata: {{name: family-{number}}}\n"
    'apps: {gallery: {uid: 10011}}\nrules:\n  - {id: look, allow: [see], who: {app: any}, paths: "/***"}\n'
    for number in (1, 2)
)
DIGESTS: Final = tuple(hashlib.sha256(text.encode()).hexdigest() for text in POLICIES)


Fields = list[object]


class _File(NamedTuple):
    path: bytes
    kind: str
    size: int


class _Caller(NamedTuple):
    app: str
    uid: int
    exe: str


_JELLYFIN: Final = _Caller("jellyfin", 10020, "/usr/lib/jellyfin-ffmpeg/ffprobe")
_GALLERY: Final = _Caller("gallery", 10011, "/usr/bin/exiftool")
_PHONE: Final = _Caller("immich", 10012, "/usr/bin/node")
_SYNC: Final = _Caller("syncthing", 10013, "/usr/bin/syncthing")
_BACKUP: Final = _Caller("backup", 10030, "/usr/bin/restic")
_WEB: Final = _Caller("web", 33, "/usr/sbin/nginx")
_MAPS: Final = _Caller("maps", 10014, "/usr/bin/python3.13")

_EVENT: Final = tuple(Event._field_defaults.get(name) for name in Event._fields)
AT: Final = {name: number for number, name in enumerate(Event._fields)}
"""The place of each field."""


def _library(rng: random.Random, folders: int) -> tuple[list[tuple[bytes, list[_File]]], ...]:
    """Return folders of photos, and folders of films and music: their path and their files."""
    photos, media = [], []
    for number in range(folders):
        year, month = 2012 + number % 14, number % 12 + 1
        place = b"/DCIM/%d/%02d" % (year, month)
        if number >= 168:
            place += "/Ausflug né %d".encode() % number
        photos.append((place, [_photo(rng, place, year, month, n) for n in range(40)]))
    for number in range(folders // 2):
        if number % 3:
            place = b"/Music/Artist %d/Album %d" % (number // 7, number % 7)
            files = [_File(b"%b/%02d - Track.flac" % (place, n), "audio/flac", rng.randrange(1 << 25))
                     for n in range(1, 13)]  # fmt: skip
        else:
            place = b"/Video/Series %d/Season %02d" % (number // 9, number % 9)
            files = [_File(b"%b/S%02dE%02d.mkv" % (place, number % 9, n), "video/x-matroska",
                           rng.randrange(1 << 32)) for n in range(1, 11)]  # fmt: skip
        media.append((place, files))
    return photos, media


def _photo(rng: random.Random, place: bytes, year: int, month: int, number: int) -> _File:
    day, clock = number % 28 + 1, rng.randrange(60_000, 220_000)
    stem = b"%b/IMG_%d%02d%02d_%06d" % (place, year, month, day, clock)
    if number % 9 == 8:
        return _File(stem + b".mp4", "video/mp4", rng.randrange(1 << 28))
    if number % 5 == 4:
        return _File(stem + b".heic", "image/heic", rng.randrange(1 << 22))
    return _File(stem + (b"\xe9.jpg" if number == 39 else b".jpg"), "image/jpeg", rng.randrange(1 << 23))


class Sessions:
    """Makes sessions: lists of events, in which only the times are still missing."""

    def __init__(self, rng: random.Random, mount: str, folders: int) -> None:
        self._rng = rng
        self._mount = mount
        self._photos, self._media = _library(rng, folders)
        self._handle = 0
        self.generation = 1
        self._uploads = 0
        self._kinds: tuple[tuple[Callable[[], list[Fields]], int], ...] = (
            (self._slides, 30), (self._scan, 22), (self._stream, 14), (self._upload, 8),
            (self._sync, 6), (self._pages, 8), (self._refusals, 4), (self._strangers, 3), (self._places, 5),
        )  # fmt: skip

    def session(self, *, night: bool) -> list[Fields]:
        """Return the events of a random session."""
        if night:
            return self._backup()
        [make] = self._rng.choices([make for make, _ in self._kinds], [share for _, share in self._kinds])
        return make()

    def event(self, caller: _Caller, pid: int, operation: str, syscall: str, path: bytes, **fields: object) \
            -> Fields:  # fmt: skip
        """Return the fields of one event, in order."""
        made = list(_EVENT)
        made[1:12] = (
            self._mount, self.generation, DIGESTS[self.generation - 1], caller.app, caller.uid, caller.uid,
            pid, caller.exe, operation, syscall, path,
        )  # fmt: skip
        made[12] = "allow"
        for name, value in fields.items():
            made[AT[name]] = value
        return made

    def _pid(self) -> int:
        return self._rng.randrange(2000, 60_000)

    def _opened(self, template: Fields, files: list[_File]) -> list[Fields]:
        """Return an open of each file, like the template."""
        found, path, kind, handle = [], AT["path"], AT["kind"], AT["handle"]
        for file in files:
            made = template.copy()
            self._handle += 1
            made[path], made[kind], made[handle] = file.path, file.kind, self._handle
            found.append(made)
        return found

    def _listing(self, caller: _Caller, pid: int, folder: bytes, rule: str) -> Fields:
        return self.event(caller, pid, "list", "open(O_RDONLY|O_DIRECTORY)", folder, rules=(rule,))

    def _slides(self) -> list[Fields]:
        pid, (folder, files) = self._pid(), self._rng.choice(self._photos)
        like = self.event(
            _GALLERY, pid, "open", "open(O_RDONLY)", b"", rules=("gallery-sees", "no-location"),
            io="passthrough", view="redacted(location)",
            redacted=((self._rng.randrange(200, 900), self._rng.choice((86, 112, 240))),),
        )  # fmt: skip
        return [self._listing(_GALLERY, pid, folder, "gallery-sees"), *self._opened(like, files)]

    def _scan(self) -> list[Fields]:
        pid, found = self._pid(), []
        for folder, files in self._rng.choices(self._media, k=5):
            like = self.event(_JELLYFIN, pid, "open", "open(O_RDONLY)", b"", rules=("media-read",),
                              io="passthrough", view="raw")  # fmt: skip
            found += [self._listing(_JELLYFIN, pid, folder, "media-read"), *self._opened(like, files)]
        return found

    def _stream(self) -> list[Fields]:
        pid, (_, files) = self._pid(), self._rng.choice(self._media)
        file = self._rng.choice(files)
        found = []
        for made in self._opened(
            self.event(_JELLYFIN, pid, "open", "open(O_RDONLY)", b"", rules=("media-read",), io="mediated",
                       view="raw"), [file] * 6
        ):  # fmt: skip
            ended = made.copy()
            ended[AT["operation"]], ended[AT["syscall"]] = "release", "close"
            ended[AT["bytes_read"]] = self._rng.randrange(1 << 24)
            found += [made, ended]
        return found

    def _upload(self) -> list[Fields]:
        pid, found, (folder, _) = self._pid(), [], self._rng.choice(self._photos)
        for _ in range(10):
            self._uploads += 1
            name = b"20260301_%06d.jpg" % self._uploads
            found += self.written(_PHONE, pid, b"/Upload/.%b.part" % name, "create")
            found.append(self.moved(_PHONE, pid, b"/Upload/.%b.part" % name, b"%b/%b" % (folder, name)))
        return found

    def written(self, caller: _Caller, pid: int, path: bytes, operation: str) -> list[Fields]:
        """Return the events of a file that is created or changed."""
        self._handle += 1
        size, now = self._rng.randrange(1 << 23), START_NS + self._rng.randrange(_DAY_NS)
        flags = "O_WRONLY|O_CREAT|O_EXCL" if operation == "create" else "O_WRONLY"
        common = {
            "rules": ("upload", "media-types"), "kind": "image/jpeg", "io": "mediated", "view": "checked",
            "handle": self._handle,
        }  # fmt: skip
        return [
            self.event(caller, pid, operation, f"open({flags})", path, **common),
            self.event(caller, pid, "release", "close", path, **common, bytes_read=0, bytes_written=size,
                       size_before=0, size_after=size, mtime_before_ns=now, mtime_after_ns=now + 17_000_001),
        ]  # fmt: skip

    def moved(self, caller: _Caller, pid: int, old: bytes, new: bytes) -> Fields:
        """Return the event of a rename."""
        return self.event(caller, pid, "rename", "rename", old, new_path=new, rules=("upload",))

    def _sync(self) -> list[Fields]:
        pid, found, (_, files) = self._pid(), [], self._rng.choice(self._photos)
        for file in self._rng.choices(files, k=8):
            folder, name = os.path.split(file.path)
            temporary = b"%b/.syncthing.%b.tmp" % (folder, name)
            found += self.written(_SYNC, pid, temporary, "create")
            found.append(self.event(_SYNC, pid, "attr", "utimensat", temporary, rules=("sync",)))
            found.append(self.moved(_SYNC, pid, temporary, file.path))
        found.append(self.event(_SYNC, pid, "unlink", "unlink", file.path, rules=("sync",),
                                size_before=file.size, mtime_before_ns=START_NS))  # fmt: skip
        return found

    def _backup(self) -> list[Fields]:
        pid, found = self._pid(), []
        for folder, files in self._rng.choices(self._photos, k=2):
            like = self.event(_BACKUP, pid, "open", "open(O_RDONLY|O_NOATIME)", b"", rules=("backup-all",),
                              io="passthrough", view="raw")  # fmt: skip
            found += [self._listing(_BACKUP, pid, folder, "backup-all"), *self._opened(like, files)]
        return found

    def _pages(self) -> list[Fields]:
        pid, (_, files) = self._pid(), self._rng.choice(self._photos)
        like = self.event(_WEB, pid, "open", "open(O_RDONLY|O_NONBLOCK)", b"", io="passthrough", view="raw",
                          rules=("web-shows",))  # fmt: skip
        found = self._opened(like, files)
        name = b"/Private/wp-login-%d.php" % self._rng.randrange(1 << 30)
        return [*found, self.event(_WEB, pid, "open", "open(O_RDONLY|O_NONBLOCK)", name, decision="deny",
                                   errno=errno.ENOENT, rules=("private",))]  # fmt: skip

    def _refusals(self) -> list[Fields]:
        pid, found, (folder, _) = self._pid(), [], self._rng.choice(self._photos)
        for number in range(6):
            path = b"%b/scan-%d.dwg" % (folder, number)
            fields = {
                "decision": "deny", "errno": errno.EACCES, "rules": ("no-location",),
                "kind": "image/vnd.dwg", "note": "not redacted: no locator for image/vnd.dwg",
            }  # fmt: skip
            found.append(self.event(_GALLERY, pid, "open", "open(O_RDONLY)", path, **fields))
            found.append(self.event(_GALLERY, pid, "open", "open(O_RDONLY)", path, **fields,
                                    repeats=self._rng.randrange(1, 40), since_ns=0))  # fmt: skip
        return found

    def _strangers(self) -> list[Fields]:
        caller = _Caller("stranger", self._rng.randrange(1000, 1040), "/usr/bin/find")
        pid, (folder, _) = self._pid(), self._rng.choice(self._photos)
        place = folder[: folder.rindex(b"/")]
        return [
            self.event(caller, pid, "list", "open(O_RDONLY|O_DIRECTORY)", place + part,
                       decision="deny", errno=errno.EACCES)
            for part in (b"", b"/01", b"/02", b"/03", b"/04")
        ]  # fmt: skip

    def _places(self) -> list[Fields]:
        pid, (_, files) = self._pid(), self._rng.choice(self._photos)
        like = self.event(_MAPS, pid, "open", "open(O_RDONLY)", b"", io="passthrough", view="raw",
                          rules=("maps-see",), would_deny=("maps-trial",), decision="would_deny")  # fmt: skip
        return self._opened(like, files[::3])

    def story(self, chapter: int) -> list[Fields]:
        """Return one part of the life of the file of STORY."""
        first, second, third = STORY_NAMES
        pid = 4242
        if chapter == 0:
            return self.written(_PHONE, pid, first, "create")
        if chapter == 1:
            return [self.moved(_PHONE, pid, first, second)]
        if chapter == 2:
            return self._opened(
                self.event(_GALLERY, pid, "open", "open(O_RDONLY)", b"", io="passthrough",
                           rules=("gallery-sees", "no-location"), view="redacted(location)",
                           redacted=((412, 86),)), [_File(second, "image/jpeg", 1)]
            )  # fmt: skip
        if chapter == 3:
            return [self.event(_WEB, pid, "open", "open(O_RDONLY)", second, decision="deny",
                               errno=errno.EACCES, rules=("private",))]  # fmt: skip
        if chapter == 4:
            return self.written(_SYNC, pid, second, "open")
        if chapter == 5:
            return [self.moved(_SYNC, pid, second, third)]
        return [self.event(_SYNC, pid, "unlink", "unlink", third, rules=("sync",), size_before=4711,
                           mtime_before_ns=START_NS)]  # fmt: skip


CHAPTERS: Final = 7

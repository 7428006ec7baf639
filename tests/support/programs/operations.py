"""Does in a container what programs do with a library, and prints what came of it, as JSON.

Runs by a bare interpreter: `operations.py furnish NAME DIRECTORY...` makes the files of a service NAME that
are there before; `operations.py run NAME DIRECTORY...` (`run:move,delete`: these alone) does each operation
in each directory. A result is what a program notices: bytes, names, modes, errors; no inodes, no times.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import mmap
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PHOTO = Path(__file__).with_name("photo.jpg").read_bytes()
"""A photo with a place."""
LARGE_MIB = 24
OLD = {
    "photo": "jpg", "edit": "mkv", "append": "log", "truncate": "mp4", "overwrite": "txt", "move": "mkv",
    "over": "jpg", "under": "jpg", "link": "mkv", "delete": "mp3", "chmod": "flac", "chown": "epub",
    "utimes": "png", "map": "db", "lock": "sqlite", "xattr": "pdf", "atomic": "json", "nfo": "nfo",
    "srt": "srt", "m3u": "m3u", "left": "avi", "raw": "cr2",
}  # fmt: skip
"""The files that are there before, by operation, with their suffixes."""


class Place:
    """A directory in which a service does its operations. Its own names begin with the service's."""

    def __init__(self, service: str, top: Path) -> None:
        self.service, self.top = service, top

    def old(self, operation: str) -> Path:
        """A file that was there before."""
        return self.top / f"{self.service}-{operation}.{OLD[operation]}"

    def new(self, name: str) -> Path:
        """The path of a file that this service makes."""
        return self.top / f"{self.service} new {name}"


Operation = Callable[[Place], object]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def furnish(place: Place) -> None:
    """Make what is there before."""
    for operation, suffix in OLD.items():
        data = PHOTO if suffix == "jpg" else f"{place.service} {operation}\n".encode() * 500
        place.old(operation).write_bytes(data)
        place.old(operation).chmod(0o664)
        os.chown(place.old(operation), 1000, 1000)


def write(path: Path, data: bytes = b"data\n" * 1000, flags: int = os.O_CREAT | os.O_EXCL) -> str:
    fd = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    return digest(path)


def about(path: Path) -> list[object]:
    """Type and mode, owner, links, size and bytes of a file."""
    its = path.lstat()
    return [stat.filemode(its.st_mode), its.st_uid, its.st_gid, its.st_nlink, its.st_size, digest(path)]


def changed(operation: str, change: Callable[[Path], object]) -> Operation:
    """An operation on a file that was there before; it returns what the file is then."""

    def operate(place: Place) -> object:
        change(place.old(operation))
        return about(place.old(operation))

    return operate


def scan(place: Place) -> object:
    """As a media server does: the names, types, owners and sizes of all."""
    found = []
    for above, names, files in os.walk(place.top):
        for name in sorted(files + names):
            its = (path := Path(above, name)).lstat()
            size = its.st_size if stat.S_ISREG(its.st_mode) else 0
            found.append(f"{path.relative_to(place.top)} {stat.filemode(its.st_mode)} {its.st_uid} {size}")
    return sorted(found)


def edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"edited")


def move(place: Place) -> object:
    there = place.new("Series (2024)")
    there.mkdir()
    return about(place.old("move").rename(there / "S01E01.mkv"))


def rename_over(place: Place) -> object:
    os.replace(place.old("over"), place.old("under"))
    return [about(place.old("under")), place.old("over").exists()]


def hard_link(place: Place) -> object:
    (there := place.new("Imported")).mkdir()
    os.link(place.old("link"), there / "linked.mkv")
    return [about(there / "linked.mkv"), os.path.samefile(there / "linked.mkv", place.old("link"))]


def delete(place: Place) -> object:
    place.old("delete").unlink()
    return place.old("delete").exists()


def thumbnail(place: Place) -> object:
    (there := place.new("thumbs") / "ab" / "cd").mkdir(parents=True)
    return write(there / "preview.jpeg", PHOTO)


def texts(place: Place) -> object:
    """Texts that media managers write beside films and music."""
    names = ("movie.nfo", "movie.de.srt", "list.m3u", "album.cue", "song.lrc", "notes.md", ".immich",
             "theme.ogg", "metadata.opf", "part.!qB", "cover.webp", "no suffix", "photo.jpg.xmp")  # fmt: skip
    text = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><exif:GPSLatitude>52,30N</exif:GPSLatitude></x:xmpmeta>'
    return [write(place.new(name), f"# {name}\n{text}\n".encode()) for name in names]


def old_texts(place: Place) -> object:
    return [write(place.old(name), b"<movie/>\n", os.O_TRUNC) for name in ("nfo", "srt", "m3u")]


def import_file(place: Place) -> object:
    """As an upload does: a hidden part, its times and mode, and the move to a new directory."""
    part = place.new(".upload.part")
    write(part, PHOTO)
    os.utime(part, (1e9, 1e9))
    part.chmod(0o640)
    (there := place.new("2026") / "11").mkdir(parents=True)
    return about(part.rename(there / "IMG_1.jpg"))


def chmod(place: Place) -> object:
    place.old("chmod").chmod(0o600)
    first = about(place.old("chmod"))
    place.old("chmod").chmod(0o664)
    return [first, about(place.old("chmod"))]


def chown_new(place: Place) -> object:
    """As entry points do at each start: to the uid that the program has then."""
    write(place.new("owned"))
    os.chown(place.new("owned"), os.getuid() or 911, os.getgid() or 911)
    return about(place.new("owned"))


def utimes(place: Place) -> object:
    os.utime(place.old("utimes"), ns=(10**18, 10**18 + 123_456_789))
    return place.old("utimes").stat().st_mtime_ns


def memory_map(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:6] = b"mapped"
        mapped.flush()


def locks(place: Place) -> object:
    with place.old("lock").open("r+b") as file, place.old("lock").open("r+b") as other:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            again = "locked twice"
        except OSError as error:
            again = errno.errorcode[error.errno or 0]
        fcntl.flock(file, fcntl.LOCK_UN)
        fcntl.lockf(file, fcntl.LOCK_EX, 10)
    return again


def sync(place: Place) -> object:
    with place.new("synced").open("wb") as file:
        file.write(b"x" * 5000)
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
        os.posix_fallocate(file.fileno(), 0, 10_000)
    fd = os.open(place.top, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)
    return about(place.new("synced"))


def attributes(place: Place) -> object:
    path = place.old("xattr")
    os.setxattr(path, "user.rating", b"5")
    found = [sorted(os.listxattr(path)), os.getxattr(path, "user.rating").decode()]
    os.removexattr(path, "user.rating")
    return [found, sorted(os.listxattr(path))]


def symlink(place: Place) -> object:
    (link := place.new("link")).symlink_to(place.old("photo").name)
    return [os.readlink(link), digest(link)]


def list_while_changing(place: Place) -> object:
    (there := place.new("many")).mkdir()
    for number in range(200):
        (there / f"{number:04}").touch()
    seen = set()
    with os.scandir(there) as listed:
        for number, entry in enumerate(listed):
            seen.add(entry.name)
            if number < 100:
                (there / f"x{number}").touch()
            if entry.name < "0100":
                os.unlink(entry.path)
    return [len([name for name in seen if name[0] != "x"]), len(os.listdir(there))]


def large_copy(place: Place) -> object:
    source, copy = place.new("large"), place.new("large copy")
    source.write_bytes(b"".join(bytes([number]) * (1 << 20) for number in range(LARGE_MIB)))
    shutil.copy2(source, copy)
    return [digest(copy), about(source)]


def rsync(place: Place) -> object:
    there = place.new("rsync")
    (there / "from" / "deep").mkdir(parents=True)
    for number in range(20):
        write(there / "from" / "deep" / f"{number}", bytes([number]) * 5000)
    words = ["rsync", "-aHAX", "--delete", f"{there}/from/", f"{there}/to/"]
    codes = [subprocess.run(words, capture_output=True, check=False).returncode for _ in range(2)]
    return [codes, sorted(os.listdir(there / "to" / "deep"))]


def atomic_replace(place: Place) -> object:
    write(place.new(".settings.tmp"), b"{}\n")
    os.replace(place.new(".settings.tmp"), place.old("atomic"))
    return about(place.old("atomic"))


def directories(place: Place) -> object:
    there = place.new("Verzeichnis mit Ümläuten 📷")
    (there / ("n" * 250)).mkdir(parents=True)
    write(there / ("n" * 250) / "file")
    try:
        there.rmdir()
        told = "removed"
    except OSError as error:
        told = errno.errorcode[error.errno or 0]
    shutil.rmtree(there)
    (there := place.new("2770")).mkdir()
    there.chmod(0o2770)
    return [told, stat.filemode(there.stat().st_mode)]


def pipe(place: Place) -> object:
    os.mkfifo(place.new("pipe"))
    mode = stat.filemode(place.new("pipe").stat().st_mode)
    place.new("pipe").unlink()  # who cannot write does not see it through a mount
    return mode


def photo(place: Place) -> object:
    """A photo with its place, byte for byte."""
    return [place.old("photo").read_bytes() == PHOTO, about(place.old("photo")), about(place.old("raw"))]


def access(place: Place) -> object:
    its, modes = os.statvfs(place.top), (os.R_OK, os.W_OK)
    able = [os.access(path, mode) for path in (place.top, place.old("left")) for mode in modes]
    return [its.f_bavail > 0, its.f_namemax, *able]


def others(place: Place) -> object:
    """What other services have made, and the delete of one such file."""
    names = sorted(one.name for one in place.top.iterdir() if one.name.endswith(" new from-me"))
    seen = [(name, digest(place.top / name)) for name in names]
    for name in names[:1]:
        (place.top / name).unlink()
    write(place.new("from-me"), place.service.encode())
    return seen


OPERATIONS: dict[str, Operation] = {
    "scan": scan,
    "photo": photo,
    "access": access,
    "others": others,
    "import_file": import_file,
    "edit": changed("edit", edit),
    "append": changed("append", lambda path: write(path, b"more\n", os.O_APPEND)),
    "truncate": changed("truncate", lambda path: os.truncate(path, 10)),
    "overwrite": changed("overwrite", lambda path: write(path, b"new text\n", os.O_TRUNC)),
    "move": move,
    "rename_over": rename_over,
    "hard_link": hard_link,
    "delete": delete,
    "thumbnail": thumbnail,
    "texts": texts,
    "old_texts": old_texts,
    "chmod": chmod,
    "chown": changed("chown", lambda path: os.chown(path, os.getuid() or 1000, os.getgid() or 1000)),
    "chown_new": chown_new,
    "utimes": utimes,
    "map": changed("map", memory_map),
    "locks": locks,
    "sync": sync,
    "attributes": attributes,
    "symlink": symlink,
    "list_while_changing": list_while_changing,
    "large_copy": large_copy,
    "rsync": rsync,
    "atomic_replace": atomic_replace,
    "directories": directories,
    "pipe": pipe,
}


def result(operation: Operation, place: Place) -> object:
    """What came of an operation, or the name of its error."""
    try:
        return operation(place)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))


def main(words: list[str]) -> None:
    os.umask(0o022)
    command, service, *tops = words
    names = command.partition(":")[2].split(",")
    for place in (Place(service, Path(top)) for top in tops):
        if command == "furnish":
            furnish(place)
            continue
        for name, operation in OPERATIONS.items():
            if name in names or names == [""]:
                print(json.dumps([f"{place.top}", name, result(operation, place)]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

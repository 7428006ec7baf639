"""File work of the programs of a home server: the calls that they make, without the programs.

Each function runs in a child with the rights of its program (call_as), raises what the program would report,
and returns what the program would know.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import Final

IMMICH_FOLDERS: Final = ("encoded-video", "library", "upload", "profile", "thumbs", "backups")
_OLD_S: Final = 1_600_000_000
_PHP_READ, _PHP_WRITE = 0o400, 0o200


def immich_start(media: Path, *, first: bool) -> None:
    """Check each folder, as the server does before it answers: its marker is made once, read, and written."""
    for folder in IMMICH_FOLDERS:
        marker = media / folder / ".immich"
        if first:
            marker.parent.mkdir(parents=True, exist_ok=True)
            with marker.open("xb") as file:
                file.write(b"1700000000000")
        assert marker.read_bytes()
        with marker.open("wb") as file:
            file.write(b"1700000000001")


def immich_upload(media: Path, data: bytes) -> Path:
    """Take in one photo: upload, storage template, thumbnail, and a new thumbnail. Return its path."""
    upload, library, thumbs = (media / f"{folder}/5c1f" for folder in ("upload", "library", "thumbs"))
    for directory in (upload / "ab/cd", library / "2024/06", thumbs / "ab/cd"):
        directory.mkdir(parents=True)
    new, stored = upload / "ab/cd/abcd-ef.jpg", library / "2024/06/IMG_1.jpg"
    with new.open("xb") as file:
        file.write(data)
    os.utime(new, (_OLD_S, _OLD_S))
    new.rename(stored)
    thumbnail = thumbs / "ab/cd/abcd-ef-preview.jpeg"
    for content in (b"small", b"smaller"):
        with thumbnail.open("wb") as file:
            file.write(content)
    thumbnail.unlink()
    assert stored.stat().st_mtime == _OLD_S
    return stored


def scan(top: Path, *, head: int = 65536) -> list[str]:
    """Find and read all files, as a scanner does: access(2), stat, beginning and end. Return their paths."""
    found = []
    for directory, _, names in os.walk(top, onerror=_raise):
        assert not os.path.lexists(f"{directory}/.ignore")
        for name in names:
            path = Path(directory, name)
            assert os.access(path, os.R_OK)
            size = path.stat().st_size
            with path.open("rb") as file:
                read = len(file.read(head))
                file.seek(max(size - head, 0))
                assert read == len(file.read(head)) == min(size, head)
            found.append(str(path.relative_to(top)))
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def syncthing_pull(folder: Path, name: str, data: bytes) -> None:
    """Take in a new version of a file: the folder's marker, a temporary file, and the old one kept."""
    marker = folder / ".stfolder"
    if not marker.exists():
        marker.mkdir(mode=0o755)
        (marker / "syncthing-folder-1a2b3c.txt").write_text("# do not delete\n")
    assert stat.S_ISDIR(marker.lstat().st_mode)
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".syncthing.{target.name}.tmp")
    with draft.open("xb") as file:
        file.write(data[: len(data) // 2])
        file.flush()
        file.write(data[len(data) // 2 :])
        os.fsync(file.fileno())
    draft.chmod(0o644)
    if target.exists():
        version = folder / ".stversions" / name.replace(".", "~20240601-120000.")
        version.parent.mkdir(parents=True, exist_ok=True)
        target.rename(version)
    os.utime(draft, ns=(1_700_000_000_123_456_789,) * 2)
    draft.rename(target)
    assert target.stat().st_mtime_ns == 1_700_000_000_123_456_789


def syncthing_delete(folder: Path, name: str) -> None:
    """Delete a file and a directory that is then empty, and rename a directory."""
    (folder / name).unlink()
    (folder / name).parent.rmdir()
    (folder / "one").mkdir()
    (folder / "one").rename(folder / "two")
    (folder / "two").rmdir()


def photoprism_index(originals: Path, storage: Path) -> int:
    """Index all originals: the marker of the storage, a YAML sidecar and a thumbnail of each."""
    storage.mkdir(exist_ok=True)
    with (storage / ".ppstorage").open("xb"):
        pass
    names = scan(originals)
    for name in names:
        sidecar, thumb = storage / f"sidecar/{name}.yml", storage / f"cache/thumbnails/{name}.jpg"
        for path in (sidecar, thumb):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"Title: one\n")
        draft = sidecar.with_suffix(".tmp")
        draft.write_bytes(b"Title: two\n")
        draft.replace(sidecar)
        assert not (originals / name).parent.joinpath(".ppignore").exists()
    return len(names)


def nextcloud_permissions(path: Path) -> str:
    """Tell what external storage offers for a file: by its owner's mode bits, and access(2) above."""
    mode = path.stat().st_mode
    offered = [word for bit, word in ((_PHP_READ, "read"), (_PHP_WRITE, "update")) if mode & bit]
    return " ".join([*offered, *(["delete"] if os.access(path.parent, os.W_OK) else [])])


def nextcloud_upload(directory: Path, name: str, data: bytes) -> None:
    """Upload by way of a part file, replace it by a second upload, and set its time."""
    assert os.statvfs(directory).f_bavail
    for content in (b"first", data):
        part, target = directory / f"{name}.ocTransferId7.part", directory / name
        with part.open("wb") as file:
            file.write(content)
        assert os.access(directory, os.W_OK)
        if target.exists():
            target.unlink()
        part.rename(target)
        os.utime(target, (_OLD_S, _OLD_S))


def download(directory: Path, data: bytes) -> None:
    """Fill a file that has its size from the beginning, in pieces and out of order, and give it its name."""
    directory.mkdir()
    draft = directory / "film.mkv.!qB"
    with draft.open("xb") as file:
        os.posix_fallocate(file.fileno(), 0, len(data))
        for start in (len(data) // 2, 0):
            file.seek(start)
            file.write(data[start : start + len(data) // 2 + 1])
    draft.rename(directory / "film.mkv")


def arr_import(downloaded: Path, target: Path) -> None:
    """Import a download by a hard link; replace it by a better one: the old one goes to a recycle bin."""
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(downloaded, target)
    assert os.path.samefile(downloaded, target)
    assert target.stat().st_nlink == 2


def arr_move(source: Path, target: Path) -> None:
    """Import by an atomic move: nothing is copied, so that the inode stays; then remove the directory."""
    before = source.stat().st_ino
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)
    assert target.stat().st_ino == before
    shutil.rmtree(source.parent)

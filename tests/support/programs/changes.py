"""Ways in which a file gets new bytes: in place, by a rename, by growing."""

from __future__ import annotations

from pathlib import Path


def rewrite(path: Path, data: bytes) -> None:
    """Give the same file other bytes."""
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def replace(path: Path, data: bytes) -> None:
    """Let another file take the name."""
    new = path.with_name("new")
    new.write_bytes(data)
    new.chmod(0o666)
    new.rename(path)


def grow(path: Path, data: bytes) -> None:
    """Empty the file, and then write it piece by piece."""
    with path.open("wb", buffering=0) as file:
        for at in range(0, len(data), 700):
            file.write(data[at : at + 700])

"""A program: a FUSE file system that finds names whatever their case, as some stores do.

`python folding.py MOUNTPOINT 0|1 NAME ...`; 1: names fold. Kernels that tests run on often have
no file system that does.
"""

from __future__ import annotations

import errno
import os
import sys


def serve(mountpoint: str, folds: bool, names: list[str]) -> None:  # noqa: C901 - a class within
    """Mount and serve until unmounted. Imports pyfuse3 without the bridge, so only as a program."""
    import pyfuse3
    import trio

    class Folding(pyfuse3.Operations):
        """One directory of empty files whose names are found in any case, if *folds*."""

        def __init__(self, names: dict[bytes, int], folds: bool) -> None:
            super().__init__()
            self.names = names
            self.key = bytes.lower if folds else bytes

        async def getattr(self, inode, ctx=None):
            entry = pyfuse3.EntryAttributes()
            entry.st_ino = inode
            entry.st_mode = 0o40755 if inode == pyfuse3.ROOT_INODE else 0o100644
            return entry

        async def lookup(self, parent_inode, name, ctx=None):
            for other, inode in self.names.items():
                if self.key(other) == self.key(name):
                    return await self.getattr(inode)
            raise pyfuse3.FUSEError(errno.ENOENT)

        async def opendir(self, inode, ctx):
            return inode

        async def readdir(self, fh, start_id, token):
            for number, (name, inode) in enumerate(list(self.names.items())[start_id:], start_id + 1):
                if not pyfuse3.readdir_reply(token, name, await self.getattr(inode), number):
                    return

        async def create(self, parent_inode, name, mode, flags, ctx):
            self.names[name] = 99
            return pyfuse3.FileInfo(fh=99), await self.getattr(99)

        async def statfs(self, ctx):
            return pyfuse3.StatvfsData()

        async def flush(self, fh):
            pass

        async def release(self, fh):
            pass

        async def unlink(self, parent_inode, name, ctx):
            del self.names[name]

    numbered = {os.fsencode(name): number for number, name in enumerate(names, 2)}
    pyfuse3.init(Folding(numbered, folds), mountpoint, {"fsname=folding", "subtype=folding"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=False)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2] == "1", sys.argv[3:])

"""purger.py PATH STATE: mirrors PATH in three ways, and deletes what it takes for deleted there.

As users' programs do it: `rsync --delete`; a media server (such as Jellyfin), which forgets each file that
a listing without an error lacks; and a file synchroniser (such as Syncthing), which stops if its marker is
absent, and else deletes each file of which lstat(2) says ENOENT. Prints what changes in the answers:
`PATH ok`, `PATH error ERRNO`, or `PATH DELETED names`. STATE: a directory, which survives the program.
Needs nothing but rsync and Python's standard library: it runs as a service.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

PAUSE_S = 0.1
ROUNDS = 5
"""rsync runs once in so many rounds."""
MARKER = ".stfolder"


def walk(top: str, unread: dict[str, OSError]) -> set[str]:
    """Return the paths of all files below a directory. unread: gets directories that cannot be listed."""
    found = set()
    todo = [""]
    while todo:
        directory = todo.pop()
        try:
            with os.scandir(f"{top}/{directory}") as entries:
                for entry in entries:
                    path = f"{directory}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(f"{path}/")
                    else:
                        found.add(path)
        except OSError as error:
            unread[directory] = error
    return found


def is_deleted(path: str) -> bool:
    """Return True if the file system says that there is no such file."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


class Purger:
    """The three programs, and what each knows of the files at PATH."""

    def __init__(self, top: str, state: str) -> None:
        self.top = top
        self.mirror = Path(state, "mirror")
        self.mirror.mkdir(exist_ok=True)
        self.known = Path(state, "known")

    def scan(self) -> set[str]:
        """Be the media server, and the synchroniser. Return what they delete. Raises OSError."""
        known = set(json.loads(self.known.read_text())) if self.known.exists() else set()
        has_marker = not is_deleted(f"{self.top}/{MARKER}")
        unread: dict[str, OSError] = {}
        found = walk(self.top, unread)
        absent = known - found
        deleted = {path for path in absent if not path.startswith(tuple(unread))}
        if has_marker:
            deleted |= {path for path in absent if is_deleted(f"{self.top}/{path}")}
        if known != (known | found) - deleted:
            new = self.known.with_suffix(".new")
            new.write_text(json.dumps(sorted((known | found) - deleted)))
            new.replace(self.known)
        if unread and not deleted:
            raise next(iter(unread.values()))
        return deleted

    def synchronise(self) -> set[str]:
        """Run rsync. Return what it deletes."""
        before = walk(str(self.mirror), {})
        # An error of rsync, which does not delete then, is one of the next scan, too.
        subprocess.run(["rsync", "-rt", "--delete", f"{self.top}/", self.mirror], stderr=subprocess.DEVNULL,
                       check=False)  # fmt: skip
        return before - walk(str(self.mirror), {})


def main() -> None:
    """Mirror until the process is killed."""
    purger, last, number = Purger(*sys.argv[1:]), "", 0
    while True:
        number += 1
        try:
            deleted = purger.scan() | (purger.synchronise() if number % ROUNDS == 0 else set())
            now = f"DELETED {sorted(deleted)}" if deleted else "ok"
        except OSError as error:
            now = f"error {error.errno}"
        if now != last and (now != "ok" or number >= ROUNDS):
            last = now
            print(sys.argv[1], now, flush=True)
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()

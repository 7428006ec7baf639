"""Work in a directory of a user, done with the rights of this user: no link there leads root anywhere."""

from __future__ import annotations

import errno
import json
import os
import pwd
import stat
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from policyfs.errors import PolicyfsError
from policyfs.linux.child import answer_of
from policyfs.linux.confinement.identity import become
from policyfs.linux.libc import open_beneath
from policyfs.trail.lines.table import shown

_MOST_S: Final = 60.0
_MAX_BYTES: Final = 1 << 20


def in_directory(directory: str, work: Callable[[], object]) -> Any:
    """Run a function in a child that works in a directory, as the owner of the directory, and return its
    result, a value of JSON.

    directory: absolute; INVARIANT: no symlink is on its way, also not one that came since the path was found.
    work: names files by their last names alone, and follows no link. Raises FileNotFoundError if the
    directory is not there, and PolicyfsError: what *work* raises, or that the directory cannot be entered.
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = open_beneath(root, os.fsencode(directory.strip("/")) or b".", os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PolicyfsError(
            f"cannot enter {shown(directory)}: {error.strerror}; a symlink on the way is not followed"
        ) from error
    finally:
        os.close(root)
    try:
        answer = answer_of(lambda: _done(fd, work), timeout_s=_MOST_S, most=_MAX_BYTES, kept=(fd, 2))
    finally:
        os.close(fd)
    if not answer:
        raise PolicyfsError(f"no answer from the work in {shown(directory)}; is its disk there?")
    wrong, result = json.loads(answer)
    if wrong:
        raise PolicyfsError(f"in {shown(directory)}: {wrong}")
    return result


def on_file(path: str, work: Callable[[str], object]) -> Any:
    """Do work on a file in its directory (in_directory), with its last name. Raises as in_directory does."""
    above, name = os.path.split(path)
    return in_directory(above, partial(work, name))


def read_file(name: str, most: int) -> bytes:
    """Return the bytes of a regular file in the working directory. No link is followed, and no pipe waited
    for. Raises OSError, also if there are more than *most*."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), name)
    return data


def _done(fd: int, work: Callable[[], object]) -> bytes:
    owner = os.fstat(fd)
    os.fchdir(fd)
    if owner.st_uid:
        try:
            user = pwd.getpwuid(owner.st_uid)
            gid, groups = user.pw_gid, os.getgrouplist(user.pw_name, user.pw_gid)
        except KeyError:
            gid, groups = owner.st_gid, []
        become(owner.st_uid, gid, set(groups))
    try:
        return json.dumps(["", work()]).encode()
    except PolicyfsError as error:
        return json.dumps([str(error), None]).encode()
    except OSError as error:
        return json.dumps([": ".join(filter(None, (error.filename, error.strerror))), None]).encode()

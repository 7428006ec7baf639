"""The texts of policies, from files and directories."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TextIO, TypeVar

from policyfs.cli.common.colour import print_error
from policyfs.errors import EXIT_OK, EXIT_REFUSED, UnreadableError
from policyfs.policy.errors import PolicyErrors
from policyfs.policy.text.sources import SourceText

_Loaded = TypeVar("_Loaded")

TEST_SUFFIX: Final = ".test.yaml"
"""The suffix of files with tests: they are not part of the policy in their directory."""
MOST_BYTES: Final = 32 << 20
"""The limit of bytes in one file of a policy, or of tests."""


def read_sources(path: str, *, regular: bool = False) -> list[SourceText]:
    """Return the texts of a policy: of one file, or of each `*.yaml` file of a directory.

    Files with tests are left out. regular: accept only regular files. A mount sets *regular*: a daemon
    that waits for the writer of a pipe cannot reload or end. Raises UnreadableError.
    """
    where = Path(path)
    try:
        files = [where]
        if where.is_dir():
            files = sorted(file for file in where.glob("*.yaml") if not file.name.endswith(TEST_SUFFIX))
        texts = [SourceText(str(file), _read(file, regular=regular)) for file in files]
    except OSError as error:
        raise UnreadableError(f"cannot read the policy {error.filename}: {error.strerror}") from error
    if not texts:
        raise UnreadableError(f"cannot read the policy {path}: the directory has no *.yaml file")
    return texts


def read_tests(files: Iterable[Path]) -> list[SourceText]:
    """Return the texts of files with tests. Raises UnreadableError."""
    try:
        return [SourceText(str(file), _read(file)) for file in files]
    except OSError as error:
        raise UnreadableError(f"cannot read the tests {error.filename}: {error.strerror}") from error


def _read(file: Path, *, regular: bool = False) -> bytes:
    """Read a file, which a user may own: no more than MOST_BYTES of it. Raises OSError."""
    waits = os.O_NONBLOCK if regular else 0  # without O_NONBLOCK the open may wait
    with open(os.open(file, os.O_RDONLY | os.O_CLOEXEC | waits), "rb") as opened:
        if regular and not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(file))
        text = opened.read(MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    return text


class Batch:
    """A reader of several policies for one command. It prints a policy's errors, and reads the next."""

    def __init__(self, errors: TextIO) -> None:
        """errors: the stream for errors in policies (not for those of reading a file)."""
        self.code = EXIT_OK
        """The exit code of the command, for the policies that were read so far."""
        self._errors: Final = errors

    def loaded(self, paths: Iterable[str], load: Callable[[str], _Loaded]) -> Iterator[tuple[str, _Loaded]]:
        """Yield each path and the result of the function *load* for it. Skip policies with errors."""
        for path in paths:
            try:
                found = load(path)
            except UnreadableError as error:
                print_error(error)
                self.code = error.exit_code
            except PolicyErrors as errors:
                print(errors, file=self._errors)
                self.code = errors.exit_code
            else:
                yield path, found

    def refuse(self) -> None:
        """Set the exit code that a command returns if it found something in a policy without errors."""
        if self.code == EXIT_OK:
            self.code = EXIT_REFUSED

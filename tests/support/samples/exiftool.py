"""exiftool, kept running: to start it and to load its tables takes ten times as long as most of its work.

`run` is `subprocess.run` of one exiftool command. Each process that calls it has one exiftool of its own,
from the first call until the process ends. As in one command for many files, what exiftool works out
(Composite) and the byte order of GoPro's data in a JPEG may depend on the files before.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import re
import selectors
import signal
import subprocess
import time
from typing import Final

DEADLINE_S: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1
_READ_OTHERWISE: Final = re.compile(
    r"""
      $ | \s | \#  # left out, or without its first characters
    | [^\n\r]* [\n\r]  # more than one line
    | -[-:\w]+\#? (\s+[-+<]?= | [-+<]?=[ ])  # without its spaces
    | -(@ | stay_open | execute\d* | common_args | echo[34]) $  # commands to the process that is kept
    """,
    re.VERBOSE,
)
"""Words that exiftool would not take from a line as they stand (FilterArgfileLine in its source)."""
_libc: Final = ctypes.CDLL(None)


class _Kept:
    """An exiftool that reads commands from a pipe."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._commands = 0
        self._process = subprocess.Popen(
            ["exiftool", "-stay_open", "True", "-@", "-"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            cwd="/", bufsize=0, preexec_fn=_end_with_parent,
        )  # fmt: skip

    def run(self, words: list[str], deadline_s: float) -> subprocess.CompletedProcess[bytes]:
        """Run one command. Raises subprocess.TimeoutExpired after deadline_s, and ChildProcessError if the
        process has ended."""
        self._commands += 1
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        lines = [*words, "-echo4", f"{{ended{self._commands} ${{status}}}}", f"-execute{self._commands}", ""]
        self._process.stdin.write(os.fsencode("\n".join(lines)))
        told = {self._process.stdout.fileno(): b"", self._process.stderr.fileno(): b""}
        out, err = told
        status = re.compile(rb"\{ended%d (\d+)\}\n\Z" % self._commands)
        ready = b"{ready%d}\n" % self._commands
        until = time.monotonic() + deadline_s
        with selectors.DefaultSelector() as selector:
            for pipe in told:
                selector.register(pipe, selectors.EVENT_READ)
            while not told[out].endswith(ready) or status.search(told[err]) is None:
                events = selector.select(until - time.monotonic())
                if not events:
                    raise subprocess.TimeoutExpired(words, deadline_s, told[out], told[err])
                for key, _ in events:
                    data = os.read(key.fd, 1 << 16)
                    if not data:
                        raise ChildProcessError(f"exiftool has ended: {told[err]!r}")
                    told[key.fd] += data
        ended = status.search(told[err])
        assert ended is not None
        return subprocess.CompletedProcess(
            words, int(ended[1]), told[out].removesuffix(ready), told[err][: ended.start()]
        )

    def close(self) -> None:
        """End the process, unless this is a fork of the process that started it."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.communicate()


_kept: list[_Kept] = []


def run(
    *words: str, check: bool = False, deadline_s: float = DEADLINE_S
) -> subprocess.CompletedProcess[bytes]:
    """Run one exiftool command, without its own first word. Paths among the words are absolute. Raises
    subprocess.CalledProcessError if it fails and check is True, and TimeoutExpired after deadline_s."""
    if any(_READ_OTHERWISE.match(word) for word in words):
        return subprocess.run(["exiftool", *words], check=check, capture_output=True, timeout=deadline_s)
    if not _kept or _kept[0].owner != os.getpid():
        _kept[:] = [_Kept()]
    try:
        done = _kept[0].run([*words], deadline_s)
    except BaseException:  # the next command must not read the answer to this one
        close()
        raise
    if check:
        done.check_returncode()
    return done


@atexit.register
def close() -> None:
    """End the process that is kept, if there is one."""
    while _kept:
        _kept.pop().close()


def _end_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends: the end of the pipe would not."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

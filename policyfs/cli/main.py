"""The command `policyfs`."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, TextIO, cast

from policyfs.cli.common.commands import CommandLine, add_commands
from policyfs.errors import EXIT_OK, EXIT_REFUSED, EXIT_USAGE, PolicyfsError
from policyfs.linux.code_digest import VERSION, code_digest
from policyfs.linux.confinement.prctl import name_process
from policyfs.linux.interpreter import UNUSED, load_late, load_libraries_by_name
from policyfs.policy.collector import left_to_the_kernel, paused

if TYPE_CHECKING:
    from policyfs.cli.common.progress import Progress

_COMMANDS: Final = {
    "init": ("setup.command", "from a library and the programs that use it to a policy and mounts"),
    "mount": ("mounts.mount", "mount a store"),
    "run": ("mounts.run", "run a command with an app's mount in place of the store"),
    "try": ("mounts.try_command", "show, commit or drop what a command of `run --try` changed"),
    "up": ("site.site", "make all mounts of a site"),
    "down": ("site.site", "unmount all mounts of a site"),
    "unit": ("site.site_units", "write systemd units for a site"),
    "compose": ("site.site_units", "print the volumes of a site for a compose file"),
    "accept": ("mounts.accept", "accept another disk, or an empty one, as the store"),
    "umount": ("mounts.umount", "unmount a mount, also if its daemon has ended"),
    "status": ("running.manage", "show the state of mounts"),
    "reload": ("running.manage", "load the policy again; a policy with errors changes nothing"),
    "brake": ("running.brake", "show the apps that changed too many files, and let them go on"),
    "tighten": ("setup.tighten", "take away rights that nobody used in the last days"),
    "prove": ("prove.prove", "test whether a mount answers as its policy does"),
    "policy": ("policy.command", "check, test, explain and compare policies"),
    "inspect": ("inspect", "show the data in a file that policyfs can hide"),
    "audit": ("audit.command", "read, search and verify the trail"),
    "quarantine": ("quarantine", "list, show, release or drop refused files"),
    "undo": ("kept.undo", "take back what an app has removed or changed since a time"),
    "kept": ("kept.kept", "list, show, restore or drop what apps have lost and `keep` has kept"),
    "owner": ("owners.owner", "show, set, export and import the owners of files"),
    "doctor": ("machine.doctor", "list what is slow or impossible on this machine, with remedies"),
}

class _OutputEndedError(Exception):
    """A list command cannot write its output. INVARIANT: this is no OSError. Otherwise a command would blame
    the trail or a file of the store for an error of its output."""


class _Output:
    """A standard stream, in place of sys.stdout or sys.stderr. Errors of the stream do not stop the command:
    a command that changes something finishes its work, and its exit code tells of this work.

    error: the first error of the stream. lists: True if the first error ends the command (_OutputEndedError):
    a command that prints while it reads, and changes nothing, sets the default `lists=True` of its parser. So
    `policyfs audit search | head` does not read the whole trail.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, io.TextIOWrapper):  # a name may have no bytes in the stream's encoding
            stream.reconfigure(errors="backslashreplace")
        self.error: OSError | None = None
        self.lists = False
        self.progress: Progress | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text. Return its number of characters, also after an error."""
        if self.progress is not None:
            self.progress.make_way(text)
        try:
            self._stream.write(text)
        except OSError as error:
            self._failed(error)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def is_terminal(self) -> bool:
        return self._stream.isatty()

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def end(self) -> None:
        """Write the stream's buffer for the last time. After an error, /dev/null replaces the stream.
        Otherwise Python would try to write again at its end, fail, and end with exit code 120."""
        try:
            self._stream.flush()
        except OSError as error:
            self.error = self.error or error
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def _failed(self, error: OSError) -> None:
        self.error = self.error or error
        if self.lists:
            raise _OutputEndedError from error


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"policyfs {VERSION} (code {code_digest()})")
        parser.exit()


def build_parser(*words: str) -> argparse.ArgumentParser:
    """Build the parser of the command line. words: the user's words; without them, all commands are imported.
    """
    parser = CommandLine(
        prog="policyfs",
        description="Mount a directory of media so that each app sees what a policy lets it see.",
    )
    version_help = "print the version and a digest of the code, and exit"
    parser.add_argument(
        "--version", action=_Version, nargs=0, default=argparse.SUPPRESS, help=version_help
    )
    add_commands(parser, _COMMANDS, words, dest="command")
    return parser


def process() -> int:
    """Run the command of this process. Return the exit code (see main). The process must end after this call,
    because large objects of the command stay in memory."""
    _open_standard_streams()
    load_libraries_by_name()
    load_late(*UNUSED)
    name_process("policyfs")
    kept: list[object] = []
    code = main(kept=kept)
    if kept:
        left_to_the_kernel(*kept)
    return code


def _open_standard_streams() -> None:
    """Open /dev/null in place of standard input, output or error, if the caller has closed it.

    INVARIANT: this comes before any other file is opened. Otherwise that file, such as the trail, would get
    the number of the stream, and printed text would be written into the file.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115 - never closed
            setattr(sys, name, stream)


def main(arguments: Sequence[str] | None = None, kept: list[object] | None = None) -> int:
    """Run one command.

    Return its exit code: 0 success, 1 refused or something found, or the output could not be written, 2 wrong
    usage, 3 the policy does not compile, 4 policy tests failed, 5 a part of the trail could not be read.
    argparse itself ends with SystemExit(2).
    kept: gets the large objects of the command, so that they are not freed here, which takes long.
    """
    if arguments is None:
        words: Sequence[str] = sys.argv[1:]
        # If the caller ignores this signal, the kernel reaps each child, and nobody learns its exit code.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    else:
        words = arguments
    out, err = _Output(sys.stdout), _Output(sys.stderr)
    try:
        with contextlib.redirect_stdout(cast(TextIO, out)), contextlib.redirect_stderr(cast(TextIO, err)):
            code = _run(words, [] if kept is None else kept, out, err)
    except SystemExit as ended:
        raise SystemExit(_ended(out, err, EXIT_OK) or ended.code) from None
    return _ended(out, err, code)


def _run(words: Sequence[str], kept: list[object], out: _Output, err: _Output) -> int:
    with paused():  # nothing that an import makes is garbage
        parser = build_parser(*words or ["--help"])
    if not words:
        parser.print_help(sys.stderr)
        return EXIT_USAGE
    options = parser.parse_args(words)
    options.kept = kept
    out.lists = getattr(options, "lists", False)
    progress = None
    if err.is_terminal():
        from policyfs.cli.common.progress import progress_of

        err.progress = progress = progress_of(options, 2)
        out.progress = progress if out.is_terminal() else None
    try:
        code = options.run(options)
    except PolicyfsError as error:
        from policyfs.cli.common.colour import print_error  # only here: most commands need no such text

        print_error(error)
        return error.exit_code
    except _OutputEndedError:
        return EXIT_OK
    finally:
        if progress is not None:
            progress.end()
    return EXIT_OK if code is None else int(code)


def _ended(out: _Output, err: _Output, code: int) -> int:
    """Write the rest of the output, and return the exit code. code: the exit code of the command's work."""
    out.end()
    if out.error is not None and not isinstance(out.error, BrokenPipeError):
        print(f"policyfs: cannot write the output: {out.error.strerror or out.error}", file=cast(TextIO, err))
        code = code or EXIT_REFUSED
    err.end()
    return code


if __name__ == "__main__":
    sys.exit(process())

"""The process that parses a policy and proves its invariants, and ends: a daemon holds no parser of policies,
which are 14 MiB of modules.

For a mount's first policy it is a fork of the command (parse_apart); for a reload, of the launcher, which may
read modules in any place (launcher.PARSE). It receives the policy's texts on a stream socket until the end of
the stream, and answers with the policy, or with the reason of its refusal.
"""

from __future__ import annotations

import json
import pickle
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

from policyfs.errors import PolicyfsError
from policyfs.linux.child import answer_of
from policyfs.linux.code_digest import code_digest
from policyfs.linux.confinement.prctl import name_process, request_parent_death_signal
from policyfs.policy.model import Policy
from policyfs.policy.text.sources import SourceText

_PIECE: Final = 1 << 16
_STDERR: Final = 2
_PARSER: Final = "policyfs.policy.analysis.invariants"

_OTHER_CODE: Final = (
    "other code of policyfs is installed than this mount runs: mount again to use a new policy (`policyfs up"
    " --restart`, or reload or restart the unit)"
)


class _RefusedError(PolicyfsError):
    """The refusal of a policy. exit_code: that of the error in the other process."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def parse_apart(sources: Sequence[SourceText], meanwhile: Callable[[], object] = lambda: None) -> Policy:
    """Parse a policy, and prove its invariants: in a fork of this process, which has one thread, unless this
    process has the parser already. meanwhile: called beside the fork. Raises PolicyfsError."""
    return _proved(sources) if _PARSER in sys.modules else parse_in_fork(sources, meanwhile)


def parse_in_fork(sources: Sequence[SourceText], meanwhile: Callable[[], object] = lambda: None) -> Policy:
    """Parse a policy, and prove its invariants, in a fork of this process. Raises PolicyfsError."""
    return _policy_of(answer_of(lambda: _in_child(sources), kept=(_STDERR,), meanwhile=meanwhile))


def _in_child(sources: Sequence[SourceText]) -> bytes:
    _become_parser()
    return _outcome("", sources)


def ask(asked: socket.socket, sources: Sequence[SourceText], code: str = "") -> Policy:
    """Ask a process of live() for the policy of these texts. May wait long. code: the digest of this
    process's code, if the other process imports other modules later. Raises PolicyfsError."""
    try:
        asked.sendall(_question(code, sources))
        asked.shutdown(socket.SHUT_WR)
        answered = _all(asked)
    except OSError as error:
        raise PolicyfsError(f"the process that parses the policy is gone: {error}") from error
    return _policy_of(answered)


def _policy_of(answered: bytes | None) -> Policy:
    if not answered:
        raise PolicyfsError("the process that parses the policy has ended without an answer")
    policy, refusal, exit_code = pickle.loads(answered)  # noqa: S301 - of a process of root with our code
    if policy is None:
        raise _RefusedError(refusal, exit_code)
    found: Policy = policy
    return found


def live(asked: socket.socket) -> int:
    """Answer one question of ask(). Return the exit code."""
    _become_parser()
    with asked:
        answer(asked)
    return 0


def answer(asked: socket.socket) -> None:
    """Parse the policy of one question, and answer."""
    asked.sendall(_outcome(*_read(_all(asked))))
    asked.shutdown(socket.SHUT_WR)


def _become_parser() -> None:
    name_process("policyfs-parse")
    request_parent_death_signal(signal.SIGKILL)


def _outcome(code: str, sources: Sequence[SourceText]) -> bytes:
    try:
        _check_code(code)
        return pickle.dumps((_proved(sources), "", 0))
    except PolicyfsError as error:
        return pickle.dumps((None, str(error), error.exit_code))


def _check_code(code: str) -> None:
    """Import the parser. Raise PolicyfsError if it is not of the asking process's code."""
    if _PARSER in sys.modules:
        return
    try:
        import_module(_PARSER)
    except Exception as error:
        raise PolicyfsError(f"{_OTHER_CODE}: {error}") from error
    code_digest.cache_clear()
    if code and code != code_digest():
        raise PolicyfsError(_OTHER_CODE)


def _proved(sources: Sequence[SourceText]) -> Policy:
    proved: Policy = import_module(_PARSER).proved_policy(sources)
    return proved


def _question(code: str, sources: Sequence[SourceText]) -> bytes:
    """Return a line of JSON (the code, and each name and size), and the texts. INVARIANT: no pickle, since an
    attacker who has taken over a daemon may ask, and the other process has rights that the daemon lacks."""
    head = json.dumps([code, [[name, len(text)] for name, text in sources]])
    return b"".join([head.encode(), b"\n", *(text for _, text in sources)])


def _read(question: bytes) -> tuple[str, list[SourceText]]:
    head, _, rest = question.partition(b"\n")
    code, files = json.loads(head)
    sources = []
    for name, size in files:
        sources.append(SourceText(name, rest[:size]))
        rest = rest[size:]
    return code, sources


def _all(stream: socket.socket) -> bytes:
    pieces = []
    while piece := stream.recv(_PIECE):
        pieces.append(piece)
    return b"".join(pieces)

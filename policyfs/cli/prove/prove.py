"""`policyfs prove`: test whether a mount answers as its policy does."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator

from policyfs.cli.common.live_mounts import ask, known, part
from policyfs.cli.policy.explain_live import engine_of, sources_of
from policyfs.cli.prove.canary_mount import prove_in_memory
from policyfs.cli.prove.prover import NotProvedError, Prover, WrongAnswerError
from policyfs.daemon.control import control
from policyfs.daemon.control.control import Json
from policyfs.errors import EXIT_OK, PolicyfsError
from policyfs.kernel import mount_api
from policyfs.trail.lines.table import shown


def add_prove(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Makes sample requests under the uids of the apps, in the mount and in a second mount whose"
        " store is in memory, and compares the answers with the policy in force. In the mount the"
        " requests only look names up and open files. The exit code is 1 if an answer is wrong, and 2 if"
        " the mount could not be tested."
    )
    add = parser.add_argument
    add("--json", action="store_true", help="one JSON object")
    add("mountpoint", metavar="MOUNTPOINT")


def run_prove(args: argparse.Namespace) -> int:
    """Test a mount, print the result, and put it on the mount's trail. Return 1 if an answer was wrong.
    Return 2 if the mount could not be tested."""
    began = time.monotonic()
    result: Json = {"result": "held"}
    code = EXIT_OK
    path = os.path.abspath(args.mountpoint)
    try:
        path = known(args.mountpoint)
        result |= _proved(path)
    except PolicyfsError as error:
        wrong = isinstance(error, WrongAnswerError)
        code = error.exit_code if wrong else NotProvedError.exit_code
        result = {"result": "failed", "reason": str(error) if wrong else f"not proved: {error}"}
    result["took_ms"] = round((time.monotonic() - began) * 1000)
    try:
        control.ask(control.socket_path(path), "proof", proof=result)
    except PolicyfsError as error:
        if not code:
            raise NotProvedError(f"the result was not recorded: {error}") from error
    print(json.dumps(result) if args.json else f"{shown(path)}: {_text(result)}")
    return code


def _proved(path: str) -> Json:
    """Return what was tested in a mount. Raises PolicyfsError: WrongAnswerError if an answer was wrong."""
    if os.geteuid() != 0:
        raise PolicyfsError("a proof needs root; run this command with sudo")
    socket = control.socket_path(path)
    status = ask(path, "status")
    engine = engine_of(status)
    prover = Prover(status, engine)
    try:
        counts: Counter[str] = prove_in_memory(prover, status, sources_of(status))
        with _opened(path, status) as mount_fd:
            counts += prover.prove_live(mount_fd)
    finally:
        # Answers by another policy tell nothing, neither right nor wrong ones.
        if part(control.ask(socket, "status"), "policy") != part(status, "policy"):
            raise NotProvedError("the policy in force has changed meanwhile; run this command again")
    if not counts:
        raise NotProvedError("the policy has no answer that could be tested")
    callers = [caller.label for caller in prover.callers]
    return {"canaries": dict(counts), "callers": callers, "callers_left_out": prover.left_out}


@contextlib.contextmanager
def _opened(path: str, status: Json) -> Iterator[int]:
    """Yield a descriptor of the mountpoint. Raises NotProvedError, also if another mount is there."""
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotProvedError(f"cannot open {path}: {error.strerror}") from error
    try:
        if mount_api.device_minor(fd) != status["connection"]:
            raise NotProvedError(f"another mount covers {path}")
        yield fd
    finally:
        os.close(fd)


def _text(result: Json) -> str:
    counts, left_out = result.get("canaries"), result.get("callers_left_out")
    if not isinstance(counts, dict):
        return str(result.get("reason"))
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"proved: {told}" + (f"; {left_out} more apps were not tested" if left_out else "")

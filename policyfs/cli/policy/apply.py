"""`policyfs policy apply` puts a valid policy in force in a mount.

The user must accept all new rights of apps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policyfs.cli.common.as_owner import on_file
from policyfs.cli.common.live_mounts import ask, known, part
from policyfs.cli.common.output import replace_file
from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.policy.cases import beside, outcome_of
from policyfs.cli.policy.diff import accepted_in, compared
from policyfs.cli.running.manage import UnmountedKeepsError, reload_lines
from policyfs.daemon.control import control
from policyfs.daemon.high_water import HighWaterMark
from policyfs.errors import EXIT_OK, EXIT_POLICY_TESTS, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.files.policy_texts import read_policy
from policyfs.policy.analysis.diff_text import Report, Side
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.text.parse import SourceText, digest_of, parse_policy
from policyfs.trail.lines.table import shown

_SHORT: Final = 16


@dataclass(slots=True)
class _Applied:
    """The result of `policy apply`. changed: it failed, but the new policy is in force, or may be later."""

    mountpoint: str
    file: str
    live: dict[str, object]
    digest: str = ""
    tests: str = ""
    report: Report | None = None
    refused: str = ""
    code: int = EXIT_OK
    lines: list[str] = field(default_factory=list)
    applied: bool = False
    changed: bool = False

    def stays(self) -> str:
        return f"nothing is changed: policy {self._live()} stays in force"

    def _live(self) -> str:
        return f"{str(self.live['digest'])[:_SHORT]}, generation {self.live['generation']},"

    def refuse(self, code: int, reason: str) -> _Applied:
        self.code, self.refused = code, reason
        return self


def run_apply(args: argparse.Namespace) -> int:
    """Apply a policy. Return 1 for new rights not accepted, 3 for a policy with errors, 4 for a failed
    test."""
    mountpoint = known(args.mountpoint)
    status = ask(mountpoint, "status")
    live = part(status, "policy")
    own = str(live.get("file") or "")
    if not own:
        raise PolicyfsError(f"the daemon of {mountpoint} has another version: unmount and mount again")
    found = _Applied(mountpoint, os.path.abspath(args.policy or own), live)
    try:
        _checked(found, args, status, own)
        if not found.refused and not args.dry_run:
            _put_in_force(found, own)
    except PolicyfsError as error:
        found.refuse(error.exit_code, str(error))
        found.applied = isinstance(error, UnmountedKeepsError)
        found.changed = found.applied or isinstance(error, control.LateError)
        if not found.changed:
            with contextlib.suppress(PolicyfsError):  # another policy may have come into force meanwhile
                found.live = part(ask(mountpoint, "status"), "policy")
    _show(found, args)
    return found.code


def _checked(found: _Applied, args: argparse.Namespace, status: dict[str, object], own: str) -> None:
    trail = Path(str(part(status, "trail")["directory"]))
    mark = HighWaterMark(trail.parent)
    try:
        now_ns = mark.now_ns()
    finally:
        mark.close()
    if not _is_same(found.file, own) and (os.path.isdir(found.file) or os.path.isdir(own)):
        raise UsageError(
            f"{found.mountpoint} reads its policy from {own}, and POLICY can replace this policy only if both"
            " are single files, not directories: change the files there, and leave out POLICY"
        )
    sources = read_sources(found.file)
    policy = load_policy(sources, at_ns=now_ns).policy
    found.digest = policy.digest
    files = beside(Path(found.file))
    found.tests = "there are no tests beside the policy"
    if files:
        outcome = outcome_of(found.file, files)
        found.tests = outcome.text()
        if outcome.failed:
            found.refuse(EXIT_POLICY_TESTS, f"{len(outcome.failed)} of the policy's tests failed")
            return
    accepted = {} if args.ack is None else accepted_in(args.ack)
    digest = str(found.live["digest"])
    old = _live_text(trail, digest)
    if old is None:
        if not args.allow_widening:
            found.refuse(
                EXIT_REFUSED,
                f"the text of the policy in force is not in {trail}/policies/{digest}, so the two policies"
                " cannot be compared; --allow-widening applies the new policy without a comparison",
            )
        return
    sides = Side(f"{trail}/policies/{digest}", parse_policy(old)), Side(found.file, policy)
    found.report = Report(compared(*sides, now_ns), *sides, accepted)
    count = found.report.open_count()
    if count and not args.allow_widening:
        wider = f"{count} change{'' if count == 1 else 's'} allow{'s' if count == 1 else ''} more than before"
        found.refuse(
            EXIT_REFUSED,
            f"{wider}; to apply the policy anyway, add --allow-widening, or accept each change with"
            " --ack FILE",
        )


def _live_text(trail: Path, digest: str) -> Sequence[SourceText] | None:
    """Return the kept text of the policy in force, or None if it is missing or was changed."""
    try:
        sources = [SourceText(*file) for file in read_policy(trail, digest)]
    except OSError:
        return None
    return sources if digest_of(source.text for source in sources) == digest else None


def _is_same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _put_in_force(found: _Applied, own: str) -> None:
    """Write the new policy into the mount's policy file *own*, and make the daemon load exactly this text. If
    the daemon refuses the text, restore the file, unless the text may still come into force."""
    if not _is_same(found.file, own):
        text = Path(found.file).read_bytes()
        if digest_of([text]) != found.digest:
            raise PolicyfsError(f"{found.file} was changed after the check; try again")
        real = os.path.realpath(own)
        before = Path(real).read_bytes() if os.path.exists(real) else None
        _replace(real, text, before)
        try:
            _load(found)
        except (UnmountedKeepsError, control.LateError):
            found.lines.append(f"{own} has the text of {found.file} now")
            raise
        except PolicyfsError as error:
            if before is None:
                _remove(real, error)
            else:
                _replace(real, before, text)
            raise
        found.lines.append(f"{own} has the text of {found.file} now")
    else:
        _load(found)
    found.applied = True
    others = _others(found, own)
    if others:
        found.lines.append(
            f"other mounts of {own} still have the old policy in force: run policyfs reload"
            f" {shlex.join(others)}"
        )


def _load(found: _Applied) -> None:
    live = str(found.live["digest"])
    for line in reload_lines(found.mountpoint, "reload", live=live, expected=found.digest):
        found.lines.append(line)


def _others(found: _Applied, own: str) -> list[str]:
    """Return the other mountpoints that use the policy file *own* and still have its older text in force."""
    behind = []
    for socket in sorted({*control.runtime_dir().glob("*.sock")} - {control.socket_path(found.mountpoint)}):
        try:
            status = control.ask(socket, "status", 2.0)
        except control.ControlError:
            continue  # `policyfs status` reports it
        policy = part(status, "policy")
        same = bool(policy.get("file")) and _is_same(str(policy["file"]), own)
        if same and policy.get("digest") != found.digest:
            behind.append(str(status["mountpoint"]))
    return behind


def _replace(real: str, text: bytes, known: bytes | None) -> None:
    """Replace the text of a file in one step, with the rights of the owner of its directory."""
    try:
        on_file(real, lambda name: replace_file(Path(name), text, known=known))
    except (OSError, PolicyfsError) as error:
        raise PolicyfsError(f"cannot replace {real}: {error}") from error


def _remove(real: str, refusal: PolicyfsError) -> None:
    try:
        on_file(real, os.unlink)
    except (OSError, PolicyfsError) as error:
        raise PolicyfsError(f"{refusal}; cannot remove {real}: {error}") from error


def _show(found: _Applied, args: argparse.Namespace) -> None:
    if args.json:
        print(json.dumps(_as_json(found, args), indent=2))
        return
    if found.tests:
        print(found.tests)
    if found.report is not None:
        print(found.report.text())
    for line in found.lines:
        print(f"{shown(found.mountpoint)}: {line}")
    if found.refused:
        print(f"{shown(found.mountpoint)}: {'' if found.changed else 'refused: '}{found.refused}")
        if not found.changed:
            print(f"{shown(found.mountpoint)}: {found.stays()}")
    elif args.dry_run:
        would = f"policy {found.digest[:_SHORT]} would be put in force; {found.stays()}"
        print(f"{shown(found.mountpoint)}: {would}")


def _as_json(found: _Applied, args: argparse.Namespace) -> dict[str, object]:
    return {
        "mountpoint": found.mountpoint,
        "policy": found.file,
        "digest": found.digest or None,
        "live": {key: found.live.get(key) for key in ("name", "digest", "generation", "file")},
        "tests": found.tests or None,
        "difference": None if found.report is None else found.report.as_json(),
        "dry_run": bool(args.dry_run),
        "applied": found.applied,
        "refused": found.refused or None,
        "told": found.lines,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def add_apply(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Checks the new policy, proves its invariants, runs the tests beside the policy, compares the"
        " policy with the policy in force, and tells the mount to load the policy. If anything is wrong,"
        " nothing is changed. The exit code is then 3 if the policy does not compile, 4 if a test fails,"
        " 1 if the policy allows more than before."
    )
    add = parser.add_argument
    add("mountpoint", metavar="MOUNTPOINT")
    help_ = "a file that replaces the mount's policy (default: the mount's own file, as it is now)"
    add("policy", nargs="?", metavar="POLICY", help=help_)
    add("--allow-widening", action="store_true", help="apply the policy even if it allows more than before")
    add("--ack", metavar="FILE", help="changes that you accept (kind: AcceptedChanges)")
    add("--dry-run", action="store_true", help="make all checks, but change nothing")
    add("--json", action="store_true", help="one JSON object")

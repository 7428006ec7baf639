"""`policyfs doctor`: limits and missing features of this machine and one store, each with a remedy."""

from __future__ import annotations

import argparse
import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

from policyfs.cli.common.on_record import trail_root
from policyfs.cli.machine import container_checks, store_checks, user_checks
from policyfs.cli.machine import machine_checks as machine
from policyfs.cli.machine.findings import Finding, State, render, tried
from policyfs.errors import EXIT_OK, EXIT_REFUSED, UsageError
from policyfs.linux.interpreter import program

SECCOMP: Final = Path("/proc/sys/kernel/seccomp/actions_avail")
_NEEDED: Final = {"kernel", "fuse", "fusectl", "fusermount", "capability", "libfuse", "bridge"}
"""If the result of one of these checks is BAD, nothing can be mounted. The check ``passthrough`` makes a
mount, so it is then left out."""


def examine(store: str | None, trail: str) -> list[Finding]:
    """Check the machine and, if *store* is given, this store. Return the results. trail: the trail root (the
    directory of all trails)."""
    checks: dict[str, Callable[[], Finding]] = {
        "kernel": lambda: machine.check_kernel(os.uname().release),
        "fuse": machine.check_device,
        "fusectl": machine.check_connections,
        "fusermount": lambda: machine.check_fusermount(
            program("fusermount3") or program("fusermount")
        ),
        "capability": lambda: machine.check_capability(
            Path("/proc/self/status").read_text(encoding="utf-8"),
            Path("/proc/self/uid_map").read_text(encoding="utf-8"),
        ),
        "callers": container_checks.check_callers,
        "propagation": container_checks.check_propagation,
        "procfs": machine.check_own_proc,
        "libfuse": machine.check_libfuse,
        "bridge": machine.check_bridge,
        "libmagic": machine.check_libmagic,
        "descriptors": lambda: machine.check_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        "trail": lambda: machine.check_trail(trail),
        "system calls": lambda: machine.check_filter(os.uname().machine, SECCOMP.exists()),
        "run without root": user_checks.check_run_of_user,
        "run --try": user_checks.check_try,
    }
    findings = [finding for name, check in checks.items() for finding in tried(name, check)]
    if any(finding.state is State.BAD and finding.name in _NEEDED for finding in findings):
        findings.append(Finding("passthrough", State.BAD, "not tested: nothing can be mounted", "see above"))
    else:
        findings += tried("passthrough", lambda: store_checks.check_passthrough(store))
    if store is not None:
        from policyfs.cli.machine.past_mounts import check_past

        findings += tried("store", lambda: store_checks.probe_store(store))
        findings += tried("names aside", lambda: store_checks.check_left_aside(store))
        findings += tried("past policy", lambda: check_past(store))
        findings += tried("trail place", lambda: store_checks.check_trail_place(trail, store))
    return findings + tried("daemons", machine.check_daemons)


def run_doctor(args: argparse.Namespace) -> int:
    """Print the results of the checks. Return 1 if a result is bad, or if a check could not run."""
    store: str | None = args.store
    if store is not None and not os.path.isabs(store):
        store = os.path.abspath(store)
    if args.trail == "":
        raise UsageError("--trail needs a directory")
    findings = examine(store, trail_root(args.trail))
    if args.json:
        rows = [
            {"name": row.name, "state": row.state.value, "what": row.what, "todo": row.todo}
            for row in findings
        ]
        print(json.dumps(rows, indent=2))
    else:
        print(render(findings))
    bad = any(finding.state in {State.BAD, State.ERROR} for finding in findings)
    return EXIT_REFUSED if bad else EXIT_OK


def add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.description = "Checks the kernel, libfuse, rights and limits, and the store if you name one."
    parser.add_argument("store", nargs="?", metavar="STORE", help="also check the file system of this store")
    parser.add_argument("--trail", metavar="DIR", help="the trail root to check (default: the machine's)")
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")

"""`policyfs audit who-could`: what each app may do at a path, by the policies in force."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from policyfs.cli.audit.policies import KeptPolicies
from policyfs.cli.audit.query import open_trail
from policyfs.cli.audit.store_paths import StorePaths
from policyfs.cli.common.colour import columns
from policyfs.domain import OWNER_NONE, Decision, Facts, FileType, Principal
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError
from policyfs.journal.files.policy_texts import read_pointer
from policyfs.journal.index.indexed import IndexedTrail
from policyfs.trail.lines.table import shown, shown_path, table

if TYPE_CHECKING:
    from policyfs.policy.decide import Engine
    from policyfs.policy.model import Policy

_REQUESTS = ("see", "read", "write", "create", "delete", "attr")


def add_who_could(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("place", metavar="PATH", help="a path in the mounts or in the store")
    add("--policy", metavar="P", help="use this policy, not the policies that the trail names")
    add("--directory", action="store_true", help="the path is a directory")
    add("--kind", help="the content kind of the file, such as image/jpeg")


def run_who_could(args: argparse.Namespace) -> int:
    """Print what each app may do at a path: by the policy in force of each mount, or by the policy --policy.
    Return 1 if neither an app nor a stranger may see the path."""
    from policyfs.policy.decide import compile_policy  # only this action needs the engine
    from policyfs.policy.exceptions import in_force

    if not args.place.startswith("/"):
        raise UsageError(
            f"write the path from the root of the mount, such as /DCIM/a.jpg, not {args.place!r}"
        )
    found, anyone = [], False
    trail = None if args.policy else open_trail(args)
    path, *more = sorted({args.place} if trail is None else StorePaths(trail).told(args.place))
    if more:
        raise UsageError(f"{args.place!r} may be {path!r} or {more[0]!r} in the mounts: name one of them")
    for name, policy in _policies(args, trail):
        engine = compile_policy(in_force(policy, time.time_ns()))
        for who in _callers(engine):
            row = _may(engine, who, path, args)
            found.append((name, who.label, row))
            anyone = anyone or row["see"] != "no"
    if args.json:
        for name, app, row in found:
            print(json.dumps({"policy": name, "app": app, **row}))
    else:
        heads = ("POLICY", "APP", *(request.upper() for request in _REQUESTS), "VIEW", "WHY")
        rows = [(name[:12], shown(app), *map(str, row.values())) for name, app, row in found]
        print("\n".join(table(heads, rows, columns=columns(), flexible=len(heads) - 1)))
    if not anyone:
        print("policyfs: by the mounts; who reaches the store itself needs no policy", file=sys.stderr)
    return EXIT_OK if anyone else EXIT_REFUSED


def _policies(args: argparse.Namespace, trail: IndexedTrail | None) -> Iterator[tuple[str, Policy]]:
    if trail is None:
        from policyfs.cli.common.policy_files import read_sources
        from policyfs.policy.text.parse import parse_policy

        policy = parse_policy(read_sources(args.policy))
        yield policy.digest, policy
        return
    kept, found = KeptPolicies(trail.chains), set()
    for chain in trail.chains:
        digest, _ = read_pointer(Path(chain.directory))
        policy_in_force = kept.policy(digest) if digest else None
        if policy_in_force is not None and digest not in found:
            found.add(digest)
            yield digest, policy_in_force
    if not found:
        raise PolicyfsError(
            f"the trail at {args.trail} keeps no policy in force: name a policy with --policy"
        )


def _callers(engine: Engine) -> Iterator[Principal]:
    from policyfs.policy.stranger import stranger_of

    for app in engine.policy.apps:
        yield engine.app_principal(app.name, app.uids[0][0] if app.uids else 0)
    stranger = stranger_of(engine)
    if stranger is not None:
        yield stranger


def _may(engine: Engine, who: Principal, place: str, args: argparse.Namespace) -> dict[str, str]:
    ftype = FileType.DIRECTORY if args.directory else FileType.REGULAR
    from policyfs.policy.explain.explain import explain

    path, there = os.fsencode(place), Facts(args.kind, None)
    new = Facts(None, OWNER_NONE if who.app is None else who.app)
    answers, rules, causes, view = {}, {}, {}, ""
    for request in _REQUESTS:
        asked = "mkdir" if request == "create" and args.directory else request
        explained = explain(engine, who, asked, path, ftype, new if request == "create" else there)
        decision = explained.decision
        answers[request], causes[request] = _answer(decision), explained.cause
        view = explained.view.label if explained.view is not None else ""
        for line in explained.lines:
            if line.verdict != "no" and (line.effect == "deny" or decision.allowed):
                rules[line.rule] = f"{line.rule} ({Path(line.where.file).name}:{line.where.line})"
        for directory, rule in explained.hidden_by:
            places = {line.rule: line.where for line in explained.lines}
            where = f" ({Path(places[rule].file).name}:{places[rule].line})" if rule in places else ""
            rules[rule] = f"{rule}{where} hides {shown_path(directory)}"
    unseen = "no rule allows anything here"
    why = ", ".join(rules.values()) or (causes["see"] if answers["see"] != "no" else unseen)
    return {**answers, "view": view if answers["see"] != "no" else "", "why": shown(why)}


def _answer(decision: Decision) -> str:
    if not decision.allowed:
        return "no"
    return "redacted" if decision.redact else "checked" if decision.content else "yes"

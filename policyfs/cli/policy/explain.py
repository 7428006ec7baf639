"""`policyfs policy explain`: the decision on one request, with its reasons."""

from __future__ import annotations

import argparse
import dataclasses
import errno
import json
import os
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from policyfs.cli.common.colour import GREEN, RED, paint, wanted
from policyfs.cli.common.instants import add_at, at_ns
from policyfs.cli.common.looking import kind_in_worker, opened
from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.common.quantities import identity
from policyfs.domain import OWNER_NONE, Facts, FileType, Principal
from policyfs.errors import EXIT_OK, PolicyfsError, UsageError, errno_name
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.errors import harmless
from policyfs.policy.exceptions import in_force
from policyfs.policy.explain.cause import sentence
from policyfs.policy.explain.explain import (
    MADE,
    MOVES,
    REQUESTS,
    Explanation,
    MoveExplanation,
    explain,
    explain_move,
    open_refusal,
)
from policyfs.policy.explain.rule_lines import RuleLine
from policyfs.policy.model import SELF, Policy
from policyfs.policy.text.parse import parse_policy

if TYPE_CHECKING:
    from policyfs.cli.policy.explain_layers import Layer
    from policyfs.cli.policy.explain_live import Caller, LiveFile
    from policyfs.daemon.control.control import Json


def run_explain(args: argparse.Namespace) -> int:
    """Print the answer to one request, with its reasons. Return 0, also if the request would be denied."""
    from policyfs.cli.policy import explain_live as live

    if live.is_mount(args.policy):
        return _run_live(args)
    if args.pid is not None:
        args.uid = live.process(args.pid).uid
    check_caller(args)
    policy = in_force(parse_policy(read_sources(args.policy)), at_ns(args))
    engine = compile_policy(policy, monitor=args.monitor)
    who = caller_of(engine, args)
    path = _path(args.path)
    facts = _facts(engine.policy, who, args)
    if args.op in MOVES:
        return _run_move(args, engine, who, path, facts)
    if args.to is not None:
        raise UsageError(f"--to is for {' and '.join(MOVES)}: add --op rename")
    explanation = explain(engine, who, args.op, path, _file_type(args), facts)
    refusal = open_refusal(explanation.decision, facts.kind)
    if args.json:
        print(json.dumps(_as_json(explanation) | {"open_denied": refusal}, indent=2))
    else:
        allowed = explanation.decision.allowed and refusal is None
        _print(explanation.text(every=args.all, refusal=refusal), allowed=allowed)
        if refusal:
            print(f"  but the open is denied (EACCES): {refusal}")
        for hint in _hints(engine, who, explanation, facts, args):
            print(f"  {hint}")
    return EXIT_OK


def _run_move(args: argparse.Namespace, engine: Engine, who: Principal, path: bytes, facts: Facts) -> int:
    if args.to is None:
        raise UsageError(f"a {args.op} has two paths: add --to PATH")
    found = explain_move(engine, who, args.op, path, _path(args.to), _file_type(args), facts)
    if args.json:
        print(json.dumps(_move_as_json(found), indent=2))
    else:
        _print(found.text(every=args.all), allowed=found.decision.allowed)
    return EXIT_OK


def _print(text: str, *, allowed: bool) -> None:
    first, end, rest = "\n".join(map(harmless, text.split("\n"))).partition("\n")
    print(f"{paint(first, GREEN if allowed else RED) if wanted(sys.stdout) else first}{end}{rest}")


def _run_live(args: argparse.Namespace) -> int:
    from policyfs.cli.policy import explain_layers as layers
    from policyfs.cli.policy import explain_live as live

    if os.geteuid() != 0:
        raise PolicyfsError(
            "explaining a request on a mount needs root, to read the policy in force, owners and kinds;"
            " run this command with sudo"
        )
    path = _path(args.path)
    if any((args.kind, args.content, args.owner, args.former_owner, args.directory, args.symlink)):
        raise UsageError(
            "a file on a mount has its own kind and owner: leave out --kind, --content, --directory,"
            " --symlink, --owner and --former-owner"
        )
    if args.at is not None or args.monitor:
        raise UsageError(
            "on a mount, a request is decided at the present time, and with the --monitor of the mount: leave"
            " out --at and --monitor"
        )
    status = live.status_of(args.policy)
    engine = live.engine_of(status)
    app = status["app"]
    if args.app is not None and args.app != app:
        uid = next((one.uids[0][0] for one in engine.policy.apps if one.name == args.app and one.uids), "N")
        raise UsageError(
            f"on a mount, the mount or the caller's uid decides the app: use --uid {uid} or --pid, not --app"
        )
    caller = live.user_of(args.uid, args.pid, status)
    who = engine.app_principal(app, caller.uid) if isinstance(app, str) else engine.principal(caller.uid)
    if args.op in MOVES:
        found = live.look(status, path, engine, who, REQUESTS["see"])
        return _live_move(args, status, engine, who, caller, found)
    if args.op not in REQUESTS:
        raise UsageError(
            f"no request is named {args.op!r}; the requests are {', '.join((*REQUESTS, *MOVES))}"
        )
    found = live.look(status, path, engine, who, REQUESTS[args.op])
    facts = found.facts
    ftype = found.ftype
    if found.stat is None:  # the request would create the file
        ftype, facts = MADE.get(args.op, ftype), Facts(None, who.app or OWNER_NONE)
    explanation = explain(engine, who, args.op, path, ftype, facts)
    hidden = layers.hidden_above(engine, who, found)
    layer = layers.refusing_layer(status, explanation, found, caller, hidden)
    if args.json:
        extra = {
            "mountpoint": status["mountpoint"], "uid": caller.uid, "kind": found.facts.kind,
            "owner": found.facts.owner, "exists": found.stat is not None, "open": found.open,
        }  # fmt: skip
        print(json.dumps(_as_json(explanation) | extra | _answer(layer, explanation.cause), indent=2))
        return EXIT_OK
    decision, cause = explanation.decision, explanation.cause
    if layer is not None:
        decision, cause = type(decision)(allowed=False, errno=layer.error), layer.cause
    first = sentence(f"{who.label} (uid {caller.uid})", args.op, explanation.shown_path, decision, cause)
    lines = [first, layers.told(layer), *live.notes(status, found), *explanation.rest(every=args.all)]
    _print("\n".join(lines), allowed=layer is None)
    return EXIT_OK


def _answer(layer: Layer | None, cause: str) -> dict[str, object]:
    """Return the answer of a mount as JSON. cause: the reason if no layer refuses the request."""
    return {
        "refused_by": None if layer is None else layer.name,
        "cause": cause if layer is None else layer.cause,
        "errno": None if layer is None else errno_name(layer.error),
        "allowed": layer is None,
    }


def _live_move(
    args: argparse.Namespace, status: Json, engine: Engine, who: Principal, caller: Caller, found: LiveFile
) -> int:
    from policyfs.cli.policy import explain_layers as layers
    from policyfs.cli.policy import explain_live as live

    if args.to is None:
        raise UsageError(f"a {args.op} has two paths: add --to PATH")
    to = _path(args.to)
    there = live.look(status, to, engine, who, REQUESTS["see"])
    replaced = None if there.stat is None else (there.ftype, there.facts)
    told = explain_move(engine, who, args.op, found.path, to, found.ftype, found.facts, replaced)
    hidden = layers.hidden_above(engine, who, found) or layers.hidden_above(engine, who, there)
    layer = layers.refusing_layer_of_move(status, told, (found, there), caller, hidden)
    if args.json:
        extra = {"mountpoint": status["mountpoint"], "uid": caller.uid}
        print(json.dumps(_move_as_json(told) | extra | _answer(layer, told.cause), indent=2))
        return EXIT_OK
    if layer is not None:
        refused = type(told.decision)(allowed=False, errno=layer.error)
        told = dataclasses.replace(told, decision=refused, cause=layer.cause)
    first, *rest = told.text(every=args.all).splitlines()
    _print("\n".join((first, layers.told(layer), *rest)), allowed=layer is None)
    return EXIT_OK


def _path(text: str) -> bytes:
    path = os.fsencode(text)
    if not path.startswith(b"/"):
        raise UsageError(f"write the path from the root of the mount, such as /DCIM/a.jpg, not {text!r}")
    return path


def _hints(
    engine: Engine, who: Principal, explained: Explanation, facts: Facts, args: argparse.Namespace
) -> Iterator[str]:
    """Yield hints for the user if the answer could change with a kind or type that no option gives."""
    decision = explained.decision
    if decision.redact and facts.kind is None:
        yield (
            "the app can open the file only if policyfs can clean this kind of file; add --kind TYPE or"
            " --content FILE"
        )
    if decision.errno == errno.ENOENT and _file_type(args) is FileType.REGULAR and facts.kind is None:
        path = explained.path
        if explain(engine, who, "see", path, FileType.DIRECTORY, facts).decision.allowed:
            yield "the app would see a directory of this name: ask again with --directory"
        if meant := _below_its_store(engine, who, path, facts):
            store, name = map(os.fsdecode, (path.removesuffix(meant), meant))
            yield f"a path begins at the root of the mount: with the store {store}, ask for {name}"


def _below_its_store(engine: Engine, who: Principal, path: bytes, facts: Facts) -> bytes | None:
    """Return the end of a path of this machine, if the app would see that path in a mount."""
    parts = path.split(b"/")[1:] if os.path.lexists(path) else []
    for end in (b"/" + b"/".join(parts[at:]) for at in range(1, len(parts))):
        if explain(engine, who, "see", end, FileType.REGULAR, facts).decision.allowed:
            return end
    return None


def _file_type(args: argparse.Namespace) -> FileType:
    if args.directory:
        return FileType.DIRECTORY
    return FileType.SYMLINK if args.symlink else MADE.get(args.op, FileType.REGULAR)


def _facts(policy: Policy, who: Principal, args: argparse.Namespace) -> Facts:
    """Return the facts of the file that the command line gives. All other facts are unknown (None)."""
    if args.kind is not None and not re.fullmatch(r"[a-z0-9_.+-]+/[a-z0-9_.+-]+", args.kind):
        raise UsageError(f"--kind is a MIME type in lower case, such as image/jpeg, not {args.kind!r}")
    kind = args.kind if args.content is None else _sniffed(args.content)
    owner = args.owner
    if args.former_owner is not None:
        return Facts(kind, args.former_owner)
    if owner == SELF or (owner is None and args.op in MADE):
        owner = who.app if who.app is not None else OWNER_NONE
    elif owner is not None and owner != OWNER_NONE and all(app.name != owner for app in policy.apps):
        raise UsageError(f"--owner is self, none or an app of the policy, not {owner!r}")
    return Facts(kind, owner)


def _sniffed(path: str) -> str | None:
    with opened(path) as fd:
        return kind_in_worker(fd)


def _as_json(explanation: Explanation) -> dict[str, object]:
    decision = explanation.decision
    return {
        "request": explanation.request,
        "who": explanation.who,
        "path": explanation.path.decode("utf-8", "backslashreplace"),
        "allowed": decision.allowed,
        "cause": explanation.cause,
        "errno": errno_name(decision.errno) if decision.errno else None,
        "redact": sorted(decision.redact),
        "content": [sorted(kinds) for kinds in decision.content],
        "quarantine": decision.quarantine,
        "bare": decision.bare,
        "audit": decision.audit.name.lower(),
        "rules": [_rule(line) for line in explanation.lines],
        "nearest": None if explanation.nearest is None else _rule(explanation.nearest),
        "hidden_by": [
            {"directory": directory.decode("utf-8", "backslashreplace"), "rule": rule}
            for directory, rule in explanation.hidden_by
        ],
        "view": None if explanation.view is None else explanation.view.label,
        "io": explanation.io,
        "kernel": explanation.kernel,
    }


def _rule(line: RuleLine) -> dict[str, object]:
    return {
        "id": line.rule,
        "effect": line.effect,
        "verdict": line.verdict,
        "reason": line.reason,
        "file": line.where.file,
        "line": line.where.line,
    }


def _move_as_json(found: MoveExplanation) -> dict[str, object]:
    old, new = found.ends[:2]
    return {
        "request": found.request,
        "who": found.who,
        "path": old.path.decode("utf-8", "backslashreplace"),
        "to": new.path.decode("utf-8", "backslashreplace"),
        "allowed": found.decision.allowed,
        "errno": errno_name(found.decision.errno) if found.decision.errno else None,
        "cause": found.cause,
        "ends": [_as_json(end) for end in found.ends],
    }


def add_caller(parser: argparse.ArgumentParser) -> None:
    """Add the options --app and --uid, which name a caller."""
    who = parser.add_argument_group("caller (one of these is needed)")
    who.add_argument("--app", metavar="NAME", help="this app")
    help_ = "this uid on a shared mount; with --app, the app's uid"
    who.add_argument("--uid", type=identity, metavar="N", help=help_)


def check_caller(args: argparse.Namespace) -> None:
    """Raise UsageError if neither --app nor --uid is given."""
    if args.app is None and args.uid is None:
        raise UsageError("name the caller: --app NAME, or --uid N (a uid that no app has is a stranger)")


def caller_of(engine: Engine, args: argparse.Namespace) -> Principal:
    """Return the principal that --app and --uid name. Raises UsageError."""
    if args.app is None:
        return engine.principal(args.uid)
    app = next((app for app in engine.policy.apps if app.name == args.app), None)
    if app is None:
        known = ", ".join(app.name for app in engine.policy.apps) or "none"
        raise UsageError(f"the policy has no app {args.app!r}; its apps are {known}")
    first = app.uids[0][0] if app.uids else 0
    return engine.app_principal(app.name, first if args.uid is None else args.uid)


def add_explain(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Prints the cause of the answer, the rules that decided, the allow rule that nearly matched, how"
        " the bytes are read and written, and which answers the kernel keeps. If POLICY is a mountpoint,"
        " the command takes the policy in force there, looks at the file, and names the layer that"
        " refuses the request."
    )
    add = parser.add_argument
    add("policy", metavar="POLICY", help="a file, a directory of *.yaml, or the mountpoint of a mount")
    add("path", metavar="PATH", help="the path within the mount, such as /DCIM/a.jpg")
    names = ", ".join((*REQUESTS, *MOVES))
    add("--op", default="read", metavar="REQUEST", help=f"one of {names} (default: read)")
    add("--to", metavar="PATH", help="the new path of a rename or link")
    add_caller(parser)
    add("--pid", type=int, metavar="N", help="the user of this running process")
    what = parser.add_argument_group("file (a fact that you do not give is unknown)")
    form = what.add_mutually_exclusive_group()
    form.add_argument("--directory", action="store_true", help="a directory")
    form.add_argument("--symlink", action="store_true", help="a symbolic link")
    content = what.add_mutually_exclusive_group()
    content.add_argument("--kind", metavar="TYPE", help="a file of this kind, such as image/jpeg")
    content.add_argument("--content", metavar="FILE", help="a file with the same content as FILE")
    owner = what.add_mutually_exclusive_group()
    owner.add_argument("--owner", metavar="APP", help="the owner: an app, self or none")
    owner.add_argument("--former-owner", metavar="NAME", help="an owner that is not an app any more")
    add_at(parser)
    help_ = "permit what the policy denies to its apps, as under mount --monitor"
    add("--monitor", action="store_true", help=help_)
    add("--all", action="store_true", help="show the rules that do not match, too")
    add("--json", action="store_true", help="one JSON object")

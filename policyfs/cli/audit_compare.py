"""`policyfs audit diff` compares two periods of a trail.

`policyfs audit who-could` prints what each app may do at a path, by the policies in force.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from policyfs.cli.audit_names import check_names
from policyfs.cli.audit_policies import KeptPolicies
from policyfs.cli.audit_query import add_query, columns, open_trail, selection_of, zone_of
from policyfs.domain import OWNER_NONE, Decision, Facts, FileType, Principal
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError, UsageError, errno_name
from policyfs.journal.indexed import IndexedTrail
from policyfs.journal.policy_texts import read_pointer
from policyfs.trail.cause import grounds
from policyfs.trail.event import DENY
from policyfs.trail.index_rows import chosen
from policyfs.trail.line import iso_time
from policyfs.trail.query import parse_period
from policyfs.trail.selection import Selection, parse_query
from policyfs.trail.table import shown, shown_path, table

if TYPE_CHECKING:
    from policyfs.policy.decide import Engine
    from policyfs.policy.model import Policy

_REQUESTS = ("see", "read", "write", "create", "delete", "attr")
_MOST = 40


def add_parsers(
    actions: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser
) -> None:
    """Add the actions `diff` and `who-could` to `policyfs audit`.

    common: a parser with the options of all actions.
    """
    help_ = "print what is new in a period, compared with an earlier period"
    diff = actions.add_parser("diff", parents=[common], help=help_)
    for name, which in (("before", "earlier"), ("after", "later")):
        diff.add_argument(
            name, metavar=f"PERIOD{1 if name == 'before' else 2}",
            help=f"the {which} period: yesterday, 2026-03-01, 1d (until now) or FROM..TO",
        )  # fmt: skip
    add_query(diff)
    could = actions.add_parser(
        "who-could", parents=[common], help="print what each app may do at a path, by the policy in force"
    )
    could.add_argument("place", metavar="PATH", help="a path from the mount's root")
    could.add_argument("--policy", metavar="P", help="use this policy, not the policies that the trail names")
    could.add_argument("--directory", action="store_true", help="the path is a directory")
    could.add_argument("--kind", help="the content kind of the file, such as image/jpeg")


# -- diff


class _Seen(NamedTuple):
    """The counts of events in a period.

    apps: the events of each app. places: the events for each app and directory. denials: the denials for each
    app, reason (errno and rules) and path.
    """

    apps: Counter[str]
    places: Counter[tuple[str, bytes]]
    denials: Counter[tuple[str, str, bytes]]


def run_diff(args: argparse.Namespace) -> int:
    """Print the apps, directories and denials that only the second of two periods has.

    Return 1 if there are any.
    """
    trail, wanted = open_trail(args), selection_of(args)
    check_names(trail, wanted)
    policies = KeptPolicies(trail.chains)
    before, after = (
        _seen(trail, policies, _within(wanted, text, args)) for text in (args.before, args.after)
    )
    news = list(_news(before, after))
    if args.json:
        for section, rows in news:
            for row in rows:
                print(json.dumps({"new": section, **row}))
        return EXIT_REFUSED if news else EXIT_OK
    for section, rows in news:
        heads = tuple(rows[0])
        cells = [tuple(str(row[head]) for head in heads) for row in rows[:_MOST]]
        print(f"New {section}:")
        print("\n".join("  " + line for line in table([head.upper() for head in heads], cells)))
        if len(rows) > _MOST:
            print(f"  and {len(rows) - _MOST} more: use --json")
    print("\n".join(table(("APP", "BEFORE", "AFTER"), [
        (shown(app), str(before.apps[app]), str(after.apps[app])) for app in sorted(before.apps | after.apps)
    ], right=frozenset({1, 2}))))  # fmt: skip
    return EXIT_REFUSED if news else EXIT_OK


def _within(wanted: Selection, text: str, args: argparse.Namespace) -> Selection:
    try:
        since, until = parse_period(text, datetime.now(UTC), zone_of(args))
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    return wanted.narrowed(parse_query(f"since:{iso_time(since)} until:{iso_time(until)}"))


def _seen(trail: IndexedTrail, policies: KeptPolicies, wanted: Selection) -> _Seen:
    seen = _Seen(Counter(), Counter(), Counter())
    for chain in trail.chains:
        for portion in trail.portions(chain):
            index = portion.index
            rows = chosen(portion.exact(wanted), index.rows)
            pairs = Counter((index.class_of[row], index.path_of[row]) for row in rows)
            for row in rows:
                if row in index.repeats:
                    pairs[index.class_of[row], index.path_of[row]] += index.repeats[row] - 1
            reasons: dict[int, str] = {}
            for (class_id, path_id), count in pairs.items():
                event, path = index.classes[class_id], index.path(path_id)
                seen.apps[event.app] += count
                seen.places[event.app, path.rpartition(b"/")[0] or b"/"] += count
                if event.decision == DENY:
                    if class_id not in reasons:
                        reasons[class_id] = " ".join(
                            [errno_name(event.errno), *grounds(event, policies.fact)]
                        )
                    seen.denials[event.app, reasons[class_id], path] += count
    return seen


def _news(before: _Seen, after: _Seen) -> Iterator[tuple[str, list[dict[str, object]]]]:
    apps = [
        {"app": shown(app), "events": count}
        for app, count in after.apps.most_common()
        if app not in before.apps
    ]
    places: list[dict[str, object]] = [
        {"app": shown(app), "events": count, "directory": shown_path(path)}
        for (app, path), count in after.places.most_common()
        if (app, path) not in before.places
    ]
    denials: list[dict[str, object]] = [
        {"app": shown(app), "times": count, "path": shown_path(path), "why": shown(why)}
        for (app, why, path), count in after.denials.most_common()
        if (app, why, path) not in before.denials
    ]
    for section, rows in (("apps", apps), ("directories", places), ("denials", denials)):
        if rows:
            yield section, rows


# -- who-could


def run_who_could(args: argparse.Namespace) -> int:
    """Print what each app may do at a path: by the policy in force of each mount, or by the policy --policy.

    Return 1 if neither an app nor a stranger may see the path.
    """
    from policyfs.policy.decide import compile_policy  # only this action needs the engine
    from policyfs.policy.exceptions import in_force

    if not args.place.startswith("/"):
        raise UsageError(
            f"write the path from the root of the mount, such as /DCIM/a.jpg, not {args.place!r}"
        )
    found, anyone = [], False
    for name, policy in _policies(args):
        engine = compile_policy(in_force(policy, time.time_ns()))
        for who in _callers(engine):
            row = _may(engine, who, args)
            found.append((name, who.label, row))
            anyone = anyone or row["see"] != "no"
    if args.json:
        for name, app, row in found:
            print(json.dumps({"policy": name, "app": app, **row}))
    else:
        heads = ("POLICY", "APP", *(request.upper() for request in _REQUESTS), "VIEW", "WHY")
        rows = [(name[:12], shown(app), *map(str, row.values())) for name, app, row in found]
        print("\n".join(table(heads, rows, columns=columns(), flexible=len(heads) - 1)))
    return EXIT_OK if anyone else EXIT_REFUSED


def _policies(args: argparse.Namespace) -> Iterator[tuple[str, Policy]]:
    if args.policy:
        from policyfs.cli.policy_files import read_sources
        from policyfs.policy.parse import parse_policy

        policy = parse_policy(read_sources(args.policy))
        yield policy.digest, policy
        return
    trail = open_trail(args)
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


def _may(engine: Engine, who: Principal, args: argparse.Namespace) -> dict[str, str]:
    ftype = FileType.DIRECTORY if args.directory else FileType.REGULAR
    from policyfs.policy.explain import explain

    path, there = args.place.encode("utf-8", "surrogateescape"), Facts(args.kind, None)
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

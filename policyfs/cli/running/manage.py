"""`policyfs status` and `reload`: commands for running mounts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Final

from policyfs.cli.common.colour import print_error
from policyfs.cli.common.live_mounts import all_status, ask, known, part
from policyfs.cli.running.health import problems
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.linux.service_manager import ServiceManager, is_journal
from policyfs.policy.errors import harmless
from policyfs.trail.lines.table import shown, table

_SHOWN: Final = 20
_STDOUT: Final = 1


def add_status(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(usage_error=parser.error)
    add = parser.add_argument
    add("--json", action="store_true", help="one JSON object (a list without MOUNTPOINT)")
    add("--check", action="store_true", help="print one line for each mount, with its problems")
    add("--wait", type=float, default=0.0, metavar="S", help="wait up to S seconds for an answer")
    place_help = "a mountpoint, with details; or SITE.yaml"
    add("mountpoint", nargs="?", metavar="MOUNTPOINT", help=place_help)


def add_reload(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(usage_error=parser.error)
    add = parser.add_argument
    add("--all", action="store_true", help="reload every mount that answers")
    add("--previous", action="store_true", help="go back to the policy that was in force before")
    places_help = "a mountpoint, or SITE.yaml for all its mounts"
    add("mountpoints", nargs="*", metavar="MOUNTPOINT", help=places_help)


def run_status(args: argparse.Namespace) -> int:
    """Print the state of one mount or all mounts. Return 1 if a mount has a problem, or does not answer."""
    silent: list[str] = []
    one: control.Json | None = None
    is_site = args.mountpoint is not None and args.mountpoint.endswith((".yaml", ".yml"))
    if is_site:
        found = _site_status(args.mountpoint, silent)
    else:
        one = None if args.mountpoint is None else _status_of(known(args.mountpoint), args.wait)
        found = all_status(silent) if one is None else [one]
    hung: set[str] = set()
    for status in found:
        status["problems"] = [*problems(status, hung), *_of_site(status)]
    if args.json and not args.check:
        print(json.dumps(found if one is None else one, indent=2))
    elif not found and args.mountpoint is None:
        print("no policyfs mount answers")
    elif one is not None and not args.check:
        print(_as_text(one))
    else:
        for line in _checked(found) if args.check else _table(found):
            print(line)
    if args.check:
        from policyfs.cli.running.past_policy import print_told, told_of

        stores = dict.fromkeys(str(status["store"]) for status in found)
        if not print_told(told_of(stores, [args.mountpoint] if is_site else ())):
            silent.append("past the policy")
    well = not silent and not any(status["problems"] for status in found) and bool(found or not args.check)
    return EXIT_OK if well else EXIT_REFUSED


def _checked(found: list[control.Json]) -> Iterator[str]:
    """Yield a line for each mount; on the journal, which keeps all, only for those with problems."""
    in_journal = is_journal(_STDOUT)
    for status in found:
        line = f"{shown(str(status['mountpoint']))}: {'; '.join(_problems(status)) or 'well'}"
        if not in_journal:
            yield line
        elif _problems(status):
            yield f"<4>{line}"  # its level, sd-daemon(3)


def _problems(status: control.Json) -> list[str]:
    found = status.get("problems")
    return list(map(str, found)) if isinstance(found, list) else []


def _status_of(path: str, wait_s: float) -> control.Json:
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        try:
            return control.ask(control.socket_path(path), "status")
        except control.ControlError:
            time.sleep(0.05)
    return ask(path, "status")


def _site_status(path: str, silent: list[str]) -> list[control.Json]:
    from policyfs.cli.site.as_before import told_of
    from policyfs.cli.site.site import status_of_site, trail_of
    from policyfs.cli.site.site_document import read_site

    site = read_site(path)
    up, lines = status_of_site(site)
    silent += lines
    for line in lines:
        print(f"policyfs: {line}", file=sys.stderr)
    count = f"{len(up)} of {len(site.mounts)} mounts are up"
    print(f"site {shown(site.name)}: {count}; trail in {shown(trail_of(site))}", file=sys.stderr)
    try:
        told = told_of(site)
    except PolicyfsError as error:  # the mounts go on with the policy that is in force
        told = f"policyfs: {error}"
    if told:
        print(told, file=sys.stderr)
    return up


def _of_site(status: control.Json) -> list[str]:
    changes = status.get("site_changes")
    return [f"not as in the site: {change}" for change in changes] if isinstance(changes, list) else []


def _table(found: list[control.Json]) -> list[str]:
    rows = [
        (
            shown(str(status["mountpoint"])), str(status["app"] or "shared"), shown(str(status["store"])),
            f"{part(status, 'policy')['name']} {part(status, 'policy')['generation']}", str(status["pid"]),
            "LEAVING" if status["leaving"] else "NOT WELL" if _problems(status) else "well",
        )
        for status in found
    ]  # fmt: skip
    lines = table(("MOUNTPOINT", "APP", "STORE", "POLICY", "PID", "STATE"), rows) if rows else []
    bad = [(shown(str(status["mountpoint"])), wrong) for status in found for wrong in _problems(status)]
    return [*lines, *(f"{mountpoint}: NOT WELL: {wrong}" for mountpoint, wrong in bad)]


def _as_text(status: control.Json) -> str:
    policy, passthrough = part(status, "policy"), part(status, "passthrough")
    handles, trail, fuse = part(status, "handles"), part(status, "trail"), part(status, "fuse")
    kind = f"app mount of {status['app']}" if status["app"] else "shared mount"
    through = "on" if passthrough["enabled"] else f"off: {passthrough['why_not']}"
    refused = part(passthrough, "refused")
    monitor = ", monitor" if policy["monitor"] else ""
    failing = f"; FAILING: {trail['last_error']}" if trail["failing"] else ""
    digest = str(policy["digest"])[:16]
    lines = [
        f"{shown(str(status['mountpoint']))}: {kind} of {shown(str(status['store']))} ({status['store_fs']})",
        f"  daemon       pid {status['pid']}, version {status['version']} (code {status.get('code')})",
        f"               since {status['started']}",
        *(["  LEAVING      unmounted, but processes still use the mount"] if status["leaving"] else []),
        f"  policy       {policy['name']} generation {policy['generation']}, {digest}{monitor}",
        *_exceptions(policy),
        f"  passthrough  {through}",
        *(f"               {count} files mediated: {reason}" for reason, count in refused.items()),
        f"  handles      {handles['files']} files ({handles['mediated']} mediated)",
        f"               {handles['directories']} directories; {status['nodes']} nodes",
        f"  trail        {trail['written']} records, {trail['dropped']} dropped{failing}",
        f"               in {trail['directory']}",
        *([f"  last end     {trail['last_end']}"] if trail.get("last_end") else []),
        *_kept(part(status, "kept")),
        *_takeover(part(status, "takeover")),
        f"  contained    {_contained(part(status, 'contained'))}",
        "  requests     " + ", ".join(f"{name} {count}" for name, count in fuse.items() if count),
    ]
    lines += [f"  {line}" for line in told_stale(status.get("stale_handles"))]
    if status["bugs"]:
        lines.append(f"  BUGS         {status['bugs']}: see the daemon's log, and report them")
    lines += [f"  NOT WELL     {wrong}" for wrong in _problems(status)]
    return "\n".join(lines)


def _kept(told: control.Json) -> list[str]:
    if not told or not told["bytes"]:
        return []
    oldest = f"; the oldest of {told['oldest']}" if told["oldest"] else ""
    lost = f"; {told['lost']:,} gone before their age" if told["lost"] else ""
    return [f"  kept         {told['files']:,} files, {told['bytes']:,} bytes, for undo{oldest}{lost}"]


def _takeover(told: control.Json) -> list[str]:
    if not told:
        return []
    now = "possible" if told["possible"] else "NOT possible: the mount ends if its daemon is killed"
    last = f"; {told['count']} so far, the last in {told['pause_ms']} ms ({told['reason']})"
    return [f"  take-over    {now}{last if told['count'] else ''}"]


def _exceptions(policy: control.Json) -> list[str]:
    found = policy.get("exceptions")
    return [
        f"  exception    {one['id']} {'until' if one['in_force'] else 'ENDED at'} {one['until']},"
        f" approved by {one['approved_by']}: {one['reason']}"
        for one in (found if isinstance(found, list) else [])
    ]


def _contained(held: control.Json) -> str:
    missing = held.get("missing", ["unknown: the daemon has another version"])
    if isinstance(missing, list) and missing:
        return "; ".join(map(str, missing))
    return "few capabilities, no new privileges, system calls filtered, no network"


def run_reload(args: argparse.Namespace) -> int:
    """Load the policy again in each named mount.

    If one daemon refuses the policy, still reload the other mounts. Also load the policy again in mounts that
    were unmounted from the same path and are still in use.
    """
    if args.all == bool(args.mountpoints):
        args.usage_error("name the mountpoints, or use --all")
    paths = list(dict.fromkeys(path for name in args.mountpoints for path in _named(name)))
    silent: list[str] = []
    if args.all:
        paths = sorted({str(status["mountpoint"]) for status in all_status(silent)})
    code = EXIT_REFUSED if silent else EXIT_OK
    for path in paths:
        try:
            told = _upgraded(path)
            for line in [told] if told else reload_lines(path, "previous" if args.previous else "reload"):
                print(f"{shown(path)}: {line}" if len(paths) > 1 else line)
        except PolicyfsError as error:
            if len(paths) == 1:
                raise
            print_error(error, f"{path}: ")
            code = max(code, error.exit_code)
    return code


def _upgraded(path: str) -> str:
    manager = ServiceManager()
    if not manager.is_reload:
        return ""
    from policyfs.cli.running.unit_upgrade import upgraded  # only here: it imports all that mounts

    return upgraded(path, manager)


def _named(name: str) -> list[str]:
    if not name.endswith((".yaml", ".yml")):
        return [known(name)]
    from policyfs.cli.site.site import place_of
    from policyfs.cli.site.site_document import read_site

    return [place_of(mount) for mount in read_site(name).mounts]


def told_stale(stale: object) -> Iterator[str]:
    """Yield lines on files that the policy in force would not open so any more. stale: their summary."""
    if not isinstance(stale, Mapping) or not stale.get("count"):
        return
    count, files = stale["count"], stale["files"]
    by_app = ", ".join(f"{app} {number}" for app, number in sorted(stale["apps"].items()))
    yield (
        f"{count} open file{'' if count == 1 else 's'} in passthrough that this policy would not open in this"
        f" way ({by_app}); apps can use {'this file' if count == 1 else 'these files'} until they close"
        f" {'it' if count == 1 else 'them'}:"
    )
    for one in files[:_SHOWN]:
        path = harmless(str(one["path"]))
        yield f"  {one['app']} {path} (pid {one['pid']}, {one['access']}): {one['reason']}"
    if count > _SHOWN:
        yield f"  and {count - _SHOWN} more; `policyfs status --json` has {len(files)} of them"


class UnmountedKeepsError(PolicyfsError):
    """Error: the mount has the new policy, but a mount that was unmounted and is still in use refused it."""


def reload_lines(path: str, command: str, *, live: str = "", **more: str) -> Iterator[str]:
    """Make all daemons of a mountpoint load their policy again. Yield a line of text for each daemon.

    A mount that was unmounted and is still in use has a daemon, too. If the mountpoint's own mount refuses
    the policy, no other gets it. command: ``reload`` or ``previous``. live: the digest that the policy in
    force must have; empty: any. Raises PolicyfsError (UnmountedKeepsError if only an unmounted one refuses).
    """
    absent: PolicyfsError | None = None
    refused: PolicyfsError | None = None
    try:
        answer = ask(path, command, control.RELOAD_S, **more, **({"live": live} if live else {}))
    except control.ControlError:
        raise
    except PolicyfsError as error:  # there is no mount; a mount that was unmounted may still be in use
        absent = error
    else:
        yield f"policy {str(answer['digest'])[:16]} in force, generation {answer['generation']}"
        yield from told_stale(answer.get("stale_handles"))
    for leaving in control.leaving_paths(path):
        try:
            answer = control.ask(leaving, command, control.RELOAD_S, **more)
        except control.NoDaemonError:
            continue
        except control.ControlError as error:
            refused = error
            continue
        yield f"policy {str(answer['digest'])[:16]} in force in an unmounted mount that processes still use"
    if absent is not None:
        raise absent
    if refused is not None:
        told = f"the unmounted mount that processes still use keeps its old policy: {refused}"
        raise UnmountedKeepsError(told) from refused
    if command == "previous":
        yield (
            "this command did not change the policy's file: correct the file before the next reload or mount"
        )

"""`policyfs brake`: the apps that changed too many files, and what lets them go on."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from policyfs.cli.common.live_mounts import all_status, ask, known, part
from policyfs.daemon.control import control
from policyfs.errors import EXIT_OK, EXIT_REFUSED
from policyfs.trail.lines.table import shown, word


def add_brake(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``policyfs brake``."""
    parser.set_defaults(usage_error=parser.error)
    add = parser.add_argument
    add("--release", metavar="APP", help="let this app change files again, and count anew")
    add("mountpoint", nargs="?", metavar="MOUNTPOINT", help="a mountpoint; without it, all mounts")


def run_brake(args: argparse.Namespace) -> int:
    """Print the brakes and counts of mounts, or release a brake. Return 1 if a brake is on, or a mount does
    not answer."""
    if args.release is not None:
        if args.mountpoint is None:
            args.usage_error("name the mountpoint")
        path = known(args.mountpoint)
        ask(path, "brake", release=args.release)
        print(f"{shown(path)}: {shown(args.release)} may change files again")
        return EXIT_OK
    silent: list[str] = []
    found = all_status(silent) if args.mountpoint is None else [ask(known(args.mountpoint), "status")]
    for status in found:
        print("\n".join(_lines(status)))
    return EXIT_REFUSED if silent or any(map(on_of, found)) else EXIT_OK


def on_of(status: control.Json) -> dict[str, str]:
    """Return a sentence for each brake of a mount that is on, by app: why, and how to release it."""
    release = f"policyfs brake {word(str(status.get('mountpoint')))} --release"
    return {
        app: f"the brake of {shown(app)} is on since {one['since']}, by rule {one['rule']} at"
        f" {shown(str(one['path']))}: it may remove, overwrite and rename no more files;"
        f" see what it did (`policyfs audit search --app {word(app)}`), then `{release} {word(app)}`"
        for app, one in part(part(status, "brakes"), "on").items()
        if isinstance(one, dict)
    }


def _lines(status: control.Json) -> Iterator[str]:
    counts = part(status, "brakes").get("counts")
    told = [*on_of(status).values()]
    for one in counts if isinstance(counts, list) else ():
        told.append(
            f"{shown(str(one['app']))} has changed {one['counted']} of {one['changes']} files"
            f" within {one['within_s']} s (rule {one['rule']})"
        )
    for line in told or ["no app has changed a file that a limit counts"]:
        yield f"{shown(str(status['mountpoint']))}: {line}"

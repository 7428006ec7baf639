"""`policyfs try`: what commands of `policyfs run --try` changed, and its way into the store, or away."""

from __future__ import annotations

import argparse
import contextlib
import errno
import fnmatch
import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from policyfs.cli.common.colour import wanted
from policyfs.cli.common.commands import add_commands
from policyfs.cli.layers import layer as layers
from policyfs.cli.layers.differences import differences, text_of
from policyfs.cli.layers.layer import Layer
from policyfs.cli.layers.replay import Outcome, Replay
from policyfs.cli.layers.verdicts import Verdicts
from policyfs.cli.mounts.run_command import Trial
from policyfs.cli.mounts.run_user import become_root_of_user
from policyfs.cli.mounts.run_view import View, in_view
from policyfs.errors import EXIT_OK, EXIT_REFUSED, PolicyfsError
from policyfs.trail.lines.table import shown

_ACTIONS: Final = {
    "list": ("mounts.try_command", "list all layers"),
    "diff": ("mounts.try_command", "show what a commit would change, and what the policy would refuse"),
    "commit": ("mounts.try_command", "make the changes in the store, as the app, through its mount"),
    "drop": ("mounts.try_command", "remove a layer"),
}


def add_try(parser: argparse.ArgumentParser, words: Sequence[str] = ()) -> None:
    """Add the actions of `policyfs try`. words: the user's words after `try`."""
    add_commands(parser, _ACTIONS, words)


def add_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON line for each layer")


def add_diff(parser: argparse.ArgumentParser) -> None:
    _add_layer(parser)
    _add_choice(parser)
    parser.add_argument("--names", action="store_true", help="no lines of changed texts")


def add_commit(parser: argparse.ArgumentParser) -> None:
    _add_layer(parser)
    _add_choice(parser)


def add_drop(parser: argparse.ArgumentParser) -> None:
    _add_layer(parser)


def _add_layer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the layer (default: the only one)")


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a JSON line for each path")
    help_ = "only paths in the store that match, such as 'src/*' (* matches also /; may be repeated)"
    parser.add_argument("--paths", action="append", default=[], metavar="GLOB", help=help_)


def run_list(args: argparse.Namespace) -> int:
    """Print the layers."""
    for name in layers.names():
        layer = layers.named(name)
        options, interrupted = layer.about["options"], layer.interrupted()
        layer.close()
        if args.json:
            told = {key: options[key] for key in ("app", "store", "policy")}
            print(json.dumps({"name": name, **told, "interrupted": interrupted > 0}))
        else:
            more = "; a commit was interrupted: commit again" if interrupted else ""
            print(f"{shown(name)}  {shown(options['store'])} as {options['app']}{more}")
    return EXIT_OK


def run_diff(args: argparse.Namespace) -> int:
    """Print what a commit would change."""
    is_wanted, colours = _chosen(args.paths), wanted(sys.stdout)

    def show(verdicts: Verdicts, upper: int, shown_: int) -> int:
        for one in differences(upper, shown_):
            if not is_wanted(one.path):
                continue
            note = verdicts.note(one)
            if args.json:
                print(json.dumps(one.fields() | ({"note": note} if note else {})))
                continue
            lines = () if args.names else text_of(one, upper, shown_, colours=colours)
            print("\n    ".join((one.text(note, colours=colours), *lines)))
        return EXIT_OK

    with contextlib.ExitStack() as stack:
        layer = _opened(args.name, stack)
        app = str(layer.about["options"]["app"])
        return _in_layer(layer, "diff", lambda view: functools.partial(show, Verdicts.of(view.loader, app)))


def run_commit(args: argparse.Namespace) -> int:
    """Make the changes in the store. Return EXIT_REFUSED if something stays in the layer."""
    is_wanted = _chosen(args.paths)

    def commit(verdicts: Verdicts, upper: int, shown_: int) -> int:
        begun_ns, hidden = layer.about["begun_ns"], verdicts.hidden
        replay = Replay(upper, shown_, store, journal.fileno(), states, begun_ns, hidden)
        if replay.resumed and not args.json:
            number = len(replay.resumed)
            print(f"policyfs: an interrupted commit goes on with {number} paths", file=sys.stderr)
        code = EXIT_OK
        try:
            for outcome in replay.run(is_wanted):
                code = EXIT_REFUSED if outcome.kept else code
                _tell(outcome, as_json=args.json)
                sys.stdout.flush()  # it is in the store, whatever comes next
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            told = f"the disk of the layer is full ({shown(str(layer.place))})"
            print(f"policyfs: {told}: make room there, and commit again, or drop the layer", file=sys.stderr)
            return EXIT_REFUSED
        return code

    with contextlib.ExitStack() as stack:
        layer = _opened(args.name, stack)
        states, journal = layer.states(), stack.enter_context(layer.opened("journal"))
        store = os.open(layer.about["options"]["store"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, store)
        app, kept = str(layer.about["options"]["app"]), (journal.fileno(), store)

        def task_of(view: View) -> Callable[[int, int], int]:
            return functools.partial(commit, Verdicts.of(view.loader, app))

        return _in_layer(layer, "commit", task_of, kept=kept)


def _tell(outcome: Outcome, *, as_json: bool) -> None:
    path = os.fsdecode(outcome.path)
    if as_json:
        told = {"path": path, "committed": not outcome.kept}
        print(json.dumps(told | ({"why": outcome.kept} if outcome.kept else {})))
    elif outcome.kept:
        print(f"policyfs: {shown(path)} stays in the layer: {outcome.kept}", file=sys.stderr)
    else:
        print(shown(path))


def run_drop(args: argparse.Namespace) -> int:
    """Remove a layer."""
    layer = layers.named(args.name)
    name, store = layer.name, layer.about["options"]["store"]
    layer.close()
    if os.geteuid() != 0:
        become_root_of_user(store)
    layer = layers.named(name)
    layer.drop()
    layer.close()
    return EXIT_OK


def _chosen(globs: Sequence[str]) -> Callable[[bytes], bool]:
    """Return a function that tells whether a path matches one of the globs; without globs, each does."""
    return lambda path: not globs or any(fnmatch.fnmatchcase(os.fsdecode(path), glob) for glob in globs)


def _opened(name: str | None, stack: contextlib.ExitStack) -> Layer:
    layer = layers.named(name)
    stack.callback(layer.close)
    store = layer.about["options"]["store"]
    if not Path(store).is_dir():
        raise PolicyfsError(f"the store {store} of the layer {layer.name} is not there")
    return layer


def _in_layer(
    layer: Layer, action: str, task_of: Callable[[View], Callable[[int, int], int]],
    kept: tuple[int, ...] = (),
) -> int:  # fmt: skip
    """Call a task for a layer and its view, in a mount like the one of the layer's command. Return its exit
    code. A layer that has no change any more is removed. Raises PolicyfsError.

    task_of: returns the task, and may read files, which the task, as the command's user, may not. kept:
    descriptors of the task.
    """
    options = argparse.Namespace(**layer.about["options"])
    options.command, options.words = f"try {action}", ["policyfs", "try", action, layer.name]
    user = become_root_of_user(options.store) if os.geteuid() != 0 else None

    def work(view: View) -> int:
        trial = Trial(layer.top, view.namespace(), task_of(view), kept=kept)
        return view.run(options.words, options.at, trial)

    code = in_view(options, user, work)
    layer.drop_if_empty()
    return code

"""`policyfs run --try`: the command's changes go into a layer over the view."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from typing import Final

from policyfs.cli.layers.changes import is_whole, record_states
from policyfs.cli.layers.layer import Layer
from policyfs.cli.layers.verdicts import Verdicts
from policyfs.cli.mounts.run_command import Trial
from policyfs.cli.mounts.run_user import User
from policyfs.cli.mounts.run_view import View, in_view
from policyfs.cli.mounts.start import options_of
from policyfs.trail.lines.table import shown

_COARSE_NS: Final = 20_000_000
"""File systems take times from a clock of ticks of at most 10 ms."""


def run_on_layer(
    args: argparse.Namespace, command: Sequence[str], user: User | None, policy_text: str
) -> int:
    """Run a command on a layer, and say how its changes are seen and committed. Return its exit code."""
    layer = Layer.made(args.keep, args.app)
    try:
        if policy_text:
            args.policy = layer.write_policy(policy_text)
        code = in_view(args, user, lambda view: _run(args, command, layer, view))
    finally:
        is_full = layer.is_full()
        is_kept = layer.drop_if_empty()
        layer.close()
    if is_full:
        told = "what the command wrote last may be missing; make room before a commit, or drop the layer"
        print(f"policyfs: the disk of the layer is full ({shown(str(layer.place))}): {told}", file=sys.stderr)
    if is_kept:
        name = layer.name
        told = f"`policyfs try diff {name}` shows it, `try commit {name}` puts it into the store"
        print(f"policyfs: what it changed is in the layer {shown(name)}: {told}", file=sys.stderr)
    return code


def _run(args: argparse.Namespace, command: Sequence[str], layer: Layer, view: View) -> int:
    begun_ns = time.time_ns() - _COARSE_NS
    layer.make_directories(view.identity.uid, view.identity.gid)
    layer.note(options=options_of(args) | {"follow": False}, begun_ns=begun_ns)
    hidden = Verdicts.of(view.loader, args.app).hidden
    known = layer.states()  # before the command: what a commit took out of the layer has none any more
    with layer.opened("states.new") as states:

        def record(upper: int, shown: int) -> int:
            record_states(upper, shown, known, begun_ns, hidden, states)
            states.flush()
            os.fsync(states.fileno())
            return 0

        states.truncate()
        trial = Trial(layer.top, view.namespace(), after=record, kept=(states.fileno(),))
        code = view.run(command, args.at, trial)
        states.seek(0)
        if is_whole(states):
            os.replace(layer.place / "states.new", layer.place / "states")
        return code

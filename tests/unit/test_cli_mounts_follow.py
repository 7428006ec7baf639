"""Which running mounts `policyfs mount --follow` takes over, and the reason of the others."""

from __future__ import annotations

import argparse
import os

import pytest

from policyfs.cli.mounts.follow import followed, why_not
from policyfs.cli.mounts.mount import add_mount
from policyfs.cli.mounts.start import options_of
from policyfs.errors import PolicyfsError


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_mount(parser)
    return parser.parse_args([*words, "--policy", "/p", "--trail", "/trail", "/s", "/m"])


STATUS = {
    "takeover": {"keeper": 7}, "options": options_of(arguments("--keeper")),
    "policy": {"file": "/p"}, "trail": {"directory": "/trail/ab"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "changed", "why"),
    [
        ((), {}, ""),
        (("--copy-max", "1M", "--watch", "--follow"), {}, ""),
        (("--posix", "--nodes-max", "500"), {}, "options that need a new mount differ: posix"),
        ((), {"policy": {"file": "/q"}, "trail": {"directory": "/t/ab"}},
         "options that need a new mount differ: policy, trail"),
        ((), {"options": options_of(arguments("--keeper", "--foreground"))},
         "another program watches it: reload its unit, or use --foreground, too"),
        ((), {"takeover": None}, "it has no keeper"),
        ((), {"takeover": {"keeper": 0}}, "its keeper has ended, or is of an earlier version"),
    ],
)  # fmt: skip
def test_who_can_be_followed(words: tuple[str, ...], changed: dict[str, object], why: str) -> None:
    assert why_not(arguments("--keeper", *words), STATUS | changed) == why


def test_a_place_without_a_mount_cannot_be_followed() -> None:
    args = arguments()
    args.mountpoint = os.path.abspath(".")
    with pytest.raises(PolicyfsError, match="no mount of /s is at"):
        followed(args)

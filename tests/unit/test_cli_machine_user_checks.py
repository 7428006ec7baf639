"""What forbids `policyfs run` without root, each with its remedy."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from policyfs.cli.machine import user_checks


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOENT, "install the package uidmap"),
        (errno.ENOSPC, "/proc/sys/user/max_user_namespaces"),
        (errno.EPERM, "In a container, its engine decides"),
    ],
)
def test_each_error_has_its_remedy(monkeypatch, number: int, told: str) -> None:
    monkeypatch.setattr(user_checks, "_SWITCHES", ())
    assert told in user_checks._why_forbidden(OSError(number, "x"))


def test_a_switch_that_forbids_it_is_named(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "on").write_text("1\n")
    switches = tuple((str(tmp_path / name), "1", f"kernel.{name}=0") for name in ("none", "on"))
    monkeypatch.setattr(user_checks, "_SWITCHES", switches)
    assert "`sysctl kernel.on=0`" in user_checks._why_forbidden(OSError(errno.EPERM, "x"))

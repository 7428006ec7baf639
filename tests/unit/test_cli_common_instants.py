"""The option --at."""

from __future__ import annotations

import argparse
import time

import pytest

from policyfs.cli.common.instants import add_at, at_ns


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_at(parser)
    return parser.parse_args(words)


def test_a_time_is_that_time_and_none_is_now() -> None:
    assert at_ns(parsed("--at", "1970-01-01T00:01:00Z")) == 60_000_000_000
    assert abs(at_ns(parsed()) - time.time_ns()) < 60_000_000_000


def test_a_wrong_time_is_a_usage_error_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parsed("--at", "2030-01-31T18:00")
    assert left.value.code == 2
    assert "has no time zone: write the date, the time and the zone" in capsys.readouterr().err

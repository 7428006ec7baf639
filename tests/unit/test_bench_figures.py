"""Figures of the comparison: ratios within each round, and changes that are more than noise."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.bench.comparison.contenders import Setting, UnknownContenderError
from tests.bench.comparison.figures import Figures, differences, load, save, table
from tests.bench.comparison.programs import fill_sources
from tests.bench.comparison.rows import ROWS, chosen


def figures(unit: str = "1/s", **rounds: list[float]) -> Figures:
    return Figures("stat", "tmpfs", unit, rounds)


def test_a_ratio_is_taken_within_each_round() -> None:
    row = figures(native=[100, 200, 300], app=[50, 100, 300])
    assert row.ratios("app") == [0.5, 0.5, 1.0]
    assert row.median("app") == 100
    assert "app 100 (x0.50, 0.50-1.00)" in row.line()


def test_figures_come_back_from_json(tmp_path: Path) -> None:
    save(tmp_path / "deep" / "old.json", "a machine", [figures(native=[1.0], app=[2.0])])
    assert load(tmp_path / "deep" / "old.json") == [figures(native=[1.0], app=[2.0])]


def test_a_slower_machine_is_no_change_and_a_slower_contender_is() -> None:
    old = figures(native=[100, 101, 99], app=[50, 51, 50])
    assert not any(one.counts for one in differences([old], [figures(native=[50, 51, 50], app=[25, 25, 26])]))
    [one] = differences([old], [figures(native=[100, 101, 99], app=[25, 25, 25])])
    assert one.counts
    assert one.factor == pytest.approx(0.5, rel=0.02)
    assert "slower" in one.line()


def test_seconds_are_faster_if_they_are_fewer() -> None:
    old = figures("s", native=[1, 1, 1], app=[4, 4, 4])
    [one] = differences([old], [figures("s", native=[1, 1, 1], app=[2, 2, 2])])
    assert one.factor == 2.0
    assert "faster" in one.line()


def test_a_noisy_change_does_not_count() -> None:
    old = figures(native=[1, 1, 1, 1], app=[1, 2, 3, 4])
    [one] = differences([old], [figures(native=[1, 1, 1, 1], app=[2, 3, 4, 2])])
    assert not one.counts


def test_rows_that_only_one_run_has_are_left_out() -> None:
    assert differences([], [figures(native=[1.0], app=[1.0])]) == []


def test_the_table_has_a_column_for_each_contender() -> None:
    assert (
        table([figures(native=[20_000], app=[1.5])]).splitlines()[2] == "| stat | tmpfs | 1/s | 20k | 1.5 |"
    )


def test_rows_are_chosen_by_a_part_of_their_name() -> None:
    assert [row.name for row in chosen(["ENO", "rename"])] == ["ENOENT", "rename"]
    slow = {"make -j2, 2,000 files"}
    assert {row.name for row in ROWS} - {row.name for row in chosen([])} == slow
    assert {row.name for row in chosen(["2,000"])} == slow


def test_a_contender_is_named_by_kind_and_settings() -> None:
    assert Setting.of("shared:rules=3:trail=off") == Setting("shared", 3, "off")
    assert not Setting.of("app:xattrs=off").xattrs
    for wrong in ("nobody", "app:rules=many", "app:trail=loud", "app:colour=red"):
        with pytest.raises(UnknownContenderError):
            Setting.of(wrong)


@pytest.mark.parametrize("kind", ["app", "shared", "alike", "writers", "full", "redacted"])
def test_the_policy_of_a_contender_compiles_with_as_many_rules_as_it_says(kind: str) -> None:
    from policyfs.policy.text.parse import SourceText, parse_policy

    policy = parse_policy([SourceText("p.yaml", Setting.of(f"{kind}:rules=7").policy().encode())])
    assert len(policy.rules) == (8 if kind in {"redacted", "writers"} else 7)


def test_the_project_of_c_can_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.comparison.programs.SOURCES", 2)
    for _ in range(2):  # the second run of a comparison finds it
        fill_sources(tmp_path / "sources")
    subprocess.run(["make", "-s", "-j2", "-C", tmp_path / "sources"], check=True, timeout=60)
    assert subprocess.run([tmp_path / "sources/program"], check=False, timeout=20).returncode == 0

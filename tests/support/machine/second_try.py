"""A second try, alone, for a test that failed while others ran: on two busy processors some fail by the load.

    pytest ...                                      # writes down what failed, and what failed for good
    pytest --last-failed --last-failed-no-failures none --second-try

A byte that leaked once has leaked: what attacks a whole daemon, and what looks for a place in a redacted
file, has one try. Only an attack on a daemon that lacks a guard, which has to succeed by luck, and what is
marked `load` have two. More than a few failures are no accident either: none of them is tried again.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.mount.stores import Mounts

MOST: Final = 5
"""Failures that may be tried a second time, in one run."""
ONE_TRY: Final = frozenset({"attack", "redaction"})
"""Directories of tests that have one try."""
_FOR_GOOD: Final = "policyfs/failed-for-good"
ALONE: Final = "policyfs/passed-alone"
"""Where pytest's cache has the tests that passed in the second run."""
_PROPERTY: Final = "has-second-try"


def has_second_try(item: pytest.Item) -> bool:
    """Whether the load of the machine may be why a test has failed."""
    if item.get_closest_marker("load") is not None:
        return True
    if not ONE_TRY & set(item.path.relative_to(item.config.rootpath).parts):
        return True
    # A file's mounts stay in what its later tests are given: a weakened one says nothing of those.
    fixtures = item._fixtureinfo.name2fixturedefs if isinstance(item, pytest.Function) else {}
    own = [
        made
        for name, made in getattr(item, "funcargs", {}).items()
        if name in fixtures and fixtures[name][-1].scope == "function"
    ]
    return any(mounts.lacks_a_guard for mounts in own if isinstance(mounts, Mounts))


class SecondTry:
    """Both sides of it: the first run's notes, and what the second run goes by."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._cache = getattr(config, "cache", None)  # none with -p no:cacheprovider
        self._is_second = bool(config.getoption("second_try"))
        self._failed: dict[str, bool] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> pytest.TestReport:
        report = yield
        if report.failed:
            report.user_properties.append((_PROPERTY, has_second_try(item)))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of every test, also where other processes ran it."""
        if report.failed:
            may = dict(report.user_properties).get(_PROPERTY, False)
            self._failed[report.nodeid] = bool(may) and self._failed.get(report.nodeid, True)

    def pytest_sessionfinish(self) -> None:
        if hasattr(self._config, "workerinput") or self._is_second or self._cache is None:
            return
        for_good = [nodeid for nodeid, may in self._failed.items() if not may]
        if len(self._failed) > MOST:
            for_good = list(self._failed)
        self._cache.set(_FOR_GOOD, for_good)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if not self._is_second or self._cache is None:
            return
        if for_good := self._cache.get(_FOR_GOOD, []):
            raise pytest.UsageError("no second try: failed for good: " + ", ".join(for_good))
        if not session.items:
            raise pytest.UsageError("no second try: the first run did not end by a test that failed")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._is_second:
            return
        reports = terminalreporter.stats.get("passed", [])
        passed = [report.nodeid for report in reports if report.when == "call"]
        if self._cache is not None:
            self._cache.set(ALONE, passed)
        for nodeid in passed:
            terminalreporter.write_line(f"FAILED BESIDE OTHERS, PASSED ALONE: {nodeid}")

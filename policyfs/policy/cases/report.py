"""The results of a run of tests, as text for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from policyfs.policy.cases.run import Result
from policyfs.policy.errors import harmless
from policyfs.policy.model import Policy, Rule


class Outcome(NamedTuple):
    """All results of the tests of one policy."""

    name: str
    policy: Policy
    results: Sequence[Result]

    @property
    def failed(self) -> list[Result]:
        """The requests that were not answered as expected."""
        return [result for result in self.results if not result.passed]

    def uncovered(self) -> list[str]:
        """Return the rules that had no effect on any answer in the tests, in the order of the policy."""
        reached = set().union(*(result.rules for result in self.results)) if self.results else set()
        return [rule.id for rule in self._deciding if rule.id not in reached]

    @property
    def _deciding(self) -> list[Rule]:
        """The rules that can have an effect on an answer: all but limits."""
        return [rule for rule in self.policy.rules if rule.limit is None]

    def text(self) -> str:
        """Return the failed tests and a summary as text."""
        lines = [line for result in self.failed for line in (*_lines(result), "")]
        return "\n".join([*lines, *self._sum()])

    def _sum(self) -> Iterator[str]:
        uncovered = self.uncovered()
        rules = len(self._deciding)
        if uncovered:
            yield f"{self.name}: no test reaches {', '.join(map(harmless, uncovered))}"
        failed = len(self.failed)
        count = len(self.results)
        passed = "1 request passed" if count == 1 else f"all {count} requests passed"
        told = f"{failed} of {count} requests failed" if failed else passed
        yield f"{self.name}: {told}; tests reach {rules - len(uncovered)} of {rules} rules"

    def as_json(self) -> dict[str, object]:
        """Return the results as plain data (dictionaries and lists) for JSON."""
        return {
            "policy": self.name,
            "digest": self.policy.digest,
            "requests": len(self.results),
            "failed": len(self.failed),
            "rules": len(self.policy.rules),
            "uncovered": self.uncovered(),
            "results": [
                {
                    "test": result.case.doc.id,
                    "file": result.case.where.file,
                    "line": result.case.where.line,
                    "request": result.request,
                    "passed": result.passed,
                    "differences": [one._asdict() for one in result.differences],
                    "rules": sorted(result.rules),
                    "explain": result.explain or None,
                }
                for result in self.results
            ],
        }


def _lines(result: Result) -> Iterator[str]:
    where = result.case.where
    place = f"{harmless(where.file)}:{where.line}:{where.column}"
    yield f"{place}: test {harmless(result.case.doc.id)}: {harmless(result.request)}"
    width = max(len(one.key) for one in result.differences)
    for one in result.differences:
        yield f"  {one.key:<{width}}  expected {harmless(one.expected)}, found {harmless(one.found)}"
    if result.rules:
        yield f"  rules that counted: {', '.join(sorted(result.rules))}"
    if result.explain:
        yield f"  {harmless(result.explain)}"

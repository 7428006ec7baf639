"""`policyfs` whose bridge answers opens that would be on the trail, if that is only best effort.

    python -m tests.support.mount.opens_on mount --foreground ...

With POLICYFS_TEST_DAEMON=tests.support.mount.opens_on every test runs against it; those that look for
allowed requests on the trail find none.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import Any

from policyfs.cli.main import main
from policyfs.domain import Audit, Decision
from policyfs.kernel import vectors
from policyfs.policy.decide import Engine


@functools.lru_cache(maxsize=4096)
def unrecorded(decision: Decision) -> Decision:
    """The same decision, without a record of what is allowed."""
    recorded = decision.allowed and decision.audit is Audit.BEST_EFFORT and not decision.would_deny
    return dataclasses.replace(decision, audit=Audit.OFF) if recorded else decision


def leave_out_records() -> None:
    """Let no engine ask for a record that is best effort."""
    decide = Engine.decide

    def deciding(self: Engine, *words: Any) -> Decision:
        return unrecorded(decide(self, *words))

    setattr(Engine, "decide", deciding)  # noqa: B010 - for this process only


if __name__ == "__main__":
    vectors.set_shares(0, 0)
    leave_out_records()
    sys.exit(main(sys.argv[1:]))

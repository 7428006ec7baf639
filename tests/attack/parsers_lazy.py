"""A zygote whose workers look for places in the first segment only, as a lazy parser does (A5)."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import policyfs.content.workers.worker as worker_module
from policyfs.content.workers.zygote import main
from policyfs.redact.plan import Outcome, Plan

_locate = worker_module.locate


def locate_lazily(kind: str | None, what: frozenset[str], source: Any, **later: bool) -> Plan:
    """The first range of what is found, and nothing else."""
    plan = _locate(kind, what, source, **later)
    return replace(plan, patches=plan.patches[:1], findings=()) if plan.outcome is Outcome.PATCH else plan


if __name__ == "__main__":
    worker_module.locate = locate_lazily
    sys.exit(main())

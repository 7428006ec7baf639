"""What `policy diff` costs: two policies of 1,000 rules, with one rule changed, and with every rule changed.

``mixed``: every rule changed, of ten sorts, by which 40 apps and 4 ranges of uids differ (big_policy.py).
``defaults``: one default changed.

    python -m tests.bench.bench_diff [--rules N]

Prints one JSON object, times in seconds of processor time. Exits 1 if a comparison takes more than 10 s.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
import time

from policyfs.domain import Audit, Op
from policyfs.policy.analysis.diff import diff
from policyfs.policy.model import Effect, Rule
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.bench.bench_policy import policy
from tests.bench.big_policy import big_policy

LIMIT_S = 10.0


def more(rule: Rule) -> Rule:
    return dataclasses.replace(rule, ops=rule.ops | Op.WRITE)


def other(rule: Rule) -> Rule:
    """Change a rule of any effect."""
    if rule.effect in (Effect.ALLOW, Effect.DENY):
        return dataclasses.replace(rule, ops=rule.ops ^ Op.ATTR)
    return dataclasses.replace(rule, audit=Audit.OFF if rule.audit is None else None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=1000)
    count = parser.parse_args().rules
    old = policy(count)
    one = dataclasses.replace(old, rules=(*old.rules[:-1], more(old.rules[-1])))
    every = dataclasses.replace(old, rules=tuple(map(more, old.rules)))
    found: dict[str, object] = {}
    mixed = parse_policy([SourceText("mixed.yaml", big_policy(count))])
    changed = dataclasses.replace(mixed, rules=tuple(map(other, mixed.rules)))
    pairs = {"same": (old, old), "one": (old, one), "every": (old, every), "mixed": (mixed, changed)}
    pairs["defaults"] = (mixed, dataclasses.replace(mixed, audit_allowed=Audit.REQUIRED))
    for name, (before, after) in pairs.items():
        start = time.process_time()
        blocks = len(diff(before, after).blocks)
        found[name] = {"seconds": round(time.process_time() - start, 2), "blocks": blocks}
    found["max_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps(found, indent=1))
    return 0 if all(entry["seconds"] <= LIMIT_S for entry in found.values() if isinstance(entry, dict)) else 1


if __name__ == "__main__":
    sys.exit(main())

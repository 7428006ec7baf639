"""What `policy diff` costs: two policies of 1,000 rules, with one rule changed, and with every rule changed.

    python -m tests.bench.bench_diff [--rules N]

Prints one JSON object, times in seconds. Exits 1 if a comparison takes more than 10 s.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
import time

from policyfs.domain import Op
from policyfs.policy.analysis.diff import diff
from policyfs.policy.model import Rule
from tests.bench.bench_policy import policy

LIMIT_S = 10.0


def more(rule: Rule) -> Rule:
    return dataclasses.replace(rule, ops=rule.ops | Op.WRITE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", type=int, default=1000)
    old = policy(parser.parse_args().rules)
    one = dataclasses.replace(old, rules=(*old.rules[:-1], more(old.rules[-1])))
    every = dataclasses.replace(old, rules=tuple(map(more, old.rules)))
    found: dict[str, object] = {}
    for name, new in (("same", old), ("one", one), ("every", every)):
        start = time.perf_counter()
        blocks = len(diff(old, new).blocks)
        found[name] = {"seconds": round(time.perf_counter() - start, 2), "blocks": blocks}
    found["max_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps(found, indent=1))
    return 0 if all(entry["seconds"] <= LIMIT_S for entry in found.values() if isinstance(entry, dict)) else 1


if __name__ == "__main__":
    sys.exit(main())

"""Holds the project to its budgets: `python -m tests.budget`, part of `make lint`. --show prints all figures.

The file budgets.toml beside this one says how much of each thing there may be. What has shrunk lowers its
number in the file; numbers of lines and words to the next hundred, so that a mended fault needs no new
number. What has grown beyond its number fails: raise the number by hand, with the reason in a comment behind
it, in the commit that makes it grow.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from tests.budget.measure import measured
from tests.support.machine.documents import CHECKOUT

BUDGETS: Final = Path(__file__).with_name("budgets.toml")
_TIERS: Final = ("check", "test")
"""Goals of the Makefile that note in .venv/.seconds-GOAL how long they took."""
_COARSE: Final = re.compile(r"python.*|c|tests|words.*")
_STEP: Final = 100
_LINE: Final = re.compile(r'^(?P<name>"[^"]+"|[\w-]+) = (?P<most>\d+)(?P<why>.*)$')


def held(text: str, found: dict[str, int]) -> tuple[str, list[str]]:
    """Return the text of budgets.toml with the numbers lowered to what was found, and what is wrong with it.
    found: a dictionary from the name of a thing to how much of it there is."""
    lines, wrong, seen = [], [], set[str]()
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            lines.append(line)
            continue
        name, most = match["name"].strip('"'), int(match["most"])
        seen.add(name)
        if name not in found:
            wrong.append(f"{name} is no longer there: remove its line")
            found = {**found, name: most}
        if found[name] > most:
            wrong.append(f"{name}: {found[name]:,} where {most:,} are budgeted")
        step = _STEP if _COARSE.fullmatch(name) else 1
        lines.append(f"{match['name']} = {min(most, -(-found[name] // step) * step)}{match['why']}")
    wrong += [f"{name}: {found[name]:,}, and no budget" for name in found if name not in seen]
    return "\n".join(lines) + "\n", wrong


def shown(found: dict[str, int], checkout: Path = CHECKOUT) -> str:
    """Return one line for each figure, and for the seconds of each tier of tests when it last passed."""
    lines = [f"{number:>9,}  {name}" for name, number in found.items()]
    for tier in _TIERS:
        noted = checkout / f".venv/.seconds-{tier}"
        took = noted.read_text("ascii").strip() if noted.exists() else "-"
        lines.append(f"{took:>9}  seconds of make {tier}")
    return "\n".join(lines)


def main() -> int:
    """Measure, lower the budgets, print what is over them (--show: all figures). Return the exit status."""
    before, found = BUDGETS.read_text("utf-8"), measured()
    if "--show" in sys.argv[1:]:
        print(shown(found))
    after, wrong = held(before, found)
    if after != before:
        BUDGETS.write_text(after, "utf-8")
        print("budgets.toml: lowered to what there is now; commit it")
    for one in wrong:
        print(one, file=sys.stderr)
    if wrong:
        print(f"Take as much away, or raise the number in {BUDGETS} and say why behind it.", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

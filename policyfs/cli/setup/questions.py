"""Questions for a person at a terminal."""

from __future__ import annotations

import sys
from typing import Final, TextIO

from policyfs.errors import UsageError
from policyfs.trail.lines.table import shown


class Questions:
    """A dialogue with the user: questions on one stream, answers from another."""

    def __init__(self, asked: TextIO | None = None, answers: TextIO | None = None) -> None:
        self._asked: Final = sys.stderr if asked is None else asked
        self._answers: Final = sys.stdin if answers is None else answers

    def ask(self, question: str, proposed: str = "") -> str:
        """Ask one question. Return the answer, or if it is empty the proposed one. Raises UsageError at the
        end of the input."""
        text = f"{question}{f' ({proposed})' if proposed else ''}: "
        print(shown(text), end="", file=self._asked, flush=True)
        line = self._answers.readline()
        if not line:
            raise UsageError("the input ended before the last answer; options answer, too (--help)")
        return line.strip() or proposed

    def say(self, text: str) -> None:
        """Print one line."""
        print(shown(text), file=self._asked)

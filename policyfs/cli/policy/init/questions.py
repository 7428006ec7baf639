"""The questions of `policyfs policy init`, for a person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Final, ParamSpec, TextIO, TypeVar

from policyfs.cli.policy.init.survey import Directory
from policyfs.cli.policy.init.wishes import MEANINGS, Level, Wish, directories, wish_of
from policyfs.errors import UsageError
from policyfs.trail.lines.table import shown

P = ParamSpec("P")
T = TypeVar("T")

_EVERYTHING: Final = "everything"


class Questions:
    """A dialogue with the user: questions on one stream, answers from another."""

    def __init__(self, asked: TextIO | None = None, answers: TextIO | None = None) -> None:
        self._asked: Final = sys.stderr if asked is None else asked
        self._answers: Final = sys.stdin if answers is None else answers

    def ask(self, question: str, proposed: str = "") -> str:
        """Ask one question. Return the answer, or if it is empty the proposed one."""
        return self._ask(f"{question}{f' ({proposed})' if proposed else ''}: ") or proposed

    def wishes(self, there: Sequence[Directory]) -> list[Wish]:
        """Ask for apps and their access until an answer is empty. Raises UsageError if the input ends before
        that. there: the directories at the top of the store."""
        self.say("The store has these directories:")
        for directory in there:
            self.say(f"  {directory.name:<16} {directory.told()}")
        found: list[Wish] = []
        while True:
            first = "an app (a name such as gallery)" if not found else "another app (empty: no more)"
            text = self._ask(f"Which app may use the store? Name {first}: ")
            if not text and found:
                return found
            wish = self._tried(self._new, text, found)
            if wish is not None:
                self._details(wish, [directory.name for directory in there])
                found.append(wish)

    def _new(self, text: str, found: Sequence[Wish]) -> Wish:
        wish = wish_of(text)
        if any(wish.name == other.name for other in found):
            raise UsageError(f"there is already an app {wish.name}")
        while wish.uid is None:
            user = self._ask(
                f"This machine has no user {text}. User or uid of the app (empty: its own mount): "
            )
            if not user:
                break
            wish = self._tried(wish_of, f"{text}={user}") or wish
        return wish

    def _details(self, wish: Wish, there: Sequence[str]) -> None:
        self.say(f"What may {wish.name} do?")
        for level, meaning in MEANINGS.items():
            self.say(f"  {level.value:<11} {meaning}")
        self.say(f"  {_EVERYTHING:<11} read all files unchanged, as a backup must")
        words = [*(level.value for level in Level), _EVERYTHING]
        while (word := self._ask("Choose one (read): ") or Level.READ.value) not in words:
            self.say(f"write one of {', '.join(words)}")
        if word == _EVERYTHING:
            wish.whole = True
            return
        level, names = Level(word), None
        while names is None:
            text = self._ask(f"In which directories, with commas (all: {', '.join(there)})? ")
            names = self._tried(directories, text or ",".join(there), there)
        wish.shares = dict.fromkeys(names, level)
        if level is not Level.EDIT:
            answer = self._ask(f"May {wish.name} know where pictures were taken (no)? ")
            wish.places = answer.lower() in {"y", "yes"}

    def _tried(self, answer: Callable[P, T], *words: P.args, **_: P.kwargs) -> T | None:
        try:
            return answer(*words, **_)
        except UsageError as error:
            self.say(str(error))
            return None

    def say(self, text: str) -> None:
        """Print one line."""
        print(shown(text), file=self._asked)

    def _ask(self, question: str) -> str:
        print(shown(question), end="", file=self._asked, flush=True)
        line = self._answers.readline()
        if not line:
            raise UsageError("the input ended before the last answer; options answer, too (--help)")
        return line.strip()

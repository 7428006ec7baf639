"""Kind by word: what is hidden is gone for independent readers, and nothing else is harmed.

Each material_*.py beside this file makes its samples with the tools that people's files come from.
All cells of one theme are gone through in one test, since making the material costs the most.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from policyfs.content.workers.worker import Detector
from policyfs.redact.core.patches import MemorySource, apply
from policyfs.redact.plan import Outcome, Plan, locate
from tests.redaction.oracles import about, differences, exiftool, in_bytes, printed
from tests.redaction.samples import WORDS, Sample, Shown, all_decoded, decoded
from tests.support.machine.counts import count

THEMES = sorted(path.stem for path in Path(__file__).parent.glob("material_*.py"))
MOVING = ("video/", "audio/")


CELLS = count(1, 5)
"""Words that each sample is redacted under."""
TURNS = ("location", *WORDS[1:], "location")
"""Where not all words have their turn with each sample, places have it twice as often."""


def words_for(number: int) -> list[str]:
    """The words for a theme's so manyth sample."""
    return [*WORDS] if len(WORDS) == CELLS else [TURNS[number % len(TURNS)]]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


def redacted(sample: Sample, data: bytes, word: str) -> tuple[Plan, bytes]:
    """The plan for a sample, and what a reader gets."""
    plan = locate(sample.kind, frozenset({word}), MemorySource(data))
    assert not plan.reason.startswith("internal error"), (sample.name, word, plan.reason)
    return plan, apply(data, plan.patches)


class Cells:
    """What is wrong with the samples of a theme, cell by cell."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.wrong: list[str] = []
        self.outputs: dict[tuple[str, str], Path] = {}
        self.shown: dict[tuple[Shown, bytes], str] = {}
        self.printed: dict[bytes, str] = {}

    def say(self, sample: Sample, word: str, text: str) -> None:
        self.wrong.append(f"{sample.name} ({sample.kind}) under {word}: {text}")

    def make(self, sample: Sample, word: str) -> None:
        """Redacts one sample under one word, and writes what a reader gets."""
        data = sample.path.read_bytes()
        plan, out = redacted(sample, data, word)
        if (plan.outcome is Outcome.REFUSE) != (word in sample.refused):
            self.say(sample, word, f"{plan.outcome.value}: {plan.reason}")
        if plan.outcome is Outcome.REFUSE:
            return
        if len(out) != len(data):
            self.say(sample, word, "its size changed")
        again = locate(sample.kind, frozenset({word}), MemorySource(out))
        if again.outcome is not Outcome.CLEAN:
            self.say(sample, word, f"redacting it again finds {again.reason} {again.findings[:3]}")
        path = self.directory / word / sample.path.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(out)
        self.outputs[sample.name, word] = path

    def play(self, samples: list[Sample]) -> None:
        """Let ffmpeg and mediainfo, which take long to start, read all films and sounds at once."""
        outputs = [(s, path) for s in samples for word in WORDS if (path := self.outputs.get((s.name, word)))]
        films = [(s, path.read_bytes(), path) for s, new in outputs for path in (s.path, new)]
        paths = {data: path for sample, data, path in films if sample.shown is decoded}
        if paths:
            digests = all_decoded([*paths.values()])
            self.shown = {(decoded, data): one for data, one in zip(paths, digests, strict=True)}
        new = [path for sample, path in outputs if sample.kind.startswith(MOVING)]
        self.printed = {path.read_bytes(): text for path, text in printed(new).items()}

    def judge(self, sample: Sample, word: str, before, after) -> None:
        """What the oracles find in what a reader gets."""
        old, new = sample.path, self.outputs[sample.name, word]
        data = new.read_bytes()
        if sample.shown is not None and self._shown(sample, new) != self._shown(sample, old):
            self.say(sample, word, "it shows or plays something else")
        tells = self.said(sample, new, after)
        for name in about(after, word):
            if not self._extra(sample, name):
                self.say(sample, word, f"exiftool finds {name} = {after[name][:80]!r}")
        hidden = set(WORDS) - {"all-metadata"} if word == "all-metadata" else {word}
        gone = {fact for each in hidden for fact in sample.told.get(each, ())}
        for fact in gone:
            if fact in tells or in_bytes(data, fact):
                self.say(sample, word, f"{fact!r} is still there")
        for each in set(WORDS) - hidden - {"all-metadata"}:
            for fact in set(sample.told.get(each, ())) - gone:
                if fact not in tells and fact in self.said(sample, old, before):
                    self.say(sample, word, f"{fact!r} ({each}) is gone")
        for text in differences(before, after, word):
            if not self._extra(sample, text):
                self.say(sample, word, text)

    def _extra(self, sample: Sample, name: str) -> bool:
        group, *_, tag = name.split(":", 3)[:3]
        plain = name.split(": ", maxsplit=1)[0].rsplit(":", 1)[-1]
        return bool({group, f"{group}:{tag}", f"{group}:{plain}"} & sample.extra.keys())

    def _shown(self, sample: Sample, path: Path) -> str:
        assert sample.shown is not None
        key = sample.shown, path.read_bytes()
        if key not in self.shown:
            self.shown[key] = sample.shown(path)
        return self.shown[key]

    def said(self, sample: Sample, path: Path, tags) -> str:
        """Everything that the oracles print."""
        text, data = "", path.read_bytes()
        if sample.kind.startswith(MOVING):
            if data not in self.printed:
                self.printed[data] = printed([path])[path]
            text = self.printed[data]
        return "\n".join([*tags.values(), *tags, text])


def check_theme(theme: str, directory: Path, detector: Detector) -> Iterator[str]:
    """What is wrong in any cell of a theme."""
    material = import_module(f"tests.redaction.{theme}")
    source = directory / "as made"
    source.mkdir()
    samples: list[Sample] = list(material.samples(source))
    cells = Cells(directory)
    for number, sample in enumerate(samples):
        kind = detector.kind(sample.path.read_bytes()[:65536])
        if kind != sample.kind:
            yield f"{sample.name} is called {kind}, not {sample.kind}"
        for word in words_for(number):
            cells.make(sample, word)
    cells.play(samples)
    read = [sample.path for sample in samples if sample.refused != {*WORDS}]
    tags = exiftool([*read, *cells.outputs.values()])
    for sample in samples:
        before = tags.get(sample.path, {})
        found = "\n".join([*before.values(), *before])
        data = sample.path.read_bytes()
        for fact in {fact for facts in sample.told.values() for fact in facts}:
            said = fact in found or in_bytes(data, fact)
            if not said and fact not in cells.said(sample, sample.path, before):
                yield f"{sample.name}: no oracle finds {fact!r} in the file as made"
        for word in WORDS:
            if (sample.name, word) in cells.outputs:
                cells.judge(sample, word, before, tags.get(cells.outputs[sample.name, word], {}))
    yield from cells.wrong


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.timeout(300)
def test_nothing_leaks_and_nothing_is_harmed(theme: str, tmp_path: Path, detector: Detector) -> None:
    wrong = list(check_theme(theme, tmp_path, detector))
    assert not wrong, "\n".join(wrong)

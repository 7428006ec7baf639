"""The policy in force in one mount, the one before it, and their record on the trail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from policyfs.daemon.end import MountEnd
from policyfs.errors import PolicyfsError
from policyfs.journal.journal import Journal
from policyfs.journal.policy_texts import policy_text, read_pointer, read_policy
from policyfs.policy.decide import Engine
from policyfs.policy.parse import SourceText, digest_of

Sources = Sequence[SourceText]


class Loader(NamedTuple):
    """Reads the texts of a mount's policy, and compiles texts with the mount's options."""

    read: Callable[[], Sources]
    compile: Callable[[Sources], Engine]


class Policies:
    """The policy in force in a mount, and the one before it. Blocking calls: for threads."""

    def __init__(self, loader: Loader) -> None:
        """Load the first policy. Raises PolicyfsError."""
        self._loader = loader
        self._sources = loader.read()
        self.engine = loader.compile(self._sources)
        self.previous = ""
        """The digest of the policy before this one, empty if unknown."""

    def begin(self, journal: Journal, directory: Path, told: dict[str, object]) -> None:
        """Record the start of the mount. told: further fields of the record."""
        self._journal, self._directory = journal, directory
        digest = self.engine.digest
        last, before = read_pointer(directory)
        self.previous = before if last == digest else last
        fields = {"policy": digest, "name": self.engine.policy.name, **told}
        journal.tell("mount", fields, policy=policy_text(digest, self._sources), previous=self.previous)

    def read(self, *, previous: bool) -> Sources:
        """Read the texts to put in force: those of the file, or those of the policy before."""
        if not previous:
            return self._loader.read()
        if not self.previous:
            raise PolicyfsError("the trail has no earlier policy to go back to")
        try:
            sources = [SourceText(*file) for file in read_policy(self._directory, self.previous)]
        except OSError as error:
            raise PolicyfsError(
                f"the text of the previous policy cannot be read: {error.filename}: {error.strerror}"
            ) from error
        if digest_of(source.text for source in sources) != self.previous:
            raise PolicyfsError(
                f"the text of the previous policy ({self._directory}/policies/{self.previous}) was changed,"
                " so it is not loaded"
            )
        return sources

    def compile(self, sources: Sources) -> Engine:
        """Compile texts. Raises PolicyfsError."""
        return self._loader.compile(sources)

    def replace(self, engine: Engine, sources: Sources, by: MountEnd, generation: int) -> None:
        """Record a new policy, right before it is in force."""
        before = self.engine.digest
        if engine.digest != before:
            self.previous = before
        self.engine, self._sources = engine, sources
        fields = {
            "result": "in force", "policy": engine.digest, "previous": before, "name": engine.policy.name,
            "generation": generation, **by.fields(),
        }  # fmt: skip
        text = policy_text(engine.digest, sources)
        self._journal.tell("policy", fields, policy=text, previous=self.previous)

    def refuse(self, sources: Sources | None, by: MountEnd, reason: str) -> None:
        """Record that a policy was refused. sources: its texts, if they could be read."""
        fields: dict[str, object] = {"result": "refused", "policy": self.engine.digest}
        text = None
        if sources is not None:
            text = policy_text(digest_of(source.text for source in sources), sources)
            fields["refused"] = text.digest
        self._journal.tell("policy", fields | {"reason": reason} | by.fields(), policy=text)

"""The policy in force in one mount, its exceptions (rules for a limited time), and the previous policy. The
trail records all these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.daemon.control import control
from policyfs.daemon.end import MountEnd
from policyfs.daemon.high_water import NAME, HighWaterMark
from policyfs.daemon.log import Log
from policyfs.errors import PolicyfsError
from policyfs.journal.files.policy_texts import policy_text, read_pointer, read_policy
from policyfs.journal.writing.journal import Journal
from policyfs.linux.private_files import make_private
from policyfs.policy.decide import Engine, as_of
from policyfs.policy.exceptions import PREFIX, ended, instant_text, next_end
from policyfs.policy.model import Policy
from policyfs.policy.text.sources import SourceText, digest_of

Sources = Sequence[SourceText]
UNSAVED: Final = (
    "the ends of exceptions could not be saved: after a restart, an ended exception may begin again"
)
OVERRIDDEN: Final = "raw_types has no effect on kinds that policyfs can redact: see `policyfs policy check`"


class Loader(NamedTuple):
    """Functions that load a policy. read: returns the texts of a mount's policy. parse: parses texts and
    proves invariants, before the daemon serves. compile: with the mount's options."""

    read: Callable[[], Sources]
    parse: Callable[[Sources], Policy]
    compile: Callable[[Policy], Engine]


class Policies:
    """A mount's policy in force, and the previous one. Methods may block unless they say "never waits"."""

    def __init__(
        self, loader: Loader, root: Path, log: Log, *, succeeds: str = "", saved_in: Path | None = None,
        in_force: Callable[[str], None] = lambda _digest: None,
    ) -> None:  # fmt: skip
        """Load the first policy. root: the directory of the trails, made if missing. Raises PolicyfsError.

        succeeds: the digest of the policy in force, if the mount's daemon has died: no other one is loaded.
        saved_in: the trail that has its text. in_force: called with the digest of each later policy.
        """
        self._in_force = in_force
        self._warn = log.warning
        self._loader = loader
        try:
            make_private(root)
        except OSError as error:
            raise PolicyfsError(
                f"cannot make the trail root {root}: {error.strerror}; choose another with --trail"
            ) from error
        self.mark = HighWaterMark(root)
        if self.mark.damaged:
            log.warning("all exceptions count as ended: their file is damaged", file=str(root / NAME))
        self._sources = loader.read()
        if succeeds and digest_of(source.text for source in self._sources) != succeeds:
            self._sources = saved_text(saved_in or root, succeeds)
        self.engine = self.compile(loader.parse(self._sources))
        self.mark.pass_ends(self.engine.policy)
        unsaved = self.save_ends()
        if unsaved:
            log.warning(UNSAVED, why=unsaved)
        self.next_end = next_end(self.engine.policy)
        """The time at which the next exception (a rule for a limited time) ends, in ns since 1970; None if
        there is none."""
        self.previous = ""
        """The digest of the previous policy; empty if it is unknown."""

    def begin(self, journal: Journal, directory: Path, told: dict[str, object]) -> None:
        """Record the start of the mount. told: further fields of the record."""
        self._journal, self._directory = journal, directory
        digest = self.engine.digest
        last, before = read_pointer(directory)
        self.previous = before if last == digest else last
        fields = {"policy": digest, "name": self.engine.policy.name, **_exceptions(self.engine), **told}
        journal.tell("mount", fields, policy=policy_text(digest, self._sources), previous=self.previous)

    def read(self, *, previous: bool) -> Sources:
        """Read the texts to load: in the policy's files or, with *previous*, of the previous policy."""
        if not previous:
            return self._loader.read()
        if not self.previous:
            raise PolicyfsError("the trail has no earlier policy to go back to")
        return saved_text(self._directory, self.previous)

    def compile(self, policy: Policy) -> Engine:
        """Compile a policy, without exceptions (rules for a limited time) that have already ended.
        Raises PolicyfsError, also if the policy has exceptions and the clock is not set."""
        if policy.exceptions and self.mark.clock_is_unset:
            raise PolicyfsError(
                "the clock of this machine is not set, and the policy has exceptions that end at a time: set"
                " the clock, and try again"
            )
        engine = self._loader.compile(policy)
        for rule in engine.policy.rules:
            if rule.overridden:
                self._warn(OVERRIDDEN, rule=rule.id, kinds=sorted(rule.overridden))
        return self.without_ended(engine)

    def without_ended(self, engine: Engine) -> Engine:
        """Return a policy without exceptions that have ended by now: *engine* if there are none."""
        return as_of(engine, self.mark.now_ns())

    def has_ended(self, engine: Engine) -> bool:
        """Return True if an exception of this compiled policy has ended by now. Never waits."""
        end = next_end(engine.policy)
        return end is not None and end <= self.mark.now_ns()

    def has_new_text(self) -> bool:
        """Return True if the policy's files differ from the policy in force. Raises UnreadableError."""
        return digest_of(source.text for source in self._loader.read()) != self.engine.digest

    def successor(self) -> Engine:
        """Compile the policy in force again, without exceptions (rules for a limited time) that have ended or
        will end next. Return the engine."""
        return as_of(self.engine, max(self.mark.now_ns(), self.next_end or 0))

    def save_text(self, engine: Engine, sources: Sources) -> None:
        """Save the text of a policy that will be in force next, so that its record takes no time."""
        previous = self.previous if engine.digest == self.engine.digest else self.engine.digest
        self._journal.tell("policy", policy=policy_text(engine.digest, sources), previous=previous)

    def replace(
        self, engine: Engine, sources: Sources | None, by: MountEnd, generation: int,
        written: Callable[[], None],
    ) -> None:  # fmt: skip
        """Queue the record of a new policy right before it is in force. Never waits. sources: its texts; None
        if they have not changed. written: called by a thread once the record is on the trail.

        INVARIANT: if this raises, the old policy stays in force, and this object describes it on: its
        exceptions end at the times known here."""
        before = self.engine.digest
        previous = self.previous if engine.digest == before else before
        sources = self._sources if sources is None else sources
        fields = {
            "result": "in force", "policy": engine.digest, "previous": before, "name": engine.policy.name,
            "generation": generation, **_exceptions(engine), **by.fields(),
        }  # fmt: skip
        following = next_end(engine.policy)
        text = policy_text(engine.digest, sources)
        self._journal.announce("policy", fields, policy=text, previous=previous, written=written)
        self.mark.pass_ends(engine.policy)
        self.previous, self.engine, self._sources = previous, engine, sources
        self._in_force(engine.digest)
        self.next_end = following

    def tell_stale(self, stale: control.Json, generation: int) -> None:
        """Queue a record of the open files that the policy in force would not open. Never waits. stale: a
        summary of these files, as JSON. generation: the number of the policy in force."""
        fields = {"policy": self.engine.digest, "generation": generation, **stale}
        self._journal.announce("stale_handles", fields)

    def flush(self) -> None:
        """Write the records of this object to the trail."""
        self._journal.flush()

    def save_ends(self) -> str:
        """Save the latest end of all exceptions (rules for a limited time) that have ended, so that they stay
        ended after a restart. Return the reason if that fails, else ""."""
        try:
            self.mark.save()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def close(self) -> None:
        """Close the file that keeps the ends of exceptions (rules for a limited time)."""
        self.mark.close()

    def refuse(self, sources: Sources | None, by: MountEnd, reason: str) -> None:
        """Queue a record of a refused policy. Never waits. sources: its texts; None if unreadable."""
        fields: dict[str, object] = {"result": "refused", "policy": self.engine.digest}
        text = None
        if sources is not None:
            text = policy_text(digest_of(source.text for source in sources), sources)
            fields["refused"] = text.digest
        # The refused text may be that of the policy in force, for example if a client expects another digest.
        # Then the journal also saves *previous* as the digest of the previous policy. So pass the known one.
        told = fields | {"reason": reason} | by.fields()
        self._journal.announce("policy", told, policy=text, previous=self.previous)


def saved_text(directory: Path, digest: str) -> Sources:
    """Read the texts of a policy that a trail has saved. Raises PolicyfsError."""
    try:
        sources = [SourceText(*file) for file in read_policy(directory, digest)]
    except OSError as error:
        raise PolicyfsError(
            f"the text of the previous policy cannot be read: {error.filename}: {error.strerror}"
        ) from error
    if digest_of(source.text for source in sources) != digest:
        raise PolicyfsError(
            f"the text of the previous policy ({directory}/policies/{digest}) was changed,"
            " so policyfs does not load that text"
        )
    return sources


def _exceptions(engine: Engine) -> dict[str, object]:
    """Return a record's field with the exceptions in force (rules for a limited time) and their ends."""
    gone = ended(engine.policy)
    live = {
        one.rule.id.removeprefix(PREFIX): instant_text(one.until_ns)
        for one in engine.policy.exceptions
        if one not in gone
    }
    return {"exceptions": live} if engine.policy.exceptions else {}

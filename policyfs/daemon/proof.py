"""The daemon's part in the proof of its mount.

The mount exists, but is attached nowhere. Another process, the prover (policyfs/cli/prover.py), gets the
mount's descriptor. The prover makes sample requests (canaries) of all sorts, under the uids of apps, and
compares the answers with the policy. Once the result is on record, the daemon tells the prover to attach the
mount. From then on, apps reach the mount.

Messages (SOCK_SEQPACKET, JSON): first the daemon sends {"mounted": true} with the mount's descriptor. Then
the prover sends {"ask": "counts"} any number of times, and each time gets the daemon's counts. Then the
prover sends {"result": ...}. If the proof held, the daemon sends {"attach": true}, and the prover sends
{"attached": true} once the mount is attached. If the prover fails, it sends {"error": TEXT}.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from typing import Final

import trio

from policyfs.daemon.proof_messages import MOST_BYTES, Json, decoded, encoded
from policyfs.domain import Audit
from policyfs.errors import PolicyfsError
from policyfs.fs.access.ledger import Sink
from policyfs.journal.committer import Commit
from policyfs.journal.ticket import Ticket
from policyfs.trail.event import Event

DEADLINE_S: Final = 120.0

NOT_MADE: Final[Json] = {"result": "none", "why": "switched off (--no-proof)"}


class ProofError(PolicyfsError):
    """Error: the proof of a mount (the test of its answers) failed. The mount is not attached then."""


class MutableSink:
    """A filter that passes events to the journal of a mount, or drops them while it is muted. It is muted as
    long as only canaries (test requests under apps' uids) can reach the mount.

    The trail records the requests of the canaries as the result of the proof. As events they would name apps
    that did not make these requests.
    """

    def __init__(self, sink: Sink, *, muted: bool) -> None:
        self._sink = sink
        self.muted = muted

    def unmute(self, after: Callable[[], None]) -> None:
        """Take events from now on. First call *after*, which passes on the last events of the test requests
        (canaries).

        These events are still dropped.
        """
        after()
        self.muted = False

    def admit(self, event: Event, audit: Audit, *, paid: bool = False) -> Ticket | None:
        """Pass an event to the trail. While muted, drop the event and return None."""
        return None if self.muted else self._sink.admit(event, audit, paid=paid)

    def commit(self, tickets: Sequence[Ticket]) -> None:
        """Write the events of these tickets to the trail, on this thread."""
        self._sink.commit(tickets)

    def at_once(self, tickets: Sequence[Ticket]) -> Commit:
        """Start to write the events of these tickets to the trail, on another thread."""
        return self._sink.at_once(tickets)


async def prove(
    proof_fd: int, mount_fd: int, counts: Callable[[], Json], record: Callable[[Json], None]
) -> Json:
    """Let the prover, another process, test the mount and attach it. Return the result of the proof. Raises
    ProofError.

    counts: returns the daemon's counts, which the prover compares. record: puts the result on record.
    """
    with socket.socket(fileno=proof_fd) as channel:
        channel.setblocking(False)
        result: Json | None = None
        try:
            with contextlib.suppress(BrokenPipeError):  # a prover that has failed may have left a message
                socket.send_fds(channel, [encoded({"mounted": True})], [mount_fd])
            with trio.fail_after(DEADLINE_S):
                while True:
                    message = await _received(channel)
                    if "ask" in message:
                        channel.send(encoded(counts()))
                    elif "error" in message:
                        raise ProofError(str(message["error"]))
                    elif "attached" in message and result is not None:
                        return result
                    else:
                        result = _checked(message)
                        await trio.to_thread.run_sync(record, result)
                        if result.get("result") != "held":
                            raise ProofError(str(result.get("reason")))
                        # The deadline does not interrupt run_sync: it may have passed meanwhile.
                        await trio.lowlevel.checkpoint_if_cancelled()
                        channel.send(encoded({"attach": True}))
        except trio.TooSlowError as error:
            raise ProofError(f"the mount was not proved within {DEADLINE_S:g} s") from error
        except ConnectionError as error:
            raise ProofError("the mount was not proved: the prover has ended") from error
        except (OSError, ValueError, TypeError) as error:
            raise ProofError(f"the mount was not proved: {error}") from error


def _checked(message: Json) -> Json:
    found = message.get("result")
    if not isinstance(found, dict):
        raise TypeError("the process sent no result")
    return found


async def _received(channel: socket.socket) -> Json:
    await trio.lowlevel.wait_readable(channel)
    return decoded(channel.recv(MOST_BYTES), "the prover")

"""The commands that clients send through the control socket of a mount."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from policyfs.daemon.control.control import Json
from policyfs.daemon.control.server import Command
from policyfs.daemon.end import EndOfMount, MountEnd
from policyfs.daemon.log import Log, Notice
from policyfs.daemon.mountpoint import Mountpoint
from policyfs.daemon.policies.reload import Reload
from policyfs.errors import PolicyfsError
from policyfs.fs.access.brakes import Brakes, On
from policyfs.journal.writing.journal import Journal
from policyfs.journal.writing.programs import executable
from policyfs.linux.peer import Peer, caller_of, login_of
from policyfs.policy.model import Limit

_PROOF: Final = ("result", "reason", "canaries", "callers", "callers_left_out", "took_ms")


def commands(
    end: EndOfMount, mountpoint: Mountpoint, reload: Reload, status: Callable[[], Json],
    record_proof: Callable[[Json], None], follow: Callable[[int, int], Awaitable[None]],
    release: Callable[[str, Json], Awaitable[bool]],
) -> dict[str, Command]:  # fmt: skip
    """Return the commands of a daemon with these parts, by name. record_proof: puts the result of a proof on
    the trail. follow: ends this daemon, so that another one takes over (keeper/upgrade.py). release:
    releases the brake of an app, with who did it for the trail; returns False if it is not on."""

    async def ending(peer: Peer, _: Json) -> Json:
        """Note that `policyfs umount` is about to unmount."""
        end.announce(_by("policyfs umount", peer))
        return {}

    async def staying(*_: object) -> Json:
        """Note that the client has given up the unmount that it announced."""
        end.withdraw()
        return {}

    async def abort(peer: Peer, _: Json) -> Json:
        """End the mount, even while it is in use (`policyfs umount --abort`)."""
        end.by(_by("policyfs umount --abort", peer))
        mountpoint.leave()
        return {}

    async def load(peer: Peer, request: Json) -> Json:
        """Load the policy again (`policyfs reload`), or load exactly the text that `policy apply` has
        checked. The check compared this text with the policy of the digest ``live``."""
        expected = request.get("expected")
        how = "policyfs reload" if expected is None else "policyfs policy apply"
        return await reload.reload(_by(how, peer), expected=expected, live=request.get("live"))

    async def previous(peer: Peer, _: Json) -> Json:
        """Put the policy in force that was in force before the present one (`policyfs reload --previous`)."""
        return await reload.reload(_by("policyfs reload --previous", peer), previous=True)

    async def describe(*_: object) -> Json:
        """Return the state of the mount (`policyfs status`)."""
        return status()

    async def proof(peer: Peer, request: Json) -> Json:
        """Put the result of `policyfs prove` on record."""
        told = request.get("proof")
        fields = {name: told[name] for name in _PROOF if name in told} if isinstance(told, dict) else {}
        by = _by("policyfs prove", peer).fields()
        await trio.to_thread.run_sync(record_proof, {"result": "failed"} | fields | by)
        return {}

    async def followed(peer: Peer, request: Json) -> Json:
        """Let the daemon that asks take over (`policyfs mount --follow`). keeper: the pid of its keeper."""
        keeper = request.get("keeper")
        await follow(peer.pid, keeper if isinstance(keeper, int) else 0)
        return {}

    return {
        "status": describe, "reload": load, "previous": previous, "ending": ending, "staying": staying,
        "abort": abort, "proof": proof, "follow": followed, "brake": partial(_release, release),
    }  # fmt: skip


def tell_brake(journal: Journal, log: Log, app: str, on: On, limit: Limit | None) -> None:
    """Put on record and in the log that an app's brake is on; limit None: log that it is off."""
    if limit is None:
        Notice.BRAKE_ON.ends(log)
        return
    fields: dict[str, object] = {"app": app, "rule": on.rule, "path": on.path, "uid": on.uid}
    journal.announce("brake", {"done": "on"} | fields | limit._asdict())
    Notice.BRAKE_ON.tell(log, **fields)


async def release_brake(brakes: Brakes, journal: Journal, app: str, by: Json) -> bool:
    """Let an app go on, on record. Return False if its brake is not on. by: who did it."""
    on = brakes.on.get(app)
    if on is None or not brakes.release(app):
        return False
    journal.announce("brake", {"done": "release", "app": app, "rule": on.rule} | by)
    await brakes.save()
    return True


async def _release(release: Callable[[str, Json], Awaitable[bool]], peer: Peer, request: Json) -> Json:
    """Let an app go on whose brake is on (`policyfs brake --release`)."""
    app = str(request.get("release"))
    if not await release(app, _by("policyfs brake --release", peer).fields()):
        raise PolicyfsError(f"the brake of {app!r} is not on")
    return {}


def _by(how: str, peer: Peer) -> MountEnd:
    """Return who has run a command. Commands without a daemon put the same facts on record."""
    caller = caller_of(peer.pid)
    return MountEnd("command", how, caller, peer.uid, executable(caller), login_of(peer.pid))

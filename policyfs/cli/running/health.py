"""Problems of a mount, found in its status. `policyfs status` and monitoring programs show them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Final

from policyfs.cli.common.live_mounts import is_of_unit, is_renewed_by_reload, part
from policyfs.cli.common.processes import look
from policyfs.cli.machine.findings import State
from policyfs.cli.machine.store_checks import check_closed
from policyfs.cli.running.brake import on_of
from policyfs.cli.running.store_state import store_problems
from policyfs.daemon.control import control
from policyfs.daemon.worker_losses import RECENT_NS
from policyfs.errors import PolicyfsError
from policyfs.linux.code_digest import VERSION, code_digest

_STORE_S: Final = 5.0
_ASKED_FOR: Final = "switched off (--no-passthrough)"


def problems(status: control.Json, hung: set[str] | None = None) -> Iterator[str]:
    """Yield one sentence for each problem of a mount. hung: stores that are not waited for again; gets those
    that do not answer."""
    trail, passthrough = part(status, "trail"), part(status, "passthrough")
    if status.get("leaving"):
        yield "unmounted, but processes still use the mount"
    if trail.get("failing"):
        yield f"the trail in {trail.get('directory')} cannot be written: {trail.get('last_error')}"
    if trail.get("dropped"):
        yield f"{trail['dropped']} events are not on the trail"
    if trail.get("kept_back"):
        yield str(trail["kept_back"])
    if dropped := _number(part(status, "quarantine").get("dropped")):
        search = "policyfs audit search --op quarantine --decision deny"
        yield f"{dropped} refused files are lost; `{search}` lists them"
    yield from on_of(status).values()
    yield from _takeover(part(status, "takeover"))
    if not passthrough.get("enabled") and passthrough.get("why_not") != _ASKED_FOR:
        yield f"no passthrough: {passthrough.get('why_not')}"
    if not part(status, "watch").get("running"):
        yield "the store is not watched: the mount shows changes by other programs only after 1 s"
    missing = part(status, "contained").get("missing")
    for what in missing if isinstance(missing, list) else ():
        yield f"the daemon is not contained: {what}"
    if status.get("code") != code_digest():
        remedy = "restart its unit" if is_of_unit(status) else "unmount, and mount again"
        remedy = "reload its unit" if is_renewed_by_reload(status) else remedy
        yield (
            f"the daemon runs version {status.get('version')} (code {status.get('code')}), but {VERSION}"
            f" (code {code_digest()}) is installed: {remedy}"
        )
    sniffer = part(status, "sniffer")
    if time.time_ns() - _number(sniffer.get("last_loss_ns")) < RECENT_NS:
        lost = sum(map(_number, part(sniffer, "failed").values()))
        yield (
            f"workers that read files died, and {lost} requests failed; the last error:"
            f" {sniffer.get('last_error')}"
        )
    yield from _store(status, set() if hung is None else hung)
    if status.get("bugs"):
        yield f"unexpected errors (bugs of policyfs): {status['bugs']}; see the daemon's log, and report them"


def _takeover(told: control.Json) -> Iterator[str]:
    if told.get("possible") is False:
        yield f"if the daemon is killed, no other will take over, and the mount ends: {told.get('why_not')}"
    if told.get("unsaved"):
        yield (
            f"if the daemon is killed, {told['unsaved']} files and directories in use are lost (ESTALE):"
            f" {told.get('unsaved_of') or 'somebody'} uses more than can be saved for one app"
        )


def _store(status: control.Json, hung: set[str]) -> Iterator[str]:
    store = str(status.get("store"))
    if store not in hung:
        try:
            yield from look(partial(_look_at_store, status), _STORE_S)
        except PolicyfsError:
            hung.add(store)
    if store in hung:
        yield f"the store {store} does not answer within {_STORE_S:g} s"


def _look_at_store(status: control.Json) -> list[str]:
    """Return the problems of a mount's store. This function may wait without end."""
    found: list[str] = []
    with suppress(OSError):  # the daemon has ended meanwhile
        found += store_problems(status)
    with suppress(OSError):  # the store may be missing in this process's mount namespace
        closed = check_closed(str(status.get("store")))
        found += [] if closed.state is State.OK else [f"{closed.what}: {closed.todo}"]
    return found


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0

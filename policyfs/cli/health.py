"""What is wrong with a mount by its status, for `policyfs status --check` and whatever watches it."""

from __future__ import annotations

from collections.abc import Iterator

from policyfs import control

_ASKED_FOR = "switched off (--no-passthrough)"


def problems(status: control.Json) -> Iterator[str]:
    """Sentences about what does not work in a mount as it should; none for a sound one."""
    trail, passthrough = _part(status, "trail"), _part(status, "passthrough")
    if status.get("leaving"):
        yield "it has left its mountpoint and lives on elsewhere"
    if trail.get("failing"):
        yield f"the trail in {trail.get('directory')} cannot be written: {trail.get('last_error')}"
    if trail.get("dropped"):
        yield f"{trail['dropped']} events are not on the trail"
    if not passthrough.get("enabled") and passthrough.get("why_not") != _ASKED_FOR:
        yield f"no passthrough: {passthrough.get('why_not')}"
    if not _part(status, "watch").get("running"):
        yield "no watch of the store: changes elsewhere are seen after 1 s"
    missing = _part(status, "contained").get("missing")
    for what in missing if isinstance(missing, list) else ():
        yield f"the daemon is not contained: {what}"
    if status.get("bugs"):
        yield f"{status['bugs']} bugs: see the daemon's log"


def _part(status: control.Json, name: str) -> control.Json:
    found = status.get(name)
    return found if isinstance(found, dict) else {}

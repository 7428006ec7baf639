"""The mounts of a site that give their programs all that they had before, and when to restrict them."""

from __future__ import annotations

import datetime as dt
import os
from typing import Final

from policyfs.cli.common.policy_files import read_sources
from policyfs.cli.site.site_document import MountDoc, Site
from policyfs.content.workers.policy_parser import parse_apart
from policyfs.domain import NO_FACTS, FileType, Op
from policyfs.errors import PolicyfsError
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.model import Effect
from policyfs.trail.lines.table import word

DAYS: Final = 7
"""Days of use that show what a program needs."""
_SAMPLE: Final = b"/any/file"


def told_of(site: Site) -> str:
    """Return a line on the mounts with targets of a site: those that are as before, those that are
    restricted, and what to do next; empty if the site has none. Raises PolicyfsError."""
    its = [mount for mount in site.mounts if mount.targets]
    if not its:
        return ""
    engine = compile_policy(parse_apart(read_sources(site.policy)))
    number = sum(_is_as_before(engine, mount) for mount in its)
    rest = len(its) - number
    told = f"as before: {number} service{'' if number == 1 else 's'}, {rest or 'nothing'} restricted"
    return f"{told}{'' if rest else ' yet'}{f'; {_next(site)}' if number else ''}"


def _next(site: Site) -> str:
    """Return what to do to restrict the programs. The day counts from the last change of the policy."""
    try:
        changed = dt.datetime.fromtimestamp(os.stat(site.policy).st_mtime).astimezone().date()
    except OSError as error:
        raise PolicyfsError(f"cannot read {site.policy}: {error.strerror}") from error
    day = changed + dt.timedelta(days=DAYS)
    when = f"on {day}, " if day > dt.datetime.now().astimezone().date() else ""
    return f"{when}`policyfs tighten {word(site.file)}` proposes rules by what they did"


def _is_as_before(engine: Engine, mount: MountDoc) -> bool:
    """Return True if no rule restricts the app of a mount, and it has all rights in its targets."""
    if any(
        rule.effect is not Effect.ALLOW
        and (rule.who is None or rule.who.apps is None or {mount.app, "any"} & rule.who.apps)
        for rule in engine.policy.rules
    ):
        return False
    who = engine.app_principal(str(mount.app), 0)
    for target in mount.targets.values():
        state = engine.state_of(os.fsencode(target.path).rstrip(b"/") + _SAMPLE)
        # Of a service only modes and its unit say where it can write.
        ops = Op.SEE | Op.READ if target.read_only or mount.service else Op.ALL
        if not engine.decide(who, ops, state, FileType.REGULAR, NO_FACTS).allowed:
            return False
    return True

"""The cost of rules in a shared mount, for `policy lint`: names that its kernel does not keep."""

from __future__ import annotations

from typing import Final, NamedTuple

from policyfs.policy.analysis.sides import Compiled, Side
from policyfs.policy.collector import paused
from policyfs.policy.decide import Engine
from policyfs.policy.errors import listed
from policyfs.policy.lint.modes import principal_of
from policyfs.policy.lint.places import plain_names

_TRIED: Final = 4
"""Maximum number of apps for which the globs of a rule are tried."""


class Costs(NamedTuple):
    """The ids of rules where a shared mount's kernel keeps no name and no attribute, and of those where it
    keeps no name of a file, since callers get different answers. A rule is in one of them at most."""

    names: tuple[str, ...]
    files: tuple[str, ...]

    def line(self) -> str:
        """Return a line of text; "" if no rule costs a name."""
        what = ((self.names, "different names"), (self.files, "different views of a file"))
        told = " or ".join(f"{text} (rules: {listed(ids)})" for ids, text in what if ids)
        where = f"note: in a shared mount each stat asks the daemon where callers get {told}"
        return told and f"{where}; in app mounts the kernel keeps the names"


def costs(engine: Engine) -> Costs:
    """Return the costs, found at one plain path for each glob of a rule and some apps."""
    differ, names, files = engine.distinctions, set[str](), set[str]()
    compiled = Compiled(engine)
    sides = [Side(compiled, engine.caller(principal_of(engine, app))) for app in engine.policy.apps[:_TRIED]]
    with paused():
        for rule in engine.policy.rules:
            paths = {plain_names(glob, side.caller) for glob in rule.paths or ("/**",) for side in sides}
            for path in filter(None, paths):
                state = engine.state_of(("/" + "/".join(path)).encode())
                if differ.sight(state) and rule.id in differ.rules_at(state):
                    names.add(rule.id)
                elif differ.node(state) and rule.id in differ.rules_at(state, views=True):
                    files.add(rule.id)
    order = [rule.id for rule in engine.policy.rules]
    return Costs(tuple(filter(names.__contains__, order)), tuple(filter((files - names).__contains__, order)))

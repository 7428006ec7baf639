"""Right policies are proved: those that come with policyfs, drawn ones and a large one, for 1 to 10 apps."""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policyfs.cli.policy.explain_live import engine_of
from policyfs.cli.prove.prover import Prover
from policyfs.errors import PolicyfsError
from policyfs.policy.analysis.invariants import load_policy
from policyfs.policy.text.parse import SourceText
from tests.bench.big_policy import big_policy
from tests.mount.test_prove import EQUAL, assert_proved
from tests.support.machine.counts import SOAK, count, daily
from tests.support.models import policy_cases as cases
from tests.support.models.policy_text import text_of
from tests.support.mount.stores import Mounts

SHIPPED: Final = sorted((Path(__file__).resolve().parents[2] / "policies").glob("*.yaml"))
APPS: Final = (1, 2, 3, 10)
FIRST_UID: Final = 30_001


def proved(mounts: Mounts, text: str, *options: str) -> Counter[str]:
    """Mount a new store with this policy, and make the requests that it suggests, as in the second mount."""
    store = Path(tempfile.mkdtemp(prefix="store-", dir=mounts.arena))
    store.chmod(0o755)
    mount = mounts.start(text, store, *options)
    status = mount.status()
    opened = [os.open(path, os.O_PATH) for path in (mount.mountpoint, store)]
    try:
        counts = Prover(status, engine_of(status)).prove_planted(opened[0], opened[1], mount.status)
    finally:
        for fd in opened:
            os.close(fd)
    assert mount.stop() == []
    return counts


def more_apps(number: int) -> dict[str, Any]:
    """So many apps. Rules for all apps give them equal rights."""
    return {f"more{one}": {"uid": FIRST_UID + one} for one in range(number)}


@pytest.mark.parametrize(
    "policy", daily(SHIPPED, "drop-box.yaml", "home-server.yaml"), ids=lambda path: path.stem
)
@pytest.mark.parametrize("more", (0, 1, 9) if SOAK else [0])
def test_each_policy_that_comes_with_policyfs(mounts: Mounts, policy: Path, more: int) -> None:
    apps = "".join(f"  {name}: {json.dumps(app)}\n" for name, app in more_apps(more).items())
    before, head, after = policy.read_text().partition("\napps:\n")
    assert proved(mounts, before + head + apps + after)


@pytest.mark.parametrize("number", APPS)
def test_apps_with_equal_rights(mounts: Mounts, number: int) -> None:
    apps = f"apps: {json.dumps(more_apps(number))}"
    text = "\n".join(apps if line.startswith("apps: ") else line for line in EQUAL.splitlines())
    assert proved(mounts, text)["passthrough"] >= number


def test_a_large_policy(mounts: Mounts) -> None:
    assert proved(mounts, big_policy(count(400, 10_000)).decode())


def only_a(value: Any) -> Any:
    """The same value with the app a in place of the app b."""
    if isinstance(value, dict):
        return {key: sorted({"a" if one == "b" else one for one in inner}) if key in {"app", "owner"} else
                only_a(inner) for key, inner in value.items()}  # fmt: skip
    return [only_a(one) for one in value] if isinstance(value, list) else value


@settings(
    max_examples=count(3, 400), deadline=None, database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large,
    ],
)  # fmt: skip
@given(
    st.one_of(cases.policies(), cases.moving_policies(), cases.common_policies()),
    st.sampled_from(APPS), st.sampled_from([(), ("--monitor",), ("--app", "a", "--uid", "7")]),
)  # fmt: skip
def test_drawn_policies(mounts: Mounts, policy: Any, number: int, options: tuple[str, ...]) -> None:
    drawn = json.loads(text_of(policy))
    if number == 1:
        drawn["apps"].pop("b")
        drawn["rules"] = only_a(drawn["rules"])
    drawn["apps"] |= more_apps(number - len(drawn["apps"]))
    text = json.dumps(drawn)
    try:
        load_policy([SourceText("drawn.yaml", text.encode())])
    except PolicyfsError:
        return  # no daemon would take it
    proved(mounts, text, *options)


@pytest.mark.parametrize("policy", SHIPPED if SOAK else SHIPPED[:1], ids=lambda path: path.stem)
def test_the_whole_command(mounts: Mounts, store: Path, policy: Path) -> None:
    assert_proved(mounts.start(policy, store))

"""`policyfs policy who`: apps, users, services, containers and strangers."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from policyfs.cli.policy.who import Machine
from policyfs.domain import WORKER_UIDS
from policyfs.linux.running import Process
from policyfs.linux.services import Service
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.support.machine.namespace import die_with_parent
from tests.support.mount.daemons import policyfs

TEXT = """\
apiVersion: policyfs/v1
kind: Policy
apps: {gallery: {uid: 994}, camera: {uid: ["10100-10109", 1000]}, cloud: {}}
rules: [{id: look, allow: [see], who: {app: any}, paths: "/a/**"}]
"""


@pytest.fixture
def engine() -> Engine:
    return compile_policy(parse_policy([SourceText("p.yaml", TEXT.encode())]))


def account(name: str, uid: int) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, "", "/", "/bin/false"))


def test_everyone_has_an_app_or_is_a_stranger(engine: Engine) -> None:
    machine = Machine(
        [account("root", 0), account("anna", 1000), account("jelly", 994), account("other", 1234)],
        [Service("jelly.service", "jelly", False), Service("plain.service", "", False),
         Service("number.service", "77", False), Service("gone.service", "no-such-user", False),
         Service("dyn.service", "", True), Service("runs.service", "", True)],
        [Process(1000, "", ""), Process(1000, "", "docker 012"), Process(61234, "runs.service", ""),
         Process(WORKER_UIDS[5], "", "")],
    )  # fmt: skip
    people = machine.people(engine)
    assert [(one.app, one.first, one.last, one.user) for one in people] == [
        ("camera", 1000, 1000, "anna"),
        ("camera", 10100, 10109, ""),
        ("gallery", 994, 994, "jelly"),
        (None, 0, 0, "root"),
        (None, 77, 77, ""),
        (None, 1234, 1234, "other"),
        (None, 61234, 61234, ""),
    ]
    texts = {one.first: one.as_text() for one in people}
    assert texts == {
        994: "jelly.service",
        1000: "docker 012, 2 processes",
        10100: "no account",
        0: "plain.service",
        77: "no account, number.service",
        1234: "",
        61234: "runs.service, 1 process",
    }
    assert machine.dynamic() == ["dyn.service"]


def test_many_services_are_cut_short(engine: Engine) -> None:
    many = [Service(f"s{number}.service", "", False) for number in range(7)]
    [root] = [one for one in Machine([account("root", 0)], many, []).people(engine) if one.first == 0]
    assert root.as_text() == "s0.service, s1.service, s2.service, s3.service, and 3 more"


def test_this_machine(tmp_path: Path) -> None:
    """A process of an app's uid is found while it runs."""
    policy = tmp_path / "p.yaml"
    policy.write_text(TEXT)
    dies = lambda: die_with_parent(9)  # noqa: E731 - as subprocess wants it
    sleeper = subprocess.Popen(["sleep", "60"], user=10105, group=10105, preexec_fn=dies)
    try:
        said = policyfs("policy", "who", policy)
        found = json.loads(policyfs("policy", "who", policy, "--json").stdout)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert said.returncode == 0, said
    lines = [line.split() for line in said.stdout.splitlines()]
    assert lines[0] == ["APP", "UID", "USER", "FOUND", "AS"]
    assert ["camera", "10105", "-", "1", "process"] in lines
    assert "stranger" in {line[0] for line in lines}
    assert any(line[:2] == ["cloud", "-"] for line in lines)
    [one] = [one for one in found["uids"] if one["first"] == 10105]
    assert (one["app"], one["processes"]) == ("camera", 1)
    assert found["apps_without_uid"] == ["cloud"]
    assert any(one["user"] == "root" and one["app"] is None for one in found["uids"])
    assert os.geteuid() in {one["first"] for one in found["uids"]}


def test_a_policy_with_errors(tmp_path: Path) -> None:
    said = policyfs("policy", "who", tmp_path / "absent.yaml")
    assert said.returncode == 3

"""The caller that --app and --uid name."""

from __future__ import annotations

import argparse

import pytest

from policyfs.cli.policy.caller import add_caller, caller_of, check_caller
from policyfs.errors import UsageError
from policyfs.policy.decide import Engine, compile_policy
from policyfs.policy.text.parse import SourceText, parse_policy

TEXT = b"""\
apiVersion: policyfs/v1
kind: Policy
apps: {camera: {uid: [7, 9]}, cloud: {}}
rules: [{id: own, allow: [see], who: {app: any}, paths: "/{uid}/**"}]
"""


@pytest.fixture
def engine() -> Engine:
    return compile_policy(parse_policy([SourceText("p.yaml", TEXT)]))


def caller(engine: Engine, *words: str):
    parser = argparse.ArgumentParser()
    add_caller(parser)
    args = parser.parse_args(words)
    check_caller(args)
    return caller_of(engine, args)


def test_an_app_has_its_first_uid(engine: Engine) -> None:
    assert caller(engine, "--app", "camera").uid == 7
    assert caller(engine, "--app", "camera", "--uid", "9").uid == 9
    assert caller(engine, "--app", "cloud").app == "cloud"
    assert caller(engine, "--uid", "9").app == "camera"
    assert caller(engine, "--uid", "8").app is None


@pytest.mark.parametrize("words", [(), ("--app", "galery")])
def test_nobody_and_an_unknown_app(engine: Engine, words: tuple[str, ...]) -> None:
    said = r"name the caller|the policy has no app 'galery'; its apps are camera, cloud"
    with pytest.raises(UsageError, match=said):
        caller(engine, *words)

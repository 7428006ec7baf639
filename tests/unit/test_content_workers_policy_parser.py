"""The process that parses policies: what it answers, and what its end means."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest
import trio

from policyfs.content.sniffer import Sniffer
from policyfs.content.workers import policy_parser
from policyfs.content.workers.policy_parser import ask, parse_apart, parse_in_fork
from policyfs.errors import EXIT_POLICY, PolicyfsError
from policyfs.policy.text.parse import parse_policy
from policyfs.policy.text.sources import SourceText

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps: {one: {uid: 10010}}
rules:
  - {id: all, allow: [all], who: {app: one}, paths: ["/***"]}
  - {id: place, require: {redact: location}, who: {app: one}, paths: "/**/*.jpg"}
"""
PROMISE = """\
invariants:
  - {id: no-reads, never: [read], who: {app: one}, paths: "/***"}
"""
SOURCES = [SourceText("p.yaml", POLICY.encode())]
ODD = [SourceText("b\udcff\n.yaml", b"# \xc3\xa4\n" + POLICY.encode())]
LARGE = [SourceText("p.yaml", (POLICY + "#" + "x" * (1 << 20)).encode())]


@pytest.mark.parametrize("sources", [SOURCES, ODD, LARGE])
def test_a_policy_comes_over_as_it_is_parsed_here(sources: list[SourceText]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert parse_in_fork(sources) == parse_apart(sources) == parse_policy(sources)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("text", "says"), [("no policy", "does not compile"), (POLICY + PROMISE, "does not hold")]
)
def test_a_refusal_has_its_reason_and_exit_code(text: str, says: str) -> None:
    with pytest.raises(PolicyfsError, match=says) as refused:
        parse_in_fork([SourceText("p.yaml", text.encode())])
    assert refused.value.exit_code == EXIT_POLICY


@pytest.mark.parametrize("reads", [False, True])
def test_a_process_that_ends_without_an_answer_is_told(*, reads: bool) -> None:
    ours, theirs = socket.socketpair()

    def ends() -> None:
        while reads and theirs.recv(1 << 16):
            pass
        theirs.close()

    ending = threading.Thread(target=ends)
    ending.start()
    with ours, pytest.raises(PolicyfsError, match="the process that parses the policy"):
        ask(ours, LARGE)
    ending.join()


@pytest.mark.parametrize("module", [policy_parser._PARSER, "policyfs.of.another.version"])
def test_a_daemon_with_other_code_than_is_installed_gets_no_policy(module: str, monkeypatch) -> None:
    monkeypatch.setattr(policy_parser, "_PARSER", module)
    monkeypatch.delitem(sys.modules, module, raising=False)  # it is imported now
    ours, theirs = socket.socketpair()
    with ours, theirs:
        answering = threading.Thread(target=policy_parser.answer, args=(theirs,))
        answering.start()
        with pytest.raises(PolicyfsError, match="other code of policyfs is installed"):
            ask(ours, SOURCES, code="0123456789ab")
        answering.join()


def test_a_running_sniffer_has_policies_parsed_by_its_launcher() -> None:
    sniffer = Sniffer.start()

    async def main() -> None:
        try:
            assert await sniffer.parse(SOURCES) == parse_policy(SOURCES)
            with pytest.raises(PolicyfsError, match="does not compile"):
                await sniffer.parse([SourceText("p.yaml", b"no policy")])
        finally:
            await sniffer.aclose()

    trio.run(main)


def test_the_asking_process_loads_no_parser() -> None:
    program = (
        "import sys, policyfs.cli.mounts.mount as mount, policyfs.daemon.daemon\n"
        f"mount.parse_apart([mount.SourceText('p.yaml', {POLICY.encode()!r})])\n"
        "print(*({'pydantic', 'ruamel.yaml', 'policyfs.policy.text.parse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    assert done.stdout.split() == []

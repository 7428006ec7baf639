"""policy diff, as a command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.mount.daemons import policyfs

POLICY = """\
apiVersion: policyfs/v1
kind: Policy
apps:
  camera: {uid: 10010}
  gallery: {uid: 10011}
rules:
  - {id: read, allow: [see, read], who: {app: camera}, paths: "/DCIM/**"}
"""


@pytest.fixture
def policies(tmp_path: Path) -> tuple[Path, Path]:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(POLICY)
    new.write_text(POLICY.replace("app: camera}", "app: any}"))
    return old, new


def test_the_exit_code_says_whether_something_gets_wider(policies):
    old, new = policies
    said = policyfs("policy", "diff", old, new)
    assert said.returncode == 1, said
    assert "wider: gallery may now see and read\n" in said.stdout
    back = policyfs("policy", "diff", new, old)
    assert back.returncode == 0
    assert "narrower: gallery may no longer see and read\n" in back.stdout
    assert policyfs("policy", "diff", old, old).returncode == 0


@pytest.mark.parametrize(
    ("right", "requirement", "claim", "told"),
    [
        (
            "create", "content: [image/jpeg]", "rename to /in/x: any content before, only image/jpeg now",
            "a file moved here must be image/jpeg",
        ),
        (
            "attr", "no: [location]",
            "setxattr /in/x: any user.* attributes before, no user.* attributes now",
            "user.* attributes are refused",
        ),
    ],
)  # fmt: skip
def test_what_comes_without_a_write_is_shown_as_such_and_explained(
    tmp_path: Path, right: str, requirement: str, claim: str, told: str
) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    allow = f"  - {{id: in, allow: [see, {right}], who: {{app: gallery}}, paths: '/in/**'}}\n"
    old.write_text(POLICY + allow)
    new.write_text(old.read_text() + f"  - {{id: kinds, require: {{{requirement}}}, paths: '/in/**'}}\n")
    said = policyfs("policy", "diff", old, new).stdout
    assert claim in said
    command = next(line for line in said.splitlines() if line.startswith("    policyfs policy explain"))
    assert told in policyfs(*command.split()[1:]).stdout
    assert told not in policyfs(*command.replace(str(new), str(old)).split()[1:]).stdout


def test_accepted_changes_do_not_count(policies, tmp_path: Path):
    old, new = policies
    change = json.loads(policyfs("policy", "diff", "--json", old, new).stdout)["changes"][0]["change"]
    ack = tmp_path / "ack.yaml"
    head = "apiVersion: policyfs/v1\nkind: AcceptedChanges\naccepted:\n"
    ack.write_text(f"{head}  - {{change: {change}, because: it shows them}}\n")
    said = policyfs("policy", "diff", old, new, "--ack", ack)
    assert said.returncode == 0, said
    assert "wider, accepted: gallery" in said.stdout
    assert f"change {change}, accepted: it shows them" in said.stdout
    assert "1 wider (1 accepted), 0 narrower" in said.stdout
    assert said.stderr == ""
    # it is accepted for this rule as it is: not for the same rule when it gives more
    new.write_text(new.read_text().replace("/DCIM/**", "/**"))
    said = policyfs("policy", "diff", old, new, "--ack", ack)
    assert said.returncode == 1
    assert f"do not differ by the accepted change {change}" in said.stderr


def test_a_policy_with_errors(policies, tmp_path: Path):
    old, _ = policies
    bad = tmp_path / "bad.yaml"
    bad.write_text(POLICY.replace("allow:", "alow:"))
    assert policyfs("policy", "diff", old, bad).returncode == 3
    assert policyfs("policy", "diff", old, tmp_path / "absent.yaml").returncode == 3
    assert policyfs("policy", "diff", old).returncode == 2


def test_an_unreadable_file_of_accepted_changes(policies, tmp_path: Path):
    old, new = policies
    said = policyfs("policy", "diff", old, new, "--ack", tmp_path / "absent.yaml")
    assert said.returncode == 3
    assert "cannot read" in said.stderr


def test_what_is_too_hard_is_no_answer(policies):
    old, new = policies
    globs = ", ".join(['"/u/x{uid}"', *(f'"/u/a{number}"' for number in range(100, 250))])
    new.write_text(POLICY + f"  - {{id: hard, allow: [see], paths: [{globs}]}}\n")
    said = policyfs("policy", "diff", old, new)
    assert said.returncode == 1
    assert said.stdout == ""
    assert "the policies cannot be compared: the policies have too many different paths" in said.stderr

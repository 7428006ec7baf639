"""What `status --check` says of programs that reach a store past the policy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policyfs.cli.machine.past_mounts import Past, Seen
from policyfs.cli.running import past_policy
from policyfs.cli.running.past_policy import Told, print_told, told_of
from policyfs.errors import PolicyfsError

FOUND = [Past("restic.service", "restic.service has it", "stop it"), Past("tv\n", "tv has it", "stop it")]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_RUNTIME_DIR", str(tmp_path / "run"))
    path = tmp_path / "home.site.yaml"
    path.write_text(
        f"apiVersion: policyfs/v1\nkind: Site\nname: home\nstore: {tmp_path}\npolicy: /p.yaml\n"
        f"past: [restic.service]\nmounts:\n  - {{shared: true, at: /mnt/x}}\n"
    )
    return path


def seeing(monkeypatch: pytest.MonkeyPatch, unseen: list[int]) -> None:
    monkeypatch.setattr(past_policy, "past", lambda store: Seen(FOUND, unseen))


def test_what_the_site_names_is_meant(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeing(monkeypatch, [])
    store = str(site.parent)
    file = f"'{site}'" if " " in str(site) else site
    asked = f'tv has it: stop it; if this is meant to be, write past: ["tv\\n"] in {file}'
    assert list(told_of([store], [str(site)])) == [Told(store, [asked], ["restic.service has it"])]
    [told] = told_of([store])
    assert len(told.unmeant) == 2, "the site is not known"
    (site.parent / "run").mkdir()
    (site.parent / "run/home.site").write_text(f'{{"/mnt/x": "{site}"}}')
    [told] = told_of([store])
    assert told.meant == ["restic.service has it"], "`up` has made a mount of it"
    [told] = told_of(["/srv/other"], [str(site)])
    assert len(told.unmeant) == 2, "it is the site of another store"


def test_what_is_not_known_is_told(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeing(monkeypatch, [0])
    assert len(next(told_of([str(site.parent)], [str(site)])).unmeant) == 1, "root has more rights"
    seeing(monkeypatch, [0, 1000])
    told = "2 processes could not be looked at: run this command as root, with CAP_SYS_PTRACE"
    assert next(told_of([str(site.parent)], [str(site)])).unmeant[1] == told

    def failing(store: str) -> Seen:
        raise PolicyfsError("no time")

    site.write_text("nonsense")
    assert next(told_of(["/srv/media"], [str(site)])).unmeant[0].startswith("it is not known what is meant")
    monkeypatch.setattr(past_policy, "past", failing)
    told = "it is not known what reaches it: no time"
    assert list(told_of(["/srv/media"])) == [Told("/srv/media", [told], [])]


def test_the_journal_gets_notices(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    told = Told("/srv/media", ["tv has it"], ["restic.service has it"])
    assert not print_told([told])
    meant = "/srv/media: past the policy, as its site says: restic.service has it\n"
    assert capfd.readouterr().out == f"/srv/media: PAST THE POLICY: tv has it\n{meant}"
    output = os.fstat(1)
    monkeypatch.setenv("JOURNAL_STREAM", f"{output.st_dev}:{output.st_ino}")
    assert not print_told([told])
    notice = '<4>warning: something reaches the store past the policy id="past-policy" store="/srv/media"'
    assert capfd.readouterr().out == f'{notice} reason="tv has it"\n'
    assert print_told([Told("/srv/media", [], ["restic.service has it"])])

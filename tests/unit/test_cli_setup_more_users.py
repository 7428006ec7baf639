"""Programs that join a site: what is written in its files stays, other files are not touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from policyfs.cli.setup.access import policy_text
from policyfs.cli.setup.library_users import User, site_text
from policyfs.cli.setup.more_users import change_of, find_site
from policyfs.cli.site.site_document import Site, Target, read_site, site_of
from policyfs.errors import PolicyfsError

MINE = '  - {id: mine, deny: [delete], who: {app: any}, paths: "/Films/**"}  # mine'


def user(name: str, **targets: str) -> User:
    found = {f"/{at}": Target(path=path, read_only=False) for at, path in targets.items()}
    return User(name, container=name, targets=found, shares=dict.fromkeys(targets.values(), True))


def _unit() -> User:
    one = user("arr", x="/X")
    return User("arr", unit="arr.service", targets=one.targets, shares=one.shares)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    users = [user("arr", tv="/Films")]
    policy = tmp_path / "m.yaml"
    text = policy_text([one.access() for one in users], name="m", file="m.yaml", store="/s", site="x")
    policy.write_text(text.replace("rules:\n", f"rules:\n{MINE}\n"))
    (tmp_path / "m.site.yaml").write_text(site_text("m", str(tmp_path), str(policy), users))
    return read_site(str(tmp_path / "m.site.yaml"))


def test_a_site_is_found_by_its_library(site: Site, tmp_path: Path) -> None:
    assert find_site(str(tmp_path), str(tmp_path)) == site
    assert find_site(str(tmp_path), "/other") is None


def test_volumes_and_programs_join(site: Site) -> None:
    """One program has the name of another: a service of systemd, for example."""
    more = [user("arr", tv="/Films", music="/Music"), _unit()]
    change = change_of(site, more)
    assert [one.name for one in change.users] == ["arr", "arr-2"]
    new = site_of(site.file, change.files[site.file].encode())
    found = {mount.app: list(mount.targets) for mount in new.mounts}
    assert found == {"arr-2": ["/x"], "arr": ["/music", "/tv"]}
    policy = change.files[site.policy]
    assert MINE in policy
    assert "- id: arr.changes-2\n" in policy
    assert set(Path(site.policy).read_text().splitlines()) <= set(policy.splitlines())
    assert change_of(site, [user("arr", tv="/Films")]).users == []


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        ("m.yaml", "\nrules:\n", "\nrules: # \n", "no line is 'rules:'; nothing was written. Add by hand:"),
        ("m.site.yaml", "\nmounts:\n", "\nmounts: # \n", "no line is 'mounts:'"),
        ("m.yaml", "\n  arr:\n", "\n  arr:\n    description: |\nrules:\n", "m.yaml"),
    ],
)
def test_another_form_is_not_touched(site: Site, file: str, old: str, new: str, told: str) -> None:
    path = Path(site.file).with_name(file)
    path.write_text(path.read_text().replace(old, new))
    before = path.read_text()
    with pytest.raises(PolicyfsError, match=told):
        change_of(site, [user("kavita", books="/Books")])
    assert path.read_text() == before


def test_a_policy_of_several_files_is_changed_by_hand(site: Site, tmp_path: Path) -> None:
    with pytest.raises(PolicyfsError, match="it must be one file of text"):
        change_of(site._replace(policy=str(tmp_path)), [user("kavita", books="/Books")])

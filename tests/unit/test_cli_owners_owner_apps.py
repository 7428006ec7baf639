"""Owners that no policy of a store's mounts has: refused, or warned of if that is unknown."""

from __future__ import annotations

import pytest

from policyfs.cli.owners.owner_apps import KnownApps, check_owner, warn_of_unknown
from policyfs.errors import PolicyfsError

APPS = frozenset({"camera", "gallery"})
ALL = KnownApps(APPS, ("/mnt",), ())
NONE = KnownApps(frozenset(), (), ())
SILENT = KnownApps(APPS, ("/mnt",), ("/other",))


@pytest.mark.parametrize("known", [ALL, NONE, SILENT], ids=["all", "none", "silent"])
def test_nobody_is_an_owner_everywhere(known: KnownApps, capsys: pytest.CaptureFixture[str]) -> None:
    check_owner("none", known)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("known", [ALL, SILENT], ids=["all", "silent"])
def test_an_app_of_one_of_the_policies_may_be_one(
    known: KnownApps, capsys: pytest.CaptureFixture[str]
) -> None:
    check_owner("gallery", known)
    assert capsys.readouterr().err == ""


def test_any_other_is_refused_if_all_mounts_answer() -> None:
    with pytest.raises(
        PolicyfsError, match=r'the app "galery": did you mean "gallery"\? apps: camera, gallery'
    ):
        check_owner("galery", ALL)
    with pytest.raises(PolicyfsError, match=r'the app "x": apps: camera, gallery\. Use --force'):
        check_owner("x", ALL)


@pytest.mark.parametrize(
    ("known", "why"), [(NONE, "no mount of the store is running"), (SILENT, "cannot ask /other")]
)
def test_it_is_warned_of_if_a_mount_may_have_it(
    known: KnownApps, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check_owner("galery", known)
    said = capsys.readouterr().err
    assert said.startswith(f"policyfs: warning: {why}, ")
    assert 'the app "galery"' in said


@pytest.mark.parametrize(("known", "said"), [(ALL, "has these owners: other, x\n"), (NONE, ""), (SILENT, "")])
def test_a_list_with_other_owners_is_warned_of(
    known: KnownApps, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    warn_of_unknown(["x", "camera", "none", "other", "x"], known)
    assert capsys.readouterr().err.endswith(said)
    warn_of_unknown(["camera", "none"], known)
    assert capsys.readouterr().err == ""

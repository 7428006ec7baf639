"""Every command of docs/policy-tools.md is run, and what the page shows of its output is what it prints."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.support.machine.documents import CHECKOUT, blocks
from tests.support.mount.daemons import policyfs
from tests.support.mount.recorded import write_recorded
from tests.support.mount.trail import an_event

PAGE = CHECKOUT / "docs/policy-tools.md"
DIFF = CHECKOUT / "tests/unit/policy_diffs/wider-glob"


@pytest.fixture
def place(tmp_path: Path, media: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page speaks of, in the working directory."""
    (tmp_path / "home.yaml").write_bytes((DIFF / "old.yaml").read_bytes())
    shutil.copyfile(CHECKOUT / "docs/tutorial/home.yaml", tmp_path / "first.yaml")
    (tmp_path / "new.yaml").write_bytes((DIFF / "new.yaml").read_bytes())
    (tmp_path / "media/DCIM/private").mkdir(parents=True)
    shutil.copyfile(media["photo_with_place.jpg"], tmp_path / "media/DCIM/a.jpg")
    write_recorded(tmp_path / "trail", (tmp_path / "home.yaml").read_text(), EVENTS)
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


EVENTS = [
    an_event(rules=("photos.read", "places"), kind="image/jpeg", view="redacted(device,location)"),
    *(
        an_event(path, operation="lookup", syscall="lookup", decision="deny", errno=2, rules=(), view="")
        for path in (b"/Pictures/b.jpg", b"/Pictures/c.jpg")
    ),
]
"""The requests on the trail of the page."""


CODES = {
    "diff home.yaml new.yaml": 1, "lint home.yaml": 1, "lint home.yaml --store /srv/media": 1,
    "replay trail --policy new.yaml --query 'app:gallery since:2026-03-01'": 1,
    "replay trail --policy new.yaml": 1,
}  # fmt: skip
"""Exit codes of the commands that find something."""


def test_every_sort_of_finding_is_on_the_page():
    sources = [*(CHECKOUT / "policyfs/policy/lint").glob("*.py"), CHECKOUT / "policyfs/cli/policy/lint.py"]
    text = "".join(path.read_text("utf-8") for path in sources)
    ids = set(re.findall(r"(?:on_rule|on_app|Finding)\(\s*\"([a-z-]+)\"", text))
    assert len(ids) >= 22
    page = PAGE.read_text("utf-8").split("`policy lint`\n")[1]
    rows = re.findall(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|", page, re.MULTILINE)
    assert {word for row in rows for word in re.findall("[a-z-]+", row)} == ids


def test_the_page_is_true(place: Path):
    said = None
    store = place / "media"
    for block in blocks(PAGE):
        if block.language == "yaml" and "AcceptedChanges" in block.text:
            (place / "accepted.yaml").write_text(block.text)
        elif block.language == "yaml" and "PolicyTests" in block.text:
            (place / "home.test.yaml").write_text(block.text)
        elif block.language == "":
            for line in block.text.splitlines():
                words = [str(store) if word == "/srv/media" else word for word in shlex.split(line)]
                said = policyfs(*words[1:])
                assert said.returncode == CODES.get(line.removeprefix("policyfs policy "), 0), (line, said)
        elif block.language == "text":
            assert said is not None
            shown = re.sub(r"\(([0-9a-f]{16})\)", "(DIGEST)", said.stdout.replace(str(store), "/srv/media"))
            assert shown == block.text

"""README and docs hold: options exist, goals exist, files exist, counts are the code's.

tests/mount/test_docs_run.py runs the commands themselves.
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
from pathlib import Path

import pytest

from policyfs.cli.main import build_parser
from policyfs.policy.text.parse import SourceText, parse_policy
from tests.bench.__main__ import arguments as bench
from tests.bench.comparison.__main__ import arguments as comparison
from tests.bench.comparison.rows import chosen
from tests.support.machine.documents import CHECKOUT, PAGES, blocks, commands
from tests.support.models.asking import Row, check, engine_of

SET_UP = {
    "apt install ./dist/policyfs_*.deb",  # make try-deb
    "apt install gcc pkg-config libfuse3-dev python3-dev python3-venv libmagic1",
    "python3 -m venv /opt/policyfs",
    "/opt/policyfs/bin/pip install .",
    "ln -s /opt/policyfs/bin/policyfs /usr/local/bin/policyfs",
    "ln -s /opt/policyfs/bin/mount.fuse.policyfs /sbin/mount.fuse.policyfs",
    "chown root:root /srv/media",
    "chmod 700 /srv/media",
    "mkdir -p /srv/shares/photos",
    "chown root:photos /srv/shares",
    "chmod 710 /srv/shares",
    "systemctl daemon-reload",
    "systemctl enable --now policyfs-home.target",
}
"""Lines that change a machine: read here, not run. tests/unit/test_packaging.py builds the package."""

ALL_COMMANDS = [(page, line) for page in PAGES for line in commands(page)]
_parser = functools.cache(build_parser)


def _id(value: object) -> str:
    return value.name if isinstance(value, Path) else str(value)


@pytest.mark.parametrize(("page", "line"), ALL_COMMANDS, ids=_id)
def test_every_command_in_the_documents_is_one(page: Path, line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "policyfs":
        _parser().parse_args(words[1:])
    elif words[0] == "make":
        makefile = (CHECKOUT / "Makefile").read_text(encoding="utf-8")
        assert re.search(rf"^{re.escape(words[1])}:", makefile, re.MULTILINE), "no such goal"
    elif words[:3] == [".venv/bin/python", "-m", "pytest"]:
        for word in words[3:]:
            assert not word.startswith("tests/") or (CHECKOUT / word).exists()
    elif words[:3] == [".venv/bin/python", "-m", "tests.bench"]:
        assert bench(words[3:]).only
    elif words[:3] == [".venv/bin/python", "-m", "tests.bench.comparison"]:
        assert all(chosen([row]) for row in comparison(words[3:]).rows)
    elif words[:2] == [".venv/bin/python", "-m"]:
        assert (CHECKOUT / f"{words[2].replace('.', '/')}.py").exists()  # test_precision_report.py runs it
    elif words[:3] == ["python", "-m", "timeit"]:
        for word in words[3:]:
            assert word == "-s" or compile(word, str(page), "exec")
    else:
        assert words[0] == "cd" or line in SET_UP, "a command that no test knows"


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#\s]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            linked = page.parent / target if target else page
            assert linked.exists(), target
            assert not heading or heading in _anchors(linked), f"{target}#{heading}"


@functools.cache
def _anchors(page: Path) -> set[str]:
    """The names of a page's headings in links, as forges and `make site` make them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_index_of_the_documents_names_each_page() -> None:
    index = (CHECKOUT / "docs/README.md").read_text(encoding="utf-8")
    names = {page.name for page in (CHECKOUT / "docs").glob("*.md")}
    assert names - set(re.findall(r"\]\(([^)]*)\)", index)) == {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=_id)
def test_files_that_pages_name_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(
        r"(?<![\w/])(?:tests|packaging|policies|policyfs|docs)/[\w./@-]*\.(?:py|md|yaml|service|c)\b", text
    )
    missing = [name for name in named if not (CHECKOUT / name).exists()]
    assert not missing


def test_the_policy_of_the_readme_compiles_and_is_short() -> None:
    [block] = [block for block in blocks(CHECKOUT / "README.md") if block.language == "yaml"]
    policy = parse_policy([SourceText("README.md", block.text.encode())])
    assert {rule.id for rule in policy.rules} == {"everyone.reads", "no-place"}
    assert len(block.text.splitlines()) <= 15


def test_what_the_readme_says_of_its_policy_holds() -> None:
    [block] = [block for block in blocks(CHECKOUT / "README.md") if block.language == "yaml"]
    redacted = Row("backup", "read /DCIM/beach.jpg", "image/jpeg of none", "allowed, redacted: location")
    check(engine_of(block.text), redacted._replace(app="gallery"))
    check(engine_of(block.text), redacted._replace(answer="allowed"))
    without = block.text.replace("  backup:", "  sync: {uid: 10021}\n  backup:")
    check(engine_of(without), redacted._replace(app="sync"))


def _counts() -> set[tuple[str, int, int]]:
    """Every count(quick, soak) in the tests: file name and both numbers."""
    found = set()
    for path in sorted((CHECKOUT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if not re.search(r"(?<![\w.])count\s*\(", text):
            continue  # to parse all files takes two seconds
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "count":
                quick, soak = (ast.literal_eval(argument) for argument in node.args)
                found.add((path.name, quick, soak))
    return found


def test_the_list_of_counts_is_the_codes() -> None:
    """counts.txt has each count, so that none shrinks silently."""
    text = (CHECKOUT / "tests/support/machine/counts.txt").read_text(encoding="utf-8")
    rows = set()
    for line in text.splitlines()[1:]:
        name, quick, soak = line.replace(",", "").split()
        rows.add((name, float(quick), float(soak)))
    counts = {(name, float(quick), float(soak)) for name, quick, soak in _counts()}
    assert not counts - rows, "counts that the list lacks"
    assert not rows - counts, "rows that no code has"

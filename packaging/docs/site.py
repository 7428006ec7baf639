"""Builds the documentation of the commit HEAD as pages for a browser: `site.py [DIRECTORY]` (dist/site).

Runs with Sphinx (`make site`). docs/README.md gives the order of the pages. A dead link is an error.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
INDEX: Final = Path("docs/README.md")
TOP: Final = ("README.md", "CHANGELOG.md", "SECURITY.md", "CONTRIBUTING.md", "LICENSE")
SETTINGS: Final = {
    "project": "policyfs",
    "extensions": "myst_parser",
    "root_doc": "index",
    "html_theme": "furo",
    "html_title": "policyfs",
    "html_show_copyright": "0",
    "html_copy_source": "0",
    "html_use_index": "0",
    "smartquotes": "0",
    "highlight_language": "none",
    "myst_heading_anchors": "6",
    "suppress_warnings": "misc.highlighting_failure",  # diagrams stay text: nothing comes from the network
}
_LINK: Final = re.compile(r"(\]\()([^)#\s]+)")


def order(index: str) -> list[tuple[str, list[str]]]:
    """Return groups of pages: each row of docs/README.md has a title and pages, each page at its first link
    alone. Pages are paths from the top of the checkout.
    """
    seen = {"README.md"}
    groups = []
    for title, cells in re.findall(r"^\| (\w[^|]*) \| (.*\]\(.*) \|$", index, re.MULTILINE):
        pages = [f"docs/{target}".replace("docs/../", "") for _, target in _LINK.findall(cells)]
        groups.append((title.capitalize(), [page for page in dict.fromkeys(pages) if page not in seen]))
        seen.update(pages)
    return groups


def contents(pages: list[str], title: str = "") -> str:
    """Return the lines by which Sphinx lists pages in its margin. pages: paths without `.md`."""
    caption = f":caption: {title}\n" * bool(title)
    return f"\n```{{toctree}}\n:hidden:\n{caption}\n" + "\n".join(pages) + "\n```\n"


def stage(source: Path) -> None:
    """Write the pages below *source* as Sphinx takes them: each README.md is the index of its directory."""
    code = re.findall(r"\]\((policyfs/[^)#]+)", (CHECKOUT / "CONTRIBUTING.md").read_text("utf-8"))
    archive = ["git", "archive", "HEAD", *TOP, *code, "docs", "policies"]
    packed = subprocess.run(archive, cwd=CHECKOUT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=packed, check=True)
    more = {"README.md": ""}
    for title, pages in order((source / INDEX).read_text("utf-8")):
        names = [page.removesuffix(".md").replace("README", "index") for page in pages]
        more["README.md"] += contents(names, title)
    more["README.md"] += contents(["docs/index", "CHANGELOG", "SECURITY"], "About policyfs")
    for directory in (path for path in (source / "docs").iterdir() if path.is_dir()):
        below = sorted(path.stem for path in directory.glob("*.md"))
        if "README" in below:
            more[f"docs/{directory.name}/README.md"] = contents([name for name in below if name != "README"])
        elif below:
            more[f"docs/{directory.name}.md"] = contents([f"{directory.name}/{name}" for name in below])
    for page in source.rglob("*.md"):
        text = page.read_text("utf-8") + more.get(str(page.relative_to(source)), "")
        text = _LINK.sub(lambda link: link[1] + re.sub(r"(^|/)README\.md$", r"\1index.md", link[2]), text)
        page.unlink()
        page.with_name(page.name.replace("README", "index")).write_text(text, "utf-8")


def main() -> None:
    """Command line."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "dist/site").absolute()
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        source.mkdir()
        stage(source)
        settings = [f"-D{name}={value}" for name, value in SETTINGS.items()]
        words = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-C", *settings]
        done = subprocess.run([*words, f"-d{scratch}/state", source, out], check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()

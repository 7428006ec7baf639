"""The HTML report: in a real browser, with names that apps chose to do harm."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from collections import Counter
from datetime import UTC
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from policyfs.cli.main import build_parser
from policyfs.domain import Audit
from policyfs.trail.text.overview import MINUTE_NS
from policyfs.trail.text.report_page import PageData, _chart
from tests.support.mount.trail import a_denial, a_journal, an_event

NAMES = (
    b"/<script>alert(1)</script>/a",
    b"/\xff\xfe/b",
    "/\u202egpj.exe/c".encode(),
    b'/"><img src=x onerror=alert(1)>/d',
    b"/</td></table><h1>/e",
    b"/&lt;b&gt;/f",
)


class Parsed(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLICYFS_CACHE_DIR", str(tmp_path / "cache"))
    with a_journal(tmp_path / "trail") as journal:
        for name in NAMES:
            journal.record(an_event(name, view="<i>", redacted=((1, 2),), kind="<u>"), Audit.REQUIRED)
            journal.record(a_denial(name, app="<b>x</b>", note="<script>1</script>"), Audit.REQUIRED)
            journal.record(a_denial(name, app='"x"')._replace(rules=()), Audit.REQUIRED)
    return write(tmp_path)


def write(tmp_path: Path, *words: str) -> Path:
    parser = build_parser("audit")
    target = tmp_path / "report.html"
    words = ("audit", "report", "--html", str(target), *words, "--trail", str(tmp_path / "trail"))
    assert parser.parse_args(words).run(parser.parse_args(words)) == 0
    return target


def test_names_are_text_only(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    page = Parsed(text)
    assert page.count("script") == page.count("h1") == page.count("style") == 1
    assert {tag for tag, _ in page.tags} & {"img", "b", "i", "u", "iframe", "link"} == set()
    assert all(not name.startswith("on") for _, fields in page.tags for name in fields)
    assert html.escape("/<script>alert(1)</script>") in text
    assert "\\u202egpj.exe" in page.words
    assert "\\xff\\xfe" in page.words
    assert all(char.isprintable() or char == "\n" for char in text)
    assert not re.search(r"(src|href)=[\"']?(https?:|//)", text)
    assert report.stat().st_mode & 0o777 == 0o600


def test_it_can_be_used_without_eyes_or_mouse(report: Path) -> None:
    page = Parsed(report.read_text(encoding="utf-8"))
    fields = dict(page.tags)
    assert fields["html"]["lang"] == "en"
    assert fields["svg"]["role"] == "img"
    assert fields["svg"]["aria-label"]
    assert fields["label"]["for"] == fields["input"]["id"]
    assert page.count("table") == page.count("caption") == 6
    assert all(one["scope"] in {"col", "row"} for tag, one in page.tags if tag == "th")
    linked = {str(one["href"]) for tag, one in page.tags if tag == "a"}
    assert linked <= {f"#{one['id']}" for _, one in page.tags if "id" in one}


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_words_have_contrast_in_light_and_dark(report: Path) -> None:
    styles = re.findall(r":root \{(.*?)\}", report.read_text(encoding="utf-8"), re.DOTALL)
    assert len(styles) == 3  # light, dark, paper
    for style in styles:
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", style.replace("#fff;", "#ffffff;")))
        for back in ("back", "box"):
            for name in ("text", "quiet", "allow", "deny", "would"):
                if name in colours and back in colours:
                    pair = sorted((luminance(colours[name]), luminance(colours[back])))
                    assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5, (name, back)


def in_browser(page: Path, script: str, *options: str) -> str:
    """The page after its own script and another one, as Chromium has it."""
    browser = shutil.which("chromium")
    assert browser, "packaging/setup/packages.sh test installs it"
    changed = page.read_text(encoding="utf-8").replace("</body>", f"<script>{script}</script></body>")
    # The page allows its own script alone; the test's needs a word for itself.
    changed = changed.replace("script-src ", "script-src 'unsafe-inline' ") if script else changed
    if script:
        changed = re.sub(r"'sha256-[^']*'", "", changed)
    (page.parent / "tried.html").write_text(changed, encoding="utf-8")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent}/browser",
        *options, "--dump-dom", f"file://{page.parent}/tried.html",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_table_sorts_and_searches_in_a_browser(report: Path) -> None:
    rows = 3 * len(NAMES)
    shown = in_browser(report, "")
    assert f"{rows} of {rows} rows" in shown, "its own script ran, as its policy of content allows"
    script = """
        const input = document.querySelector("input[type=search]");
        input.value = "deny gpj";
        input.dispatchEvent(new Event("input"));
        const head = document.querySelector("#denials thead button");
        head.click(); head.click();
    """
    shown = in_browser(report, script)
    assert f"2 of {rows} rows" in shown
    assert 'aria-sort="ascending"' in shown


def test_a_page_is_no_wider_than_a_telephone(report: Path) -> None:
    script = "document.title = `${document.documentElement.scrollWidth} of ${innerWidth}`"
    shown = in_browser(report, script, "--window-size=390,900")
    found = re.search(r"<title>(\d+) of (\d+)</title>", shown)
    assert found is not None
    assert int(found[1]) <= int(found[2]) < 600


def test_a_report_on_a_query(tmp_path: Path, report: Path) -> None:
    text = write(tmp_path, 'app:"<b>x</b>"').read_text(encoding="utf-8")
    assert "only app:&quot;&lt;b&gt;x&lt;/b&gt;&quot;" in text
    assert "/&lt;script&gt;" in text
    assert report.exists()


def charted(
    by_minute: dict[tuple[int, str], int], *period: int | None, fine: bool = True
) -> PageData:
    """period: begin and end, in minutes since 1970."""
    by_hour: Counter[tuple[int, str]] = Counter()
    for (minute, decision), count in by_minute.items():
        by_hour[minute // 60, decision] += count
    facts = SimpleNamespace(
        summary=SimpleNamespace(by_hour=by_hour), zone=UTC,
        overview=SimpleNamespace(by_minute=Counter(by_minute) if fine else None),
        period=tuple(None if minute is None else minute * MINUTE_NS for minute in (period or (None, None))),
    )  # fmt: skip
    return cast(PageData, facts)


@pytest.mark.parametrize(
    ("minutes", "since", "until", "bars", "length"),
    [
        ([0, 59], None, None, 60, "1 min a bar"),
        ([0, 179], None, None, 90, "2 min a bar"),
        ([600], 600, 660, 60, "1 min a bar"),
        ([700], 0, 24 * 60, 96, "15 min a bar"),
        ([0, 30 * 1440 - 1], None, None, 120, "6 h a bar"),
    ],
)
def test_the_bars_fit_the_period(
    minutes: list[int], since: int | None, until: int | None, bars: int, length: str
) -> None:
    """An hour was one bar, and the hours of a day without events were left out."""
    page = Parsed(_chart(charted({(minute, "allow"): 1 for minute in minutes}, since, until)))
    assert (page.count("g"), page.count("rect")) == (bars, len(minutes))
    assert any(length in str(attributes.get("aria-label")) for _, attributes in page.tags)


def test_bars_of_many_minutes_are_hours() -> None:
    page = Parsed(_chart(charted({(30, "allow"): 1, (150, "deny"): 2}, 30, 180, fine=False)))
    assert (page.count("g"), page.count("rect")) == (3, 2)


def test_events_of_an_unknown_decision_make_an_empty_chart() -> None:
    page = Parsed(_chart(charted({(60, "perhaps"): 3})))
    assert (page.count("svg"), page.count("rect")) == (1, 0)

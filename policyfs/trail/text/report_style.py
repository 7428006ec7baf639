"""CSS and JavaScript of the HTML report, for light and dark screens and for paper (pure).

The page loads nothing from a network.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --back: #ffffff; --text: #1b1f24; --quiet: #57606a; --line: #d0d7de;
  --box: #f6f8fa; --allow: #1f6f3d; --deny: #b3261e; --would: #8a5a00; --focus: #0b57d0; --heat: 11,87,208; }
@media (prefers-color-scheme: dark) { :root { --back: #14171b; --text: #e6e9ed; --quiet: #a3acb8;
  --line: #3a414a; --box: #1d2127; --allow: #6fce8f; --deny: #ff8a80; --would: #f0b955; --focus: #8ab4ff;
  --heat: 138,180,255; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0; } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
a { color: var(--focus); } .quiet { color: var(--quiet); }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 1rem; background: var(--back); padding: .5rem; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.numbers { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1rem 0; padding: 0; }
.numbers div { background: var(--box); border: 1px solid var(--line); border-radius: .5rem;
  padding: .5rem 1rem; }
.numbers dt { color: var(--quiet); font-size: .85rem; } .numbers dd { margin: 0; font-size: 1.4rem; }
.good { color: var(--allow); } .bad { color: var(--deny); }
.scroll { overflow-x: auto; } pre { white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; color: var(--quiet); padding: .25rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: left;
  vertical-align: top;
  overflow-wrap: break-word; max-width: 40rem; }
thead th { background: var(--box); position: sticky; top: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th button { all: unset; cursor: pointer; font-weight: 600; text-decoration: underline dotted; }
th button:focus-visible { outline: 3px solid var(--focus); }
th[aria-sort=ascending] button::after { content: " \\25B2"; }
th[aria-sort=descending] button::after { content: " \\25BC"; }
.deny { color: var(--deny); font-weight: 600; } .would_deny { color: var(--would); font-weight: 600; }
.allow { color: var(--allow); }
.heat td.n { border: 1px solid var(--line); }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--quiet); font-size: 11px; }
svg .allow { fill: var(--allow); } svg .deny { fill: var(--deny); } svg .would_deny { fill: var(--would); }
svg line { stroke: var(--line); }
.legend span { margin-right: 1rem; }
label { font-weight: 600; }
input[type=search] { font: inherit; width: min(30rem, 100%); padding: .35rem .5rem;
  border: 1px solid var(--quiet); border-radius: .35rem; background: var(--back); color: var(--text); }
@media print { :root { --back: #fff; --text: #000; --quiet: #333; --line: #999; --box: #fff; --allow: #1f6f3d;
  --deny: #b3261e; --would: #8a5a00; } body { max-width: none; font-size: 11px; padding: 0; }
  .search, .skip { display: none; } thead { display: table-header-group; } tr { break-inside: avoid; }
  thead th { position: static; } h2 { break-after: avoid; } }
"""

SCRIPT: Final = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => row.cells[at].dataset.value ?? row.cells[at].textContent;
      const number = head.classList.contains("n");
      const rows = [...body.rows].sort((a, b) =>
        number ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b)));
      if (down) rows.reverse();
      body.append(...rows);
    });
  });
}
for (const input of document.querySelectorAll("input[type=search]")) {
  const body = document.getElementById(input.dataset.table).tBodies[0];
  const told = document.getElementById(input.dataset.told);
  const search = () => {
    const words = input.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += !row.hidden;
    }
    told.textContent = `${shown} of ${body.rows.length} rows`;
  };
  input.addEventListener("input", search);
  search();
}
"""

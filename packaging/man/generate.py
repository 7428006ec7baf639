"""Writes policyfs.1 and mount.fuse.policyfs.8 from the command line's own parser, and policyfs-policy.5 from
docs/policy-language.md.

    python packaging/man/generate.py

tests/unit/test_man_pages.py fails while the files differ from what this writes.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from policyfs.cli.main import build_parser

HERE: Final = Path(__file__).resolve().parent
LANGUAGE: Final = HERE.parents[1] / "docs" / "policy-language.md"

ABOUT: Final = """\
policyfs puts a policy in front of a directory of media, the store. Apps use a mount instead of the store.
A mount belongs to one app (`--app`), or many apps share the mount. The policy, a YAML file
(policyfs-policy(5)), says for each app what the app sees, reads and writes. If the policy says so, policyfs
removes places, times or devices from the bytes that an app reads. policyfs keeps a log (the trail) of the
files that apps open and change, and of refused requests."""
EXIT: Final = (
    ("0", "Success."),
    ("1", "Refused, or something was found, or the output could not be written."),
    ("2", "The command line is wrong."),
    ("3", "The policy, or a file beside it, has errors."),
    ("4", "A test of a policy failed."),
    ("5", "A part of the trail cannot be read, or was changed: see stderr."),
)
ENVIRONMENT: Final = (
    ("POLICYFS_TRAIL_DIR", "The trail root, where no option names one. Default: /var/log/policyfs."),
    ("POLICYFS_CACHE_DIR", "The indexes of trails. Default: /var/cache/policyfs."),
    ("POLICYFS_KEY_DIR", "The keys of seals. Default: /var/lib/policyfs/audit-keys."),
    ("POLICYFS_RUNTIME_DIR", "The daemons' control sockets. Default: /run/policyfs."),
)
FILES: Final = (
    ("/etc/policyfs/", "Usual place of the policies, and of the settings of the systemd units."),
    ("/var/log/policyfs/", "A trail for each mount, and found.sqlite: what was found in files."),
    ("/var/lib/policyfs/audit-keys/", "The keys that sign the seals of the trail, for root alone."),
    ("/var/lib/policyfs-follow/", "Usual place of the cursor of `audit follow`."),
    ("/run/policyfs/", "The daemons' control sockets."),
)
HELPER: Final = """\
mount(8) runs this program for file systems of the type fuse.policyfs. It runs `policyfs mount` with the
options of mount(8) and fstab(5): a name has _ where policyfs(1) has -. It needs policy. The mount always has
nosuid and nodev."""
UNLIKE_OPTIONS: Final = ("help", "follow", "foreground", "log")
"""Options of `policyfs mount` that concern its process, not the mount."""
OPTION_NAMES: Final = {"read_only": "ro"}
OPTION_HELP: Final = {
    "no_avc": "answer each request by Python: also repeated look-ups, stats and opens",
    "no_keeper": "no other daemon takes over if this one is killed: the mount ends",
}
"""Of an option that is on by default, for `no_`: the command describes the positive form."""
MOUNT_OPTIONS: Final = (
    ("default_permissions", "The same as posix."),
    ("noatime, nodiratime", "Reads change no access time. Only with ro, which has this effect alone, too."),
    ("relatime, lazytime", "No effect: the mount of the store decides."),
    ("rw, nosuid, nodev, exec, async, defaults", "No effect: each mount is so."),
    ("auto, noauto, nofail, nouser, _netdev, comment=, x-*", "For mount(8) and systemd alone."),
)
MOUNT_EXIT: Final = (
    ("0", "Success."),
    ("1", "The command line or an option is wrong."),
    ("32", "The mount failed."),
)
FSTAB: Final = "/srv/media  /mnt/media  fuse.policyfs  policy=/etc/policyfs/family-photos.yaml,nofail  0 0"


def escaped(text: str) -> str:
    """Text as roff shows it, whatever is in it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"[^\x00-\x7f]", lambda match: f"\\[u{ord(match[0]):04X}]", text)
    return re.sub(r"(?m)^([.'])", r"\\&\1", text)


def inline(text: str) -> str:
    """Markdown within a line: code and strong text are bold, words between single stars italic."""
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    parts = re.split(r"(`[^`]+`|\*\*(?:[^*`]|`[^`]*`)+\*\*|(?<![\w*])\*\w+(?: \w+)*\*(?![\w*]))", text)
    out = []
    for part in parts:
        if part.startswith("`"):
            out.append(f"\\fB{escaped(part[1:-1])}\\fP")
        elif part.startswith("**"):
            out.append(f"\\fB{escaped(part[2:-2].replace('`', ''))}\\fP")
        elif re.fullmatch(r"\*\w+(?: \w+)*\*", part):
            out.append(f"\\fI{escaped(part[1:-1])}\\fP")
        else:
            out.append(escaped(part))
    joined = "".join(out)
    return f"\\&{joined}" if joined[:1] in {".", "'"} else joined


def head(name: str, section: int, about: str) -> list[str]:
    """The lines that begin a page."""
    title = f'.TH {name.upper()} {section} "" policyfs'
    return [
        '.\\" Written by packaging/man/generate.py; change its sources instead.',
        title, ".nh", ".ad l", ".SH NAME", f"{escaped(name)} \\- {about}",
    ]  # fmt: skip


def terms(rows: tuple[tuple[str, str], ...]) -> Iterator[str]:
    """A list of words and what they mean."""
    for word, meaning in rows:
        yield from (".TP", f"\\fB{escaped(word)}\\fP", inline(meaning))


# ---------------------------------------------------------------- policyfs.1


def parsers(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Every command that can be run: its words, its line of help, its parser."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its tree
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001 - likewise
            for name, below in action.choices.items():
                deeper = list(parsers(below))
                for words, about, found in deeper:
                    yield f"{name} {words}", about, found
                if not deeper:
                    yield name, helps.get(name, ""), below


def value(action: argparse.Action) -> str:
    """What stands behind an option, or for an argument."""
    if action.nargs == 0:
        return ""
    if action.metavar is not None:
        return str(action.metavar)
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All but --help."""
    return [action for action in parser._actions if action.dest != "help"]  # noqa: SLF001 - see above


def synopsis(words: str, parser: argparse.ArgumentParser) -> str:
    """One line: the command, [OPTIONS] with those that are needed, its arguments."""
    options = [action for action in arguments(parser) if action.option_strings]
    parts = [f"\\fBpolicyfs {escaped(words)}\\fP"]
    for option in options:
        if option.required:
            parts.append(f"\\fB{escaped(option.option_strings[0])}\\fP \\fI{escaped(value(option))}\\fP")
    if any(not option.required for option in options):
        parts.append("[\\fIOPTIONS\\fP]")
    for action in arguments(parser):
        if not action.option_strings:
            name = f"\\fI{escaped(value(action))}\\fP"
            forms = {"?": f"[{name}]", "*": f"[{name} ...]", "+": f"{name} ..."}
            parts.append(forms.get(str(action.nargs), name))
    return " ".join(parts)


def described(action: argparse.Action) -> Iterator[str]:
    """An option or argument and its help."""
    names = [f"\\fB{escaped(name)}\\fP" for name in action.option_strings]
    what = f"\\fI{escaped(value(action))}\\fP" if value(action) else ""
    help_text = (action.help or "").replace("%%", "%").replace("%(default)s", str(action.default))
    if help_text or names:
        yield from (".TP", " ".join(filter(None, [", ".join(names), what])), inline(help_text))


def command_page() -> str:
    """policyfs.1."""
    os.environ.pop("POLICYFS_KEY_DIR", None)
    os.environ.pop("POLICYFS_TRAIL_DIR", None)  # a default of this shell's, not of the command
    found = list(parsers(build_parser()))
    lines = head("policyfs", 1, "media behind an access policy")
    lines.append(".SH SYNOPSIS")
    for words, _, parser in found:
        lines += [synopsis(words, parser), ".br"]
    lines += ["\\fBpolicyfs \\-\\-version\\fP", ".SH DESCRIPTION", *map(inline, ABOUT.splitlines())]
    lines.append(".SH COMMANDS")
    for words, about, parser in found:
        said = parser.description or f"{about[:1].upper()}{about[1:]}."
        lines += [f".SS policyfs {escaped(words)}", inline(said)]
        for action in arguments(parser):
            lines += described(action)
    for title, rows in (("EXIT STATUS", EXIT), ("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES)):
        lines += [f".SH {title}", *terms(rows)]
    lines += [".SH SEE ALSO", "policyfs\\-policy(5), fuse(4), mount(8), systemd.service(5)"]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- mount.fuse.policyfs.8


def helper_page() -> str:
    """mount.fuse.policyfs.8."""
    parser = build_parser("mount")
    [mount] = [found for words, _, found in parsers(parser) if words == "mount"]
    lines = head("mount.fuse.policyfs", 8, "mount a store of policyfs by mount(8) and fstab(5)")
    lines += [
        ".SH SYNOPSIS",
        "\\fBmount \\-t fuse.policyfs \\-o policy=\\fP\\fIP\\fP[,\\fIOPTION\\fP...] \\fISTORE MOUNTPOINT\\fP",
        ".br",
        "\\fBmount.fuse.policyfs\\fP \\fISTORE MOUNTPOINT\\fP [\\fB\\-sfnv\\fP] \\fB\\-o\\fP \\fIOPTIONS\\fP",
        ".SH DESCRIPTION",
        *map(inline, HELPER.splitlines()),
        ".SH OPTIONS",
    ]
    for action in arguments(mount):
        if action.option_strings and action.dest not in UNLIKE_OPTIONS:
            name = action.option_strings[-1].removeprefix("--").replace("-", "_")
            what = f"=\\fI{escaped(value(action))}\\fP" if value(action) else ""
            said = OPTION_HELP.get(name, action.help or "")
            said = said.replace("--app", "app").replace("--read-only", "ro")
            lines += [".TP", f"\\fB{escaped(OPTION_NAMES.get(name, name))}\\fP{what}", inline(said)]
    for title, rows in (("OTHER OPTIONS", MOUNT_OPTIONS), ("EXIT STATUS", MOUNT_EXIT)):
        lines += [f".SH {title}", *terms(rows)]
    lines += [".SH EXAMPLES", "A line of fstab(5):", ".PP", ".nf", ".RS 4", escaped(FSTAB), ".RE", ".fi"]
    lines += [".SH SEE ALSO", "policyfs(1), policyfs\\-policy(5), fstab(5), mount(8)"]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- policyfs-policy.5


def table(rows: list[str]) -> Iterator[str]:
    """A table of Markdown: its first column as words, the others as what they mean, with their titles."""
    split = (re.split(r"(?<!\\)\|", row.strip("|")) for row in rows)
    title, _, *body = ([cell.strip().replace("\\|", "|") for cell in cells] for cells in split)
    for first, *others in body:
        named = [
            f"{name}: {cell}" if len(others) > 1 else cell
            for name, cell in zip(title[1:], others, strict=True)
            if cell
        ]
        yield from (".TP", inline(first) or "\\&", inline("; ".join(named)) or "\\&")
    yield ".PP"


def page_lines(text: str) -> Iterator[str]:
    """Markdown as roff. Of Markdown only what docs/policy-language.md uses."""
    lines = iter(text.splitlines()[1:])  # without its title
    rows: list[str] = []
    for line in lines:
        if rows and not line.startswith("|"):
            yield from table(rows)
            rows = []
        if line.startswith("|"):
            rows.append(line)
        elif line.startswith("```"):
            yield from (".PP", ".nf", ".RS 4")
            for code in lines:
                if code.startswith("```"):
                    break
                yield escaped(code) or "\\&"
            yield from (".RE", ".fi", ".PP")
        elif line.startswith("### "):
            yield f".SS {inline(line[4:])}"
        elif line.startswith("## "):
            yield f".SH {inline(line[3:]).upper().replace(chr(92) + 'FB', chr(92) + 'fB')}"
        elif line.startswith("- "):
            yield from (".IP \\(bu 2", inline(line[2:]))
        elif not line.strip():
            yield ".PP"
        else:
            yield inline(line.strip())
    if rows:
        yield from table(rows)


def policy_page() -> str:
    """policyfs-policy.5."""
    lines = head("policyfs-policy", 5, "the policies of policyfs")
    lines += [".SH DESCRIPTION", *page_lines(paragraphs(LANGUAGE.read_text(encoding="utf-8")))]
    lines += [".SH SEE ALSO", "policyfs(1)"]
    squeezed = re.sub(r"(?:\.PP\n)+(?=\.(?:PP|SH|SS|IP|TP)\b)", "", "\n".join(lines) + "\n")
    return re.sub(r"(?m)^(\.S[HS] .*\n)\.PP\n", r"\1", squeezed)


def paragraphs(text: str) -> str:
    """The same Markdown with each paragraph and item on one line: marks go on over the ends of lines."""
    out: list[str] = []
    code = goes_on = False
    for line in text.splitlines():
        if line.startswith("```"):
            code, goes_on = not code, False
        elif not code and goes_on and line.strip() and not re.match(r"[|#]|- ", line):
            out[-1] += f" {line.strip()}"
            continue
        else:
            goes_on = not code and bool(line.strip()) and not re.match(r"[|#]", line)
        out.append(line)
    return "\n".join(out) + "\n"


PAGES: Final = {
    "policyfs.1": command_page, "policyfs-policy.5": policy_page, "mount.fuse.policyfs.8": helper_page,
}  # fmt: skip


def main() -> int:
    """Write all."""
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
        print(f"packaging/man/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

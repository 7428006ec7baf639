"""Writes the completions of bash, zsh and fish from the command line's own parser. `make man` runs it.

    python packaging/completion/generate.py

tests/unit/test_completion.py fails while the files differ from what this writes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from policyfs.cli.main import build_parser

HERE: Final = Path(__file__).resolve().parent
MADE: Final = "Written by packaging/completion/generate.py; change the command line instead."


class Option(NamedTuple):
    """An option: its names, what it is for, its value (empty without one), and the values there are."""

    names: tuple[str, ...]
    help: str
    value: str
    choices: tuple[str, ...]


class Command(NamedTuple):
    """The words of a command so far (none for policyfs itself), and what may follow them.

    words: subcommands, each with its help. arguments: values of arguments that are of a fixed set.
    """

    path: tuple[str, ...]
    words: tuple[tuple[str, str], ...]
    options: tuple[Option, ...]
    arguments: tuple[str, ...]


def commands(parser: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[Command]:
    """Every command, the shorter first."""
    words: list[tuple[str, str]] = []
    options, arguments, below = [], [], []
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its tree
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - likewise
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}  # noqa: SLF001 - likewise
            for name, inner in action.choices.items():
                words.append((name, _plain(helps.get(name, ""))))
                below.append((name, inner))
            continue
        choices = tuple(map(str, action.choices)) if action.choices else ()
        if action.option_strings:
            value = "" if action.nargs == 0 else str(action.metavar or action.dest)
            help_ = _plain((action.help or "").replace("%(default)s", str(action.default)))
            options.append(Option(tuple(action.option_strings), help_, value, choices))
        else:
            arguments += choices
    yield Command(path, tuple(words), tuple(options), tuple(arguments))
    for name, inner in below:
        yield from commands(inner, (*path, name))


def _plain(text: str) -> str:
    return text.replace("%%", "%").replace("`", "").replace("'", "’")


# ---------------------------------------------------------------- bash and zsh


def cases(found: list[Command], indent: str) -> Iterator[str]:
    """Lines of shell that set words and options by the path, and choices by the option before."""
    yield f'{indent}case "$cmd" in'
    for command in found:
        names = [name for option in command.options for name in option.names]
        words = [word for word, _ in command.words] + list(command.arguments)
        yield f'{indent}"{" ".join(command.path)}") subs="{" ".join(words)}" opts="{" ".join(names)}" ;;'
    yield f"{indent}esac"
    yield f'{indent}case "$cmd $before" in'
    for command in found:
        for option in command.options:
            if option.value:
                head = " ".join(command.path)
                patterns = "|".join(f'"{head} {name}"' for name in option.names)
                chosen = f' choices="{" ".join(option.choices)}"' if option.choices else ""
                yield f"{indent}{patterns}) value=yes{chosen} ;;"
    yield f"{indent}esac"


def steps(found: list[Command], indent: str) -> Iterator[str]:
    """Lines of shell that go one word further in the path."""
    paths = "|".join(f'"{" ".join(command.path)}"' for command in found if command.path)
    yield f'{indent}case "${{cmd:+$cmd }}$word" in'
    yield f'{indent}{paths}) cmd="${{cmd:+$cmd }}$word" ;;'
    yield f"{indent}esac"


def bash(found: list[Command]) -> str:
    """The completion of bash."""
    lines = [
        f"# {MADE}",
        "_policyfs() {",
        '    local cur="${COMP_WORDS[COMP_CWORD]}" before="${COMP_WORDS[COMP_CWORD - 1]}"',
        "    local cmd= subs= opts= choices= value= word at",
        "    COMPREPLY=()",
        "    for ((at = 1; at < COMP_CWORD; at++)); do",
        '        word="${COMP_WORDS[at]}"',
        *steps(found, "        "),
        "    done",
        *cases(found, "    "),
        '    if [ -n "$choices" ]; then',
        '        mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$cur")',
        '    elif [ -z "$value" ] && [[ "$cur" == -* ]]; then',
        '        mapfile -t COMPREPLY < <(compgen -W "$opts" -- "$cur")',
        '    elif [ -z "$value" ] && [ -n "$subs" ]; then',
        '        mapfile -t COMPREPLY < <(compgen -W "$subs" -- "$cur")',
        "    fi",
        "}",
        "complete -o bashdefault -o default -F _policyfs policyfs",
    ]
    return "\n".join(lines) + "\n"


def zsh(found: list[Command]) -> str:
    """The completion of zsh."""
    lines = [
        "#compdef policyfs",
        f"# {MADE}",
        "_policyfs() {",
        '    local cur="${words[CURRENT]}" before="${words[CURRENT-1]}"',
        "    local cmd= opts= choices= value= word at",
        '    local -a given=("${words[@]}")',
        "    local subs=",
        "    for ((at = 2; at < CURRENT; at++)); do",
        '        word="${given[at]}"',
        *steps(found, "        "),
        "    done",
        *cases(found, "    "),
        '    if [[ -n "$choices" ]]; then',
        "        compadd -- ${=choices}",
        '    elif [[ -z "$value" && "$cur" == -* ]]; then',
        "        compadd -- ${=opts}",
        '    elif [[ -z "$value" && -n "$subs" ]]; then',
        "        compadd -- ${=subs}",
        "    else",
        "        _files",
        "    fi",
        "}",
        'if [[ "${funcstack[1]}" == _policyfs ]]; then',
        '    _policyfs "$@"',
        "elif (( $+functions[compdef] )); then",
        "    compdef _policyfs policyfs",
        "fi",
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- fish


def fish(found: list[Command]) -> str:
    """The completion of fish."""
    paths = " ".join(f"'{' '.join(command.path)}'" for command in found if command.path)
    lines = [
        f"# {MADE}",
        "function __policyfs_at",
        "    set -l path",
        "    for word in (commandline -opc)[2..-1]",
        f"        if contains -- (string join -- ' ' $path $word) {paths}",
        "            set -a path $word",
        "        end",
        "    end",
        '    test "$path" = "$argv"',
        "end",
    ]
    for command in found:
        here = f"complete -c policyfs -n '__policyfs_at {' '.join(command.path)}'".replace("at '", "at'")
        for word, told in command.words:
            lines.append(f"{here} -f -a {word} -d '{told}'")
        for word in command.arguments:
            lines.append(f"{here} -f -a {word}")
        for option in command.options:
            names = " ".join(
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
            )
            value = " -r" if option.value else ""
            value = f" -x -a '{' '.join(option.choices)}'" if option.choices else value
            lines.append(f"{here} {names}{value} -d '{option.help}'")
    return "\n".join(lines) + "\n"


FILES: Final = {"policyfs": bash, "_policyfs": zsh, "policyfs.fish": fish}


def main() -> int:
    """Write all three."""
    found = list(commands(build_parser()))
    for name, text in FILES.items():
        (HERE / name).write_text(text(found), encoding="utf-8")
        print(f"packaging/completion/{name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

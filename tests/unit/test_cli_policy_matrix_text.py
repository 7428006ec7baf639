"""The matrix as text: terms of cells, colours, width."""

from __future__ import annotations

import pytest

from policyfs.cli.policy.matrix_text import MatrixText, colour_of, text_of
from policyfs.domain import Op
from policyfs.policy.analysis.matrix import OTHER, SELF, Matrix, Rights, Row, matrix
from tests.support.models.whole_policies import policy_of

KINDS = ("\0kind/", "image/\0kind", "video/\0kind", "text/plain")
READ = Rights(int(Op.SEE | Op.READ))
REDACTED = READ._replace(redact=frozenset({"location"}))
ALL = Rights(int(Op.ALL))


def cell_of(**rights: Rights) -> tuple[str, ...]:
    """The text of a cell. rights: other, own, and exceptions such as own_image."""
    of = {
        (kind, owner): rights.get(f"{word}_{kind.split('/')[0]}", rights.get(word, rights["other"]))
        for word, owner in (("other", OTHER), ("own", SELF), ("none", "none"))
        for kind in KINDS
    }
    row = Row((("/x",),), frozenset(), {"a": (tuple(of.items()),)})
    return MatrixText(Matrix(("a",), (row,), KINDS)).terms(row, "a")


@pytest.mark.parametrize(
    ("rights", "text"),
    [
        ({"other": ALL}, "all"),
        ({"other": Rights(0)}, "-"),
        ({"other": READ}, "sr"),
        ({"other": REDACTED}, "sR"),
        ({"other": Rights(int(Op.CREATE)), "own": ALL}, "own:all"),
        ({"other": REDACTED, "own": ALL}, "sR own:all"),
        ({"other": Rights(0), "other_video": READ, "none_video": READ, "own_video": READ}, "video:sr"),
        ({"other": READ, "own_text": ALL}, "sr own text/plain:all"),
        ({"other": READ, "none": Rights(0)}, "sr none's:-"),
        (
            {"other": Rights(0), "other_image": READ, "other_video": READ, "own": ALL},
            "image:sr video:sr none's:- own:all",
        ),
        ({"other": READ, "own": Rights(0), "own_image": READ}, "sr own not(image):-"),
        ({"other": READ, "own": ALL, "own_image": READ, "own_text": READ}, "sr own kinds1:all"),
    ],
)
def test_the_terms_of_a_cell(rights: dict[str, Rights], text: str) -> None:
    assert " ".join(cell_of(**rights)) == text


def test_callers_who_are_alike_but_for_words_kinds_or_requirements_look_different() -> None:
    rules = """\
- {id: all, allow: [all], paths: "/a/**"}
- {id: x, require: {redact: location}, who: {app: x}}
- {id: y, require: {redact: [location, time]}, who: {app: y}}
- {id: z, require: {content: image/*}, who: {app: z}, paths: "/a/**"}
- {id: v, require: {content: [image/*, text/plain]}, who: {app: v}, paths: "/a/**"}
"""
    found = matrix(policy_of(rules, apps="apps: {x: {uid: 1}, y: {uid: 2}, z: {uid: 3}, v: {uid: 4}}\n"))
    text = MatrixText(found)
    [row] = [row for row in found.rows if row.paths == (("/a/**",),)]
    assert {name: " ".join(text.terms(row, name)) for name in found.columns} == {
        "v": "srW2cda",
        "x": "sR1wcda",
        "y": "sR2wcda",
        "z": "srW1cda",
        "stranger": "all",
    }
    assert [line for line in text.legend() if line.startswith(("R", "W"))] == [
        "R1: reads without location",
        "R2: reads without location, time",
        "W1: writes only image/*",
        "W2: writes only image/*, text/plain",
    ]


def one_row(path: str) -> Matrix:
    cell = ((((KINDS[0], OTHER), READ),),)
    return Matrix(("a", "b"), (Row(((path,),), frozenset(), {"a": cell}),), KINDS[:1])


def test_colours_take_no_room() -> None:
    plain, painted = (text_of(one_row("/x/**"), None, colours=colours) for colours in (False, True))
    assert "\x1b[32msr\x1b[0m" in painted
    assert painted.replace("\x1b[32m", "").replace("\x1b[0m", "") == plain
    assert len({colour_of(term) for term in ("all", "sR", "own:all", "-")}) == 4


def test_a_glob_of_a_policy_does_no_harm() -> None:
    assert "\x1b" not in text_of(one_row("/\x1b[31m"), None, colours=False)


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ('[{id: all, allow: [see, read], paths: "/**"}]', None),
        ('[{id: own, allow: all, paths: "/**", when: {owner: self}}]', "own: files"),
        ('[{id: films, allow: all, paths: "/**", when: {type: video/*}}]', "video: kinds video/*"),
    ],
)
def test_the_legend_explains_only_words_that_the_table_has(rules: str, line: str | None) -> None:
    """README's first table had two lines about owners and films, and neither in it."""
    legend = MatrixText(matrix(policy_of(rules, apps="apps: {x: {uid: 1}}\n"))).legend()
    assert len(legend) == (2 if line is None else 3)
    assert line is None or legend[1].startswith(line)

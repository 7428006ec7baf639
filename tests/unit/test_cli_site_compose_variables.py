"""Variables and files `.env` have the values that Compose gives them (Compose 5.6)."""

from __future__ import annotations

import pytest

from policyfs.cli.site.compose_variables import interpolated, settings

VALUES = {"A": "a", "EMPTY": "", "long_name": "/srv/x"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A/$long_name.x", "a//srv/x.x"), ("${A}b", "ab"), ("$$A $$$A", "$A $a"), ("${NO:-${A:-b}}", "a"),
        ("${NO:-${NO:-b}}", "b"), ("${EMPTY:-b}", "b"), ("${EMPTY-b}", ""), ("${A:+x}${NO:+y}${EMPTY+z}",
        "xz"),
        ("${NO:-a:b-c}", "a:b-c"), ("${NO:-}", ""), ("[$NO]", "[<NO>]"), ("${NO:?why}${NO?}", "<NO><NO>"),
        ("${A:?why}", "a"), ("plain", "plain"),
    ],
)  # fmt: skip
def test_variables_are_replaced(text: str, value: str) -> None:
    assert interpolated(text, VALUES, lambda name: f"<{name}>") == value


@pytest.mark.parametrize(
    "text", ["$", "a$1", "${", "${A", "${}", "${A b}", "${A!x}", "${NO:-" * 30 + "}" * 30]
)
def test_other_forms_are_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"a variable|a dollar sign"):
        interpolated(text, VALUES, lambda _: "")


def test_a_file_of_settings() -> None:
    text = (
        "\ufeff# places\n\nA=1\r\nexport B = two words # more\nC='$A #'\nD=\"${A}\\n$B\" # x\nE=$A${NO:-n}\n"
        'F=\nG\nH: yaml\nI=a#b\nJ="two\nlines"\nHOME=/other\nK=$HOME/k\nL=\'a\nb\'\nM="\\$A"\nN=\\$A\n'
        "O='it\\'s'P=1\n"
    )
    assert settings(text, {"HOME": "/root", "G": "given"}) == {
        "A": "1", "B": "two words", "C": "$A #", "D": "1\ntwo words", "E": "1n", "F": "", "G": "given",
        "H": "yaml", "I": "a#b", "J": "two\nlines", "HOME": "/other", "K": "/root/k", "L": "a\nb", "M": "$A",
        "N": "\\1", "O": "it's", "P": "1",
    }  # fmt: skip
    for line in ("=secret", 'B="secret', "'secret'"):
        with pytest.raises(ValueError, match="line 2 is no setting"):
            settings(f"A=1\n{line}\n", {})

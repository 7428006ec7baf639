"""Rules that do the same have one shape, whatever they are called and wherever they match."""

from __future__ import annotations

from policyfs.policy.analysis.partition import Lives
from policyfs.policy.analysis.shapes import Shapes
from tests.support.models.whole_policies import compiled


def lives(*rules: str, watched: bool = False) -> Lives:
    table = compiled("".join(f"- {{{rule}}}\n" for rule in rules)).table
    blocks = [tuple(range(len(rule.unless))) for rule in table.rules]
    found = (table.live_for(number, "camera", some) for number, some in enumerate(blocks))
    return tuple((live, watched) for live in found if live is not None)


def test_names_and_paths_do_not_count():
    shapes = Shapes()
    first = shapes.of((lives("id: a, allow: [see], paths: '/a'"),))
    assert first == shapes.of((lives("id: b, allow: [see], paths: '/b/**'"),))
    assert first != shapes.of((lives("id: a, allow: [see], paths: '/a'", watched=True),))


def test_everything_else_counts():
    shapes = Shapes()
    texts = (
        "allow: [see]", "allow: [see, read]", "deny: [see]", "deny: [read], errno: EPERM", "deny: [read]",
        "allow: [see], audit: required", "allow: [see], mode: monitor", "allow: [see], when: {owner: self}",
        "allow: [see], when: {type: image/png}", "allow: [see], unless: {owner: none}",
        "require: {redact: [location]}", "require: {redact: [device]}", "require: {content: image/png}",
        "require: {redact: [location]}, raw_types: [text/x-other]",
    )  # fmt: skip
    assert len({shapes.of((lives(f"id: a, {text}"),)) for text in texts}) == len(texts)


def test_one_name_on_both_sides_counts():
    shapes = Shapes()
    one, other = lives("id: a, allow: [see]"), lives("id: b, allow: [see]")
    assert shapes.of((one, one)) == shapes.of((other, other))
    assert shapes.of((one, one)) != shapes.of((one, other))

"""The files of a project are merged as Compose merges them."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from policyfs.cli.site.compose_project import Place, Project
from policyfs.errors import PolicyfsError


def sources(place: Path, *texts: str) -> dict[str, list[str]]:
    """Return the sources of the volumes of each service of a project with these files."""
    paths = [str(place / f"{number}.yaml") for number, _ in enumerate(texts)]
    for path, text in zip(paths, texts, strict=True):
        Path(path).write_text(text)
    tree = Project().merged(paths, Place("/p", {}))
    services = tree["services"]
    assert isinstance(services, dict)
    return {name: [one["source"] for one in its.get("volumes", ())] for name, its in services.items()}


FIRST = "services: {a: {volumes: [/1:/1, /2:/2]}, b: {volumes: [./b:/b]}}"


@pytest.mark.parametrize(
    ("second", "found"),
    [
        ("{a: {volumes: [/3:/3]}}", {"a": ["/1", "/2", "/3"], "b": ["/p/b"]}),
        ("{a: {volumes: !override [/3:/3]}, b: !reset null}", {"a": ["/3"]}),
        ("{a: {volumes: !reset []}, b: {volumes: }}", {"a": [], "b": ["/p/b"]}),
        ("!override {c: {volumes: [/3:/3]}}", {"c": ["/3"]}),
        ("{a: !override {extends: c}, c: {volumes: [/3:/3]}}", {"a": ["/3"], "b": ["/p/b"], "c": ["/3"]}),
    ],
)
def test_a_file_over_another(tmp_path: Path, second: str, found: dict[str, list[str]]) -> None:
    assert sources(tmp_path, FIRST, f"services: {second}") == found


@pytest.mark.parametrize(
    "text",
    [
        "services: {a: {extends: b}}", "services: {a: {extends: a}}",
        "services: {a: {extends: b}, b: {extends: a}}",
        "include: [0.yaml]\nservices: {}", "include: [{}]\nservices: {}", "[1]",
    ],
)  # fmt: skip
def test_what_compose_refuses_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyfsError):
        sources(tmp_path, text)


def test_a_service_of_an_included_file_is_extended(tmp_path: Path) -> None:
    (tmp_path / "more.yaml").write_text("services: {b: {volumes: [./b:/b]}}")
    text = f"include: ['{tmp_path}/more.yaml']\nservices: {{a: {{extends: b}}}}"
    assert sources(tmp_path, text) == {"b": [f"{tmp_path}/b"], "a": [f"{tmp_path}/b"]}


def test_files_are_counted(tmp_path: Path) -> None:
    names = [f"{tmp_path}/more{number}.yaml" for number in range(60)]
    for name in names:
        Path(name).write_text("services: {b: {volumes: [/b:/b]}}")
    with pytest.raises(PolicyfsError, match="more than 50 other files"):
        sources(tmp_path, f"include: [{', '.join(names)}]\nservices: {{}}")
    extends = ", ".join(f"s{number}: {{extends: {{file: '{names[0]}', service: b}}}}" for number in range(60))
    assert len(sources(tmp_path, f"services: {{{extends}}}")) == 60, "one file is read once"
    for name, other in itertools.pairwise(names[:12]):
        Path(name).write_text(f"include: ['{other}', '{other}']\nservices: {{}}")
    with pytest.raises(PolicyfsError, match="more than 300 times"):
        sources(tmp_path, f"include: ['{names[0]}']\nservices: {{}}")

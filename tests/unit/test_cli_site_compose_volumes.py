"""A volume in each of its forms."""

from __future__ import annotations

import pytest

from policyfs.cli.site.compose_volumes import canonical


@pytest.mark.parametrize(
    ("volume", "kind", "source", "target", "read_only"),
    [
        ("./db:/var/lib/db", "bind", "/p/db", "/var/lib/db", False), ("..:/a/", "bind", "/", "/a", False),
        ("~/h:/h:ro", "bind", "/home/h/h", "/h", True), ("~x:/h", "bind", "/home/h/x", "/h", False),
        ("/m:/m:Z,ro,rslave", "bind", "/m", "/m", True), ("/m:/m:ro,rw", "bind", "/m", "/m", False),
        ("/m:/m:RO", "bind", "/m", "/m", False), ("named:/n:z", "volume", "named", "/n", False),
        ("/anonymous", "volume", "", "/anonymous", False), ("C:\\m:/m:ro", "bind", "C:\\m", "/m", True),
        ("a:b:/m", "bind", "/p/a:b", "/m", False), ("/a:/m:b:ro", "bind", "/a", "/m", False),
        ("v:/v", "volume", "", "v:/v", False), (".:/m", "bind", "/p", "/m", False),
        ({"type": "bind", "source": "m", "target": "/m", "read_only": "yes"}, "bind", "/p/m", "/m", True),
        ({"type": "tmpfs", "target": "/t"}, "tmpfs", "", "/t", False),
    ],
)  # fmt: skip
def test_forms(volume: object, kind: str, source: str, target: str, read_only: bool) -> None:
    found = canonical(volume, "text", "/p", "/home/h")
    assert found == {
        "type": kind, "source": source, "target": target, "read_only": read_only, "subpath": "",
        "text": "text",
    }  # fmt: skip


@pytest.mark.parametrize("volume", ["", ":/m", "/m:", "/a:/b:ro:rw", {"type": "bind", "source": "/m"}, {}])
def test_other_forms_are_an_error(volume: object) -> None:
    with pytest.raises(ValueError, match="a volume"):
        canonical(volume, "", "/p", "/home/h")

"""Drawn policies as a careful author writes them: `policy lint` must find nothing in them."""

from __future__ import annotations

import json
import unicodedata
from random import Random

from tests.support.models.policies import HEAD

_DIRECTORIES = ("Photos", "Films", "Music", "Docs", "Album", "Scans", "Média", "web", "Receipts 2026")
_KINDS = (["image/*"], ["image/jpeg", "image/png"], ["video/mp4"], ["application/pdf", "image/*"])
_WORDS = (["location"], ["location", "people"], ["device", "time"])
_TRUSTED = ("backup", "editor", "syncthing")
_OTHERS = ("viewer", "kiosk", "camera", "scanner")
Rule = dict[str, object]


def sound_policy(draw: Random) -> str:
    """Return the text of a policy: apps that read, fill, edit, hold and back up some directories."""
    names = draw.sample(_DIRECTORIES, draw.randint(2, 5))
    others = draw.sample(_OTHERS, draw.randint(1, len(_OTHERS)))
    apps: dict[str, Rule] = {name: {"uid": 10000 + number} for number, name in enumerate(others)}
    apps |= {name: {"uid": 10100 + at, "grants": ["true-bytes"]} for at, name in enumerate(_TRUSTED)}
    rules = [_rule("backup.all", allow=["see", "read"], who={"app": "backup"}, paths="/***")]
    for app in ("editor", "syncthing"):
        name = draw.choice(names)
        rules.append(_rule(f"{app}.works", allow=["all"], who={"app": app}, paths=f"/{name}/***"))
    filled = [name for rule in rules[1:] for name in str(rule["paths"]).split("/")[1:2]]
    for app in others:
        for name in draw.sample(names, draw.randint(1, len(names))):
            at, who = f"{app}.{names.index(name)}", {"app": app}
            rules.append(_rule(f"{at}.reads", allow=["see", "read"], who=who, paths=f"/{name}/***"))
            if draw.random() < 0.4:
                ops, own = ["create", "write", "delete", "attr"], {"owner": "self"}
                rules.append(_rule(f"{at}.adds", allow=ops, who=who, paths=f"/{name}/**", when=own))
                filled.append(name)
    if draw.random() < 0.7:
        spared: Rule = {"not": {"grant": "true-bytes"}}
        rules.append(_rule("bare", require={"redact": draw.choice(_WORDS)}, who=spared, audit="required"))
    for name in draw.sample(sorted(set(filled)), draw.randint(0, len(set(filled)))):
        asked = {"content": draw.choice(_KINDS)} if draw.random() < 0.6 else {"no": ["location"]}
        rules.append(_rule(f"types.{names.index(name)}", require=asked, paths=_forms([f"/{name}/**"])))
    if draw.random() < 0.5:
        ops = ["write", "create", "delete", "attr"]
        held = [f"/{name}/Held {number}/***" for number, name in enumerate(filled)]
        rules.append(_rule("hold", deny=ops, paths=_forms(held), errno=draw.choice(["EPERM", "EROFS"])))
    if draw.random() < 0.5:
        spared = {"not": {"app": ["backup", "editor", "syncthing"]}}
        paths = _forms([f"/{draw.choice(names)}/Private/***"])
        rules.append(_rule("private", deny=["see"], who=spared, paths=paths))
    draw.shuffle(rules)
    return HEAD + f"apps: {json.dumps(apps)}\nrules:\n" + "".join(f"  - {json.dumps(one)}\n" for one in rules)


def _forms(globs: list[str]) -> list[str]:
    """Return globs in both Unicode forms."""
    return list(dict.fromkeys(unicodedata.normalize(form, glob) for form in ("NFC", "NFD") for glob in globs))


def _rule(name: str, **keys: object) -> Rule:
    return {"id": name, **keys}

"""Policy texts of any size with a realistic mix of rules: apps, grants, globs, conditions, exceptions."""

from __future__ import annotations

from typing import Final

APPS: Final = 40
FIRST_UID: Final = 20_000
RELOADER: Final = "app000"
"""An app that every policy lets read below /open."""

_HEAD: Final = """\
apiVersion: policyfs/v1
kind: Policy
metadata: {name: big, description: "Many teams share one library."}
defaults: {audit: best_effort}
sets:
  photos: [image/jpeg, image/png, image/heif]
  films: [video/mp4, video/quicktime]
path_sets:
  own: ["/Apps/{app}/***"]
  drafts: ["/**/drafts/**", "/**/*.tmp"]
"""


def _every(number: int) -> str:
    """One rule; ten forms take turns."""
    app, other = f"app{number % APPS:03d}", f"app{(number * 7 + 3) % APPS:03d}"
    forms = (
        f"""allow: [see, read]
    who: {{app: {app}}}
    paths: ["/Users/u{number}/**"]""",
        f"""allow: [see, read, write, create, delete]
    who: {{app: [{app}, {other}]}}
    paths: ["/Projects/p{number}/***", "/Projects/shared-{number}/***"]
    unless: {{path: "/Projects/p{number}/private/**"}}""",
        f"""deny: [write, delete]
    who: {{not: {{app: {app}}}}}
    paths: ["/Archive/*/y{number}*/**/*.jpg"]
    ignore_case: true""",
        f"""description: "What everybody may take from event {number}."
    allow: [see, read]
    who: {{grant: media.read}}
    paths: ["/Shared/**/event-{number}*.{{jpg,mp4}}"]
    when: {{type: ["@photos", "@films"]}}""",
        f"""require: {{redact: [location]}}
    who: {{not: {{grant: media.location}}}}
    paths: ["/DCIM/album{number}/**"]
    unless: [{{owner: self}}, {{path: "@drafts"}}]
    audit: required""",
        f"""require: {{content: ["@photos"]}}
    who: {{app: any}}
    paths: ["/DCIM/album{number}/**"]""",
        f"""deny: [see]
    who: {{app: stranger}}
    paths: ["/Projects/p{number}/secret/**"]""",
        f"""allow: [all]
    who: {{app: any}}
    paths: ["/Apps/{{app}}/cache-{number}/***"]""",
        f"""deny: [all]
    who: {{app: [{app}, {other}]}}
    paths: ["/Users/u{number}/diary?/**"]
    unless:
      - {{owner: self, type: "image/*"}}
    errno: ENOENT""",
        f"""allow: [see, read, attr]
    who: {{uid: "{FIRST_UID + number % APPS}-{FIRST_UID + number % APPS + 2}"}}
    paths:
      - "/Teams/t{number}/**"
      - "/Teams/t{number}"
    when: {{owner: [self, {other}]}}
    audit: "off" """.rstrip(),
    )
    return f"  - id: rule.{number:05d}\n    {forms[number % len(forms)]}\n"


def big_policy(rules: int, *, variant: int = 0) -> bytes:
    """Return the text of a policy with so many rules. variant: policies that differ in one rule."""
    grants = ("media.read, media.location", *["media.read"] * 3)
    apps = "".join(
        f"  app{n:03d}: {{uid: {FIRST_UID + n}, grants: [{grants[n % 4]}]}}\n" for n in range(APPS)
    )
    first = (
        f"  - id: open\n    allow: [see, read]\n    who: {{app: any}}\n"
        f'    paths: ["/open", "/open/**", "/variant-{variant}/**"]\n'
    )
    body = "".join(_every(number) for number in range(1, rules))
    return f"{_HEAD}apps:\n{apps}rules:\n{first}{body}".encode()

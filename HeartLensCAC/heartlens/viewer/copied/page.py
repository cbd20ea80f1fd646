"""The page of the server as one file.

Its modules are one script, its sheet and all answers lie inside, and its policy lets it ask nobody.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STATIC = Path(__file__).parents[1] / "static"

INSTEAD = {"server.js": "answers.js"}
"""A copy answers itself what a server would have answered."""

_IMPORT = re.compile(r'^import \{ (.+) \} from "\.{1,2}/(?:\w+/)*([\w.]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:const|class|function) ([\w$]+))", re.MULTILINE)


def one_script(modules: Mapping[str, str], first: str = "start.js") -> str:
    r"""Modules as one script, each in a function of its own, after those that it imports.

    A page that is opened as a file may not import another file.

    Parameters
    ----------
    modules
        Text by name.
    first
        Name of the module that begins.

    Examples
    --------
    >>> print(one_script({"start.js": 'import { f } from "./a.js";\nf();\n', "a.js": "export const f = () => 1;\n"}))
    const in_a = (() => {
    const f = () => 1;
    return { f };
    })();
    const in_start = (() => {
    const { f } = in_a;
    f();
    return {  };
    })();
    <BLANKLINE>
    """
    done: dict[str, str] = {}

    def add(name: str) -> None:
        if name in done:
            return
        text = modules[name]
        for _, other in _IMPORT.findall(text):
            add(INSTEAD.get(other, other))
        text = _IMPORT.sub(lambda found: f"const {{ {found[1]} }} = {_name(INSTEAD.get(found[2], found[2]))};", text)
        names = ", ".join(name for _, name in _EXPORT.findall(text))
        text = _EXPORT.sub(r"\1", text)
        done[name] = f"const {_name(name)} = (() => {{\n{text.strip()}\nreturn {{ {names} }};\n}})();\n"

    add(first)
    return "".join(done.values())


def _name(module: str) -> str:
    return f"in_{module.removesuffix('.js')}"


def copied_page(answers: Mapping[str, Any], voxels: str, band: str) -> str:
    """The whole file.

    Parameters
    ----------
    answers
        Scan, state and heart, as the server gives them.
    voxels
        As `pack` gives them.
    band
        What stands above the images.
    """
    here = Path(__file__).parent
    files = (*STATIC.rglob("*.js"), *here.glob("*.js"))
    script = "\n" + one_script({path.name: path.read_text(encoding="utf-8") for path in files})
    style = "\n" + (STATIC / "review.css").read_text(encoding="utf-8")
    section = f'<section class="copy" id="copyBand" aria-label="This copy">{html.escape(band)}</section>\n'
    charset = '<meta charset="utf-8">\n'
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    text = json.dumps(answers, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    blocks = (
        f'<script type="application/json" id="copied-case">{text}</script>\n'
        f'<script type="text/plain" id="copied-voxels">{voxels}</script>\n'
        f'<script type="module">{script}</script>\n'
    )
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    for mark, instead in (
        (charset, f'{charset}<meta http-equiv="content-security-policy" content="{policy}">\n'),
        ('<link rel="stylesheet" href="review.css">\n', f"<style>{style}</style>\n"),
        ('<script type="module" src="start.js"></script>\n', ""),
        ("<!-- copy -->\n", section),
        ("</body>\n", f"{blocks}</body>\n"),
    ):  # fmt: skip
        before, found, after = page.partition(mark)
        if not found:
            raise RuntimeError(f"index.html has no {mark!r}")
        page = before + instead + after
    return page


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

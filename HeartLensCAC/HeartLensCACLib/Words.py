"""How the panel says things: refusals and cautions without the command line's words, and one dialog for each."""

import re

import slicer
from slicer.i18n import tr as _

from heartlens.core.errors import OVERRIDABLE, InputRefused

TITLE = "HeartLens"

WARNING = "\u26a0"
"""Before each caution."""

_WAY_OUT = {
    "output": _("Choose another folder under Score, Options."),
    "memory": _("Close other programs, or choose the device CPU, then score again."),
    "crash": _("Open the log under Score, Options, then score again."),
    "labels": _("Correct the segmentation with the artery buttons or the brush."),
}


def panelWords(text: str) -> str:
    """A text of the library without its clauses about command-line options, which a panel does not have.

    Cautions say "…; --kvp-adapted uses …": the part before the semicolon stands on its own.
    """
    clauses = [clause for clause in text.split("; ") if not re.search(r"(^|\s)--[a-z]", clause)]
    return "; ".join(clauses) or text


def showRefusal(code: str, text: str) -> None:
    """One dialog: what happened, and what to do next."""
    lines = [panelWords(text)[:1].upper() + panelWords(text)[1:].rstrip(".") + "."]
    if code in _WAY_OUT:
        lines.append(_WAY_OUT[code])
    slicer.util.errorDisplay("\n\n".join(lines), windowTitle=TITLE)


def showError(error: InputRefused) -> None:
    """Tell the reader why something was refused."""
    showRefusal(error.code, error.text)


def asksToAllow(code: str, text: str) -> bool:
    """Whether the reader wants the score in spite of a refusal that a reader may lift."""
    if code not in OVERRIDABLE:
        return False
    question = _("Score it anyway? The report will say so.")
    return slicer.util.confirmOkCancelDisplay(f"{panelWords(text)}.\n\n{question}", windowTitle=TITLE)


def showFindings(findings: "tuple[str, ...]") -> None:
    """Tell what a reader must know of a case before trusting it; nothing where there is nothing."""
    if findings:
        slicer.util.warningDisplay("\n\n".join(findings), windowTitle=TITLE)

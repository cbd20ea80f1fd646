"""How the panel says things: refusals and cautions without the command line's words, and one dialog for each.

Slicer's own errorDisplay and its kind write what they show into Slicer's log, which people send with a report of a
bug. Our texts may hold a path, and a path a name: they are shown by messageBox, which logs them only where Slicer runs
in its testing mode, and of a refusal the log gets the code.
"""

import html
import logging
import re
from typing import Any

import qt
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
    logging.warning("HeartLens: %s", code)
    lines = [panelWords(text)[:1].upper() + panelWords(text)[1:].rstrip(".") + "."]
    if code in _WAY_OUT:
        lines.append(_WAY_OUT[code])
    tell("\n\n".join(lines))


def tell(text: str) -> None:
    """Show an error; a name of a file or a value of a header in it is no mark-up."""
    _box(text, icon=qt.QMessageBox.Warning)


def tellDeleted(name: str, folder: Any) -> None:
    """The reader deleted a node of the case that was open, named as `CaseNodes` names it."""
    text = _("The {name} was deleted, so the case was closed. Nothing is lost: open the case folder {folder}.")
    tell(text.format(name=name.replace("_", " "), folder=folder))


def asks(question: str) -> bool:
    """Whether the reader says OK."""
    buttons = qt.QMessageBox.Ok | qt.QMessageBox.Cancel
    return bool(_box(question, icon=qt.QMessageBox.Question, standardButtons=buttons) == qt.QMessageBox.Ok)


def plainToolTip(text: str) -> str:
    """A tool tip that shows a text as it is: Qt takes what looks like mark-up for mark-up, and has no switch for it."""
    return f"<qt>{html.escape(text)}</qt>" if "<" in text else text


def showError(error: InputRefused) -> None:
    """Tell the reader why something was refused."""
    showRefusal(error.code, error.text)


def asksToAllow(code: str, text: str) -> bool:
    """Whether the reader wants the score in spite of a refusal that a reader may lift."""
    if code not in OVERRIDABLE:
        return False
    question = _("Score it anyway? The report will say so.")
    return asks(f"{panelWords(text)}.\n\n{question}")


def showFindings(findings: "tuple[str, ...]") -> None:
    """Tell what a reader must know of a case before trusting it; nothing where there is nothing."""
    if findings:
        tell("\n\n".join(findings))


def _box(text: str, **properties: Any) -> Any:
    """The only way to a dialog; what was pressed."""
    return slicer.util.messageBox(text, windowTitle=TITLE, textFormat=qt.Qt.PlainText, **properties)

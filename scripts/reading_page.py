#!/usr/bin/env python3
"""Write docs/reading.md from the situations of its test; run it after a change of words or of what leads to what.

It needs what the tests of the panel need (`pip install -r HeartLensCAC/Resources/requirements-slicer.txt`).
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = REPOSITORY / "HeartLensCAC" / "Testing"

if TYPE_CHECKING:
    from situations import Situation
    from voices import Said

HEAD = """\
# Reading a result

What HeartLens says of a score, in every situation that changes it. Page, terminal, structured report, panel and
`report.json` (key `assessment`) take these words from one place, `heartlens.risk.assessment`; tests read each output
and hold that no two differ in number, range, category, evaluable and state.

- **The score is a number, or a range.** Undecided lesions, those near the networks' cut-off or disputed by the
  rules, make a range: without those that are counted, and with all of them. Where its ends lie in two categories,
  both are named and a reader must decide; percentile, arterial age and risk are given when that is done.
- **Not evaluable** means that nothing may be said of the person: no category, no CAC-DRS, no percentile, no
  probability, in no place. `heartlens.risk.evaluable.EVALUABLE_BY_CODE` is the table of what leads to it.
- **The probability** stands beside the likeliest category, which is always one of those in the headline. Of an
  empty map there is none: a network that sees nothing would always be sure.
- **Signing** settles what asked for a reader: undecided lesions have to be decided on before, and the warnings
  `network`, `rules`, `no-bundle`, `unsettled` and `metal-on-artery` are shown as resolved, with the name of who
  signed. No reader resolves contrast medium or a heart that is not there.

The examples have an LAD of 50, an LM of 16, an RCA of 1, and 36 that are called not coronary.

## What is said

| situation | headline | what is said |
|---|---|---|
"""

OUTPUTS = """
## Where it is said

Each cell is read off what that output's own code made of the situation. *Terminal* is `heartlens score`, which shows no
signature; where somebody has signed, the terminal has `heartlens draft` alone. *SR* is the measured number and the
category as it is coded, which it is where it is one; the words beside them are those above. *Panel* is the total and
the rows of the risk table that are marked. `report.json` is the range, the codes of its categories, and `evaluable`.
The state is in every output, and is that of the second column.

| situation | state | page | terminal | SR | panel | `report.json` | draft |
|---|---|---|---|---|---|---|---|
"""


def page(by_panel: Callable[[Situation], str]) -> str:
    """The whole page.

    Parameters
    ----------
    by_panel
        What the panel says of a situation.
    """
    from situations import ROWS

    second = [where(one, said_of(one), by_panel(one)) for one in ROWS]
    return "".join([HEAD, *map(what, ROWS), OUTPUTS, *second])


def what(situation: Situation) -> str:
    """The line of the first table."""
    assessment = situation.assessment
    return _row((situation.name, assessment.headline(), " ".join(assessment.lines())))


def where(situation: Situation, said: dict[str, Said], panel: str) -> str:
    """The line of the second table.

    Parameters
    ----------
    situation
        Of the line.
    said
        By every output but the panel, see `said_of`.
    panel
        What the panel says.
    """
    words = {name: found.words for name, found in said.items()}
    state = situation.state_words.split()[0].strip(",")
    cells = (words["page"], words.get("terminal", "–"), words["SR"], panel, words["report.json"], words["draft"])
    return _row((situation.name, state, *cells))


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |\n"


def said_of(situation: Situation, rendered: str | None = None) -> dict[str, Said]:
    """What each output but the panel says, by its name; of what somebody has signed the terminal scores nothing.

    Parameters
    ----------
    situation
        To say.
    rendered
        Its report.html; None makes it.
    """
    import voices

    from heartlens.__main__ import result_table
    from heartlens.report.draft.template import draft_of
    from heartlens.report.html import render_report
    from heartlens.risk.evaluable import State

    case, assessment, signature = situation.case, situation.assessment, situation.signature
    draft = draft_of(case.report, assessment, state=situation.state_words, labels=case.provenance.labels)
    said = {
        "page": voices.by_page(rendered or render_report(case, signature=signature, state=situation.state)),
        "SR": voices.by_sr(voices.sr_of(situation)),
        "report.json": voices.by_json(case.report_document(assessment)),
        "draft": voices.by_draft(draft.text()),
    }
    if situation.state not in (State.SIGNED, State.ALTERED):
        said["terminal"] = voices.by_command(result_table(case))
    return said


def panel_says(situation: Situation) -> Said:
    """What the Result section of the panel says; Slicer's stand-in has to run."""
    import qt
    import voices

    from HeartLensCACLib.Sections.ResultSection import ResultSection

    section = SimpleNamespace(setEnabled=lambda on: None, collapsed=True)
    names = ("riskLabel", "contextLabel", "cautionsLabel")
    widgets: dict[str, Any] = {name: qt.QLabel() for name in names}
    widgets |= {name: qt.QTableWidget() for name in ("totalsTable", "riskTable")}
    ui = SimpleNamespace(resultSection=section, **widgets)
    ResultSection(ui).refresh(
        SimpleNamespace(case=situation.case, state=situation.state, signature=situation.signature)
    )
    return voices.by_panel(ui)


def main() -> int:
    """Write the page; the exit code."""
    sys.path[:0] = [str(TESTS.parent), str(TESTS)]
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from desktop import slicer_app

    with tempfile.TemporaryDirectory() as folder:
        slicer_app.boot(Path(folder))
        text = page(lambda situation: panel_says(situation).words)
    (REPOSITORY / "docs" / "reading.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Write docs/reading.md from the situations of its test; run it after a change of words or of what leads to what."""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
TESTS = REPOSITORY / "HeartLensCAC" / "Testing"

HEAD = """\
# Reading a result

What HeartLens says of a score, in every situation that changes it. Page, terminal, structured report, panel and
`report.json` (key `assessment`) take these words from one place, `heartlens.risk.assessment`; a test holds this table
against all of them but the panel.

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

| situation | headline | what is said |
|---|---|---|
"""


def main() -> int:
    """Write the page; the exit code."""
    sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "unit" / "report")]
    import test_one_voice

    from heartlens.case.signature import answered
    from heartlens.risk.evaluable import State

    lines = []
    for name, case, signature in test_one_voice.ROWS:
        state = State.SIGNED if signature else case.assessment.state
        lines.append(test_one_voice.row(name, answered(case, state)))
    (REPOSITORY / "docs" / "reading.md").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A case beside others: the scan before it, a second reading that is blind to the first, where both agree, and a third.

A third case settles where the two readings differ; it begins with what both call coronary.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from heartlens.app.rounds.store import second_of, third_of
from HeartLensCACLib.Words import panelWords, showRefusal, tell
from HeartLensCACLib.Worklist.CommandRun import Answer, CommandRun
from HeartLensCACLib.Worklist.Differences import Differences
from HeartLensCACLib.Worklist.Rows import Round, Row, State, priorOf, readingsOf


class Readings:
    """What is said of two cases, by the commands that say it on the command line.

    Parameters
    ----------
    ui
        Widgets by name.
    rows
        Gives every row of the list.
    reader
        Gives the name of who reads; "" where nobody was named.
    begun
        Called with the case folder of a second or third reading that was begun.
    differences
        Shows where two readings differ.
    """

    def __init__(
        self,
        ui: Any,
        *,
        rows: "Callable[[], list[Row]]",
        reader: Callable[[], str],
        begun: Callable[[Path], None],
        differences: Differences,
    ) -> None:
        self.ui = ui
        self._rows, self._reader, self._begun = rows, reader, begun
        self.differences = differences
        self._run: CommandRun | None = None
        self.forget()

    @property
    def isRunning(self) -> bool:
        """Whether a comparison is being made, or a second reading begun."""
        return self._run is not None

    def forget(self) -> None:
        """Show no comparison."""
        self._say("")
        self.differences.forget()

    def caseOpened(self, folder: Path) -> None:
        """Another case is open: what was said of two readings stays where it is one of that scan."""
        if self.differences.isOf(folder):
            self.differences.refresh()
        else:
            self.forget()

    def draw(self) -> None:
        """Show what is said, and no empty box."""
        self.differences.draw()
        self.ui.comparisonText.setVisible(bool(self.ui.comparisonText.toPlainText()))

    def stop(self) -> None:
        """Abandon what runs."""
        if self._run is not None:
            self._run.stop()
            self._run = None

    def compareWithPrior(self, row: Row) -> None:
        """Say what has changed since the latest earlier scan of the same patient, as `heartlens progress` does."""
        prior = priorOf(row, self._rows())
        if row.case is None:
            self._say(_("This scan has not been scored yet: score it first."))
        elif prior is None:
            self._say(_("No earlier scan of this patient is in the list."))
        elif prior.case is None:
            text = _("The scan of {date} has not been scored yet: score it, then compare.")
            self._say(text.format(date=prior.scan.studyDate))
        else:
            title = _("{date} compared with {prior}").format(date=row.scan.studyDate, prior=prior.scan.studyDate)
            self._start(["progress", str(prior.case), str(row.case)], lambda told: self._show(title, told))

    def beginSecond(self, row: Row, root: Path) -> None:
        """Begin, or go on with, a second reading of a case, blind to the first, by whoever is named as observer.

        Parameters
        ----------
        row
            Of the first reading, or of the second one itself.
        root
            Folder in which cases are kept.
        """
        first = readingsOf(row, self._rows()).get(Round.FIRST)
        if first is None or first.case is None:
            self._say(_("There is no first reading yet: score the scan, and let somebody read it."))
            return
        if not self._reader():
            tell(_("Enter the name of the second reader under Sign and export, Observer, then begin again."))
            return
        out = second_of(first.case, root)
        words = ["second", str(first.case), "--out", str(out), "--reader", self._reader()]
        self._start(words, lambda told: self._onBegun(out / "case", told))

    def compareReadings(self, row: Row) -> None:
        """Say where both readings of a scan agree, as `heartlens compare` does, and show where they differ.

        Before both are signed, nothing.
        """
        pair = self._signedPair(row)
        if pair is not None:
            words = ["compare", *map(str, pair), "--json"]
            self._start(words, lambda told: self._onCompared(row, told))

    def beginThird(self, row: Row, root: Path) -> None:
        """Begin, or go on with, a third reading that settles where two signed readings of a scan differ.

        Parameters
        ----------
        row
            Of one of the readings, or of the third one itself.
        root
            Folder in which cases are kept.
        """
        pair = self._signedPair(row)
        if pair is None:
            return
        third = readingsOf(row, self._rows()).get(Round.THIRD)
        out = third_of(pair[0], root) if third is None or third.case is None else third.case.parent
        words = ["third", *map(str, pair), "--out", str(out)]
        self._start(words, lambda told: self._onThird(row, out / "case", told))

    def _signedPair(self, row: Row) -> "tuple[Path, Path] | None":
        """Case folders of the first and second reading of a scan; None, and a word why, where they are not compared."""
        readings = readingsOf(row, self._rows())
        first, second = readings.get(Round.FIRST), readings.get(Round.SECOND)
        if first is None or second is None or first.case is None or second.case is None:
            self._say(_("This case was not read twice: Second reading begins another, blind to the first."))
            return None
        if not (first.state is second.state is State.SIGNED):
            text = _("The readings are compared when both are signed. First: {first}. Second: {second}.")
            self._say(text.format(first=first.state.value, second=second.state.value))
            return None
        return first.case, second.case

    def _onThird(self, row: Row, case: Path, told: Answer) -> None:
        self._begun(case)
        self.compareReadings(row)

    def _onCompared(self, row: Row, told: Answer) -> None:
        (document,) = json.loads(told.text)["cases"]
        lines = [_("A is the first reading, B the second"), "", *map(panelWords, document["sentences"])]
        self._say("\n".join(lines))
        self.differences.show(document, [one.case for one in readingsOf(row, self._rows()).values()])

    def _start(self, words: "list[str]", ended: "Callable[[Answer], None]") -> None:
        self.stop()
        self.forget()
        self._say(_("working..."))

        def over(answer: Answer) -> None:
            self._run = None
            self.forget()
            if answer.code:
                showRefusal(answer.code, answer.why)
            else:
                ended(answer)

        self._run = CommandRun(words, over)
        self._run.start()

    def _onBegun(self, case: Path, _told: Answer) -> None:
        self._begun(case)

    def _show(self, title: str, told: Answer) -> None:
        self._say("\n".join([title, "", *(panelWords(line) for line in told.text.splitlines())]))

    def _say(self, text: str) -> None:
        self.ui.comparisonText.setPlainText(text)
        self.draw()

"""The worklist's rows in a table of Qt, which sorts and filters them itself."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from HeartLensCACLib.Words import plainToolTip
from HeartLensCACLib.Worklist.Rows import Round, Row, State

COLUMNS = (_("patient"), _("ID"), _("study date"), _("series"), _("to decide"), _("state"))
DATE, STATE = 2, 5

ALL, TO_DO = "all", "to do"

FILTERS: "tuple[tuple[str, str], ...]" = (
    (ALL, _("all")),
    (TO_DO, _("not signed")),
    *((state.name, state.value) for state in State if state is not State.QUEUED),
)
"""What can be shown of the list, and its name; what is queued is shown with what is being scored."""

SHOWN_STATES = {
    ALL: tuple(State),
    TO_DO: tuple(state for state in State if state is not State.SIGNED),
    State.SCORING.name: (State.QUEUED, State.SCORING),
}

ROW_PX = 22

LOOKED_AT = 40
"""Rows by which the widths of the columns are chosen."""


class Table:
    """Rows on the screen.

    Parameters
    ----------
    view
        QTableView
    selected
        Called when other rows are selected.
    opened
        Called with the row that was double-clicked.
    """

    def __init__(self, view: Any, selected: "Callable[[], None]", opened: "Callable[[Row], None]") -> None:
        self._view = view
        self._rows: dict[str, Row] = {}
        self._places: dict[str, int] = {}  # row of the model, by key
        self._model = qt.QStandardItemModel(0, len(COLUMNS))
        self._model.setHorizontalHeaderLabels(list(COLUMNS))
        self._keyRole, self._sortRole, self._filterRole = (int(qt.Qt.UserRole) + n for n in (1, 2, 3))
        self._proxy = qt.QSortFilterProxyModel()
        self._proxy.setSourceModel(self._model)
        self._proxy.setSortRole(self._sortRole)
        self._proxy.setFilterRole(self._filterRole)
        self._proxy.setFilterKeyColumn(0)
        view.setModel(self._proxy)
        view.setSortingEnabled(True)
        view.sortByColumn(DATE, qt.Qt.DescendingOrder)
        view.horizontalHeader().setStretchLastSection(True)
        view.horizontalHeader().setResizeContentsPrecision(LOOKED_AT)
        view.verticalHeader().setVisible(False)
        view.verticalHeader().setDefaultSectionSize(ROW_PX)
        self._selection = view.selectionModel()  # Python must hold it as long as it is connected
        self._selection.connect("selectionChanged(QItemSelection,QItemSelection)", lambda *_args: selected())
        view.connect("doubleClicked(QModelIndex)", lambda index: opened(self._rowAt(index.row())))

    @property
    def hasFocus(self) -> bool:
        """Whether the keyboard is in the table."""
        return bool(self._view.hasFocus())

    def focus(self) -> None:
        """Give the table the keyboard; where nothing is selected, the first row is."""
        self._view.setFocus()
        if not self.selected() and self._proxy.rowCount():
            self._view.setCurrentIndex(self._proxy.index(0, 0))

    def shown(self) -> "list[Row]":
        """The rows that the filter lets through, in the order on the screen."""
        return [self._rowAt(r) for r in range(self._proxy.rowCount())]

    def selected(self) -> "list[Row]":
        """The selected rows, in the order on the screen."""
        return [self._rowAt(r) for r in sorted(index.row() for index in self._selection.selectedRows(0))]

    def select(self, key: str) -> None:
        """Select one row and bring it into sight; one that the filter hides selects none."""
        for r, row in enumerate(self.shown()):
            if row.key == key:
                self._view.setCurrentIndex(self._proxy.index(r, 0))  # arrow keys go on from there
                self._view.scrollTo(self._proxy.index(r, 0))
                return
        self._view.clearSelection()

    def put(self, rows: "Sequence[Row]", gone: "Iterable[str]") -> None:
        """Take in rows that are new or another than before, and take out others."""
        wasEmpty = not self._rows
        for row in rows:
            before = self._rows.get(row.key)
            self._rows[row.key] = row
            if before is None:
                self._places[row.key] = self._model.rowCount()
                self._model.insertRow(self._places[row.key])
            self._write(self._places[row.key], row, before)
        leaving = [key for key in gone if key in self._places]
        for place in sorted((self._places.pop(key) for key in leaving), reverse=True):
            self._model.removeRow(place)
        if leaving:
            self._places = {key: place for place, key in enumerate(self._places)}  # in the order of the model
        for key in leaving:
            self._rows.pop(key)
        if wasEmpty and self._rows:
            self._view.resizeColumnsToContents()

    def show(self, text: str, states: str) -> None:
        """Show the rows that hold every word of a text, in some states.

        Parameters
        ----------
        text
            Words of a name, an ID, a date or a series.
        states
            Keyword of `FILTERS`.
        """
        names = "|".join(state.name for state in SHOWN_STATES.get(states) or (State[states],))
        words = "".join(f"(?=.*{qt.QRegularExpression.escape(word)})" for word in text.split())
        self._proxy.setFilterRegularExpression(f"(?i)^({names}) {words}")

    def _rowAt(self, r: int) -> Row:
        return self._rows[str(self._proxy.index(r, 0).data(self._keyRole))]

    def _write(self, place: int, row: Row, before: "Row | None") -> None:
        """Write what is another than before; the model's own items are left to it, which also deletes them."""
        model, old = self._model, cells(before) if before is not None else None
        if before is None:
            model.setData(model.index(place, 0), row.key, self._keyRole)
        for column, text in enumerate(cells(row)):
            if old is None or text != old[column]:
                model.setData(model.index(place, column), text)
                model.setData(model.index(place, column), sortKey(row, column, text), self._sortRole)
        if before is None or (row.state, row.scan) != (before.state, before.scan):
            model.setData(model.index(place, 0), haystack(row), self._filterRole)
        if before is None or (row.note, row.stateWords) != (before.note, before.stateWords):
            model.setData(model.index(place, STATE), plainToolTip(row.note or row.stateWords), qt.Qt.ToolTipRole)


def cells(row: Row) -> "list[str]":
    """What the columns show."""
    undecided = "" if row.undecided is None else str(row.undecided)
    scan = row.scan
    return [scan.patient, scan.patientID, scan.studyDate, scan.description, undecided, row.stateWords]


def haystack(row: Row) -> str:
    """In what the filter looks for words, behind the keyword of the state."""
    scan = row.scan
    return f"{row.state.name} {scan.patient} {scan.patientID} {scan.studyDate} {scan.description}"


def sortKey(row: Row, column: int, text: str) -> str:
    """By what a column sorts: texts without regard to case, numbers by size, states as a case goes through them."""
    if column == STATE:
        return f"{list(State).index(row.state):02d}{list(Round).index(row.round)}"
    return text.rjust(6, "0") if column == STATE - 1 and text else text.casefold()

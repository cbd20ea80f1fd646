"""Numbers into Qt tables: letters beside colors, right-aligned numbers, nothing to edit."""

from collections.abc import Sequence
from typing import Any

import qt
from slicer.i18n import tr as _

from heartlens.core.lesions import Artery
from HeartLensCACLib.Words import plainToolTip

LETTERS = {
    **{artery: artery.name for artery in Artery},
    Artery.OTHER: _("not coronary"),
    Artery.UNASSIGNED: _("unassigned"),
}
"""What stands beside every color."""

ICON_PX = 12


def colorIcon(color: str) -> Any:
    """A square of an artery's color."""
    picture = qt.QPixmap(ICON_PX, ICON_PX)
    picture.fill(qt.QColor(color))
    return qt.QIcon(picture)


def fillTable(
    table: Any,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    marked: int | None = None,
    stretch: bool = False,
) -> None:
    """Replace a table's content.

    Parameters
    ----------
    rows
        Cells; a text, or (text, color) for a text with a square of that color.
    marked
        Row that stands out in bold.
    stretch
        The last column takes the room that is left: for texts, not for numbers.
    """
    table.setColumnCount(len(columns))
    table.setHorizontalHeaderLabels(list(columns))
    table.setRowCount(len(rows))
    for r, cells in enumerate(rows):
        for c, cell in enumerate(cells):
            text, color = cell if isinstance(cell, tuple) else (cell, None)
            item = qt.QTableWidgetItem(text)
            item.setToolTip(plainToolTip(text))  # a narrow panel cuts it
            if color is not None:
                item.setIcon(colorIcon(color))
            if c > 0 and text and text[0] in "-+<−0123456789":
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
            if r == marked:
                font = item.font()
                font.setBold(True)
                item.setFont(font)
            table.setItem(r, c, item)
    table.resizeColumnsToContents()
    table.resizeRowsToContents()
    if stretch:
        table.horizontalHeader().setSectionResizeMode(len(columns) - 1, qt.QHeaderView.Stretch)


def fitHeight(table: Any, most: int = 12) -> None:
    """As high as its rows, so that a short table leaves no hole and a long one scrolls."""
    rows = min(table.rowCount, most)
    height = table.horizontalHeader().sizeHint.height() + 4 + sum(table.rowHeight(r) for r in range(rows))
    table.setMinimumHeight(height)
    table.setMaximumHeight(height)

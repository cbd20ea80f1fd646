"""The panel's keys, there only while the module is open, because two owners of one key fire neither."""

from collections.abc import Callable, Mapping
from typing import Any

import qt

from heartlens.core.lesions import Artery

ARTERY_KEYS = {"1": Artery.LM, "2": Artery.LAD, "3": Artery.LCX, "4": Artery.RCA, "0": Artery.OTHER}
"""The key of each artery; what it gives there is held, or under the mouse."""


WRITES = ("QLineEdit", "QAbstractSpinBox")
"""Widgets in which a key is for what is written there; they keep letters from a shortcut, and not Return."""


def isWriting() -> bool:
    """Whether the keyboard is in a widget that is written in."""
    focused = qt.QApplication.focusWidget()
    return focused is not None and any(focused.inherits(kind) for kind in WRITES)


class Shortcuts:
    """Keys of the whole window.

    Parameters
    ----------
    actions
        Key sequence as Qt writes it, and what it does.
    """

    def __init__(self, actions: Mapping[str, Callable[[], None]]) -> None:
        self._actions = dict(actions)
        self._installed: list[Any] = []

    @property
    def areInstalled(self) -> bool:
        """Whether the keys work now."""
        return bool(self._installed)

    def install(self, window: Any) -> None:
        """Let the keys work.

        Parameters
        ----------
        window
            Widget within whose window they work.
        """
        self.remove()
        for key, action in self._actions.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.connect("activated()", lambda action=action: None if isWriting() else action())
            self._installed.append(shortcut)

    def remove(self) -> None:
        """Give the keys back to Slicer."""
        for shortcut in self._installed:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
            shortcut.deleteLater()
        self._installed = []

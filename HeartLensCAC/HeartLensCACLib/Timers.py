"""What waits: a call some time after its last start, and calls for when Slicer is done with what it is doing."""

from collections.abc import Callable
from typing import Any

import qt


def singleShot(ms: int, slot: Callable[[], None]) -> Any:
    """A timer that calls once, so long after its last start."""
    timer = qt.QTimer()
    timer.setSingleShot(True)
    timer.setInterval(ms)
    timer.connect("timeout()", slot)
    return timer


class Later:
    """Calls that wait for Qt's event loop, in order.

    Within an event of the scene no box may open, because it would run an event loop in the middle of a removal, and no
    node may go, because whoever is told next may still hold it.
    """

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []
        self._timer = singleShot(0, self._run)

    @property
    def isWaiting(self) -> bool:
        """Whether a call has not been made yet."""
        return bool(self._calls)

    def do(self, call: Callable[[], None]) -> None:
        """Make a call as soon as nothing else is going on."""
        self._calls.append(call)
        self._timer.start()

    def forget(self) -> None:
        """Make none of the calls that wait."""
        self._calls = []
        self._timer.stop()

    def _run(self) -> None:
        while self._calls:
            self._calls.pop(0)()  # a box that it opens may let this run again, with the rest

"""What waits: a call some time after its last start, calls for when Slicer is done with what it is doing, and work.

Work is done in a thread of Python's, which touches no node, no widget and nothing else of Slicer. Slicer's own thread
holds Python's interpreter all the time; it lends it out a little at a time, so that the views stay alive meanwhile.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import qt
import slicer

LENT_S = 0.015
"""How long the interpreter is lent before Slicer has its turn."""

_isMeanwhile = False  # whether Slicer draws in the middle of something


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
        if _isMeanwhile:
            self._timer.start()
            return
        while self._calls:
            self._calls.pop(0)()  # a box that it opens may let this run again, with the rest


def afterwards(slot: "Callable[..., None]") -> "Callable[..., None]":
    """A slot that waits while Slicer draws in the middle of something: not every system holds back what processes say.

    Parameters
    ----------
    slot
        What to call, at once where nothing is going on.
    """
    later = Later()

    def call(*arguments: Any) -> None:
        if _isMeanwhile or later.isWaiting:
            later.do(lambda: slot(*arguments))
        else:
            slot(*arguments)

    return call


class Work:
    """A call that is made in a thread of its own.

    Parameters
    ----------
    do
        What to call; it touches nothing of Slicer.
    """

    def __init__(self, do: "Callable[[], Any]") -> None:
        self._do = do
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._do()
        except BaseException as error:  # it is raised where the result is asked for
            self._error = error

    @property
    def isDone(self) -> bool:
        """Whether it has come to an end; asking lends the interpreter."""
        self._thread.join(LENT_S)
        return not self._thread.is_alive()

    def result(self) -> Any:
        """What was returned, once it is done; what was raised is raised here."""
        if self._error is not None:
            raise self._error
        return self._result


def meanwhile(do: "Callable[[], Any]") -> Any:
    """What a call returns that would keep Slicer waiting: its views are drawn meanwhile, and at its end.

    Keys and clicks, what processes say, and the calls of `Later` wait for the end.

    Parameters
    ----------
    do
        What to call; it touches nothing of Slicer.
    """
    with uncollected():
        work = Work(do)
        isDone = False
        while not isDone:
            isDone = work.isDone
            breathe()
    return work.result()


@contextmanager
def uncollected() -> "Iterator[None]":
    """Put off Python's search for garbage, which looks through every object of Slicer and stops all threads meanwhile.

    That takes a tenth of a second, and would come when the headers of a series are read, which leave no garbage.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def breathe() -> None:
    """Let Slicer draw between two steps of something long; what waits for the end of `meanwhile` waits here, too."""
    global _isMeanwhile
    before, _isMeanwhile = _isMeanwhile, True
    try:
        slicer.app.processEvents(qt.QEventLoop.ExcludeUserInputEvents | qt.QEventLoop.ExcludeSocketNotifiers)
    finally:
        _isMeanwhile = before


class Aside:
    """Work that nobody waits for: another one takes its place, and what has become of it is no matter then.

    Parameters
    ----------
    done
        Called with what was returned; what was raised is raised there.
    """

    def __init__(self, done: "Callable[[Any], None]") -> None:
        self._done = done
        self._work: Work | None = None
        self._timer = singleShot(0, self._look)

    @property
    def isWorking(self) -> bool:
        """Whether something is being done."""
        return self._work is not None

    def do(self, call: "Callable[[], Any]") -> None:
        """Begin; what it touches is nothing of Slicer."""
        self._work = Work(call)
        self._timer.start()

    def forget(self) -> None:
        """Nothing comes of what is being done."""
        self._work = None
        self._timer.stop()

    def _look(self) -> None:
        if self._work is None:
            return
        if not self._work.isDone:
            self._timer.start()
            return
        work, self._work = self._work, None
        self._done(work.result())

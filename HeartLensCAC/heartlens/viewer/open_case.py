"""One case that pages read: one edit at a time, each by the number of edits that its page has seen."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from heartlens.app.failure import Failure, log_failure
from heartlens.app.review_session import ReviewSession
from heartlens.app.rounds.readings import name_of
from heartlens.case.comparison.opened import OpenedCase
from heartlens.case.looked_at import LookedAt, missing_words
from heartlens.core.errors import InputRefused
from heartlens.viewer.edits import apply_edit
from heartlens.viewer.refusals import Stale, sentence
from heartlens.viewer.state import geometry_of, heart_box, identity_of, slices_of, state_of_session

logger = logging.getLogger("heartlens.viewer")

REPORT_SECONDS = 1.0
"""After the last edit, report.json of the case is brought up to date; the journal is at once."""


class OpenCase:
    """A `ReviewSession` for several threads.

    Parameters
    ----------
    folder
        Of the case.
    reader
        Who edits.
    identify
        Show the patient's ID and name.
    name
        What the page calls it; "" is the name of its result folder.

    Raises
    ------
    InputRefused
        It cannot be opened.
    """

    def __init__(self, folder: Path, *, reader: str = "", identify: bool = False, name: str = "") -> None:
        self._lock = threading.RLock()
        self._session = ReviewSession.open(folder, reader=reader)
        self._looked_at = LookedAt(self._session.folder, reader, is_kept=self._session.held_by is None)
        self._exports: dict[str, Path] = {}
        self._left_out: list[str] = []
        self._identify, self._name = identify, name
        self._heart: dict[str, list[int]] | None = None
        self._timer: threading.Timer | None = None
        self._is_closed = False

    @property
    def is_held_elsewhere(self) -> bool:
        """Whether somebody else had the case open as it was opened here; it can be read as it was then."""
        return self._session.held_by is not None

    def close(self) -> None:
        """Bring the report up to date and let others edit the case."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._save_report()
            self._is_closed = True
            self._session.close()

    def state(self) -> dict[str, Any]:
        """What changes with edits, signatures and looking."""
        with self._lock:
            exports = {name: _files(out) for name, out in self._exports.items()}
            return {
                **state_of_session(self._session),
                "viewed": {"slices": sorted(self._looked_at.slices), "lesions": sorted(self._looked_at.lesions)},
                "look_through": self._look_through(),
                "exports": {name: files for name, files in exports.items() if files},
                "left_out": self._left_out,
            }

    def _look_through(self) -> str:
        """What is still to be looked at before a zero can be signed; "" where nothing is, or the heart is not known."""
        return "" if self._heart is None else missing_words(self._looked_at.missing(range(*self._heart["slices"])))

    def scan(self) -> dict[str, Any]:
        """What does not change."""
        with self._lock:
            return {
                **geometry_of(self._session.case),
                "name": self._name or name_of(self._session.folder),
                "identity": identity_of(self._session) if self._identify else None,
            }

    def readings(self, pair: tuple[Path, Path]) -> dict[str, Any]:
        """The two readings that the case was made of, as they are now, and where they differ.

        Raises
        ------
        InputRefused
            One of them cannot be opened.
        """
        from heartlens.viewer.readings import readings_beside

        return readings_beside(pair, self._session.case)  # a case never changes: no lock for what takes its time

    def opened(self) -> OpenedCase:
        """The case as it is now, to be compared with another."""
        with self._lock:
            session = self._session
            return OpenedCase(session.folder, session.case, session.state, session.signature)

    def slices(self, first: int) -> Iterator[bytes]:
        """Give every scored slice, from `first` to the head, then from before it to the feet.

        Yields
        ------
        bytes
            Of one slice, row by row, little-endian.
        """
        return slices_of(self._session.case, first)

    def first_slice(self, wanted: str) -> int:
        """Index of a slice that there is, from what a page asks for."""
        k = int(wanted) if wanted.isdecimal() and len(wanted) < 6 else 0
        return min(k, self._session.case.ct.shape[0] - 1)

    def heart(self) -> dict[str, list[int]]:
        """Slices, rows and columns of the heart, end exclusive; the whole scan where no heart is found."""
        if self._heart is None:
            self._heart = heart_box(self._session.case)
        return self._heart

    def edit(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Make an edit, on the disk before this returns, and give the new state.

        Raises
        ------
        Stale
            The page did not know the present state.
        InputRefused
            It cannot be made or kept; nothing changed.
        """
        with self._lock:
            self._require_version(words)
            if apply_edit(self._session, words):
                self._plan_report()
            return self.state()

    def look(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Keep which slices and lesions were on the screen, and tell what is still to be looked at.

        Raises
        ------
        Stale
            The case was put away.
        """
        slices, lesions = _indices(words.get("slices")), _indices(words.get("lesions"))
        with self._lock:
            self._require_open()
            self._looked_at.add(
                (k for k in slices if k < self._session.case.ct.shape[0]),
                (n for n in lesions if n in self._session.case.lesions.arteries),
            )
            return {"look_through": self._look_through()}

    def sign(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Sign what the page shows, then export it.

        Returns
        -------
        dict[str, Any]
            The new state, and `written` as `export` tells it; or `not_written`, why there are no files: a signature is
            on the disk all the same, and is told.

        Raises
        ------
        Stale
            The page did not know the present state, or that it is signed.
        InputRefused
            Something is not settled, a name is missing, or the disk does not take the signature.
        """
        names = [words.get(name) for name in ("observer", "organization")]
        observer, organization = (name if isinstance(name, str) else "" for name in names)
        with self._lock:
            self._require_version(words)
            if self._session.signature is not None:
                raise Stale("The case was signed already: it is shown as it is, and was not signed again.")
            if self._session.case.report.total.agatston == 0:
                missing = self._looked_at.missing(range(*self.heart()["slices"]))
                if missing:
                    raise InputRefused("input", missing_words(missing))
            self._session.sign(observer, organization, confirmed=words.get("confirmed") is True)
            try:
                return self.export(words)
            except Exception as error:
                if not isinstance(error, InputRefused):
                    log_failure(logger, "an export after a signature failed", error)
                return {**self.state(), "not_written": sentence(Failure.of(error).text)}

    def export(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Write the state that the page shows into a new folder beside the case.

        Raises
        ------
        Stale
            The page did not know the present state.
        InputRefused
            The disk does not take it.
        """
        with self._lock:
            self._require_version(words)
            session = self._session
            out = free_folder(session.folder.parent / ("unsigned" if session.signature is None else "signed"))
            self._left_out = session.export(out)
            self._exports[out.name] = out
            return {**self.state(), "written": {"name": out.name, "folder": str(out), "left_out": self._left_out}}

    def exported_file(self, export: str, name: str) -> Path | None:
        """A file that this server has exported; None for everything else, whatever the names say."""
        out = self._exports.get(export)
        return out / name if out is not None and name in _files(out) else None

    def _require_open(self) -> None:
        if self._is_closed:
            raise Stale("The case had been put away: it is shown anew, and your last edit was not made.")

    def _require_version(self, words: Mapping[str, Any]) -> None:
        self._require_open()
        if words.get("version") != len(self._session.case.edits) or isinstance(words.get("version"), bool):
            raise Stale("The case was edited in another window: it is shown anew, and your last edit was not made.")

    def _plan_report(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(REPORT_SECONDS, self._save_report)
        self._timer.daemon = True
        self._timer.start()

    def _save_report(self) -> None:
        with self._lock, suppress(InputRefused):  # the journal holds every edit; the report follows when there is room
            if self._is_closed:  # it may be another's by now
                return
            self._timer = None
            self._session.save_report()


def _indices(values: Any) -> list[int]:
    if not isinstance(values, list) or len(values) > 100_000:
        return []
    return [value for value in values if isinstance(value, int) and not isinstance(value, bool) and value >= 0]


def _files(out: Path) -> list[str]:
    """Names of the files of an export; none where it was moved away."""
    with suppress(OSError):
        return sorted(path.name for path in out.iterdir() if path.is_file())
    return []


def free_folder(wanted: Path) -> Path:
    """The wanted folder, or the next name that is free: an export never replaces another.

    Parameters
    ----------
    wanted
        To be made.
    """
    free, n = wanted, 2
    while free.exists():
        free, n = wanted.with_name(f"{wanted.name}-{n}"), n + 1
    return free

"""A case that somebody reads: every edit is on the disk before it is on the screen.

The panel and the browser hold one `ReviewSession`; it knows no window and no scene.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.case.case import Case
from heartlens.case.correction import apply_edited_labels, assign_at, lesion_at
from heartlens.case.edits import Edit
from heartlens.case.folder import append_edit, load_case, save_risk_inputs, write_json
from heartlens.case.result import Result
from heartlens.case.signature import Signature, now, obstacles, read_signature, write_signature
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.report.outputs import write_outputs
from heartlens.risk.person import RiskInputs


class ReviewSession:
    """One case folder and its case.

    Parameters
    ----------
    folder
        The case folder, as `Case.save` wrote it.
    case
        What it holds.
    reader
        Who edits; kept with each edit.

    Attributes
    ----------
    signature
        Of the state that is shown; None when it is not signed, or was edited since.
    """

    def __init__(self, folder: Path, case: Case, *, reader: str = "") -> None:
        self.folder = folder
        self.case = case
        self.reader = reader
        self.signature = read_signature(folder, case)

    @classmethod
    def open(cls, folder: Path, *, reader: str = "") -> ReviewSession:
        """Open a case folder, or a result folder that has one in it; the numbers are those that were saved.

        Raises
        ------
        InputRefused
            It is no case, or its CT has moved or changed.
        """
        inside = folder / "case"
        chosen = inside if (inside / "case.json").is_file() else folder
        if not (chosen / "case.json").is_file():
            raise InputRefused(
                "input", f"{folder} holds no HeartLens case: expected case.json in it; choose a case folder"
            )
        return cls(chosen, load_case(chosen), reader=reader)

    @cached_property
    def sources(self) -> Sequence[Any]:
        """DICOM headers of the scored slices, for SEG and SR; empty when the CT was not DICOM.

        Raises
        ------
        InputRefused
            The series is no longer where it was read from.
        """
        header = self.case.source_ct.header
        if not header.sop_instance_uids:
            return ()
        from heartlens.dicom.read import source_datasets
        from heartlens.dicom.series import find_series

        all_series = find_series([Path(path) for path in self.case.provenance.source])
        series = next((s for s in all_series if s.series_uid == header.series_uid), None)
        if series is None:
            raise InputRefused(
                "input", f"series {header.series_uid} is no longer where it was read from; bring it back"
            )
        return source_datasets(series, self.case.source_ct)

    # Edits. Each returns whether anything changed; an edit that cannot be made or kept raises, and nothing changed.

    def assign_at(self, kji: ArrayLike, artery: Artery, *, in_slice: bool = False) -> bool:
        """A click; see `heartlens.case.correction.assign_at`."""
        return self._edit(lambda **by: assign_at(self.case, kji, artery, in_slice=in_slice, **by))

    def lesion_at(self, kji: ArrayLike) -> int | None:
        """Id of the lesion at a voxel (k, j, i); None when there is none."""
        return lesion_at(self.case, kji)

    def assign(self, lesion: int, artery: Artery) -> bool:
        """Give a lesion to an artery; False when nothing changed."""
        if self.case.lesions.arteries.get(lesion) is artery:
            return False
        return self._edit(lambda **by: self.case.reassign(lesion, artery, **by))

    def remove(self, lesion: int) -> bool:
        """Remove a lesion; False when nothing changed."""
        return self._edit(lambda **by: self.case.remove(lesion, **by))

    def apply_edited_labels(self, codes: NDArray[np.uint8]) -> bool:
        """Labels that somebody painted; see `heartlens.case.correction.apply_edited_labels`."""
        return self._edit(lambda **by: apply_edited_labels(self.case, codes, **by))

    def undo(self) -> bool:
        """Take back the latest action that is in force; False when nothing changed."""
        return self._edit(self.case.undo)

    def redo(self) -> bool:
        """Make again the action that was taken back last; False when nothing changed."""
        return self._edit(self.case.redo)

    def grade(self, risk_inputs: RiskInputs) -> bool:
        """Grade the score again for what is now known of the person, or by another table; lesions and scores stay.

        A signature was given to the result as it was, and is taken back.

        Returns
        -------
        bool
            Whether anything changed.

        Raises
        ------
        InputRefused
            ``input``: no such person; ``output``: the disk does not take it; the case is as it was
        """
        if risk_inputs == self.case.risk_inputs:
            return False
        graded = self.case.graded(risk_inputs)
        try:
            _ = graded.risk
        except ValueError as error:
            raise InputRefused("input", str(error)) from error
        try:
            (self.folder / "signature.json").unlink(missing_ok=True)  # first: it must not outlive what was signed
            self.signature = None
            save_risk_inputs(self.folder, risk_inputs)
        except OSError as error:
            raise InputRefused(
                "output", f"cannot write to {self.folder}: {error.strerror or error}; allow it"
            ) from error
        self.case = graded
        return True

    def keep_edits(self, edited: Case) -> bool:
        """Keep another state of the same case, as `scene.read_segmentation` returns it.

        Returns
        -------
        bool
            Whether it is another state.

        Raises
        ------
        InputRefused
            ``output``, the edit could not be written to the disk; the case is as it was
        """
        if edited is self.case:
            return False
        if edited.edits[: len(self.case.edits)] != self.case.edits:
            raise ValueError("this is not a later state of the case that is open")
        try:
            _append_whole(self.folder, edited.edits[len(self.case.edits) :])
        except OSError as error:
            raise InputRefused(
                "output",
                f"the edit was not made, because it cannot be kept in {self.folder}: {error.strerror or error}; "
                "make room or allow writing there, then edit again",
            ) from error
        self.case = edited
        self.signature = None
        return True

    def save_report(self) -> None:
        """Bring report.json in the case folder up to date."""
        with atomic_file(self.folder / "report.json") as sibling:
            write_json(sibling, self.case.report_document())

    def sign(self, observer: str, organization: str, *, confirmed: bool) -> Signature:
        """Sign the state that is shown.

        Raises
        ------
        InputRefused
            ``input``: something is not settled yet, or a name is missing; ``output``: the disk does not take it
        """
        open_points = obstacles(self.case, confirmed=confirmed)
        if open_points:
            raise InputRefused("input", " ".join(open_points))
        try:
            signature = Signature(observer.strip(), organization.strip(), now())
        except ValueError as error:
            raise InputRefused("input", str(error)) from error
        write_signature(self.folder, self.case, signature)
        self.signature = signature
        return signature

    def export(self, out: Path) -> list[str]:
        """Write everything of this state into a new folder: SEG, SR, page, tables, labels and the case itself.

        Returns
        -------
        list[str]
            What was left out, and why.
        """
        return write_outputs(Result(self.case, self.sources), out, signature=self.signature)

    def _edit(self, make: Callable[..., Case]) -> bool:
        try:
            edited = make(who=self.reader, when=now())
        except ValueError as error:
            raise InputRefused("input", str(error)) from error
        return self.keep_edits(edited)


def _append_whole(folder: Path, edits: Sequence[Edit]) -> None:
    """Write an action into the journal; half of one is worse than none."""
    journal = folder / "edits.jsonl"
    before_bytes = journal.stat().st_size
    try:
        append_edit(folder, *edits)
    except OSError:
        with suppress(OSError):
            os.truncate(journal, before_bytes)
        raise

"""A case that somebody reads: every edit is on the disk before it is on the screen.

The panel and the browser hold one `ReviewSession`; it knows no window and no scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartlens.case.case import Case
from heartlens.case.correction import apply_edited_labels, apply_labels, assign_at, assign_touched, lesion_at
from heartlens.case.folder import (
    case_journal,
    embeds_ct,
    find_case,
    folder_differences,
    load_case,
    save_risk_inputs,
    write_json,
)
from heartlens.case.journal import TORN, append_edits
from heartlens.case.lock import CaseLock, Holder, lock_case
from heartlens.case.result import Result, scored_series
from heartlens.case.seal import Seal, SealState, read_seal, says_signed, sign_case, withdraw_signature
from heartlens.case.signature import Signature, answered, now, obstacles
from heartlens.core.atomic import atomic_file, reason_of, remove_unfinished_files
from heartlens.core.disk.rights import is_private
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, Site
from heartlens.report.catalogs.language import language_of_page
from heartlens.report.outputs import MORE_FILES, write_outputs
from heartlens.risk.evaluable import State
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
    lock
        On the folder, or who has it; None where it cannot be written.

    Attributes
    ----------
    seal
        What the signature in the folder is worth.
    held_by
        Who has the case open elsewhere; then nothing can be edited here. None where nobody has.
    findings
        What a reader must know of the folder before trusting it, a sentence each.
    """

    def __init__(self, folder: Path, case: Case, *, reader: str = "", lock: CaseLock | Holder | None = None) -> None:
        self.folder = folder
        self.case = case
        self.reader = reader
        self._lock = lock if isinstance(lock, CaseLock) else None
        self.held_by = lock if isinstance(lock, Holder) else None
        self._journal = case_journal(folder)
        self.seal = read_seal(folder, len(case.edits))
        if self._lock is not None:
            self._withdraw_claim()  # a program was stopped while it signed
        self.findings = tuple(self._look_through())

    @classmethod
    def open(cls, folder: Path, *, reader: str = "", instead_of: ReviewSession | None = None) -> ReviewSession:
        """Open a case folder, or a result folder that has one in it; the numbers are those that were saved.

        Parameters
        ----------
        folder
            Of the case or the result.
        reader
            Who edits.
        instead_of
            A session that the new one takes the place of; where it has the same case open, it hands its lock over.

        Raises
        ------
        InputRefused
            It is no case, or its CT has moved or changed.
        """
        chosen = find_case(folder)
        mine = instead_of._lock if instead_of is not None and instead_of.folder == chosen else None
        lock = mine or lock_case(chosen, reader)  # before anything is read: nobody edits between reading and locking
        try:
            if isinstance(lock, CaseLock):
                remove_unfinished_files(chosen)
            session = cls(chosen, load_case(chosen), reader=reader, lock=lock)
        except BaseException:
            if mine is None and isinstance(lock, CaseLock):
                lock.release()
            raise
        if instead_of is not None and mine is not None:
            instead_of._lock = None
        return session

    def close(self, instead_of: ReviewSession | None = None) -> None:
        """Let others edit the case; everything is on the disk already.

        Parameters
        ----------
        instead_of
            The session that was to be replaced and stays: it gets back the lock that it handed over.
        """
        lock, self._lock = self._lock, None
        if instead_of is not None and instead_of.folder == self.folder:
            instead_of._lock = lock
        elif lock is not None:
            lock.release()

    def __enter__(self) -> ReviewSession:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def signature(self) -> Signature | None:
        """Of the state that is shown; None when it is not signed, or is no longer what was signed."""
        return self.seal.signature if self.seal.state is SealState.HOLDS else None

    @property
    def state(self) -> State:
        """How far a person has answered for what is shown."""
        return self.seal.state_of_case(self.case.assessment.state)

    def _look_through(self) -> Iterator[str]:
        if self.held_by is not None:
            yield f"The case is open elsewhere ({self.held_by}): it can be read here and not edited."
        if self.seal.state in (SealState.ALTERED, SealState.UNVERIFIED):
            yield f"The signature of this case: {self.seal}."
        if self._journal.is_torn:
            yield (
                f"The last {self._journal.torn_bytes} bytes of the journal are damaged; the edits before them "
                f"({len(self._journal.edits)}) were opened. The next edit moves what is damaged into {TORN}."
            )
        for what in folder_differences(self.folder, len(self.case.edits), self.case):
            yield f"Look through the case before you trust it: {what}."

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

        series = scored_series(self.case)
        if series is None:
            raise InputRefused(
                "input", f"series {header.series_uid} is no longer where it was read from; bring it back"
            )
        return source_datasets(series, self.case.source_ct)

    # Edits. Each returns whether anything changed; an edit that cannot be made or kept raises, and nothing changed.

    def assign_at(self, kji: ArrayLike, artery: Artery, *, in_slice: bool = False) -> bool:
        """A click; see `heartlens.case.correction.assign_at`."""
        return self._edit(lambda **by: assign_at(self.case, kji, artery, in_slice=in_slice, **by))

    def assign_touched(self, flat: NDArray[np.int64], artery: Artery) -> bool:
        """A box; see `heartlens.case.correction.assign_touched`."""
        return self._edit(lambda **by: assign_touched(self.case, flat, artery, **by))

    def lesion_at(self, kji: ArrayLike) -> int | None:
        """Id of the lesion at a voxel (k, j, i); None when there is none."""
        return lesion_at(self.case, kji)

    def assign(self, lesion: int, artery: Artery) -> bool:
        """Give a lesion to an artery, or keep an undecided one in its own; False when nothing changed."""
        if self.case.lesions.arteries.get(lesion) is artery:
            return self._edit(lambda **by: self.case.accept(lesion, **by))
        return self._edit(lambda **by: self.case.reassign(lesion, artery, **by))

    def place(self, lesion: int, site: Site) -> bool:
        """Say of a lesion that it is not coronary, and where it lies; False when nothing changed."""
        is_so = self.case.lesions.arteries.get(lesion) is Artery.OTHER
        if is_so and self.case.lesions.notes[lesion].site is site and not self.case.lesions.notes[lesion].undecided:
            return False
        return self._edit(lambda **by: self.case.place(lesion, site, **by))

    def remove(self, lesion: int) -> bool:
        """Remove a lesion; False when nothing changed."""
        return self._edit(lambda **by: self.case.remove(lesion, **by))

    def apply_edited_labels(self, codes: NDArray[np.uint8]) -> bool:
        """Labels that somebody painted; see `heartlens.case.correction.apply_edited_labels`."""
        return self._edit(lambda **by: apply_edited_labels(self.case, codes, **by))

    def relabel(self, flat: NDArray[np.int64], codes: NDArray[np.uint8]) -> bool:
        """Voxels of the scored CT to an artery, or to none; see `heartlens.case.correction.apply_labels`."""
        return self._edit(lambda **by: apply_labels(self.case, flat, codes, **by))

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
        self._require_lock()
        try:
            graded = self.case.graded(risk_inputs)
        except ValueError as error:
            raise InputRefused("input", str(error)) from error
        try:
            withdraw_signature(self.folder)  # first: it must not outlive what was signed
            self.seal = Seal(SealState.NONE)
            save_risk_inputs(self.folder, risk_inputs)
        except BaseException as error:
            self._withdraw_claim()
            if isinstance(error, OSError):
                raise InputRefused("output", f"cannot write to {self.folder}: {reason_of(error)}; allow it") from error
            raise
        self.case = graded
        self._withdraw_claim()
        return True

    def _withdraw_claim(self) -> None:
        """Nothing says "signed" that is not: a report that does is written again, as soon as there is room.

        One of a case that was altered stays: it is the trace of that.
        """
        stays = self.seal.is_of_present_state or self.seal.state is SealState.ALTERED
        if not stays and says_signed(self.folder):
            with suppress(InputRefused):
                self.save_report()

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
        self._require_lock()
        try:
            self._journal = append_edits(self.folder, self._journal, edited.edits[len(self.case.edits) :])
        except OSError as error:
            raise InputRefused(
                "output",
                f"the edit was not made, because it cannot be kept in {self.folder}: {reason_of(error)}; "
                "make room or allow writing there, then edit again",
            ) from error
        self.case = edited
        was_signed, self.seal = self.seal.is_of_present_state, self.seal.after_edit()
        if was_signed:
            self._withdraw_claim()  # now, and not when somebody saves: a program may be killed until then
        return True

    def save_report(self) -> None:
        """Bring report.json in the case folder up to date; the one that is signed stays as it was signed."""
        if self.seal.is_of_present_state:
            return  # its seal is a checksum, and nothing has changed since
        with atomic_file(self.folder / "report.json") as sibling:
            write_json(sibling, self.case.report_document(answered(self.case, self.state)))

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
        self._require_lock()
        try:
            self._journal = append_edits(self.folder, self._journal, ())  # what is torn is not signed
            sign_case(self.folder, self.case, signature)
        except OSError as error:
            raise InputRefused(
                "output",
                f"not signed, because it cannot be kept in {self.folder}: {reason_of(error)}; make room or "
                "allow writing there, then sign again",
            ) from error
        self.seal = read_seal(self.folder, len(self.case.edits))
        return signature

    def export(self, out: Path) -> list[str]:
        """Write everything of this state into a new folder: SEG, SR, page, tables, labels and the case itself.

        Returns
        -------
        list[str]
            What was left out, and why.
        """
        return write_outputs(
            Result(self.case, self.sources),
            out,
            signature=self.signature,
            state=self.state,
            shared_mode=not is_private(self.folder),  # as open as the case
            language=language_of_page(self.folder.parent / "report.html"),  # as it was, and so is what follows
            more=[one for one, name in MORE_FILES.items() if (self.folder.parent / name).is_file()],
            embed_ct=embeds_ct(self.folder),
        )

    def _require_lock(self) -> None:
        if self.held_by is not None:
            raise InputRefused(
                "output", f"the case is open elsewhere ({self.held_by}): close it there, then open it here again"
            )

    def _edit(self, make: Callable[..., Case]) -> bool:
        try:
            edited = make(who=self.reader, when=now())
        except ValueError as error:
            raise InputRefused("input", str(error)) from error
        return self.keep_edits(edited)

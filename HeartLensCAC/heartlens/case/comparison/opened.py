"""A saved case as it is compared: with what its signature is worth, and by what its person is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from heartlens.case.case import Case
from heartlens.case.folder import find_case, load_case
from heartlens.case.result import scored_series
from heartlens.case.seal import read_seal
from heartlens.case.signature import Signature, answered, state_words
from heartlens.risk.assessment import Assessment
from heartlens.risk.evaluable import State

if TYPE_CHECKING:
    import pydicom

    from heartlens.dicom.stacks.series import Series


@dataclass(frozen=True, eq=False)
class OpenedCase:
    """A case that nobody edits here.

    Parameters
    ----------
    folder
        Of the case.
    case
        What it holds.
    state
        How far a person has answered for it.
    signature
        Of a signed one.
    """

    folder: Path
    case: Case
    state: State
    signature: Signature | None

    @property
    def assessment(self) -> Assessment:
        """What may be said of it in its state."""
        return answered(self.case, self.state)

    @property
    def state_words(self) -> str:
        """How far a person has answered for it, in words."""
        return state_words(self.state, self.signature)

    @property
    def acquired(self) -> date | None:
        """Day of the scan; None where the file does not say one."""
        try:
            return date.fromisoformat((self.case.source_ct.header.acquired or "")[:10])
        except ValueError:
            return None

    @cached_property
    def series(self) -> Series | None:
        """The series that was scored; None where the CT was not DICOM."""
        return scored_series(self.case)

    @property
    def patients(self) -> frozenset[str]:
        """Marks of whose the scan is, which compare and tell nothing; empty where no file says it."""
        return frozenset() if self.series is None else self.series.patient_keys - {""}

    @property
    def sources(self) -> Sequence[pydicom.Dataset]:
        """DICOM headers of the scored slices; empty where the CT was not DICOM."""
        if self.series is None:
            return ()
        from heartlens.dicom.read import source_datasets

        return source_datasets(self.series, self.case.source_ct)


def open_case(place: Path) -> OpenedCase:
    """Open a case folder, or the case of a report folder, to compare it.

    Parameters
    ----------
    place
        Of the case or of the report.

    Raises
    ------
    InputRefused
        It is no case, or its CT has moved or changed.
    """
    folder = find_case(place)
    case = load_case(folder)
    seal = read_seal(folder, len(case.edits))
    state = seal.state_of_case(case.assessment.state)
    return OpenedCase(folder, case, state, seal.signature if state is State.SIGNED else None)

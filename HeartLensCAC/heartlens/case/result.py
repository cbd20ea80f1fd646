"""A scored case and what it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heartlens.case.case import Case

if TYPE_CHECKING:
    import pydicom


@dataclass(frozen=True, eq=False)
class Result:
    """A scored case and what it was read from.

    Parameters
    ----------
    case
        Scored.
    sources
        DICOM headers of the scored slices, for SEG and SR; empty for NRRD, NIfTI and MHA
    """

    case: Case
    sources: Sequence[pydicom.Dataset]

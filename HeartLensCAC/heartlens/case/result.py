"""A scored case and what it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heartlens.case.case import Case

if TYPE_CHECKING:
    import pydicom

    from heartlens.dicom.stacks.series import Series


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


def scored_series(case: Case) -> Series | None:
    """The DICOM series that was scored, found again where it was read from.

    Parameters
    ----------
    case
        Scored.

    Returns
    -------
    Series | None
        None where the CT was not DICOM, or the series is no longer there as a whole.

    Raises
    ------
    InputRefused
        Nothing is there any more, or nothing that is DICOM.
    """
    header = case.source_ct.header
    if not header.sop_instance_uids:
        return None
    from heartlens.dicom.series import find_series

    scored = set(header.sop_instance_uids)
    for series in find_series([Path(path) for path in case.provenance.source]):
        held = {str(instance.value("SOPInstanceUID")) for instance in series.instances}
        if series.series_uid == header.series_uid and scored <= held:
            return series
    return None

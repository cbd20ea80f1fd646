"""Everything that is written into DICOM of one result, each object with UIDs that follow from what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heartlens.case.case import Case
from heartlens.case.result import Result
from heartlens.case.signature import Signature, answered, state_of, state_words
from heartlens.core.errors import NotWritten
from heartlens.core.lesions import SCORED_ARTERIES
from heartlens.core.provenance import LabelSource
from heartlens.risk.evaluable import State

if TYPE_CHECKING:
    import pydicom

    from heartlens.dicom.source.uids import ObjectUids
    from heartlens.dicom.sr_content.compared import Compared
    from heartlens.report.sheet.pages import Sheet

NOT_CONTENT = ("scored_at", "seconds", "device")
"""What differs when the same result is made once more, and makes no other object of it."""

Noting = Callable[[list[str], Path], Any]
"""Opens a context in which a file is written, or is left out with a note."""


def object_uids(case: Case, signature: Signature | None = None, state: State | None = None) -> ObjectUids:
    """The UIDs of everything that is written of a case in the state that is known of it.

    Parameters
    ----------
    case
        Scored.
    signature
        Who answers for it.
    state
        Of it, where the case cannot know; see `heartlens.case.signature.state_of`.
    """
    from heartlens.dicom.source.uids import ObjectUids, digest

    header, provenance = case.source_ct.header, case.provenance
    made_from = {
        "series": header.series_uid,
        "images": list(header.sop_instance_uids),
        "voxels": case.voxel_checksum,
        "protocol": case.protocol.to_json(),
        "labels": None if provenance.labels is None else provenance.labels.value,
        "bundle": dict(provenance.checksums),
        "given": provenance.labels_sha256,
    }
    automatic = _content(replace(case, edits=(), replayed=case.auto) if case.edits else case, None, None)
    return ObjectUids(
        made_from=digest(made_from),
        content=digest(_content(case, signature, state)),
        automatic=digest(automatic),
        number=1 + len(case.edits) + (signature is not None),
    )


def _content(case: Case, signature: Signature | None, state: State | None) -> dict[str, Any]:
    known = state_of(case, signature, state)
    document = case.report_document(answered(case, known), None if signature is None else signature.observer)
    provenance = {name: value for name, value in document["provenance"].items() if name not in NOT_CONTENT}
    # Of the HeartLens that scored it: a later one that signs it names the same automatic object.
    provenance["version"] = case.provenance.version
    kept = {name: value for name, value in document.items() if name not in NOT_CONTENT}
    return {**kept, "provenance": provenance, "signature": None if signature is None else asdict(signature)}


def write_seg_and_sr(
    folder: Path,
    result: Result,
    uids: ObjectUids,
    signature: Signature | None,
    state: State | None,
    left_out: list[str],
    noting: Noting,
    on_progress: Callable[[float], None],
    *,
    predecessor: Path | None = None,
) -> list[pydicom.Dataset]:
    """Write segmentation.dcm and report.dcm.

    Parameters
    ----------
    folder
        Of the result.
    result
        What was scored.
    uids
        Of this version.
    signature, state
        See `object_uids`.
    left_out
        Gets a note on what was not written.
    noting
        Catches what fails.
    on_progress
        Hears which part of the writing is done.
    predecessor
        An earlier report.dcm, which the new one names as what it takes the place of.

    Returns
    -------
    list[Dataset]
        What was written.

    Raises
    ------
    InputRefused
        ``unreadable`` or ``input``: the predecessor cannot be read, or is no report of this study.
    """
    case = result.case
    written: list[pydicom.Dataset] = []
    seg = None
    earlier = None
    if predecessor is not None:
        from heartlens.dicom.source.earlier import earlier_report

        earlier = earlier_report(predecessor, case.source_ct.header.study_uid)
    with suppress(NotWritten, ModuleNotFoundError):  # the writers say so, for each object
        from heartlens.dicom.source.images import SourceImages

        left_out.extend(SourceImages(case.source_ct, result.sources).notes)
    on_progress(0.2)
    with noting(left_out, folder / "segmentation.dcm") as path:
        from heartlens.dicom.seg import write_seg

        is_found = not case.edits and case.provenance.labels not in (LabelSource.FILE, LabelSource.READER)
        seg = write_seg(
            path,
            ct=case.source_ct,
            codes=case.scored_codes,
            sources=result.sources,
            algorithm_type="AUTOMATIC" if is_found else "SEMIAUTOMATIC",
            provenance=case.provenance,
            reader=None if signature is None else signature.observer,
            uids=uids,
        )
        written += [] if seg is None else [seg]
    on_progress(0.4)
    with noting(left_out, folder / "report.dcm") as path:
        written.append(write_scores(path, result, uids, signature, state, seg=seg, earlier=earlier))
    return written


def write_scores(
    path: Path,
    result: Result,
    uids: ObjectUids,
    signature: Signature | None,
    state: State | None,
    *,
    seg: pydicom.Dataset | None = None,
    compared: Compared | None = None,
    earlier: pydicom.Dataset | None = None,
) -> pydicom.Dataset:
    """Write the structured report of a result.

    Parameters
    ----------
    path
        File to write.
    result
        What was scored.
    uids
        Of this version.
    signature, state
        See `object_uids`.
    seg
        Its segmentation, to refer to.
    compared
        With an earlier scan of the same person.
    earlier
        UIDs of another report whose place this one takes.

    Returns
    -------
    Dataset
        What was written.
    """
    from heartlens.dicom.sr import write_sr

    case, known = result.case, state_of(result.case, signature, state)
    # Who signed the scores has not seen what was compared since.
    verified = signature if compared is None else None
    return write_sr(
        path,
        ct=case.source_ct,
        report=case.report,
        risk=case.risk,
        assessment=answered(case, known),
        protocol=case.protocol,
        sources=result.sources,
        heart=_heart_box(case),
        state=state_words(known, signature),
        provenance=case.provenance,
        seg=seg,
        cautions=case.cautions,
        observer=None if verified is None else verified.observer,
        organization=None if verified is None else verified.organization,
        signed=None if verified is None else verified.when,
        uids=uids,
        compared=compared,
        earlier=earlier,
    )


def write_compared_scores(
    path: Path, result: Result, signature: Signature | None, state: State, said: Compared
) -> None:
    """Write the structured report once more, with what has changed since an earlier scan; it succeeds the plain one.

    Parameters
    ----------
    path
        File to write.
    result
        Of the later scan.
    signature, state
        See `object_uids`.
    said
        Of the earlier one.
    """
    plain = object_uids(result.case, signature, state)
    uids = replace(plain.told_apart_by(compared=asdict(said)), automatic=plain.content)
    write_scores(path, result, uids, signature, state, compared=said)


def write_key_pages(
    folder: Path, result: Result, sheets: Sequence[Sheet], uids: ObjectUids, *, names_patient: bool
) -> None:
    """Write key-page.dcm and, for each further sheet, key-page-2.dcm and so on.

    Parameters
    ----------
    folder
        Of the result.
    result
        What was scored.
    sheets
        Of its page.
    uids
        Of this version.
    names_patient
        The sheets show who was scanned.
    """
    from heartlens.dicom.documents.key_page import write_key_page
    from heartlens.report.sheet.pixels import sheet_pixels

    paths = [folder / ("key-page.dcm" if n == 1 else f"key-page-{n}.dcm") for n in range(1, len(sheets) + 1)]
    try:
        for number, (path, sheet) in enumerate(zip(paths, sheets, strict=True), 1):
            write_key_page(
                path,
                sheet_pixels(sheet),
                ct=result.case.source_ct,
                sources=result.sources,
                uids=uids,
                page=number,
                names_patient=names_patient,
            )
    except Exception:
        for path in paths:  # some pages would pass for all
            path.unlink(missing_ok=True)
        raise


def _heart_box(case: Case) -> tuple[int, slice, slice] | None:
    """Slice, rows and columns about the calcium, or about the heart where nothing counts."""
    from heartlens.report.figures import MARGIN_MM

    ct = case.source_ct
    counted = case.shown.flat[np.isin(case.shown.codes, SCORED_ARTERIES)]
    if counted.size:
        k, j, i = np.unravel_index(counted, ct.shape)
        highest = int(np.bincount(k).argmax())
        box = []
        for place, spacing, size in ((j, ct.spacing_mm[1], ct.shape[1]), (i, ct.spacing_mm[2], ct.shape[2])):
            margin = round(MARGIN_MM / spacing)
            box.append(slice(max(int(place.min()) - margin, 0), min(int(place.max()) + margin + 1, size)))
        return highest, box[0], box[1]
    from heartlens.anatomy import heart_region

    region = heart_region(ct)
    if not region.in_view:
        return None
    slices, rows, columns = region.box(ct)
    return (slices.start + slices.stop) // 2, rows, columns

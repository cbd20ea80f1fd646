"""Everything that is written for one scored CT, as a whole or not at all."""

from __future__ import annotations

import csv
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from heartlens.case.case import OLD_REPORT_SCHEMAS, REPORT_SCHEMA, Case
from heartlens.case.folder import read_json, save_case, write_json
from heartlens.case.journal import JOURNAL, TORN
from heartlens.case.lock import CaseLock, Holder, lock_case
from heartlens.case.result import Result
from heartlens.case.seal import SIGNATURE, sign_case
from heartlens.case.signature import Signature, answered, state_of
from heartlens.core.atomic import NO_ROOM, atomic_folder, check_folder
from heartlens.core.errors import InputRefused, NotWritten
from heartlens.report.catalogs.language import PLAIN, Language, language_of
from heartlens.report.csv_cells import cell
from heartlens.report.dicom_objects import object_uids, write_seg_and_sr
from heartlens.risk.evaluable import State

if TYPE_CHECKING:
    import pydicom

    from heartlens.dicom.source.uids import ObjectUids
    from heartlens.report.html import Identity
    from heartlens.report.sheet.pages import Sheet

OPTIONAL = {
    "jinja2": "jinja2", "highdicom": "highdicom", "PIL": "pillow", "reportlab": "'heartlens[pdf]'",
}  # fmt: skip
"""Libraries without which all is written but what needs them, and what pip is told to get each."""


class More(str, Enum):
    """What is written beside the rest where somebody asks for it; the values are the options' names."""

    KEY_PAGE = "key-page"
    PDF = "pdf"
    FHIR = "fhir"

    def __str__(self) -> str:
        return self.value


MORE_FILES: Mapping[More, str] = MappingProxyType(
    {More.KEY_PAGE: "key-page.dcm", More.PDF: "report.pdf", More.FHIR: "report.fhir.json"}
)
"""By which a result says that it was asked for."""


class Column(NamedTuple):
    """One column of lesions.csv, as docs/data-dictionary.md describes it.

    Parameters
    ----------
    name, kind, unit
        Of the column; the unit is "" where it holds no number.
    meaning, source
        In words.
    empty
        When the cell is empty; "" where it never is.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    source: str
    empty: str = ""


_OF_SCORES, _OF_LABELS = "CT, labels and protocol", "rules, networks, a file or a reader: see source"
_SLICE = "slice of the scored grid, inclusive; 0 is the lowest."
_CENTROID = "Middle of the voxels that count, LPS,"
_NOBODY_SURE = "It is coronary, or nobody is sure of its place."

LESION_COLUMNS = (
    Column("id", "integer", "1", "Number of the lesion within this result.", _OF_LABELS),
    Column("artery", "text", "", "LM, LAD, LCX, RCA; OTHER is not coronary, UNASSIGNED has no artery yet.", _OF_LABELS),
    Column("agatston", "number", "score", "Agatston score.", _OF_SCORES),
    Column("volume_mm3", "number", "mm3", "Volume score by the protocol's method.", _OF_SCORES),
    Column("mass_mg", "number", "mg", "Calcium mass, as hydroxyapatite.", _OF_SCORES, "There is no calibration."),
    Column("peak_hu", "number", "HU", "Highest HU of the voxels that count.", _OF_SCORES),
    Column("mean_hu", "number", "HU", "Mean HU of the voxels that count.", _OF_SCORES),
    Column("area_mm2", "number", "mm2", "Largest area on one slice.", _OF_SCORES),
    Column("first_slice", "integer", "1", f"Lowest {_SLICE}", _OF_SCORES),
    Column("last_slice", "integer", "1", f"Highest {_SLICE}", _OF_SCORES),
    Column("centroid_x_lps_mm", "number", "mm", f"{_CENTROID} to the patient's left.", _OF_SCORES),
    Column("centroid_y_lps_mm", "number", "mm", f"{_CENTROID} to the back.", _OF_SCORES),
    Column("centroid_z_lps_mm", "number", "mm", f"{_CENTROID} to the head.", _OF_SCORES),
    Column(
        "probability", "number", "1", "Calibrated probability that it is coronary.", "networks", "None estimated it."
    ),
    Column("source", "text", "", "Who says what it is: rules, network, reader, segmentation (a file).", _OF_LABELS),
    Column("why", "text", "", "One phrase to be checked against the image.", _OF_LABELS, "Nobody gave one."),
    Column("undecided", "integer", "1", "1 where a reader still has to decide on it, else 0.", "networks and rules"),
    Column("site", "text", "", "Where it lies, of calcium that is not coronary.", "rules or a reader", _NOBODY_SURE),
    Column("series_uid", "text", "", "Series that was scored.", "DICOM (0020,000E)", "The CT is not DICOM."),
    Column("voxels_sha256", "text", "", "SHA-256 of the HU values that were read: the key of the scan.", "CT"),
    Column("scored_at", "text", "", "When it was scored, ISO 8601.", "the clock", "The case does not say when."),
    Column("edits", "integer", "1", "Edits of a reader so far, undo and redo included.", "case/edits.jsonl"),
)
"""In their order. Programs read the earlier ones by their place, too: new ones are added at the end."""


def write_outputs(
    result: Result,
    out: Path,
    *,
    force: bool = False,
    identify: bool = False,
    signature: Signature | None = None,
    state: State | None = None,
    shared_mode: bool = False,
    language: str = "en",
    more: Collection[More] = (),
    embed_ct: bool = False,
    predecessor: Path | None = None,
    on_progress: Callable[[float], None] = lambda done: None,
) -> list[str]:
    """Write report.json, lesions.csv, segmentation.seg.nrrd, report.html, case/ and, for DICOM, SEG and SR.

    Parameters
    ----------
    result
        What was scored.
    out
        Folder to make; an existing one is replaced only with `force` and only if it is a HeartLens result.
    force
        Replace an existing result.
    identify
        Put patient ID and name on report.html, and on what is set from it.
    signature
        Who answers for it; the SR is then verified, the page says so, and labels.nrrd is written, because checked
        labels are what a network may learn from.
    state
        How far a person has answered for it, where the case cannot know: altered after signing. None is what the case
        and the signature say.
    shared_mode
        Give the files the rights that the umask gives, where else nobody but the user may read them.
    language
        Of report.html, see `heartlens.report.catalogs.language.LANGUAGES`.
    more
        What to write beside: key page, PDF, FHIR.
    embed_ct
        Copy the DICOM files of the CT into the case; see `heartlens.case.folder.save_case`.
    predecessor
        An earlier report.dcm, which the new one takes the place of.
    on_progress
        Hears before each file which part of the writing is done.

    Returns
    -------
    list[str]
        What was left out, and why: for want of a library (`OPTIONAL`), or because it failed.

    Raises
    ------
    InputRefused
        The folder exists, or cannot be written; nothing is left behind.
    """
    case, spoken = result.case, language_of(language)
    left_out: list[str] = []
    with atomic_folder(out, force=force, is_ours=is_result, hold=hold_for_replacing, private=not shared_mode) as folder:
        write_json(folder / "report.json", _report_document(case, signature, state))
        with noting(left_out, folder / "lesions.csv") as path:
            write_lesions_csv(path, case)
        on_progress(0.1)
        _write_seg_nrrd(folder / "segmentation.seg.nrrd", case)
        made: Sequence[pydicom.Dataset] = ()
        uids = object_uids(case, signature, state) if result.sources or more else None
        if result.sources and uids is not None:
            made = write_seg_and_sr(
                folder, result, uids, signature, state, left_out, noting, on_progress, predecessor=predecessor
            )
        if predecessor is not None and not result.sources:
            left_out.append("the predecessor was not named: the CT is not DICOM, and has no report.dcm")
        on_progress(0.7)
        page, identity = "", None
        with noting(left_out, folder / "report.html") as path:
            from heartlens.report.html import Identity, write_report

            identity = Identity.of(result.sources[0]) if identify and result.sources else None
            page = write_report(path, case, identity=identity, signature=signature, state=state, language=spoken)
        on_progress(0.8)
        if uids is not None and more:
            _write_more(
                folder, result, more, page, uids, made, left_out, signature=signature, state=state, identity=identity,
                language=spoken,
            )  # fmt: skip
        save_case(case, folder / "case", embed_ct=embed_ct)
        if signature is not None:
            sign_case(folder / "case", case, signature)
            write_labels(folder / "labels.nrrd", case)
        on_progress(1.0)
    return left_out


@contextmanager
def noting(left_out: list[str], path: Path) -> Iterator[Path]:
    """Note what cannot be written, and leave nothing of it: one object that fails must not cost the result.

    A full disk fails the whole, and so does what is missing and not optional.

    Parameters
    ----------
    left_out
        Gets the note.
    path
        Of what is written; removed when that fails.

    Yields
    ------
    Path
        The same.
    """
    try:
        yield path
        return
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in OPTIONAL:
            raise
        why = f"it needs {library} (pip install {OPTIONAL[library]})"
    except NotWritten as error:
        why = str(error)
    except (InputRefused, OSError, MemoryError):
        raise
    except Exception as error:  # the text of a library's error may quote a header, and so an identity: its kind must do
        cause = error.__cause__ or error.__context__
        is_full = isinstance(cause, OSError) and cause.errno in NO_ROOM
        if cause is not None and (is_full or isinstance(cause, MemoryError)):
            raise cause from None  # of the disk or the memory all the same, in a library's words
        place = traceback.extract_tb(error.__traceback__)[-1]
        why = f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"
    path.unlink(missing_ok=True)
    left_out.append(f"{path.name} was not written: {why}")


def write_labels(path: Path, case: Case) -> None:
    """The scored voxels as a label map on the grid of the CT, 1 LM … 6 UNASSIGNED.

    `--segmentation` reads it back; training and other programs take it without knowing Slicer.
    """
    from heartlens.io.nrrd import write_nrrd

    write_nrrd(path, case.scored_codes, case.source_ct.affine)


def _report_document(case: Case, signature: Signature | None, state: State | None) -> dict[str, Any]:
    known = state_of(case, signature, state)
    document = case.report_document(answered(case, known), None if signature is None else signature.observer)
    return document if signature is None else {**document, "signature": asdict(signature)}


def write_lesions_csv(path: Path, case: Case) -> None:
    """One row a lesion, unrounded; empty where a value is unknown. The last columns say of which result it is."""
    # UTF-8 on every system; and a file name that is no UTF-8 may stand in a sentence: it costs letters, not the table.
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        rows = csv.writer(file)
        rows.writerow([column.name for column in LESION_COLUMNS])
        header, provenance = case.source_ct.header, case.provenance
        result = (header.series_uid, case.voxel_checksum, provenance.scored_at or None, len(case.edits))
        for s in case.report.lesions:
            values = (
                s.id, s.artery.name, s.agatston, s.volume_mm3, s.mass_mg, s.peak_hu, s.mean_hu, s.area_mm2,
                *s.slices, *s.centroid_lps_mm, s.probability, s.source, s.why, int(s.undecided), s.site, *result,
            )  # fmt: skip
            rows.writerow([cell(value) for value in values])


def check_out(out: Path, *, force: bool = False) -> None:
    """Refuse, before the work, a target that `write_outputs` would refuse after it.

    Raises
    ------
    InputRefused
        ``output``: the folder exists without `force`, is not a HeartLens result, or holds a reader's edits
    """
    check_folder(out, force=force, is_ours=is_result, hold=hold_for_replacing)


@contextmanager
def hold_for_replacing(out: Path) -> Iterator[None]:
    """Hold a result, so that nobody begins to edit its case while it is replaced.

    Raises
    ------
    InputRefused
        ``output``: somebody has the case open, or it holds a reader's work, which nobody deletes by an option.
    """
    folder = out / "case"
    lock = lock_case(folder) if folder.is_dir() else None
    try:
        if isinstance(lock, Holder):
            raise InputRefused("output", f"the case in {out} is open ({lock}): close it there, or choose another --out")
        for name, what in ((JOURNAL, "edits"), (TORN, "edits"), (SIGNATURE, "signature")):
            path = folder / name
            if path.is_file() and path.stat().st_size:
                raise InputRefused(
                    "output", f"{out} holds a reader's {what}, which --force does not delete; choose another --out"
                )
        if isinstance(lock, CaseLock) and sys.platform == "win32":
            lock.release()  # there no folder is renamed in which a file is open: whoever opens it now stops the rename
        yield
    finally:
        if isinstance(lock, CaseLock):
            lock.release()


def is_result(folder: Path) -> bool:
    """Whether a folder holds a HeartLens result, so that replacing it loses nothing else."""
    try:
        return read_json(folder / "report.json").get("schema") in (REPORT_SCHEMA, *OLD_REPORT_SCHEMAS)
    except (OSError, ValueError):
        return False


def _write_seg_nrrd(path: Path, case: Case) -> None:
    from heartlens.io.volumes import write_seg_nrrd

    write_seg_nrrd(path, case.source_ct, case.scored_codes)


def _write_more(
    folder: Path,
    result: Result,
    more: Collection[More],
    page: str,
    uids: ObjectUids,
    made_from: Sequence[pydicom.Dataset],
    left_out: list[str],
    *,
    signature: Signature | None,
    state: State | None,
    identity: Identity | None,
    language: Language,
) -> None:
    """What was asked for beside the rest, set from the page that is report.html."""
    from heartlens.report.dicom_objects import write_key_pages

    case = result.case
    of_sheets = uids if language.code == PLAIN.code else uids.told_apart_by(language=language.code)
    sheets: Sequence[Sheet] = ()
    of_page = [one for one in (More.KEY_PAGE, More.PDF) if one in more]
    if not page:
        left_out += [f"{MORE_FILES[one]} was not written: it is set from report.html" for one in of_page]
    elif of_page:
        with noting(left_out, folder / " and ".join(MORE_FILES[one] for one in of_page)):
            from heartlens.report.sheet.pages import sheets_of

            sheets = sheets_of(page)
    if More.KEY_PAGE in more and not result.sources:
        left_out.append("key-page.dcm was not written: the CT is not DICOM, and has no study that it could be put into")
    elif More.KEY_PAGE in more and sheets:
        with noting(left_out, folder / "key-page.dcm"):
            write_key_pages(folder, result, sheets, of_sheets, names_patient=identity is not None)
    if More.PDF in more and sheets:
        with noting(left_out, folder / "report.pdf") as path:
            from heartlens.report.sheet.pdf import sheets_pdf

            pdf = sheets_pdf(sheets)
            path.write_bytes(pdf)
            if result.sources:
                with noting(left_out, folder / "report-pdf.dcm") as of_dicom:
                    from heartlens.dicom.documents.encapsulated_pdf import write_pdf_object

                    write_pdf_object(
                        of_dicom,
                        pdf,
                        ct=case.source_ct,
                        sources=result.sources,
                        uids=of_sheets,
                        made_from=made_from,
                        names_patient=identity is not None,
                        is_verified=signature is not None,
                    )
    if More.FHIR in more:
        with noting(left_out, folder / "report.fhir.json") as path:
            from heartlens.report.fhir import fhir_bundle

            bundle = fhir_bundle(
                case, uids if identity is None else uids.told_apart_by(names_patient=True), signature=signature,
                state=state, identity=identity,
            )  # fmt: skip
            write_json(path, bundle)

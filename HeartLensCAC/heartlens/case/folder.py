"""The case folder: written whole, opened by replaying its edits, added to edit by edit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens import __version__
from heartlens.case.case import CASE_SCHEMA, OLD_CASE_SCHEMAS, Case
from heartlens.case.edits import Edit
from heartlens.case.journal import JOURNAL, Journal, append_edits, journal_start, read_journal
from heartlens.case.result import scored_series
from heartlens.core.atomic import atomic_file
from heartlens.core.ct import CTVolume
from heartlens.core.disk.reading import file_sha256
from heartlens.core.errors import InputRefused, WarningRecord
from heartlens.core.protocol import NOTICE, ScoringProtocol
from heartlens.core.provenance import Provenance
from heartlens.core.slabs import average_slabs, slices_per_slab
from heartlens.risk.person import RiskInputs

NUMBERS = ("total", "arteries", "unassigned", "other", "dropped_small")
"""Parts of a report that must be those of the case; the same in both versions."""

AUTO = "auto.seg.nrrd"
"""The automatic result, which nobody changes."""

EMBEDDED = "ct"
"""Folder of the DICOM files of a case that brings its CT along; else the case says where they lie."""


def case_in(place: Path) -> Path | None:
    """The case folder at a place: that of a report folder, or the place itself; None where there is none."""
    return next((folder for folder in (place / "case", place) if (folder / "case.json").is_file()), None)


def embeds_ct(folder: Path) -> bool:
    """Whether a case brings its CT along as DICOM: what is made of it does, too.

    Parameters
    ----------
    folder
        Of the case.
    """
    return (folder / EMBEDDED).is_dir()


def find_case(place: Path) -> Path:
    """The case folder at a place; see `case_in`.

    Raises
    ------
    InputRefused
        ``input``: there is none.
    """
    folder = case_in(place)
    if folder is None:
        raise InputRefused(
            "input",
            f"{place} holds no HeartLens case: expected a case folder or a report folder with one, found no case.json; "
            "choose another folder, or score the scan",
        )
    return folder


def save_case(case: Case, folder: Path, *, embed_ct: bool = False) -> None:
    """Write the case folder; `folder` must not exist yet (the caller renames a temporary one into place).

    Parameters
    ----------
    case
        To be kept.
    folder
        To make.
    embed_ct
        Copy the DICOM files of the CT into it, so that it opens when they are gone. A CT that is not DICOM is always
        in it.

    Raises
    ------
    InputRefused
        ``input``: the files are no longer where they were read from. Nothing of the folder is left then.
    """
    folder.mkdir()
    try:
        _write_case(case, folder, embed_ct=embed_ct)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _write_case(case: Case, folder: Path, *, embed_ct: bool) -> None:
    from heartlens.io.volumes import write_lesion_map, write_volume

    source = case.provenance.source
    if embed_ct and case.source_ct.header.sop_instance_uids:
        _embed_ct(case, folder / EMBEDDED)
        source = (EMBEDDED,)
    header = case.source_ct.header
    write_lesion_map(folder / AUTO, case.ct, case.auto)
    document = {
        "schema": CASE_SCHEMA,
        "notice": NOTICE,
        "study_uid": header.study_uid,
        "series_uid": header.series_uid,
        "source": list(source),
        "protocol": case.protocol.to_json(),
        "risk_inputs": asdict(case.risk_inputs),
        "warnings": [{"code": c.code, "text": c.text} for c in case.cautions],
        "provenance": {"version": __version__, **case.provenance.to_json(), "source": list(source)},
        "checksums": {"voxels_sha256": case.voxel_checksum, "auto_sha256": file_sha256(folder / AUTO)},
        "slice_probability": _probability_to_json(case.slice_probability),
        "overrides": {"kvp": header.kvp, "slice_thickness_mm": header.slice_thickness_mm},
    }
    write_json(folder / "case.json", document)
    if not header.sop_instance_uids:
        write_volume(folder / "ct.nrrd", case.source_ct)
    (folder / JOURNAL).write_text("")
    append_edit(folder, *case.edits)
    write_json(folder / "report.json", case.report_document())


def _embed_ct(case: Case, folder: Path) -> None:
    series = scored_series(case)
    if series is None:
        raise InputRefused("input", f"series {case.source_ct.header.series_uid} is no longer where it was read from")
    folder.mkdir()
    for number, path in enumerate(series.files, 1):
        shutil.copyfile(path, folder / f"{number:05d}.dcm")


def load_case(folder: Path) -> Case:
    """Open a case folder and replay its edits; the report is the saved one, bit for bit.

    Raises
    ------
    InputRefused
        A part is missing or damaged, or the source series has moved or changed.
    """
    from heartlens.io.volumes import read_lesion_map

    try:
        document = _read_case_document(folder)
        if document["schema"] not in (CASE_SCHEMA, *OLD_CASE_SCHEMAS):
            raise InputRefused("unreadable", f"case.json: expected schema {CASE_SCHEMA}, found {document['schema']!r}")
        protocol = ScoringProtocol.from_json(document["protocol"])
        source_ct = _load_ct(folder, document)
        count = 1 if protocol.slab_mm is None else slices_per_slab(source_ct, protocol.slab_mm)
        case = Case.of(
            source_ct,
            read_lesion_map(folder / AUTO, average_slabs(source_ct, count)),
            protocol,
            risk_inputs=_risk_inputs(document["risk_inputs"]),
            cautions=tuple(WarningRecord(**warning) for warning in document["warnings"]),
            provenance=Provenance.from_json(document["provenance"]),
            edits=_read_journal_of(folder, document).edits,
            slice_probability=_probability_from_json(document.get("slice_probability")),
        )
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputRefused(
            "unreadable", f"case folder {folder.name}: {error}; restore it from a copy, or score the series again"
        ) from error
    expected = document["checksums"]["voxels_sha256"]
    if case.voxel_checksum != expected:
        raise InputRefused(
            "checksum",
            f"the CT's voxels are not those that were scored: expected SHA-256 {expected[:12]}…, "
            f"found {case.voxel_checksum[:12]}…; score the series again",
        )
    return case


def case_journal(folder: Path) -> Journal:
    """Read the journal of a saved case, as far as it is whole.

    Raises
    ------
    InputRefused
        ``unreadable``: case.json or the journal cannot be read.
    """
    try:
        document = _read_case_document(folder)
        return _read_journal_of(folder, document)
    except (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputRefused("unreadable", f"case folder {folder.name}: {error}; restore it from a copy") from error


def refuse_unopenable(folder: Path) -> None:
    """Refuse a case of which small files say already that it does not open; others are refused when they are opened.

    Parameters
    ----------
    folder
        Of the case.

    Raises
    ------
    InputRefused
        ``unreadable``: case.json or the journal is damaged; ``input``: the CT is not where it was read from.
    """
    case_journal(folder)
    document = _read_case_document(folder)
    gone = [place for place in document["source"] if not Path(place).exists()]
    if gone and not (folder / "ct.nrrd").exists():
        raise InputRefused(
            "input", f"case folder {folder.name}: expected the scored CT at {gone[0]}, found nothing; bring it back"
        )


_PARTS = {
    "schema": str, "protocol": dict, "risk_inputs": dict, "warnings": list, "provenance": dict, "checksums": dict,
    "overrides": dict, "source": list,
}  # fmt: skip
"""Of case.json, without which no case opens; the same in both versions."""

_NAMES_OF_KINDS = {str: "a text", dict: "an object", list: "a list"}


def _read_case_document(folder: Path) -> dict[str, Any]:
    """case.json with every part that is needed, each of its kind; ValueError names the one that is not."""
    document = read_json(folder / "case.json")
    for name, kind in _PARTS.items():
        if not isinstance(document.get(name), kind):
            found = type(document[name]).__name__ if name in document else "nothing"
            raise ValueError(f"case.json: expected {_NAMES_OF_KINDS[kind]} for {name}, found {found}")
    if not isinstance(document["checksums"].get("voxels_sha256"), str):
        raise ValueError("case.json: expected the checksum voxels_sha256, found none")
    _risk_inputs(document["risk_inputs"])
    document["source"] = document["provenance"]["source"] = [str(folder.absolute() / p) for p in document["source"]]
    return document


def _risk_inputs(document: Mapping[str, Any]) -> RiskInputs:
    inputs = RiskInputs(**document)
    age = inputs.age_years
    if age is not None and (isinstance(age, bool) or not isinstance(age, (int, float))):
        raise ValueError(f"case.json: expected a number for age_years, found {type(age).__name__}")
    for name in ("scheme", "sex", "race"):
        if not isinstance(getattr(inputs, name), (str, type(None))):
            raise ValueError(f"case.json: expected a text for {name}")
    return inputs


def _read_journal_of(folder: Path, document: Mapping[str, Any]) -> Journal:
    if document["schema"] in OLD_CASE_SCHEMAS:
        return read_journal(folder)
    checksums = document["checksums"]
    start = journal_start(checksums["voxels_sha256"], checksums["auto_sha256"])
    return read_journal(folder, start, needs_checksums=True)


def append_edit(folder: Path, *edits: Edit) -> None:
    """Add a line for each to the journal and wait until they are on the disk: no edit is lost by a crash."""
    append_edits(folder, case_journal(folder), edits)


def folder_differences(folder: Path, edits: int, case: Case | None = None) -> tuple[str, ...]:
    """What in a case folder does not belong to the rest of it.

    Parameters
    ----------
    folder
        Of the case.
    edits
        How many its journal holds.
    case
        As it was opened; without it, the numbers of the report are not compared.

    Returns
    -------
    tuple[str, ...]
        A part of a sentence each. A report that is behind the journal, as after a crash, is none of them.
    """
    differences = []
    try:
        expected = read_json(folder / "case.json")["checksums"].get("auto_sha256")
        if expected is not None and not _has_sha256(folder / AUTO, expected):
            differences.append(f"{AUTO} is not the automatic result that was saved")
        saved = read_json(folder / "report.json")
        if saved["edits"] > edits:
            differences.append(f"report.json knows {saved['edits']} edits, the journal holds {edits}")
        if case is not None and saved["edits"] == edits:
            mine = json.loads(json.dumps(case.report_document()))
            others = [key for key in NUMBERS if saved[key] != mine[key]]
            if others:
                differences.append(f"report.json has other numbers than the case ({', '.join(others)})")
    except (InputRefused, OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        differences.append("report.json is missing or damaged")
    return tuple(differences)


def _has_sha256(path: Path, expected: str) -> bool:
    """Whether a file is there, can be read and has a checksum."""
    try:
        return file_sha256(path) == expected
    except (InputRefused, OSError):
        return False


def save_risk_inputs(folder: Path, risk_inputs: RiskInputs) -> None:
    """Change what a saved case knows of the person, and by which table it is graded.

    Raises
    ------
    InputRefused
        ``output``, the disk does not take it; the case is as it was
    """
    document = read_json(folder / "case.json")
    with atomic_file(folder / "case.json") as sibling:
        write_json(sibling, {**document, "risk_inputs": asdict(risk_inputs)})


def read_json(path: Path) -> dict[str, Any]:
    """Read a document as `write_json` writes it.

    Raises
    ------
    OSError
        It is not there, or cannot be read.
    ValueError
        It is no JSON object, or one with NaN or infinity, or one so deep that nobody wrote it.
    """
    if path.exists() and not path.is_file():  # a named pipe would be waited for without end
        raise ValueError(f"{path.name}: expected a regular file")
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"{path.name}: nested too deep") from None
    except ValueError as error:
        raise ValueError(f"{path.name}: no JSON ({type(error).__name__})") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path.name}: expected an object, found {type(document).__name__}")
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document as indented JSON; NaN and infinity raise ValueError."""
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n")


def _probability_to_json(probability: NDArray[np.float64] | None) -> list[float | None] | None:
    """For JSON, which has no nan."""
    return None if probability is None else [None if np.isnan(p) else float(p) for p in probability]


def _probability_from_json(values: Sequence[float | None] | None) -> NDArray[np.float64] | None:
    return None if values is None else np.array([np.nan if p is None else p for p in values], dtype=np.float64)


def _load_ct(folder: Path, document: Mapping[str, Any]) -> CTVolume:
    from heartlens.core.errors import OVERRIDABLE
    from heartlens.dicom.read import read_series
    from heartlens.dicom.series import find_series
    from heartlens.io.volumes import read_volume

    if (folder / "ct.nrrd").exists():
        return read_volume(folder / "ct.nrrd", allow=OVERRIDABLE, **document["overrides"])[0]
    all_series = find_series([Path(path) for path in document["source"]])
    series = next((s for s in all_series if s.series_uid == document["series_uid"]), None)
    if series is None:
        raise InputRefused("input", f"the scored series {document['series_uid']} is no longer where it was read from")
    # What was refused or allowed was settled when the case was made; the report carries the warnings.
    return read_series(series, allow=OVERRIDABLE, **document["overrides"])[0]

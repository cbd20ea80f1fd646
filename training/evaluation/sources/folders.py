"""Patients from folders of anybody's segmentations, or from the labeled scans of shards.

In a folder, a patient is a folder or, for label maps alone, a file. HeartLens results, case folders and phantoms are
known; so is any folder that holds a CT and one label map, `.seg.nrrd` or DICOM SEG.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from heartlens.case.case import Case
from heartlens.case.folder import load_case
from heartlens.core.ct import CTVolume
from heartlens.core.disk.packed import VOLUME_ENDINGS
from heartlens.core.errors import InputRefused
from heartlens.io.volumes import read_labels, write_volume
from heartlens.pipeline import Request, read_ct, score_series
from training.datasets.scans import UNREVIEWED
from training.datasets.shards import ShardSet
from training.evaluation.pairs import Pair
from training.evaluation.results import Failure
from training.evaluation.sources.layouts import Layout

LABEL_ENDINGS = (".seg.nrrd", *VOLUME_ENDINGS, ".dcm")

LABEL_NAMES = ("labels", "label", "segmentation", "seg", "mask")
CT_NAMES = ("ct", "image", "scan")

PROBABILITY_FILE = "slice_probability.json"
"""A list of numbers, foot to head, beside the labels of a program that has a slice classifier."""

AFFINE_TOLERANCE_MM = 1e-3


@dataclass(frozen=True)
class Entry:
    """Where the parts of one patient lie; None where a part is missing.

    Parameters
    ----------
    place
        Folder or file.
    labels
        Label map, `.seg.nrrd` or DICOM SEG.
    ct
        Volume file or DICOM folder.
    case
        HeartLens case folder
    """

    place: Path
    labels: Path | None
    ct: Path | None
    case: Path | None

    @property
    def is_edited(self) -> bool:
        """A reader has changed the case, so that its labels are newer than any file beside it."""
        edits = None if self.case is None else self.case / "edits.jsonl"
        return edits is not None and edits.is_file() and edits.stat().st_size > 0


def find_patients(folder: Path, layout: Layout | None = None) -> dict[str, Entry]:
    """The patients of a folder by name, in order; a folder that is itself a patient gives one.

    Parameters
    ----------
    layout
        Of another program, in which the folder may be a patient.

    Raises
    ------
    InputRefused
        ``input``, no such folder, or nothing in it
    """
    try:
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise InputRefused(
            "input", f"cannot read the folder {folder}: {error.strerror or error}; check the path"
        ) from None
    here = _entry(folder)
    if here.case or (here.labels and here.ct) or (layout is not None and layout.is_at(folder)):
        return {folder.resolve().name: here}
    entries: dict[str, Entry] = {}
    for path in inside:
        name = path.name if path.is_dir() else _stem(path, LABEL_ENDINGS)
        if name is None:
            continue
        if name in entries:
            raise InputRefused(
                "input",
                f"{folder}: expected one folder or file for each patient, found {entries[name].place.name} and "
                f"{path.name}; keep one of them",
            )
        entries[name] = _entry(path) if path.is_dir() else Entry(path, path, None, None)
    if not entries:
        raise InputRefused("input", f"{folder}: expected a folder or label file for each patient, found none")
    return entries


def read_pairs(
    reference: Path,
    prediction: Path,
    *,
    ct: Path | None = None,
    allow: frozenset[str] = frozenset(),
    layout: Layout | None = None,
) -> Iterator[Pair | Failure]:
    """Read patients of the reference with the prediction of the same name, one by one.

    Parameters
    ----------
    ct
        Folder of scans by patient name, for when no scan lies beside the labels.
    allow
        Refusals of the scan that the user has lifted.
    layout
        Of the prediction, where another program wrote it in its own.

    Yields
    ------
    Pair | Failure
        A `Pair`, or a `Failure` that says why there is none; also for predictions without a reference.

    Raises
    ------
    InputRefused
        ``input``, a folder cannot be read or holds no patients
    """
    known, predicted = find_patients(reference), find_patients(prediction, layout)
    if _is_one_patient(known, reference) and _is_one_patient(predicted, prediction):
        predicted = dict(zip(known, predicted.values(), strict=True))  # the user has paired them
    for name, entry in known.items():
        if name not in predicted:
            yield Failure(name, f"there is no prediction of this name in {prediction}")
            continue
        try:
            yield _read_pair(name, entry, predicted[name], _scan_of(name, ct), allow, layout)
        except InputRefused as refusal:
            yield Failure(name, _one_line(refusal))
    for name in predicted:
        if name not in known:
            yield Failure(name, f"there is no reference of this name in {reference}")


def predicted_pairs(reference: Path, request: Request, *, ct: Path | None = None) -> Iterator[Pair | Failure]:
    """Read patients of the reference, and let HeartLens find the calcium with the request's bundle or rules."""
    for name, entry in find_patients(reference).items():
        try:
            scan, codes, cautions = _read_reference(entry, _scan_of(name, ct), request.allow)
            path = _scan_path(entry, _scan_of(name, ct))
            yield _scored_pair(name, scan, codes, path, request, cautions)
        except InputRefused as refusal:
            yield Failure(name, _one_line(refusal))


def shard_pairs(shards: ShardSet, scans: Sequence[int], request: Request) -> Iterator[Pair | Failure]:
    """The same for labeled scans of shards, each by way of a file, as a user's scan comes.

    Parameters
    ----------
    scans
        Numbers of the scans.
    """
    for n in scans:
        name = shards.scans[n].name
        try:
            scan, codes = shards.ct(n), np.array(shards.labels(n))
            codes[codes == UNREVIEWED] = 0  # what no reader saw a lesion in is none to the score
            with TemporaryDirectory() as folder:
                path = Path(folder) / "ct.nrrd"
                write_volume(path, scan)
                try:
                    yield _scored_pair(name, scan, codes, path, request, ())
                except InputRefused as refusal:  # without the path: it is gone by then, and another one the next time
                    yield Failure(name, _one_line(refusal).replace(str(path), "the scan"))
        except InputRefused as refusal:
            yield Failure(name, _one_line(refusal))


def _scored_pair(
    name: str, scan: CTVolume, codes: NDArray[np.uint8], path: Path, request: Request, cautions: tuple[str, ...]
) -> Pair:
    """What HeartLens makes of a scan; twice where there is a slice stage, with it and without."""
    case = score_series(path, request).case
    _check_same_scan(case.source_ct, scan, path)
    # Said of every scan alike: the report says once what predicted.
    case_codes = tuple(c.code for c in case.cautions if c.code not in ("no-bundle", "rules", "network"))
    cautions = tuple(dict.fromkeys((*cautions, *case_codes)))
    if case.slice_probability is None:
        return Pair(name, scan, codes, case.scored_codes, cautions=cautions)
    alone = score_series(path, replace(request, slice_stage=False)).case
    return Pair(name, scan, codes, alone.scored_codes, case.slice_probability, case.scored_codes, cautions)


def count_patients(reference: Path, prediction: Path | None, layout: Layout | None = None) -> int:
    """How many results the readers above will give, for progress."""
    known = find_patients(reference)
    if prediction is None:
        return len(known)
    predicted = find_patients(prediction, layout)
    if _is_one_patient(known, reference) and _is_one_patient(predicted, prediction):
        return 1
    return len(known.keys() | predicted.keys())


def _is_one_patient(entries: dict[str, Entry], folder: Path) -> bool:
    """The folder is itself a patient, not a folder of patients."""
    return [entry.place for entry in entries.values()] == [folder]


def _read_pair(
    name: str, known: Entry, predicted: Entry, scan: Path | None, allow: frozenset[str], layout: Layout | None
) -> Pair:
    beside = scan or known.ct or predicted.ct
    ct, codes, cautions = _read_reference(known, beside, allow)
    if layout is not None:
        prediction, more = layout.read(predicted.place, ct)
        cautions = (*cautions, *more)
    else:
        prediction = _read_prediction(predicted, ct)
    return Pair(name, ct, codes, prediction, _slice_probability(predicted, ct), cautions=cautions)


def _read_reference(
    entry: Entry, scan: Path | None, allow: frozenset[str]
) -> tuple[CTVolume, NDArray[np.uint8], tuple[str, ...]]:
    case = _case_of(entry)
    if case is not None:
        return case.source_ct, case.scored_codes, tuple(caution.code for caution in case.cautions)
    labels = _labels_path(entry)
    ct, _, cautions = read_ct(_scan_path(entry, scan), Request(allow=allow, segmentation=labels))
    return ct, read_labels(labels, ct), tuple(dict.fromkeys(caution.code for caution in cautions))


def _read_prediction(entry: Entry, ct: CTVolume) -> NDArray[np.uint8]:
    case = _case_of(entry)
    if case is None:
        return read_labels(_labels_path(entry), ct)
    _check_same_scan(case.source_ct, ct, entry.place)
    return case.scored_codes


def _case_of(entry: Entry) -> Case | None:
    """The case, where a reader has changed it or there are no other labels; refused without either."""
    if entry.case is not None and (entry.is_edited or entry.labels is None):
        return load_case(entry.case)
    _labels_path(entry)
    return None


def _labels_path(entry: Entry) -> Path:
    if entry.labels is None:
        expected = f"{LABEL_NAMES[0]}.nrrd, {LABEL_NAMES[2]}.seg.nrrd or such"
        raise InputRefused("input", f"{entry.place}: expected labels ({expected}), found none; add them")
    return entry.labels


def _scan_path(entry: Entry, scan: Path | None) -> Path:
    path = scan or entry.ct
    if path is None:
        raise InputRefused(
            "input",
            f"{entry.place}: expected the CT beside the labels ({', '.join(CT_NAMES)} as a volume file or DICOM "
            "folder), found none; add it, or give --ct DIR with a scan of the same name",
        )
    return path


def _check_same_scan(actual: CTVolume, expected: CTVolume, place: Path) -> None:
    if actual.shape != expected.shape or np.abs(actual.affine - expected.affine).max() > AFFINE_TOLERANCE_MM:
        raise InputRefused(
            "grid", f"{place}: expected labels on the scan of the reference, found another scan; compare the same scan"
        )


def _slice_probability(entry: Entry, ct: CTVolume) -> NDArray[np.float64] | None:
    """From HeartLens' report.json or from `PROBABILITY_FILE`."""
    if not entry.place.is_dir():
        return None
    for path in (entry.place / PROBABILITY_FILE, entry.place / "report.json"):
        if not path.is_file():
            continue
        try:
            document = json.loads(path.read_text())
            rows = document if isinstance(document, list) else [row["probability"] for row in document["slices"]]
            if rows and all(value is None for value in rows):
                continue
            values = np.array(rows, np.float64)  # None, a slice that was not asked, becomes NaN
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputRefused("unreadable", f"{path}: expected a probability for each slice, found: {error}") from None
        known = values[np.isfinite(values)]
        if values.shape != (ct.shape[0],) or not ((known >= 0) & (known <= 1)).all():
            raise InputRefused(
                "labels", f"{path}: expected {ct.shape[0]} probabilities of 0 to 1, found {values.size} values; fix it"
            )
        return values
    return None


def _entry(folder: Path) -> Entry:
    case = next((place for place in (folder, folder / "case") if (place / "case.json").is_file()), None)
    return Entry(folder, _labels_in(folder), _ct_in(folder) or (_ct_in(case) if case else None), case)


def _labels_in(folder: Path) -> Path | None:
    named = [folder / f"{name}{ending}" for name in LABEL_NAMES for ending in LABEL_ENDINGS]
    chosen = next((path for path in named if path.is_file()), None)
    if chosen is None and not (folder / "case.json").is_file():  # a case's auto.seg.nrrd is lesions, not arteries
        others = sorted(folder.glob("*.seg.nrrd"))
        chosen = others[0] if len(others) == 1 else None
    return chosen


def _ct_in(folder: Path) -> Path | None:
    files = [folder / f"{name}{ending}" for name in CT_NAMES for ending in VOLUME_ENDINGS]
    folders = [folder / name for name in (*CT_NAMES, "dicom")]
    return next((p for p in files if p.is_file()), None) or next((p for p in folders if p.is_dir()), None)


def _scan_of(name: str, folder: Path | None) -> Path | None:
    """A patient's scan in a folder of scans: NAME/, NAME.nrrd, or nnU-Net's NAME_0000.nii.gz."""
    if folder is None:
        return None
    files = [folder / f"{stem}{ending}" for stem in (name, f"{name}_0000") for ending in VOLUME_ENDINGS]
    scan = next((path for path in files if path.is_file()), None)
    if scan is None and (folder / name).is_dir():
        scan = _ct_in(folder / name) or folder / name
    return scan


def _stem(path: Path, endings: tuple[str, ...]) -> str | None:
    ending = next((e for e in endings if path.name.lower().endswith(e)), None)
    return None if ending is None else path.name[: -len(ending)]


def _one_line(refusal: InputRefused) -> str:
    return " ".join(str(refusal).split())

"""The three places that labeled scans come from: phantoms, a COCA download, and saved cases with a reader's edits.

Each gives `LabeledScan` values one by one, and a `Skipped` with the reason for whatever cannot be used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from heartlens import __version__
from heartlens.app.export import reviews_of
from heartlens.case.case import Case
from heartlens.case.comparison.opened import OpenedCase, open_case
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.core.provenance import LabelSource
from heartlens.dicom.series import find_series
from heartlens.phantom import CATEGORIES, PhantomParameters, make_phantom
from heartlens.risk.evaluable import State
from training.datasets.coca import CocaDataset, CocaPatient
from training.datasets.coca.parts import kept, state_of
from training.datasets.scans import LabeledScan, Skipped, without_places

SIGNED, EDITED, PARTLY, AUTOMATIC = "signed", "edited", "partly edited", "automatic"
"""Who made the labels of a case: signed by a reader; every island decided by an edit that stands; some; none."""


WITHOUT_OTHER = frozenset({"coca-gated"})
"""Sources whose readers outlined coronary calcium alone."""


def pseudonym(*identity: str) -> str:
    """A patient's mark: equal for equal identities, in every run, so that a patient never lands in two splits.

    It is a pseudonym, not anonymity: who can guess an identity can test the guess. Shards hold images of patients
    and are to be kept as such.

    Examples
    --------
    >>> pseudonym("coca-gated", "306") == pseudonym("coca-gated", "306") != pseudonym("coca-nongated", "306")
    True
    """
    return hashlib.blake2b("\0".join(identity).encode(), digest_size=8, person=b"heartlens").hexdigest()


def phantom_scans(
    seeds: Sequence[int], settings: Sequence[str] = (), *, balanced: bool = False, workers: int = 1
) -> Iterator[LabeledScan | Skipped]:
    """One phantom a seed, in order; the same seeds give the same scans with any number of workers.

    Parameters
    ----------
    settings
        ``KEY=VALUE`` as `PhantomParameters.from_text` takes them
    balanced
        The burdens of `CATEGORIES` in turn, by seed, instead of as often as in a population.
    workers
        Processes.

    Raises
    ------
    InputRefused
        "input": a setting that is no parameter
    """
    try:
        PhantomParameters.from_text(seeds[0] if seeds else 0, settings)
    except ValueError as error:
        raise InputRefused("input", f"phantom setting: {error}") from None
    make = partial(_phantom_scan, settings=tuple(settings), balanced=balanced)
    if workers <= 1 or len(seeds) <= 1:
        yield from map(make, seeds)
        return
    with ProcessPoolExecutor(min(workers, len(seeds)), mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(make, seeds)
        except BaseException:  # a full disk or Ctrl-C: do not make the phantoms that nobody will take
            pool.shutdown(cancel_futures=True)
            raise


def _phantom_scan(seed: int, settings: tuple[str, ...], balanced: bool) -> LabeledScan:
    if balanced:
        settings = (*settings, f"category={CATEGORIES[seed % len(CATEGORIES)]}")
    phantom = make_phantom(PhantomParameters.from_text(seed, settings))
    return LabeledScan(
        name=f"phantom/{seed}",
        patient=pseudonym("phantom", str(seed)),
        source="phantom",
        ct=phantom.ct,
        labels=phantom.labels,
        provenance={"made_by": "phantom", "version": __version__, "parameters": phantom.truth["parameters"]},
    )


def coca_scans(
    root: Path, *, allow: frozenset[str] = frozenset(), workers: int = 1, parts: Path | None = None
) -> Iterator[LabeledScan | Skipped]:
    """Every patient of a COCA download: gated first, then non-gated, each by number.

    A gated patient counts as labeled when every outline is proven; otherwise the scan is kept for pre-training,
    with the reason. Any number of workers gives the same scans in the same order.

    Parameters
    ----------
    root
        Of the download.
    allow
        Refusals that the user has lifted.
    workers
        Processes.
    parts
        Folder that keeps each scan once it is read, so that a reading that was killed goes on; None keeps none, and
        one process reads.

    Raises
    ------
    InputRefused
        No COCA download here.
    """
    dataset = CocaDataset.find(root)
    wanted = [(number, True) for number in dataset.gated_numbers]
    wanted += [(number, False) for number in dataset.nongated_numbers]
    if parts is None:
        yield from (_coca_scan(dataset, *one, allow=allow) for one in wanted)
        return
    parts.mkdir(parents=True, exist_ok=True)
    keep = partial(_keep_coca_scan, root=root, allow=allow, parts=parts)
    read = partial(_kept_coca_scan, dataset, allow=allow, parts=parts)
    if workers <= 1 or len(wanted) <= 1:
        yield from map(read, wanted)
        return
    with ProcessPoolExecutor(min(workers, len(wanted)), mp_context=get_context("spawn")) as pool:
        try:  # the processes write parts, which are taken here in order: no scan goes through a pipe
            for one, _ in zip(wanted, pool.map(keep, wanted), strict=True):
                yield read(one)
        except BaseException:  # a full disk or Ctrl-C: do not read what nobody will take
            pool.shutdown(cancel_futures=True)
            raise


@lru_cache(maxsize=1)
def _coca_at(root: Path) -> CocaDataset:
    """The download, looked for once in each process."""
    return CocaDataset.find(root)


def _keep_coca_scan(wanted: tuple[int, bool], root: Path, allow: frozenset[str], parts: Path) -> None:
    _kept_coca_scan(_coca_at(root), wanted, allow=allow, parts=parts)


def _kept_coca_scan(
    dataset: CocaDataset, wanted: tuple[int, bool], *, allow: frozenset[str], parts: Path
) -> LabeledScan | Skipped:
    number, is_gated = wanted
    folder = (dataset.gated if is_gated else dataset.nongated).get(number)
    places = [place for place in (folder, dataset.annotations.get(number) if is_gated else None) if place is not None]
    score = None if is_gated else dataset.scores.get(number)
    state = state_of(*places, settings=[sorted(allow), repr(score)])
    path = parts / f"{'gated' if is_gated else 'nongated'}-{number}.npz"
    return kept(path, state, lambda: _coca_scan(dataset, number, is_gated, allow=allow))


def _coca_scan(dataset: CocaDataset, number: int, is_gated: bool, *, allow: frozenset[str]) -> LabeledScan | Skipped:
    source = "coca-gated" if is_gated else "coca-nongated"
    name = f"{source}/{number}"
    try:
        patient = (dataset.read_gated if is_gated else dataset.read_nongated)(number, allow=allow)
    except InputRefused as refusal:
        return Skipped(name, refusal.code, refusal.text.replace(f"{dataset.root}{os.sep}", ""))
    counts = {verdict: sum(c.verdict == verdict for c in patient.checks) for verdict in ("proven", "placeholder")}
    agatston = None
    if patient.score is not None:
        arteries = {artery.name: float(score) for artery, score in patient.score.arteries.items()}
        agatston = {**arteries, Artery.UNASSIGNED.name: 0.0, "total": float(patient.score.total)}
    return LabeledScan(
        name=name,
        patient=pseudonym(source, str(number)),
        source=source,
        ct=patient.ct,
        labels=patient.labels if patient.is_labeled else None,
        agatston=agatston,
        why_unlabelled=_why_unlabeled(patient),
        notes=(*patient.notes, *_outline_notes(patient)),
        provenance={"made_by": "COCA readers", "version": __version__, "outlines": {**counts}},
    )


def _why_unlabeled(patient: CocaPatient) -> str:
    if not patient.is_gated:
        return "the non-gated scans have scores, no outlines"
    if patient.labels is None:
        return "no XML file: nobody annotated this scan"
    if patient.failed:
        return f"{len(patient.failed)} of {len(patient.checks)} outlines could not be proven"
    return ""


def _outline_notes(patient: CocaPatient) -> Iterator[str]:
    for check in patient.checks:
        if check.verdict == "failed":
            yield f"{check.roi.place} ({check.roi.name}) failed: {check.reason}"
        for note in check.notes:
            yield f"{check.roi.place} ({check.roi.name}): {note}"


def case_scans(folders: Sequence[Path], *, accept_automatic: bool = False) -> Iterator[LabeledScan | Skipped]:
    """Saved case folders, with the reader's edits; a folder that holds ``case/`` stands for it.

    Parameters
    ----------
    accept_automatic
        Take labels that rules or a network made and nobody, or nobody wholly, reviewed. Otherwise such a scan counts
        as unlabeled: a network trained on them would learn their errors.
    """
    for n, folder in enumerate(folders, start=1):
        try:
            scan = case_scan(Path(folder))
            made_by, is_given = scan.provenance["made_by"], scan.provenance["labels_from"] == LabelSource.FILE.value
            if made_by in (AUTOMATIC, PARTLY) and not is_given and not accept_automatic:
                why = "its labels are automatic and nobody edited them; sign it, or --accept-automatic takes them"
                if made_by == PARTLY:
                    reviewed, islands = scan.provenance["reviewed"], scan.provenance["islands"]
                    why = (
                        f"{reviewed} of its {islands} islands were reviewed and nobody signed it; sign it, or "
                        "--accept-automatic takes it as it is"
                    )
                scan = replace(scan, labels=None, why_unlabelled=why)
            yield scan
        except InputRefused as refusal:
            # By its place on the command line: folders are often named after patients, and the index stays.
            text = without_places(refusal.text, Path(folder), f"case {n}")
            yield Skipped(f"case {n} of {len(folders)}", refusal.code, text)


def case_scan(folder: Path) -> LabeledScan:
    """One saved case: its CT, what counts as calcium after all edits, and where the labels come from.

    Raises
    ------
    InputRefused
        The case cannot be opened, or was altered after it was signed.
    """
    return scan_of_case(open_case(folder))


def scan_of_case(opened: OpenedCase) -> LabeledScan:
    """What `case_scan` gives, of a case that is open.

    Raises
    ------
    InputRefused
        ``checksum``: it was altered after it was signed
    """
    if opened.state is State.ALTERED:
        raise InputRefused("checksum", "the case was altered after it was signed; look through it and sign it again")
    case, labels = opened.case, opened.case.scored_codes
    # An edit that was taken back is none: what is left is what the program said.
    in_force, reviews = case.edits_in_force, reviews_of(case)
    signer = opened.signature
    if signer is not None:
        made_by = SIGNED
    elif in_force:
        made_by = EDITED if set(case.lesions.arteries) <= set(reviews) else PARTLY
    else:
        made_by = AUTOMATIC
    readers = sorted({edit.who for edit in in_force if edit.who} | ({signer.observer} if signer else set()))
    times = sorted(edit.when for edit in in_force if edit.when)
    header = case.source_ct.header
    return LabeledScan(
        name=f"case/{pseudonym(header.series_uid or case.voxel_checksum)}",
        patient=_patient_of(case),
        source="case",
        ct=case.source_ct,
        labels=labels,
        notes=() if not (labels == Artery.UNASSIGNED).any() else ("some calcium has no artery yet",),
        provenance={
            "made_by": made_by,
            "labels_from": "unknown" if case.provenance.labels is None else case.provenance.labels.value,
            "bundle": case.provenance.bundle,
            "readers": readers,
            "last_edit": times[-1] if times else None,
            "edits": len(in_force),
            "signed": None if signer is None else asdict(signer),
            "islands": len(case.lesions.arteries),
            "reviewed": len(reviews),
            "version": case.provenance.version or __version__,
            "exported_by_version": __version__,
            "protocol": case.protocol.name,
            "study_uid": header.study_uid,
            "series_uid": header.series_uid,
            "voxels_sha256": case.voxel_checksum,
        },
    )


def _patient_of(case: Case) -> str:
    """Pseudonym of a case's patient: from the DICOM files it was read from; without them each CT is a patient."""
    paths = [Path(path) for path in case.provenance.source]
    uid = case.source_ct.header.series_uid
    if uid and paths:
        for series in find_series(paths):
            if series.series_uid == uid:
                first = series.instances[0]
                identity = [str(first.value(k) or "").strip() for k in ("PatientID", "IssuerOfPatientID")]
                if not identity[0]:
                    identity += [str(first.value(k) or "").strip() for k in ("PatientName", "PatientBirthDate")]
                if any(identity):
                    return pseudonym("dicom", *identity)
    study: Any = case.source_ct.header.study_uid
    return pseudonym("study", study) if study else pseudonym("voxels", case.voxel_checksum)

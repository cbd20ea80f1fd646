"""One scan whose coronary calcium is known, and how it is judged: by the whole pipeline, as a user's scan is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import heartlens
from heartlens.case.case import Case
from heartlens.core.atomic import atomic_file
from heartlens.core.ct import CTVolume
from heartlens.core.errors import OVERRIDABLE, InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.io.volumes import write_volume
from heartlens.networks.bundle import find_bundle, load_bundle
from heartlens.pipeline import Request, read_ct, score_series
from training.engine.json_records import from_plain, to_plain
from training.evaluation.answers import Known, answer_of
from training.evaluation.results import Patient
from training.evaluation.sources.phantoms import manifest_identity
from training.metrics.overlap import compare

PROTOCOL = ScoringProtocol()

SLICE_KVP = 120.0
"""Of images that do not say it."""


@dataclass(frozen=True, eq=False)
class JudgedScan:
    """A scan and what is known of it.

    Parameters
    ----------
    name
        One word, no path: answers are kept under it.
    source
        What the pipeline is given: a file, or a folder of DICOM files.
    ct
        The same, read.
    known
        Its coronary calcium.
    is_sharp
        Its kernel overshoots at edges.
    before
        Islands of the same scan before its image was altered, and that image; None where it was not.
    person
        Whose scan it is, where one person has several; empty where the name says it.
    """

    name: str
    source: Path
    ct: CTVolume
    known: Known
    is_sharp: bool = False
    before: JudgedScan | None = None
    person: str = ""


OnCase = Callable[[JudgedScan, str, Case], None]
"""Called with each scan, stage and scored case."""


def open_scan(source: Path) -> CTVolume:
    """Read a scan as the pipeline does, whatever it would want a user to allow."""
    ct, _, _ = read_ct(source, Request(allow=OVERRIDABLE))
    return ct


def written(folder: Path, name: str, ct: CTVolume) -> Path:
    """A volume as a file that the pipeline can be given; tube voltage and thickness go with it."""
    path = folder / f"{name}.nrrd"
    header = ct.header
    write_volume(path, replace(ct, header=replace(header, kvp=header.kvp or SLICE_KVP)))
    return path


def judge(scan: JudgedScan, requests: Mapping[str, Request], on_case: OnCase | None = None) -> Patient:
    """Score a scan in every way, each by the whole pipeline.

    Parameters
    ----------
    requests
        By the name of the stage.
    """
    stages, answers = {}, {}
    codes = scan.known.codes(scan.ct)
    cautions: list[str] = []
    for stage, request in requests.items():
        case = score_series(scan.source, replace(request, allow=OVERRIDABLE)).case
        if case.source_ct.shape != scan.ct.shape or not np.array_equal(case.source_ct.hu, scan.ct.hu):
            raise InputRefused("grid", f"{scan.name}: expected the voxels that its islands are known on, found others")
        stages[stage] = compare(scan.ct, codes, case.scored_codes, PROTOCOL)
        before: tuple[float, ...] = ()
        if scan.before is not None:
            earlier = score_series(scan.before.source, replace(request, allow=OVERRIDABLE)).case
            first = answer_of(earlier, scan.before.known)
            before = (first.total, first.reference)
        answers[stage] = answer_of(case, scan.known, before)
        cautions += [caution.code for caution in case.cautions if caution.code in OVERRIDABLE]
        if on_case is not None:
            on_case(scan, stage, case)
    return Patient(scan.name, stages, cautions=tuple(dict.fromkeys(cautions)), answers=answers, person=scan.person)


def judge_once(
    scan: JudgedScan,
    requests: Mapping[str, Request],
    kept: Path,
    *,
    fresh: bool = False,
    on_case: OnCase | None = None,
) -> Patient:
    """The same; what was judged before by the same program, bundle and voxels is read back.

    Parameters
    ----------
    kept
        Folder, there already, that keeps an answer of each scan.
    fresh
        Judge again what is kept.
    """
    path, identity = kept / f"{scan.name}.json", _identity(scan, requests)
    if not fresh:
        try:
            document = json.loads(path.read_text())
            if document["identity"] == identity:
                return from_plain(Patient, document["patient"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing kept, or of an older form
    patient = judge(scan, requests, on_case)
    with atomic_file(path) as sibling:
        sibling.write_text(json.dumps({"identity": identity, "patient": to_plain(patient)}))
    return patient


def _identity(scan: JudgedScan, requests: Mapping[str, Request]) -> str:
    """Everything that an answer depends on."""
    digest = hashlib.sha256(np.ascontiguousarray(scan.ct.hu).tobytes() + scan.ct.affine.tobytes())
    digest.update(scan.known.codes(scan.ct).tobytes() + scan.known.uncertain.tobytes())
    if scan.before is not None:
        digest.update(np.ascontiguousarray(scan.before.ct.hu).tobytes())
    for stage, request in requests.items():
        folder = find_bundle(request.bundle)
        bundle = None if folder is None else manifest_identity(load_bundle(folder))
        digest.update(json.dumps([stage, bundle, request.slice_stage]).encode())
    return digest.hexdigest() + source_hash()


def source_hash() -> str:
    """SHA-256 over the source files of the library and of this judge, in the order of their paths."""
    digest = hashlib.sha256()
    judge_files = [Path(__file__), Path(__file__).parents[1] / "answers.py"]
    for path in [*sorted(Path(heartlens.__file__).parent.rglob("*.py")), *judge_files]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()

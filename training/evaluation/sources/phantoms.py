"""Patients from the phantoms that published statistics come from: made once, kept, looked at by nothing that learns.

A phantom lies in ``CACHE/<generator>/<seed>/`` as ``ct.nrrd``, ``labels.nrrd`` and ``truth.json``; another generator
gives another folder, so that statistics never mix two. Its scan is read once and its heart is found once; then the
pipeline's own step from a heart to lesions runs for each way. `check_pipeline` holds this against the whole pipeline.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import heart_region
from heartlens.anatomy.quality import content_findings
from heartlens.anatomy.sharpness import softened
from heartlens.core.atomic import atomic_file
from heartlens.core.ct import CTVolume
from heartlens.core.errors import OVERRIDABLE, InputRefused
from heartlens.core.lesions import CORONARY
from heartlens.io.volumes import read_labels
from heartlens.networks.bundle import RULES, Bundle, find_bundle, load_bundle
from heartlens.networks.inference import slices_with_candidates
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.phantom.files import is_phantom, write_phantom
from heartlens.pipeline import Request, find_calcium, read_ct, score_series
from heartlens.risk.categories import SCHEMES, category
from heartlens.scoring.counted import scored_voxels
from training.datasets.phantom_sets import MATRIX, generator_hash
from training.engine.json_records import from_plain, to_plain
from training.evaluation.pairs import or_none
from training.evaluation.results import Patient, SyntheticTruth
from training.evaluation.sources.islands import PROTOCOL, island_votes, lesions_on_nothing, trap_components
from training.metrics.overlap import ALL, compare

BUNDLE, NO_SLICE_STAGE, BY_RULES, BY_LABELS = "bundle", "bundle without its slice stage", "rules", "labels"
"""The bundle as it ships; what its slice stage is worth; the floor; and the ceiling, the truth's own labels."""


@dataclass(frozen=True)
class EvaluationPhantom:
    """One phantom on disk.

    Parameters
    ----------
    seed
        Of its person and scan.
    folder
        Where it lies.
    truth
        Its truth.json.
    """

    seed: int
    folder: Path
    truth: Mapping[str, Any]

    @property
    def scan(self) -> Path:
        """Path of the CT."""
        return self.folder / "ct.nrrd"

    def request(self, **options: Any) -> Request:
        """With what a volume file does not say and a DICOM header would: tube voltage and slice thickness."""
        parameters = self.truth["parameters"]
        return Request(
            allow=OVERRIDABLE, kvp=parameters["kvp"], thickness_mm=parameters["slice_thickness_mm"], **options
        )

    def read(self) -> tuple[CTVolume, NDArray[np.uint8]]:
        """The scan and its labels."""
        ct, _, _ = read_ct(self.scan, self.request())
        return ct, read_labels(self.folder / "labels.nrrd", ct)


def evaluation_phantom(seed: int, **overrides: Any) -> PhantomParameters:
    """Drawn as widely as the phantoms of training are, but for the matrix."""
    return PhantomParameters.varied(seed, **{"matrix": MATRIX, **overrides})


def make_phantoms(
    cache: Path,
    seeds: Iterable[int],
    *,
    workers: int = 1,
    overrides: Mapping[str, Any] | Callable[[int], Mapping[str, Any]] | None = None,
    progress: Callable[[str], None] | None = None,
) -> Iterator[EvaluationPhantom]:
    """The phantoms of some seeds, in order; those that are there already are left as they are.

    Parameters
    ----------
    cache
        Folder to keep them in.
    workers
        Processes.
    overrides
        Of their parameters, for a small trial, or a function of the seed. They are not part of the name that a phantom
        is kept under: other overrides need another cache.
    """
    home = Path(cache) / generator_hash()[:12]
    home.mkdir(parents=True, exist_ok=True)
    make = partial(_make, home, overrides if callable(overrides) else dict(overrides or {}))
    chosen = list(seeds)
    if workers <= 1:
        made: Iterable[int] = map(make, chosen)
        yield from _opened(home, made, progress)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from _opened(home, pool.map(make, chosen), progress)


def _make(home: Path, overrides: Mapping[str, Any] | Callable[[int], Mapping[str, Any]], seed: int) -> int:
    folder = home / str(seed)
    if not is_phantom(folder):
        chosen = overrides(seed) if callable(overrides) else overrides
        write_phantom(folder, make_phantom(evaluation_phantom(seed, **chosen)), format="nrrd")
    return seed


def _opened(home: Path, seeds: Iterable[int], progress: Callable[[str], None] | None) -> Iterator[EvaluationPhantom]:
    for seed in seeds:
        folder = home / str(seed)
        if progress is not None:
            progress(str(seed))
        yield EvaluationPhantom(seed, folder, json.loads((folder / "truth.json").read_text()))


# Patients


def evaluate_phantoms(
    phantoms: Sequence[EvaluationPhantom],
    kept: Path,
    bundle: str | None = None,
    *,
    workers: int = 1,
    fresh: bool = False,
    on_progress: Callable[[str], None] | None = None,
) -> Iterator[Patient]:
    """A patient of every phantom, in order; those that the same bundle has judged before are read back.

    Parameters
    ----------
    kept
        Folder, there already, that keeps what was judged, phantom by phantom.
    bundle
        Name or folder; None is the installed default; "none" leaves the bundle out.
    workers
        Processes.
    fresh
        Judge again what is kept.
    """
    folder = find_bundle(bundle)
    identity = json.dumps([generator_hash(), None if folder is None else manifest_identity(load_bundle(folder))])
    work = partial(_evaluate_one, kept=kept, bundle=bundle, identity=identity, fresh=fresh)
    if workers <= 1:
        for phantom in phantoms:
            if on_progress is not None:
                on_progress(str(phantom.seed))
            yield work(phantom)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # one thread a process, told before any of them loads a library
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for patient in pool.map(work, phantoms):
            if on_progress is not None:
                on_progress(patient.name)
            yield patient


def manifest_identity(bundle: Bundle) -> dict[str, Any]:
    """What in a bundle decides scores: its files, cut-offs and calibration."""
    return {
        "files": bundle.checksums(),
        "vessel": [bundle.vessel.cut_off, bundle.vessel.calibration.slope, bundle.vessel.calibration.intercept],
        "slices": None if bundle.slices is None else bundle.slices.cut_off,
    }


def _evaluate_one(phantom: EvaluationPhantom, *, kept: Path, bundle: str | None, identity: str, fresh: bool) -> Patient:
    path = kept / f"{phantom.seed}.json"
    if not fresh:
        try:
            document = json.loads(path.read_text())
            if document["identity"] == identity:
                return from_plain(Patient, document["patient"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing kept, or of an older form
    patient = evaluate_phantom(phantom, bundle)
    with atomic_file(path) as sibling:
        sibling.write_text(json.dumps({"identity": identity, "patient": to_plain(patient)}))
    return patient


def evaluate_phantom(phantom: EvaluationPhantom, bundle: str | None = None, *, device: str = "cpu") -> Patient:
    """Read a phantom, find its heart, and run every way that there is.

    The reference is the truth's islands on the noisy image. A code for which the pipeline would not score the scan
    without the user's word is a caution.
    """
    ct, codes = phantom.read()
    soft = softened(ct)
    region = heart_region(soft.ct)
    components = trap_components(ct, codes, region, phantom.truth)
    has_bundle = find_bundle(bundle) is not None
    stages, probabilities, traps, on_nothing, times = {}, {}, {}, {}, {}
    for stage, request in requests_of(phantom, bundle, device=device).items():
        start = time.perf_counter()
        calcium = find_calcium(ct, soft, region, PROTOCOL, request, lambda name, fraction: None)
        times[stage] = time.perf_counter() - start
        predicted = scored_voxels(ct, calcium.lesions, PROTOCOL)
        stages[stage] = compare(ct, codes, predicted, PROTOCOL)
        traps[stage] = components.called(predicted)
        on_nothing[stage] = lesions_on_nothing(calcium.lesions, codes, predicted)
        if calcium.slice_probability is not None:
            probabilities[stage] = or_none(calcium.slice_probability)
    arteries = phantom.truth["arteries"]
    noise_free = {artery.name: float(arteries[artery.name]["agatston_noise_free"]) for artery in CORONARY}
    return Patient(
        name=str(phantom.seed),
        stages=stages,
        slice_probability=probabilities,
        cautions=tuple(code for code, _ in content_findings(ct, region) if code in OVERRIDABLE)[:1],
        synthetic=SyntheticTruth(
            parameters=phantom.truth["parameters"],
            noise_free={**noise_free, ALL: sum(noise_free.values())},
            candidate_slices=tuple(map(bool, slices_with_candidates(ct, region, PROTOCOL))),
            traps=traps,
            on_nothing=on_nothing,
            votes=tuple(island_votes(ct, codes, region, bundle, device=device)) if has_bundle else (),
            seconds=times,
        ),
    )


def requests_of(phantom: EvaluationPhantom, bundle: str | None, *, device: str = "cpu") -> dict[str, Request]:
    """What the pipeline is asked for in each way, by its name."""
    request = phantom.request(bundle=bundle, device=device)
    by_bundle = {BUNDLE: request, NO_SLICE_STAGE: replace(request, slice_stage=False)}
    return {
        **(by_bundle if find_bundle(bundle) is not None else {}),
        BY_RULES: replace(request, bundle=RULES),
        BY_LABELS: replace(request, segmentation=phantom.folder / "labels.nrrd"),
    }


def check_pipeline(phantom: EvaluationPhantom, patient: Patient, bundle: str | None, *, device: str = "cpu") -> None:
    """Score the phantom through the whole pipeline and compare.

    Raises
    ------
    InputRefused
        "input": it scores otherwise than what was judged
    """
    for stage, request in requests_of(phantom, bundle, device=device).items():
        if stage not in (BUNDLE, BY_RULES):
            continue
        report = score_series(phantom.scan, request).case.report
        expected = patient.stages[stage].predicted_agatston
        scores = {
            **{artery.name: report.arteries[artery].agatston for artery in CORONARY},
            ALL: report.total.agatston,
        }
        if any(abs(scores[row] - expected[row]) > 1e-6 for row in scores):
            raise InputRefused(
                "input", f"phantom {phantom.seed}, {stage}: the pipeline scores {scores}, judged was {dict(expected)}"
            )


# Kinds of scans


class PhantomGroup(NamedTuple):
    """Some of the phantoms, by one property."""

    property: str
    name: str
    holds: Callable[[Patient], bool]


def _between(key: str, low: float, high: float) -> Callable[[Patient], bool]:
    def holds(patient: Patient) -> bool:
        known = {} if patient.synthetic is None else patient.synthetic.parameters
        value = known["matrix"] * min(known["pixel_mm"]) if key == "field_mm" else known[key]
        return low <= float(value) < high

    return holds


def _has_category(name: str) -> Callable[[Patient], bool]:
    def holds(patient: Patient) -> bool:
        any_stage = next(iter(patient.stages.values()))
        return category(any_stage.reference_agatston[ALL], "heartlens").category == name

    return holds


_EDGES: dict[tuple[str, str], list[tuple[str, float]]] = {
    ("field of view", "field_mm"): [("heart, < 200 mm", 200), ("heart, 200 to 280 mm", 280), ("chest, >= 280 mm", 1e9)],
    ("slice thickness", "slice_thickness_mm"): [
        ("1 to 1.5 mm", 1.75), ("2 and 2.5 mm", 2.75), ("3 mm", 3.5), ("4 and 5 mm", 9),
    ],
    ("noise", "noise_hu"): [("< 10 HU", 10), ("10 to 16 HU", 16), (">= 16 HU", 1e9)],
    ("tube voltage", "kvp"): [("80 to 110 kVp", 115), ("120 kVp", 125), ("130 and 140 kVp", 1e9)],
    ("motion", "motion_mm"): [("none", 0.05), ("up to 3 mm", 3), ("more", 1e9)],
}  # fmt: skip
"""Groups of each property, with the edge below which they lie; set by how phantoms are drawn, before any was scored."""

GROUPS = (
    *(PhantomGroup("risk category", r.shown, _has_category(r.category)) for r in SCHEMES["heartlens"].categories),
    *(
        PhantomGroup(property_name, name, _between(key, low, high))
        for (property_name, key), groups in _EDGES.items()
        for low, (name, high) in zip((-1.0, *(edge for _, edge in groups)), groups, strict=False)
    ),
)

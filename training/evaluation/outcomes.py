"""What each way of finding calcium makes of one phantom, and what the truth says: the raw facts of every figure.

The scan is read once and its heart is found once; then the pipeline's own step from a heart to lesions runs for each
way. `agrees` holds this against the whole pipeline.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion, heart_region
from heartlens.anatomy.quality import content_findings
from heartlens.calcium import extract_lesions
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.errors import OVERRIDABLE, InputRefused
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import RULES, find_bundle, load_bundle
from heartlens.networks.inference import Networks, segment_vessels, slices_with_candidates
from heartlens.pipeline import Request, find_calcium, score_series
from heartlens.scoring.counted import scored_voxels
from training.evaluation.phantoms import EvaluationPhantom
from training.metrics.overlap import Comparison, compare

BUNDLE, NO_SLICE_STAGE, BY_RULES, BY_LABELS = "bundle", "bundle without its slice stage", "rules", "labels"
WAYS = (BUNDLE, NO_SLICE_STAGE, BY_RULES, BY_LABELS)
"""The bundle as it ships; what its slice stage is worth; the floor; and the ceiling, the truth's own labels."""

ISLAND_CONNECTIVITY = 26

PROTOCOL = ScoringProtocol()


@dataclass(frozen=True)
class TrapResult:
    """One island of bright voxels that is no coronary calcium and would count if it were called so.

    Parameters
    ----------
    kind
        Of the nearest trap of the truth; "decoy_…" is like a plaque in all but its place.
    in_heart
        Some of it lies in the zone of the coronary arteries, so that only the naming keeps it out.
    called
        Some of it was called coronary.
    """

    kind: str
    in_heart: bool
    called: bool


@dataclass(frozen=True)
class Outcome:
    """One phantom, one way.

    Parameters
    ----------
    comparison
        With the truth's islands, scored on the noisy image.
    traps
        Every one in the scan.
    on_nothing
        Lesions called coronary where the truth has neither calcium nor a trap: noise, bone, metal's streaks.
    slice_probability
        Foot to head; None where a slice was not asked; empty without a slice stage.
    seconds
        Of this way, without reading and finding the heart.
    """

    comparison: Comparison
    traps: tuple[TrapResult, ...]
    on_nothing: int
    slice_probability: tuple[float | None, ...]
    seconds: float


@dataclass(frozen=True)
class Vote:
    """One island that the vessel network was asked about.

    Parameters
    ----------
    probability
        Probability that it is coronary, calibrated.
    is_coronary
        By the truth: most of its voxels.
    """

    probability: float
    is_coronary: bool


@dataclass(frozen=True)
class PhantomEvaluation:
    """Everything that figures need of one phantom.

    Parameters
    ----------
    seed
        Of the phantom.
    parameters
        Of the phantom, from its truth.json.
    noise_free
        Agatston of the truth's islands on the image without noise, by artery and "all"
    candidate_slices
        Foot to head, slices that a network would be asked about.
    refused
        Code for which the pipeline would not score the scan without the user's word; "" for none.
    ways
        By name.
    votes
        Of every island that the bundle was asked about; empty without a bundle.
    """

    seed: int
    parameters: Mapping[str, Any]
    noise_free: Mapping[str, float]
    candidate_slices: tuple[bool, ...]
    refused: str
    ways: Mapping[str, Outcome]
    votes: tuple[Vote, ...]


def evaluate_phantom(
    phantom: EvaluationPhantom, bundle: str | None = None, *, device: str = "cpu"
) -> PhantomEvaluation:
    """Read a phantom, find its heart, and run every way that there is.

    Parameters
    ----------
    bundle
        Name or folder; None is the installed default; "none" leaves the bundle out.
    """
    ct, codes = phantom.read()
    region = heart_region(ct)
    candidate_slices = slices_with_candidates(ct, region, PROTOCOL)
    components = trap_components(ct, codes, region, phantom.truth)
    request = Request(bundle=bundle, device=device, allow=OVERRIDABLE, **phantom.acquisition)
    ways: dict[str, Outcome] = {}
    votes: tuple[Vote, ...] = ()
    if find_bundle(bundle) is not None:
        ways[BUNDLE] = outcome_of(ct, codes, region, components, request)
        ways[NO_SLICE_STAGE] = outcome_of(ct, codes, region, components, replace(request, slice_stage=False))
        votes = tuple(island_votes(ct, codes, region, bundle, device=device))
    ways[BY_RULES] = outcome_of(ct, codes, region, components, replace(request, bundle=RULES))
    ways[BY_LABELS] = outcome_of(
        ct, codes, region, components, replace(request, segmentation=phantom.folder / "labels.nrrd")
    )
    arteries = phantom.truth["arteries"]
    noise_free = {artery.name: float(arteries[artery.name]["agatston_noise_free"]) for artery in CORONARY}
    findings = [code for code, _ in content_findings(ct, region) if code in OVERRIDABLE]
    return PhantomEvaluation(
        seed=phantom.seed,
        parameters=phantom.truth["parameters"],
        noise_free={**noise_free, "all": sum(noise_free.values())},
        candidate_slices=tuple(map(bool, candidate_slices)),
        refused=findings[0] if findings else "",
        ways=ways,
        votes=votes,
    )


def agrees(
    phantom: EvaluationPhantom, evaluation: PhantomEvaluation, bundle: str | None, *, device: str = "cpu"
) -> None:
    """Score the phantom through the whole pipeline and compare.

    Raises
    ------
    InputRefused
        "input": it scores otherwise than what was judged
    """
    bundles = {BY_RULES: RULES} if find_bundle(bundle) is None else {BUNDLE: bundle, BY_RULES: RULES}
    for way, name in bundles.items():
        request = Request(bundle=name, device=device, allow=OVERRIDABLE, **phantom.acquisition)
        report = score_series(phantom.scan, request).case.report
        expected = evaluation.ways[way].comparison.predicted_agatston
        scores = {
            **{artery.name: report.arteries[artery].agatston for artery in CORONARY},
            "all": report.total.agatston,
        }
        if any(abs(scores[row] - expected[row]) > 1e-6 for row in scores):
            raise InputRefused(
                "input", f"phantom {phantom.seed}, {way}: the pipeline scores {scores}, judged was {dict(expected)}"
            )


@dataclass(frozen=True, eq=False)
class TrapComponents:
    """Islands of the truth that are no coronary calcium and would count.

    Parameters
    ----------
    flat, number
        (n,) voxels, and the island of each
    kinds
        Of each island.
    in_heart
        (islands,) some of it lies in the zone of the coronary arteries
    """

    flat: NDArray[np.int64]
    number: NDArray[np.int64]
    kinds: tuple[str, ...]
    in_heart: NDArray[np.bool_]


def trap_components(
    ct: CTVolume, codes: NDArray[np.uint8], region: HeartRegion, truth: Mapping[str, Any]
) -> TrapComponents:
    """Find them by the labels, and their kinds by the nearest trap of the truth."""
    flat = np.flatnonzero(codes == Artery.OTHER)
    lesions = extract_lesions(ct, flat, np.full(flat.size, Artery.OTHER, np.uint8), PROTOCOL)
    flat = np.flatnonzero(scored_voxels(ct, lesions, PROTOCOL))
    number = label_components(flat, ct.shape, connectivity=ISLAND_CONNECTIVITY)
    count = int(number.max(initial=-1)) + 1
    kji = np.stack(np.unravel_index(flat, ct.shape), axis=-1)
    zone = region.grid.sample(region.zone, kji) if region.in_view else np.zeros(flat.size, bool)
    middle = np.stack([np.bincount(number, axis, count) for axis in kji.T], axis=-1) / np.bincount(number)[:, None]
    traps = [trap for trap in truth["traps"] if trap["in_view"]] or list(truth["traps"])
    places = np.array([trap["centroid_lps_mm"] for trap in traps]).reshape(-1, 3)
    kinds = tuple(
        traps[int(np.linalg.norm(places - place, axis=1).argmin())]["kind"] if traps else "unknown"
        for place in ct.lps_mm(middle).reshape(-1, 3)
    )
    return TrapComponents(flat, number, kinds, np.bincount(number, zone, count) > 0)


def outcome_of(
    ct: CTVolume, codes: NDArray[np.uint8], region: HeartRegion, components: TrapComponents, request: Request
) -> Outcome:
    """Run the pipeline's step for one request, and compare."""
    start = time.perf_counter()
    calcium = find_calcium(ct, ct, region, PROTOCOL, request, lambda stage, fraction: None)
    seconds = time.perf_counter() - start
    predicted = scored_voxels(ct, calcium.lesions, PROTOCOL)
    is_called = np.isin(predicted.reshape(-1)[components.flat], SCORED_ARTERIES)
    called = np.bincount(components.number, is_called, len(components.kinds)) > 0
    probability = calcium.slice_probability
    return Outcome(
        comparison=compare(ct, codes, predicted, PROTOCOL),
        traps=tuple(
            TrapResult(kind, bool(inside), bool(c))
            for kind, inside, c in zip(components.kinds, components.in_heart, called, strict=True)
        ),
        on_nothing=_on_nothing(calcium.lesions, codes, predicted),
        slice_probability=()
        if probability is None
        else tuple(float(p) if np.isfinite(p) else None for p in probability),
        seconds=seconds,
    )


def _on_nothing(lesions: LesionMap, codes: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> int:
    """Lesions called coronary that count and share no voxel with anything labeled."""
    flat, ids = lesions.voxels.flat, lesions.voxels.ids
    counts = np.isin(predicted.reshape(-1)[flat], SCORED_ARTERIES)
    touched = np.bincount(ids[counts], codes.reshape(-1)[flat[counts]] > 0)
    present = np.bincount(ids[counts])
    return int(((present > 0) & (touched == 0)).sum())


def island_votes(
    ct: CTVolume, codes: NDArray[np.uint8], region: HeartRegion, bundle: str | Path | None, *, device: str = "cpu"
) -> Iterator[Vote]:
    """The calibrated probability of every island that the vessel network sees, those it leaves out included.

    It names islands at a cut-off of 0, so that all are kept; only their probabilities are read.
    """
    folder = find_bundle(None if bundle is None else str(bundle))
    if folder is None:
        return
    known = load_bundle(folder)
    networks = Networks(known, device)
    lesions = segment_vessels(
        ct, region, networks.vessel, replace(known.vessel, cut_off=0.0), PROTOCOL,
        chosen_slices=slices_with_candidates(ct, region, PROTOCOL), batch=networks.batch,
    )  # fmt: skip
    counted = scored_voxels(ct, lesions, PROTOCOL).reshape(-1)
    for lesion_id, note in lesions.notes.items():
        flat = lesions.voxels.flat[lesions.voxels.ids == lesion_id]
        if note.probability is not None and counted[flat].any():
            truth = np.bincount(codes.reshape(-1)[flat], minlength=max(Artery) + 1)
            yield Vote(float(note.probability), int(truth.argmax()) in [int(artery) for artery in CORONARY])

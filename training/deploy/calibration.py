"""What a bundle says of lesions, fitted to validation scans: probability, and the cut-offs of islands and slices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion, heart_region
from heartlens.calcium import candidate_mask
from heartlens.core.atomic import atomic_file
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import CORONARY
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import MANIFEST, Bundle, load_bundle
from heartlens.networks.inference import Networks, classify_slices, slices_with_candidates
from training.datasets.scans import UNREVIEWED
from training.datasets.shards import ShardSet
from training.deploy.credits import CREDITS
from training.engine.cli import Progress
from training.metrics import classification
from training.metrics.cutoff import choose_cut_off, cut_off_at_sensitivity, fit_calibration
from training.segmentation.islands import ComponentVotes, read_component_votes


def calibrate(
    bundle: Bundle,
    scans: Sequence[int],
    shards: ShardSet,
    *,
    cut_off: str | float | None = None,
    slice_sensitivity: float | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """What the manifest should say, by the scans.

    Parameters
    ----------
    scans
        Numbers of labeled scans that nothing was trained on.
    cut_off
        One of `CUT_OFF_RULES` chooses the one of islands; a number sets it; None leaves it.
    slice_sensitivity
        Share of calcified slices that the slice stage must let pass; None leaves its cut-off.
    device
        See `heartlens.networks.inference.Networks`.

    Returns
    -------
    dict[str, Any]
        {"vessel": {...}, "slices": {...} or absent, "before", "after": calibration errors, "islands", "coronary": of
        those on slices that pass; "missed", "false": of them, at the cut-off}

    Raises
    ------
    InputRefused
        "input": too few islands of a kind, or a slice cut-off is asked for and the bundle has no slice stage
    """
    changes: dict[str, Any] = {}
    if slice_sensitivity is not None:  # first, because it decides which islands there are
        p, truth = _slices(bundle, scans, shards, device)
        changes["slices"] = {"cut_off": cut_off_at_sensitivity(truth, p, slice_sensitivity)}
        slice_counts = classification.counts(truth, p >= changes["slices"]["cut_off"])
        changes["slice_stage"] = {
            "slices": int(p.size),
            "calcified": int(truth.sum()),
            "passed": slice_counts.tp,
            "kept_out": slice_counts.tn,
        }
        assert bundle.slices is not None
        bundle = replace(bundle, slices=replace(bundle.slices, cut_off=changes["slices"]["cut_off"]))
    votes = _component_votes(bundle, scans, shards, device)
    slope, intercept = fit_calibration(votes.is_coronary, votes.probability)
    if cut_off is None:
        chosen = bundle.vessel.cut_off
    elif isinstance(cut_off, str):
        chosen = choose_cut_off(votes.is_coronary, votes.probability, cut_off)
    else:
        chosen = cut_off
    vessel = {"cut_off": float(chosen), "calibration": {"slope": slope, "intercept": intercept}}
    changes |= {"vessel": vessel, "islands": len(votes.probability), "coronary": int(votes.is_coronary.sum())}
    changes["before"] = _error(votes, bundle.vessel.calibration(votes.probability))
    changes["after"] = _error(votes, type(bundle.vessel.calibration)(slope, intercept)(votes.probability))
    called_coronary = votes.probability >= chosen
    changes["missed"], changes["false"] = (
        int((votes.is_coronary & ~called_coronary).sum()),
        int((~votes.is_coronary & called_coronary).sum()),
    )
    return changes


def write_manifest(bundle: Bundle, changes: dict[str, Any]) -> None:
    """Put new cut-offs and calibration into a bundle's manifest, with what they rest on."""
    path = bundle.folder / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    for stage in ("vessel", "slices"):
        if stage in changes:
            manifest[stage] = {**manifest[stage], **changes[stage]}
    if CREDITS in changes:
        manifest[CREDITS] = changes[CREDITS]
    kept = ("islands", "coronary", "missed", "false", "before", "after", "slice_stage")
    manifest["metrics"] = {**manifest["metrics"], "calibrated_on": {k: changes[k] for k in kept if k in changes}}
    with atomic_file(path) as sibling:
        sibling.write_text(json.dumps(manifest, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    load_bundle(bundle.folder)


def slice_chooser(bundle: Bundle, networks: Networks) -> Callable[[CTVolume, HeartRegion], NDArray[np.bool_]]:
    """What shows a bundle's vessel network its slices: (k,) with candidates that its slice stage, if any, lets pass."""
    stage, classifier = bundle.slices, networks.slices

    def choose(ct: CTVolume, region: HeartRegion) -> NDArray[np.bool_]:
        candidate_slices = slices_with_candidates(ct, region, ScoringProtocol())
        if stage is None or classifier is None:
            return candidate_slices
        p = classify_slices(ct, region, classifier, stage.view, candidate_slices)
        return candidate_slices & (np.nan_to_num(p, nan=-1.0) >= stage.cut_off)

    return choose


def _component_votes(bundle: Bundle, scans: Sequence[int], shards: ShardSet, device: str) -> ComponentVotes:
    """Those that the bundle would name: on slices with candidates that its slice stage, if it has one, lets pass."""
    vessel, networks = bundle.vessel, Networks(bundle, device)
    choose = slice_chooser(bundle, networks)
    votes = read_component_votes(networks.vessel, read_scans(scans, shards), vessel.view, vessel.classes, choose)
    if votes.is_coronary.all() or not votes.is_coronary.any():
        raise InputRefused(
            "input", "validation needs islands that are coronary and islands that are not; give more scans"
        )
    return votes


def _slices(
    bundle: Bundle, scans: Sequence[int], shards: ShardSet, device: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability and truth of the slices that HeartLens would ask about.

    Those without coronary calcium on which something counts that nobody reviewed are left out:
    their truth is not known.
    """
    networks, stage = Networks(bundle, device), bundle.slices
    if stage is None or networks.slices is None:
        raise InputRefused("input", f"{bundle.folder} has no slice stage; leave --slice-sensitivity out")
    p, truth = [], []
    for ct, codes in read_scans(scans, shards):
        region = heart_region(ct)
        candidate_slices = slices_with_candidates(ct, region, ScoringProtocol())
        probability = classify_slices(ct, region, networks.slices, stage.view, candidate_slices)
        is_calcified = np.any(np.isin(codes, [int(artery) for artery in CORONARY]), axis=(1, 2))
        candidate_slices &= is_calcified | ~_unreviewed_slices(ct, region, codes)
        p.append(probability[candidate_slices])
        truth.append(is_calcified[candidate_slices])
    return np.concatenate(p), np.concatenate(truth)


def _unreviewed_slices(ct: CTVolume, region: HeartRegion, codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(k,) slices with a voxel that counts and of which nobody said what it is."""
    candidates = candidate_mask(ct, ScoringProtocol(), region.box(ct) if region.in_view else None)
    flat = candidates.flat[candidates.accepted[candidates.island]]
    places = flat[codes.reshape(-1)[flat] == UNREVIEWED]
    is_unreviewed = np.zeros(ct.shape[0], bool)
    is_unreviewed[np.unravel_index(places, ct.shape)[0]] = True
    return is_unreviewed


def read_scans(scans: Sequence[int], shards: ShardSet) -> Iterator[tuple[CTVolume, NDArray[np.uint8]]]:
    """CT and `Artery` codes of some scans of shards, with a bar."""
    bar = Progress("scan", len(scans))
    try:
        for n in scans:
            bar.step(shards.scans[n].name)
            yield shards.ct(n), np.array(shards.labels(n))
    finally:
        bar.close()


def _error(votes: ComponentVotes, p: NDArray[np.float64]) -> float:
    return classification.calibration_error(classification.reliability(votes.is_coronary, p))

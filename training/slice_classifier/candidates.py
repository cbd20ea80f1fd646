"""The slices that HeartLens asks a classifier about: those with a candidate in the heart region; figures over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import heart_region
from heartlens.core.atomic import atomic_file
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.inference import slices_with_candidates
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import SliceSet
from training.engine.distributed import Ranks, barrier
from training.metrics.classification import area_under_roc, counts, sensitivity_at
from training.metrics.cutoff import cut_off_at_sensitivity

CANDIDATE_SLICES = "asked.json"


def find_candidate_slices(
    shards: ShardSet, slices: SliceSet, path: Path, ranks: Ranks | None = None
) -> NDArray[np.bool_]:
    """(slices,) those with a candidate in the heart region; found once, by the first process, and kept in a file."""
    voxels = {scan: shards.scans[scan].voxels_sha256 for scan in slices.scans}
    if ranks is None or ranks.is_first:
        known = _read_candidates(path)
        missing = [scan for scan in slices.scans if voxels[scan] not in known]
        for scan in missing:
            ct = shards.ct(scan)
            known[voxels[scan]] = np.flatnonzero(
                slices_with_candidates(ct, heart_region(ct), ScoringProtocol())
            ).tolist()
        with atomic_file(path) as sibling:
            sibling.write_text(json.dumps(known))
    barrier()
    known = _read_candidates(path)
    sets = {scan: set(known[voxels[scan]]) for scan in slices.scans}
    return np.array([k in sets[scan] for scan, k in slices.places.tolist()], bool)


def _read_candidates(path: Path) -> dict[str, list[int]]:
    try:
        return {str(voxels): list(numbers) for voxels, numbers in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # not there yet, or cut short: found again


def evaluate_candidates(
    is_calcified: NDArray[np.bool_],
    candidate_slices: NDArray[np.bool_],
    p: NDArray[np.float64],
    least_sensitivity: float,
) -> dict[str, Any]:
    """Figures of the slices that are asked about, at the highest cut-off with that sensitivity among them.

    Returns
    -------
    dict[str, Any]
        {"auc", "cut_off", "sensitivity", "specificity", "f1", "confusion"} of those, "all_slices" of all, and
        "specificity_at_0.89", "sensitivity_at_0.90": of those, at the paper's sensitivity and specificity
    """
    truth, candidate_p = is_calcified[candidate_slices], p[candidate_slices]
    if truth.all() or not truth.any():
        raise InputRefused("input", "validation needs slices with and without calcium; give it more patients")
    cut_off = cut_off_at_sensitivity(truth, candidate_p, least_sensitivity)
    at_cut_off, everywhere = counts(truth, candidate_p >= cut_off), counts(is_calcified, p >= cut_off)
    at_paper = counts(truth, candidate_p >= cut_off_at_sensitivity(truth, candidate_p, 0.89))
    return {
        "auc": area_under_roc(truth, candidate_p),
        "cut_off": cut_off,
        "sensitivity": at_cut_off.sensitivity,
        "specificity": at_cut_off.specificity,
        "f1": at_cut_off.f1,
        "confusion": {"tp": at_cut_off.tp, "fp": at_cut_off.fp, "fn": at_cut_off.fn, "tn": at_cut_off.tn},
        "all_slices": {"sensitivity": everywhere.sensitivity, "specificity": everywhere.specificity},
        "specificity_at_0.89": at_paper.specificity,
        "sensitivity_at_0.90": sensitivity_at(truth, candidate_p, 0.9),
    }

"""Whether two files of weights are one network: by what they say, and by the scores of whole scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from heartlens.anatomy import heart_region
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import SLICES, VESSEL, Bundle
from heartlens.networks.canary import canary_answer, check_canary
from heartlens.networks.inference import Network, classify_slices, slices_with_candidates
from heartlens.networks.islands import segment_vessels
from heartlens.networks.runtime import OnnxNetwork
from heartlens.scoring.report import ScoreReport, score_lesions

LOGIT_TOLERANCE = 1e-3
"""Largest difference of a logit between torch and ONNX Runtime that rounding explains."""

PROBABILITY_TOLERANCE = 1e-3
"""The same for the probability of a slice."""


def require_parity(networks: Mapping[str, nn.Module], bundle: Bundle, scans: Sequence[CTVolume]) -> dict[str, float]:
    """Refuse files that are not one network: by what they say of noise, and by the scores of whole scans.

    Parameters
    ----------
    networks
        In torch, by role.

    Returns
    -------
    dict[str, float]
        {"logits", "slice_probability": largest differences, "scans": how many, "agatston": largest difference, always
        0}
    """
    by_onnx = {role: OnnxNetwork(bundle, role, threads=1) for role in networks}
    by_torch = {role: _torch_network(network) for role, network in networks.items()}
    rng = np.random.default_rng(0)
    view = bundle.vessel.view
    noise = rng.random((3, view.channels, view.size_px, view.size_px), np.float32)
    logits = _difference(by_torch[VESSEL], by_onnx[VESSEL], noise)
    if not logits <= LOGIT_TOLERANCE:
        raise InputRefused(
            "input", f"torch and ONNX differ by {logits:g} in a logit, expected at most {LOGIT_TOLERANCE:g}"
        )
    differences = {"logits": logits}
    if bundle.slices is not None:
        size = bundle.slices.view.size_px
        differences["slice_probability"] = _difference(
            by_torch[SLICES], by_onnx[SLICES], 2 * rng.random((5, 1, size, size), np.float32) - 1
        )
    for n, ct in enumerate(scans):
        (p, one, one_map), (q, other, other_map) = (_scored(ct, bundle, networks) for networks in (by_torch, by_onnx))
        where = f"scan {n + 1} of {len(scans)}: torch and ONNX"
        if bundle.slices is not None:
            asked = ~np.isnan(p)  # nan is where neither was asked: an answer that is none is refused before
            differences["slice_probability"] = float(
                np.max([differences["slice_probability"], *np.abs(p - q)[asked]])  # unlike `max`, keeps a nan
            )
            across = ((p >= bundle.slices.cut_off) != (q >= bundle.slices.cut_off))[asked].sum()
            if across:
                raise InputRefused(
                    "input", f"{where} put {across} slices on different sides of the cut-off; choose another"
                )
        if one.total != other.total or one.arteries != other.arteries or not np.array_equal(one_map, other_map):
            raise InputRefused(
                "input",
                f"{where} give different scores, {one.total.agatston:g} and {other.total.agatston:g}; "
                "the export is not faithful",
            )
    worst = differences.get("slice_probability", 0.0)
    if not worst <= PROBABILITY_TOLERANCE:
        raise InputRefused(
            "input",
            f"torch and ONNX differ by {worst:g} in the probability of a slice, "
            f"expected at most {PROBABILITY_TOLERANCE:g}",
        )
    return {**differences, "scans": len(scans), "agatston": 0.0}


def recorded_canary(networks: Mapping[str, nn.Module], bundle: Bundle) -> dict[str, Any]:
    """What the ONNX files answer to the canary scan, for the manifest; torch must say the same.

    Parameters
    ----------
    networks
        In torch, by role.

    Raises
    ------
    InputRefused
        "checksum": torch answers otherwise; "unreadable": a network gives no finite answer
    """
    by_onnx = {role: OnnxNetwork(bundle, role, threads=1) for role in networks}
    by_torch = {role: _torch_network(network) for role, network in networks.items()}
    answers = canary_answer(bundle, by_onnx[VESSEL], by_onnx.get(SLICES)).to_json()
    check_canary(replace(bundle, canary=answers), by_torch[VESSEL], by_torch.get(SLICES))
    return answers


def _torch_network(network: nn.Module) -> Network:
    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(network(torch.from_numpy(image)))

    return run


def _difference(one: Network, other: Network, image: np.ndarray) -> float:
    return float(np.abs(one(image) - other(image)).max())


def _scored(
    ct: CTVolume, bundle: Bundle, networks: Mapping[str, Network]
) -> tuple[np.ndarray, ScoreReport, np.ndarray]:
    """(k,) slice probabilities, the report, and the artery of every voxel."""
    protocol, region = ScoringProtocol(), heart_region(ct)
    chosen, p = None, np.full(ct.shape[0], np.nan)
    if bundle.slices is not None:
        p = classify_slices(
            ct, region, networks[SLICES], bundle.slices.view, slices_with_candidates(ct, region, protocol)
        )
        chosen = np.nan_to_num(p, nan=-1.0) >= bundle.slices.cut_off
    lesions = segment_vessels(ct, region, networks[VESSEL], bundle.vessel, protocol, chosen_slices=chosen)
    return p, score_lesions(ct, lesions, protocol), lesions.artery_map()


def largest_change(
    before: Mapping[str, nn.Module], after: Mapping[str, nn.Module], bundle: Bundle, scans: Sequence[CTVolume]
) -> dict[str, float]:
    """What a change of the weights, such as rounding, does to scans: reported, not refused.

    Returns
    -------
    dict[str, float]
        {"agatston", "slice_probability": largest differences}
    """
    agatston, probability = 0.0, 0.0
    for ct in scans:
        (p, one, _), (q, other, _) = (
            _scored(ct, bundle, {role: _torch_network(network) for role, network in networks.items()})
            for networks in (before, after)
        )
        agatston = max(agatston, abs(one.total.agatston - other.total.agatston))
        probability = max(probability, float(np.abs(p - q)[~np.isnan(p)].max(initial=0.0)))
    return {"agatston": agatston, "slice_probability": probability}

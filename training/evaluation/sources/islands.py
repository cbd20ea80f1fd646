"""Islands of bright voxels in a phantom: those that are traps, those on nothing, and how a network votes on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion
from heartlens.calcium import extract_lesions
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import CORONARY, SCORED_ARTERIES, Artery, LesionMap
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import find_bundle, load_bundle
from heartlens.networks.inference import Networks, slices_with_candidates
from heartlens.networks.islands import segment_vessels
from heartlens.scoring.counted import scored_voxels
from training.evaluation.results import TrapResult, Vote

ISLAND_CONNECTIVITY = 26

PROTOCOL = ScoringProtocol()


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

    def called(self, predicted: NDArray[np.uint8]) -> tuple[TrapResult, ...]:
        """Which of them some voxel was called coronary of, by (k, j, i) codes of what counts."""
        is_called = np.isin(predicted.reshape(-1)[self.flat], SCORED_ARTERIES)
        called = np.bincount(self.number, is_called, len(self.kinds)) > 0
        return tuple(
            TrapResult(kind, bool(inside), bool(c))
            for kind, inside, c in zip(self.kinds, self.in_heart, called, strict=True)
        )


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


def lesions_on_nothing(lesions: LesionMap, codes: NDArray[np.uint8], predicted: NDArray[np.uint8]) -> int:
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

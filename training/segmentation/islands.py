"""Cut-offs and calibration, chosen on validation patients and frozen with the weights that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion, heart_region
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import SCORED_ARTERIES
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import VesselStage
from heartlens.networks.inference import Network
from heartlens.networks.islands import segment_vessels
from heartlens.networks.view import NetworkView
from training.datasets.scans import UNREVIEWED
from training.metrics.classification import ratio
from training.metrics.cutoff import DEFAULT, choose_cut_off, fit_calibration


class ComponentVotes(NamedTuple):
    """What a network says of the islands that count, and what they are.

    Parameters
    ----------
    probability
        (n,) that it is coronary, uncalibrated: the mean over its voxels
    is_coronary
        (n,) most of its voxels are labeled as coronary calcium; what nobody reviewed is not among these islands
    """

    probability: NDArray[np.float64]
    is_coronary: NDArray[np.bool_]


def truth_of_islands(
    codes: NDArray[np.uint8], member: NDArray[np.integer], count: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What islands are, by the labels of their voxels, and of which of them that is known.

    Parameters
    ----------
    codes
        (n,) `Artery` code of each voxel, or `UNREVIEWED`.
    member
        (n,) island of each, 0-based
    count
        How many islands there are.

    Returns
    -------
    is_coronary : NDArray[np.bool_]
        (count,) most of the voxels that were reviewed are coronary calcium
    is_known : NDArray[np.bool_]
        (count,) most of its voxels were reviewed; what nobody looked at is neither coronary nor anything else

    Examples
    --------
    Three voxels of the RCA; one of three reviewed; two that a reader took out:

    >>> codes = np.array([4, 4, 4, 4, 7, 7, 0, 0], np.uint8)
    >>> is_coronary, is_known = truth_of_islands(codes, np.array([0, 0, 0, 1, 1, 1, 2, 2]), 3)
    >>> is_coronary.tolist(), is_known.tolist()
    ([True, True, False], [True, False, True])
    """
    size = np.bincount(member, minlength=count)
    unknown = np.bincount(member, codes == UNREVIEWED, count)
    coronary = np.bincount(member, np.isin(codes, SCORED_ARTERIES), count)
    return 2 * coronary > size - unknown, 2 * unknown < size


ChooseSlices = Callable[[CTVolume, HeartRegion], NDArray[np.bool_]]
"""(k,) which slices the vessel network is shown."""


def read_component_votes(
    network: Network,
    scans: Iterable[tuple[CTVolume, NDArray[np.uint8]]],
    view: NetworkView,
    classes: Sequence[str],
    choose_slices: ChooseSlices | None = None,
) -> ComponentVotes:
    """Ask a network about every island in the heart region, as HeartLens will, of which a reader said what it is.

    Parameters
    ----------
    scans
        CT and `Artery` codes of each, or `UNREVIEWED`
    classes
        "none" first
    choose_slices
        What comes before the network; None shows it all slices with dense voxels.
    """
    protocol, stage = ScoringProtocol(), VesselStage(view, tuple(classes), 0.0)
    p, truth = [], []
    for ct, codes in scans:
        # With a cut-off of 0 nothing is left out; a note says of what is too small that it does not count.
        region = heart_region(ct)
        slices = None if choose_slices is None else choose_slices(ct, region)
        lesions = segment_vessels(ct, region, network, stage, protocol, chosen_slices=slices)
        count = 1 + max(lesions.notes, default=0)
        coronary, known = truth_of_islands(codes.reshape(-1)[lesions.voxels.flat], lesions.voxels.ids, count)
        for lesion, note in lesions.notes.items():
            if note.probability is not None and note.counts and known[lesion]:
                p.append(note.probability)
                truth.append(bool(coronary[lesion]))
    return ComponentVotes(np.array(p, np.float64), np.array(truth, bool))


def evaluate_votes(islands: ComponentVotes) -> dict[str, float | int]:
    """The cut-off with the best F1 over islands, the calibration, and the counts that they rest on.

    Returns
    -------
    dict[str, float | int]
        {"cut_off", "slope", "intercept", "islands", "coronary", "f1"}; the cut-off is `DEFAULT` where only one kind
        occurs
    """
    p, truth = islands
    try:
        cut_off = choose_cut_off(truth, p, "f1")
    except InputRefused:
        cut_off = DEFAULT
    slope, intercept = fit_calibration(truth, p)
    hit, n_called = int((truth & (p >= cut_off)).sum()), int((p >= cut_off).sum())
    return {
        "cut_off": cut_off,
        "slope": slope,
        "intercept": intercept,
        "islands": int(p.size),
        "coronary": int(truth.sum()),
        "f1": ratio(2 * hit, n_called + int(truth.sum())) if n_called or truth.any() else 0.0,
    }

"""Islands of dense voxels as a policy acts on them: what the vessel network sees of each, and where it lies.

A reader clicks islands, so a label of an island is the action: tens a scan, where a mask would be a quarter of a
million pixels. What the last layer of the network is given at their voxels is read once and kept; only that layer is
adapted, so that scans go through the network a single time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from heartlens.anatomy import HeartRegion, heart_region
from heartlens.anatomy.territories import course_fit
from heartlens.calcium.extraction import candidate_mask
from heartlens.calcium.pieces import Pieces
from heartlens.calcium.rules import judge_by_rules
from heartlens.core.atomic import atomic_file
from heartlens.core.components import label_components
from heartlens.core.ct import CTVolume
from heartlens.core.lesions import SCORED_ARTERIES, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import VESSEL, Bundle
from heartlens.networks.inference import BATCH
from heartlens.networks.vessel_unet import UNet, UNetNumbers
from heartlens.networks.view import Crop, place_crop
from training.datasets.shards import ShardSet
from training.deploy.bundle_weights import state_of

ARTERIES = (Artery.LM, Artery.LAD, Artery.LCX, Artery.RCA)

PLACE = (
    "x", "y", "z", "knows_root", "depth", "in_zone", "fat", "air", "volume", "peak", "mean", "width_x", "width_y",
    "width_z", "rules", "fit_LM", "fit_LAD", "fit_LCX", "fit_RCA",
)  # fmt: skip
"""What is measured of an island, each within some -8 to 8: mm by 30, HU by 500, logarithms, shares."""

FARTHEST_FIT = -8.0
"""Four standard deviations from the course of an artery; farther is as far."""

UNKNOWN = -1


@dataclass(frozen=True, eq=False)
class ScanIslands:
    """The islands of one scan that are large enough to count.

    Parameters
    ----------
    features
        (n, channels) float32, what the last layer of the vessel network is given at each voxel that it sees
    island
        (n,) island of each voxel, 0-based
    place
        (islands, len(PLACE)) float32; the network has no part in it
    center_mm
        (islands, 3) LPS
    code
        (islands,) class of the bundle by the scan's labels; `UNKNOWN` where nobody labeled it
    """

    features: NDArray[np.float32]
    island: NDArray[np.int64]
    place: NDArray[np.float32]
    center_mm: NDArray[np.float64]
    code: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.code)

    def save(self, path: Path) -> None:
        """Write it whole or not at all."""
        with atomic_file(path) as sibling, sibling.open("wb") as file:
            np.savez(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> ScanIslands:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})

    def without_labels(self) -> ScanIslands:
        """The same, as a scan that nobody labeled."""
        return ScanIslands(
            self.features, self.island, self.place, self.center_mm, np.full(len(self), UNKNOWN, np.int64)
        )


def vessel_network(bundle: Bundle) -> UNet:
    """The vessel network of a bundle in torch, ready to answer."""
    shape = bundle.file(VESSEL, "safetensors").architecture
    numbers = UNetNumbers(
        bundle.vessel.view.channels, len(bundle.vessel.classes), shape["base"], shape["depth"], shape["groups"]
    )
    network = UNet(numbers)
    network.load_state_dict(state_of(bundle, VESSEL))
    return network.eval()


def read_islands(
    bundle: Bundle,
    network: UNet,
    ct: CTVolume,
    labels: NDArray[np.uint8] | None,
    *,
    region: HeartRegion | None = None,
) -> ScanIslands:
    """What a network sees of the islands of a scan, and where they lie.

    Parameters
    ----------
    bundle
        Of the network: its view and classes.
    network
        See `vessel_network`.
    ct
        The scan.
    labels
        (k, j, i) `Artery` codes; None where nobody labeled it
    region
        Of its heart, where it is known already.
    """
    region = region or heart_region(ct)
    protocol = ScoringProtocol()
    candidates = candidate_mask(ct, protocol, region.box(ct) if region.in_view else None)
    island = label_components(candidates.flat, ct.shape, connectivity=26)
    view = bundle.vessel.view
    crop = place_crop(ct.shape, ct.spacing_mm, view, view.center_px(ct, region))
    k, j, i = np.unravel_index(candidates.flat, ct.shape)
    row, column = crop.in_view(j, 0), crop.in_view(i, 1)
    is_seen = (row >= 0) & (row < view.size_px) & (column >= 0) & (column < view.size_px)
    counts = np.zeros(island.max(initial=-1) + 1, bool)
    counts[island[candidates.accepted[candidates.island]]] = True
    kept = np.flatnonzero(counts & (np.bincount(island[is_seen], minlength=len(counts)) > 0))
    number = np.full(len(counts), -1)
    number[kept] = np.arange(len(kept))
    seen = np.flatnonzero(is_seen & (number[island] >= 0))
    features = _features(network, bundle, ct, crop, (k[seen], row[seen], column[seen]))
    whole = np.flatnonzero(number[island] >= 0)
    piece = number[island[whole]]
    if not len(kept):
        nothing = np.zeros((0, len(PLACE)), np.float32)
        return ScanIslands(features, piece, nothing, np.zeros((0, 3)), np.zeros(0, np.int64))
    flat, hu = candidates.flat[whole], candidates.hu[whole]
    none = np.zeros(len(kept))
    pieces = Pieces(ct, region, flat, hu, piece, np.ones(len(kept), bool), none, protocol.label_threshold_hu)
    opinion = judge_by_rules(ct, region, protocol)
    rules = opinion.mean_of_groups(opinion.probability, flat, piece, len(kept))
    code = np.full(len(kept), UNKNOWN, np.int64)
    if labels is not None:
        code = _codes(labels.reshape(-1)[flat], piece, bundle.vessel.classes)
    return ScanIslands(features, number[island[seen]], _places(pieces, region, rules), pieces.center_mm, code)


@torch.no_grad()
def _features(
    network: UNet, bundle: Bundle, ct: CTVolume, crop: Crop, at: tuple[NDArray, NDArray, NDArray]
) -> NDArray[np.float32]:
    """(n, channels) what `UNet.head` is given at pixels of the view; each slice goes through the network once."""
    k, row, column = at
    channels = network.head.in_channels
    out = np.zeros((k.size, channels), np.float32)
    given: list[torch.Tensor] = []
    hook = network.head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        wanted = np.unique(k)
        for first in range(0, wanted.size, BATCH):
            chunk = wanted[first : first + BATCH]
            images = np.stack([bundle.vessel.view.render(ct.hu, int(n), crop) for n in chunk])
            given.clear()
            network(torch.from_numpy(images))
            here = np.flatnonzero(np.isin(k, chunk))
            slices = np.searchsorted(chunk, k[here])
            out[here] = given[0][slices, :, row[here], column[here]].numpy()
    finally:
        hook.remove()
    return out


def _places(pieces: Pieces, region: HeartRegion, rules: NDArray[np.float64]) -> NDArray[np.float32]:
    knows_root = bool(region.ascending.found.any()) and not region.is_short
    offset = pieces.center_mm - np.array(region.root_mm) if knows_root else np.zeros_like(pieces.center_mm)
    fits = [np.maximum(course_fit(offset, artery, level_known=knows_root), FARTHEST_FIT) for artery in ARTERIES]
    columns = [
        *(offset / 30).T,
        np.full(pieces.count, float(knows_root)),
        pieces.depth_mm / 20,
        pieces.in_zone,
        pieces.fat_share,
        pieces.air_share,
        np.log(pieces.volume_mm3) - 3,
        (pieces.peak_hu - 500) / 500,
        (pieces.mean_hu - 300) / 300,
        *(np.log(pieces.extent_mm) - 1.5).T,
        np.where(np.isnan(rules), 0.5, rules),
        *fits,
    ]
    return np.clip(np.stack(columns, axis=1), FARTHEST_FIT, -FARTHEST_FIT).astype(np.float32)


def _codes(label: NDArray[np.uint8], piece: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.int64]:
    """(pieces,) class with the most voxels; calcium without an artery counts as unknown."""
    class_of = np.zeros(256, np.int64)
    for artery in Artery:
        class_of[int(artery)] = classes.index(artery.name) if artery.name in classes else UNKNOWN
    votes = np.stack([np.bincount(piece, class_of[label] == n) for n in range(UNKNOWN, len(classes))], axis=1)
    code: NDArray[np.int64] = votes.argmax(axis=1) + UNKNOWN
    return code


def islands_of_shards(
    bundle: Bundle, network: UNet, shards: ShardSet, scans: Sequence[int], cache: Path
) -> Iterator[ScanIslands]:
    """The islands of some scans, read once and kept; a cut run goes on where it was.

    Parameters
    ----------
    bundle, network
        Whose view and classes.
    shards
        Of the scans.
    scans
        Their numbers.
    cache
        Folder that keeps them, for this bundle alone.
    """
    cache.mkdir(parents=True, exist_ok=True)
    for n in scans:
        record = shards.scans[n]
        path = cache / f"{record.voxels_sha256[:24]}.npz"
        if not path.exists():
            labels = np.asarray(shards.labels(n)) if record.is_labeled else None
            read_islands(bundle, network, shards.ct(n), labels).save(path)
        yield ScanIslands.load(path)


def coronary_classes(classes: Sequence[str]) -> NDArray[np.bool_]:
    """(classes,) which of a bundle's classes are coronary."""
    names = {artery.name for artery in SCORED_ARTERIES}
    return np.array([name in names for name in classes])

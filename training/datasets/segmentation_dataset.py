"""Slices as the segmentation networks see them: input, class of each pixel, and which pixels count.

A sample depends on its slice, the seed and the epoch, and on nothing else: not on the process that reads it, nor on
what was read before. Reading happens here, per sample; turning and shifting on the device, per batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.utils.data import DataLoader, Dataset

from heartlens.core.errors import InputRefused
from heartlens.core.lesions import SCORED_ARTERIES, Artery
from heartlens.networks.view import Crop, NetworkView, nearest, place_crop
from training.datasets.sampling import (
    balanced_order,
    batch_at,
    epoch_order,
    sample_rng,
    share_of_rank,
    steps_per_epoch,
    with_mined,
)
from training.datasets.scans import UNREVIEWED
from training.datasets.shards import ShardSet
from training.engine.checkpoint import leave_signals_to_the_run
from training.engine.config import since_version
from training.engine.distributed import Ranks

CALCIUM = "CALCIUM"
"""The one class of a network that does not name arteries."""


@dataclass(frozen=True)
class SampleRecipe:
    """Which slices make an epoch, what counts on them, and how they are varied.

    Parameters
    ----------
    classes
        Arteries in the order of the outputs after "none"; ("CALCIUM",) for one output, calcium or not.
    order
        "balanced" shows every calcified slice once an epoch and draws others beside; "marked" takes those with any
        label, also of what is not coronary, in place of the calcified; "all" shows every slice; "blank-kept" shows all
        calcified ones and the share `blank_share` of the others
    positive_share
        of each batch, for "balanced" and "marked"
    blank_share
        For "blank-kept"; Chew kept one blank image in eight.
    only_mask
        Only pixels >= the view's threshold count; otherwise all do.
    even_islands
        A pixel weighs 1 / sqrt(pixels of its island on the slice, 8-connected), so that one large plaque does not
        outweigh twenty small ones, which count as much when islands are named.
    lone_share
        Of the samples, those whose neighbors are the slice itself, as at the ends of a scan and where there is one
        slice; a network that never saw that takes what is on such a slice for something upright.
    shift_mm, turn_degrees, zoom
        Largest change each way; zoom 0.1 is 0.9 to 1.1. No mirror: RCA and LAD have sides.
    noise_hu, offset_hu
        Largest added noise (standard deviation) and offset.
    warp_mm
        Standard deviation of a smooth bend of the slice, at its knots (`KNOT_MM`); no two hearts are alike.
    cover_share
        Of the samples, those on parts of which what is darker than soft tissue nearly vanishes in it: hearts with
        little fat, and arteries with an atrium or a collapsed lung beside them where others have air.
    """

    classes: tuple[str, ...] = ("LM", "LAD", "LCX", "RCA", "OTHER")
    order: Literal["balanced", "marked", "all", "blank-kept"] = "balanced"
    positive_share: float = 0.5
    blank_share: float = 0.125
    only_mask: bool = True
    shift_mm: float = 15.0
    turn_degrees: float = 10.0
    zoom: float = 0.1
    noise_hu: float = 15.0
    offset_hu: float = 10.0
    even_islands: bool = since_version(False)
    lone_share: float = since_version(0.0)
    warp_mm: float = since_version(0.0)
    cover_share: float = since_version(0.0)

    def __post_init__(self) -> None:
        known = [artery.name for artery in Artery]
        unknown = [name for name in self.classes if name not in known]
        if self.classes != (CALCIUM,) and (unknown or not self.classes or len(set(self.classes)) < len(self.classes)):
            raise ValueError(f'classes must be ["{CALCIUM}"] or different ones of {known}, got {list(self.classes)}')
        lengths = self.shift_mm, self.turn_degrees, self.noise_hu, self.offset_hu, self.warp_mm
        if min(lengths) < 0 or not 0 <= self.zoom < 1:
            raise ValueError(
                "shift_mm, turn_degrees, noise_hu, offset_hu and warp_mm must not be negative, zoom within 0 to 1"
            )
        shares = self.blank_share, self.lone_share, self.cover_share
        if not 0 < self.positive_share < 1 or not all(0 <= share <= 1 for share in shares):
            raise ValueError("positive_share, blank_share, lone_share and cover_share must lie between 0 and 1")

    @property
    def outputs(self) -> int:
        """Channels of the network's output."""
        return 1 if self.classes == (CALCIUM,) else len(self.classes) + 1

    def class_of_code(self) -> NDArray[np.int64]:
        """(8,) class of each `Artery` code; -1 where it is not known, so that the pixel must not count."""
        table = np.zeros(UNREVIEWED + 1, np.int64)
        table[UNREVIEWED] = -1
        for code in SCORED_ARTERIES:
            # Calcium whose artery has no output, or is not said, is neither none nor any of the others.
            table[code] = 1 if self.classes == (CALCIUM,) else -1
        for n, name in enumerate(self.classes, start=1):
            if name != CALCIUM:
                table[Artery[name]] = n
        return table


KNOT_MM = 30.0
"""A view has a knot for so many mm of what varies smoothly over it, its edges included: 5 in a row for 160 mm."""

COVER_HU = (0.0, 70.0)
"""Range of the soft tissue that covers."""

COVER_KEPT = 0.1
"""Of how much darker than the tissue something was: a trace of it stays, as of fat between muscles."""

UNVARIED, UNCOUNTED = -1, -2
"""In the place of an epoch: a sample as it is, and one that fills a batch and of which no pixel counts."""


class Batch(NamedTuple):
    """Samples on one device.

    image : (n, channels, rows, columns) fp32; target : (n, rows, columns) class; weight : (n, rows, columns) fp32, 0
    where a pixel does not count; names : scan and slice of each; numbers : of the samples
    """

    image: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    names: list[str]
    numbers: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """(n, rows, columns) bool, pixels that count."""
        return self.weight > 0


class SliceSamples(Dataset[dict[str, Any]]):
    """The slices of some scans, indexed by (epoch, number): the epoch varies the sample, `UNVARIED` leaves it be.

    Parameters
    ----------
    scans
        Numbers in `shards`.
    hearts
        (row, column, first slice, last slice + 1) of each, as `find_hearts` gives them

    Attributes
    ----------
    mined
        Numbers of slices without calcium on which the network fired; an epoch in "balanced" order holds each of them
        once, as far as half of the places of such slices allow.
    """

    def __init__(
        self,
        shards: ShardSet,
        scans: Sequence[int],
        view: NetworkView,
        recipe: SampleRecipe,
        hearts: dict[str, list[float]],
        seed: int,
    ) -> None:
        self.shards, self.view, self.recipe, self.seed = shards, view, recipe, seed
        places, calcified = shards.slices(scans)
        if view.is_whole_field:
            keep = np.ones(len(places), bool)
        else:
            span = {n: hearts[shards.scans[n].voxels_sha256][2:] for n in scans}
            keep = np.array([span[n][0] <= k < span[n][1] for n, k in places.tolist()], bool) | calcified
        self.places, self.calcified = places[keep], calcified[keep]
        self.positive = self.calcified
        if recipe.order == "marked":
            marked: dict[int, NDArray[np.bool_]] = {
                n: np.any(~np.isin(shards.labels(n), (0, UNREVIEWED)), axis=(1, 2)) for n in scans
            }
            self.positive = np.array([marked[n][k] for n, k in self.places.tolist()], bool)
        if not len(self.places):
            raise InputRefused("input", "the split has no slices; give it labeled patients")
        self.crops: dict[int, Crop] = {}
        for n in scans:
            record = shards.scans[n]
            center = None if view.is_whole_field else (hearts[record.voxels_sha256][0], hearts[record.voxels_sha256][1])
            self.crops[n] = place_crop(record.shape, record.spacing_mm, view, center)
            if view.is_whole_field and record.shape[1] != record.shape[2]:
                raise InputRefused("input", f"{record.name}: expected square slices, found {record.shape[1:]}")
        self.table = recipe.class_of_code()
        self.mined = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self.places)

    def name(self, n: int) -> str:
        """Name of the scan and number of the slice behind sample `n`."""
        scan, k = self.places[n]
        return f"{self.shards.scans[scan].name} slice {k}"

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """Sample numbers in the order of one epoch."""
        if self.recipe.order in ("balanced", "marked"):
            order = balanced_order(self.positive, self.seed, epoch, self.recipe.positive_share)
            return with_mined(order, self.calcified, self.mined, self.seed, epoch)
        if self.recipe.order == "all":
            return epoch_order(len(self), self.seed, epoch)
        blank = np.flatnonzero(~self.calcified)
        kept = epoch_order(blank.size, self.seed, 0)[: round(blank.size * self.recipe.blank_share)]
        chosen = np.sort(np.concatenate([np.flatnonzero(self.calcified), blank[kept]]))
        return chosen[epoch_order(chosen.size, self.seed, epoch)]

    def __getitem__(self, place: tuple[int, int]) -> dict[str, Any]:
        epoch, n = place
        scan, k = (int(v) for v in self.places[n])
        crop, view, recipe = self.crops[scan], self.view, self.recipe
        hu = self.shards.image(scan)
        image = view.render(hu, k, crop)
        target = self.table[nearest(self.shards.labels(scan)[k], crop)]
        counted = target >= 0
        if epoch == UNCOUNTED:
            counted[:] = False
        elif recipe.only_mask:
            # A labeled pixel counts in any case: the nearest pixel of the CT may lie a hair below the threshold.
            counted &= (nearest(hu[k], crop) >= view.threshold_hu) | (target > 0)
        weight = even_weights(counted) if recipe.even_islands else counted.astype(np.float32)
        sample = {"image": image, "target": np.maximum(target, 0).astype(np.int16), "weight": weight, "number": n}
        if epoch >= 0:
            rng = sample_rng(self.seed, epoch, n)
            width_mm = view.size_px * (view.spacing_mm or self.shards.scans[scan].spacing_mm[1] * crop.step[0])
            sample["move"] = _draw_move(recipe, width_mm, rng)
            images = 2 * view.neighbors + 1
            scale = view.window_hu[1] - view.window_hu[0]
            noise = rng.standard_normal(image[:images].shape, dtype=np.float32) * rng.uniform(0, recipe.noise_hu)
            image[:images] += (noise + rng.uniform(-recipe.offset_hu, recipe.offset_hu)) / scale
            if recipe.lone_share and rng.random() < recipe.lone_share:
                image[:images] = image[view.neighbors]
            knots = max(2, round(width_mm / KNOT_MM))
            if recipe.warp_mm:
                bend = rng.standard_normal((2, knots, knots), dtype=np.float32)
                sample["bend"] = bend * np.float32(recipe.warp_mm * 2 / width_mm)
            if recipe.cover_share:
                # The field is above 0 where tissue covers: anywhere from a corner to most of the slice.
                field = rng.standard_normal((1, knots, knots), dtype=np.float32) - np.float32(rng.uniform(-1.0, 2.0))
                level = (np.float32(rng.uniform(*COVER_HU)) - view.window_hu[0]) / scale
                is_covered = rng.random() < recipe.cover_share
                sample["cover"] = field if is_covered else np.full_like(field, -1)
                sample["cover_level"] = np.float32(level)
        return sample


def _draw_move(recipe: SampleRecipe, width_mm: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """(2, 3) of `affine_grid`: where in the sample each pixel of the varied one is read, -1 to 1 from edge to edge."""
    angle = np.deg2rad(rng.uniform(-recipe.turn_degrees, recipe.turn_degrees))
    zoom = rng.uniform(1 - recipe.zoom, 1 + recipe.zoom)
    shift = rng.uniform(-recipe.shift_mm, recipe.shift_mm, 2) * 2 / width_mm
    cosine, sine = np.cos(angle) * zoom, np.sin(angle) * zoom
    return np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]], np.float32)


def even_weights(counted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """1 / sqrt(pixels of the island, 8-connected) on each pixel that counts, 0 elsewhere.

    Examples
    --------
    >>> even_weights(np.array([[1, 1, 0, 1], [1, 1, 0, 0]], bool)).tolist()
    [[0.5, 0.5, 0.0, 1.0], [0.5, 0.5, 0.0, 0.0]]
    """
    island, _ = ndimage.label(counted, np.ones((3, 3)))
    size = np.bincount(island.reshape(-1))
    size[0] = 1
    return np.where(counted, 1 / np.sqrt(size[island]), 0).astype(np.float32)


def to_batch(samples: dict[str, Any], dataset: SliceSamples, device: torch.device) -> Batch:
    """Carry collated samples to the device, and turn, shift and zoom them there, all at once."""
    image = samples["image"].to(device, non_blocking=True)
    codes = torch.stack([samples["target"].float(), samples["weight"].float()], dim=1).to(device, non_blocking=True)
    if "move" in samples:
        move = samples["move"].to(device, non_blocking=True)
        grid = torch.nn.functional.affine_grid(move, list(image.shape), align_corners=False)
        if "bend" in samples:
            grid = grid + _smooth(samples["bend"].to(device, non_blocking=True), image).permute(0, 2, 3, 1)
        image = torch.nn.functional.grid_sample(image, grid, align_corners=False)
        codes = torch.nn.functional.grid_sample(codes, grid, mode="nearest", align_corners=False)
    if "cover" in samples:
        field = _smooth(samples["cover"].to(device, non_blocking=True), image)
        level = samples["cover_level"].to(device, non_blocking=True).view(-1, 1, 1, 1)
        channels = 2 * dataset.view.neighbors + 1
        image[:, :channels] = cover(image[:, :channels], field, level)
    names = [dataset.name(int(n)) for n in samples["number"]]
    return Batch(image, codes[:, 0].long(), codes[:, 1], names, samples["number"])


def _smooth(knots: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """(n, c, knots, knots) -> (n, c, rows, columns)."""
    size = list(image.shape[-2:])
    return torch.nn.functional.interpolate(knots, size=size, mode="bicubic", align_corners=True)


def cover(image: torch.Tensor, field: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Where the field is positive, what is darker than the level nearly takes it; what is brighter stays as it is.

    Parameters
    ----------
    image
        (n, channels, rows, columns); field : (n, 1, rows, columns); level : (n, 1, 1, 1), as the image is scaled

    Examples
    --------
    >>> slices = torch.tensor([[[[0.0, 0.5, 0.9, 0.0]]]])
    >>> covered = cover(slices, torch.tensor([[[[1.0, 1.0, 1.0, -1.0]]]]), torch.tensor([[[[0.5]]]]))
    >>> [round(v, 3) for v in covered.flatten().tolist()]
    [0.45, 0.5, 0.9, 0.0]
    """
    covered = torch.maximum(image, level + COVER_KEPT * (image - level))
    return torch.where(field > 0, covered, image)


class _Steps:
    """For each step the (epoch, number) of the samples of this rank, from the step at which a run goes on."""

    def __init__(self, dataset: SliceSamples, batch: int, first: int, steps: int, ranks: Ranks) -> None:
        self.dataset, self.batch, self.first, self.steps, self.ranks = dataset, batch, first, steps, ranks

    def __len__(self) -> int:
        return self.steps - self.first

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        length = len(self.dataset.epoch(0))
        known, order = -1, np.zeros(0, np.int64)
        for step in range(self.first, self.steps):
            epoch, place = batch_at(step, self.batch, length)
            if epoch != known:
                known, order = epoch, self.dataset.epoch(epoch)
            yield [(epoch, int(n)) for n in share_of_rank(order[place], self.ranks.rank, self.ranks.world)]


def training_batches(
    dataset: SliceSamples, batch: int, first: int, steps: int, ranks: Ranks, workers: int
) -> Iterator[Batch]:
    """The batches of steps `first` to `steps`; `batch` is the size over all ranks."""
    order: Any = _Steps(dataset, batch, first, steps, ranks)
    for samples in DataLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        worker_init_fn=leave_signals_to_the_run,
        pin_memory=ranks.device.type == "cuda",
        persistent_workers=False,
    ):
        yield to_batch(samples, dataset, ranks.device)


def validation_batches(
    dataset: SliceSamples, batch: int, ranks: Ranks, workers: int, numbers: NDArray[np.int64] | None = None
) -> Iterator[Batch]:
    """Slices once, unvaried, in as many batches on each rank; FSDP gathers weights in every one of them.

    Without `numbers` of slices, all.
    """
    slice_numbers = list(range(len(dataset))) if numbers is None else numbers.tolist()
    whole = -(-len(slice_numbers) // ranks.world) * ranks.world
    own = [
        (UNVARIED, slice_numbers[n]) if n < len(slice_numbers) else (UNCOUNTED, 0)
        for n in range(ranks.rank, whole, ranks.world)
    ]
    chunks: Any = [own[n : n + batch] for n in range(0, len(own), batch)]
    for samples in DataLoader(
        dataset, batch_sampler=chunks, num_workers=workers, worker_init_fn=leave_signals_to_the_run
    ):
        yield to_batch(samples, dataset, ranks.device)


def epoch_steps(dataset: SliceSamples, batch: int) -> int:
    """Steps in one epoch."""
    return steps_per_epoch(batch, len(dataset.epoch(0)))


def data_checksum(dataset: SliceSamples) -> str:
    """Of what is trained on: the scans' voxels in their order. Labels are told apart by the scans' scores."""
    scans = [dataset.shards.scans[n] for n in sorted(dataset.crops)]
    contents = [[s.voxels_sha256, s.agatston and dict(s.agatston), s.calcified_slices] for s in scans]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()

"""Frozen embeddings of slices, and what neighbors among them say: a probe of pre-training that trains nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from heartlens.networks.view import NetworkView, classifier_view
from training.datasets.slice_dataset import SliceSet
from training.dino.augment import cut
from training.engine.config import runtime_only
from training.metrics.classification import area_under_roc, ratio


class Place(NamedTuple):
    """Center and side of a view, rows and columns, mm."""

    center_mm: tuple[float, float]
    side_mm: tuple[float, float]


def crop_batch(images: Tensor, spacing_mm: Tensor, view: NetworkView, center_mm: Tensor, side_mm: Tensor) -> Tensor:
    """Square views of slices as `NetworkView.render` lays them out, for a batch and on its device.

    Parameters
    ----------
    images, spacing_mm
        (batch, rows, columns) and (batch, 2)
    center_mm, side_mm
        (batch, 2)

    Returns
    -------
    Tensor
        (batch, 1, size, size)
    """
    flip = torch.zeros(len(images), 1, 2, dtype=torch.bool, device=images.device)
    if view.resampling != "supersampled" or view.channels != 1:
        raise ValueError(f"expected the view of a slice classifier, got {view}")
    crops = cut(
        images, spacing_mm, center_mm[:, None], side_mm[:, None], flip, size=view.size_px, outside_hu=view.outside_hu
    )
    low, high = view.window_hu
    first, last = view.scaled_to
    return ((crops - low) / (high - low)).clamp_(0, 1) * (last - first) + first


@torch.no_grad()
def embed_slices(
    network: Callable[[Tensor], Tensor],
    slices: SliceSet,
    numbers: ArrayLike,
    view: NetworkView,
    *,
    device: torch.device,
    batch: int = 64,
    bf16: bool = False,
    place: Callable[[int], Place] | None = None,
) -> NDArray[np.float32]:
    """Embeddings of some slices.

    Parameters
    ----------
    network
        (n, 1, size, size) -> (n, dim)
    numbers
        Of the slices.
    place
        Where to look at a slice; None looks where the view is laid, see `middle`.

    Returns
    -------
    NDArray[np.float32]
        (n, dim)
    """
    chosen = np.asarray(numbers)
    embeddings = []
    for first in range(0, len(chosen), batch):
        part = chosen[first : first + batch].tolist()
        images, spacing_mm = slices.read(part)
        places = [place(n) if place else middle(slices, n, view) for n in part]
        center_mm, side_mm = (torch.tensor(p, dtype=torch.float64, device=device) for p in zip(*places, strict=True))
        crops = crop_batch(images.to(device), spacing_mm.to(device), view, center_mm, side_mm)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            embeddings.append(network(crops).float().cpu())
    return torch.cat(embeddings).numpy()


def middle(slices: SliceSet, number: int, view: NetworkView) -> Place:
    """The square that the view shows of a slice: around its middle, or around that of the heart."""
    height_mm, width_mm = slices.extent_mm(number)
    center_mm = slices.heart_mm(number) if view.center == "heart" else (height_mm / 2, width_mm / 2)
    return Place(center_mm, (view.field_mm, view.field_mm))


def knn_probability(
    known: NDArray[np.float32],
    is_positive: NDArray[np.bool_],
    queries: NDArray[np.float32],
    *,
    neighbors: int = 20,
    temperature: float = 0.07,
) -> NDArray[np.float64]:
    """Weighted vote of the nearest known embeddings, as DINO evaluates features.

    A neighbor of cosine c votes with weight exp(c / temperature). Positives are rare, so each vote counts by the
    inverse share of its class: 0.5 means as much for as against, whatever the shares.

    Parameters
    ----------
    known
        (n, dim)
    is_positive
        (n,)
    queries
        (m, dim)

    Returns
    -------
    NDArray[np.float64]
        (m,)
    """
    a, b = (x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12) for x in (queries, known))
    cosine = a.astype(np.float64) @ b.T.astype(np.float64)
    k = min(neighbors, len(known))
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(cosine, nearest, axis=1)
    share = float(is_positive.mean())
    if share in (0.0, 1.0):
        return np.full(len(queries), share)
    weight = np.exp((near - near.max(axis=1, keepdims=True)) / temperature)
    weight *= np.where(is_positive[nearest], 1 / share, 1 / (1 - share))
    return (weight * is_positive[nearest]).sum(axis=1) / weight.sum(axis=1)


@dataclass(frozen=True)
class ProbeConfig:
    """How neighbors are asked during pre-training.

    Parameters
    ----------
    every
        Steps between two looks.
    neighbors, temperature
        See `knn_probability`.
    slices
        At most so many of training (validation gets a quarter), half of them calcified where there are enough.
    field_mm, size, window_hu
        Of the view.
    """

    every: int = runtime_only(500)
    neighbors: int = runtime_only(20)
    temperature: float = runtime_only(0.07)
    slices: int = runtime_only(2000)
    field_mm: float = runtime_only(200.0)
    size: int = runtime_only(224)
    window_hu: tuple[float, float] = runtime_only((-460.0, 540.0))

    @property
    def view(self) -> NetworkView:
        """The view in which slices are embedded."""
        return classifier_view(self.field_mm, self.size, self.window_hu)


class KnnProbe:
    """Asks whether neighbors in the embedding share the label; validation patients are asked, never trained on.

    Parameters
    ----------
    known, asked
        Labeled slices of training and of validation patients.
    """

    def __init__(self, config: ProbeConfig, known: SliceSet, queries: SliceSet) -> None:
        self.config = config
        self.known, self.queries = known, queries
        self._numbers = [_some(s, n) for s, n in ((known, config.slices), (queries, config.slices // 4))]

    def evaluate(self, network: Callable[[Tensor], Tensor], device: torch.device) -> dict[str, float]:
        """Area under the ROC curve, sensitivity and specificity at 0.5 of the weighted vote."""
        c = self.config
        embeddings = [
            embed_slices(network, slices, numbers, c.view, device=device)
            for slices, numbers in zip((self.known, self.queries), self._numbers, strict=True)
        ]
        known, truth = (s.is_calcified[n] for s, n in zip((self.known, self.queries), self._numbers, strict=True))
        p = knn_probability(embeddings[0], known, embeddings[1], neighbors=c.neighbors, temperature=c.temperature)
        return {
            "knn_auc": area_under_roc(truth, p),
            "knn_sensitivity": ratio(float((p[truth] > 0.5).sum()), float(truth.sum())),
            "knn_specificity": ratio(float((p[~truth] <= 0.5).sum()), float((~truth).sum())),
        }


def _some(slices: SliceSet, count: int) -> NDArray[np.int64]:
    """Some slices, the same each time: calcified ones up to half of them, the others evenly spread."""
    chosen = []
    positive, negative = np.flatnonzero(slices.is_calcified), np.flatnonzero(~slices.is_calcified)
    count_positive = min(len(positive), count // 2)
    for numbers, n in ((positive, count_positive), (negative, min(len(negative), count - count_positive))):
        chosen.append(numbers[np.linspace(0, len(numbers) - 1, n).round().astype(int)] if n else numbers[:0])
    return np.sort(np.concatenate(chosen))

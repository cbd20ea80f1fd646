"""Where a backbone looks on a slice: the class token's attention in the last block (Figure 3 of the DINO-LG paper)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from heartlens.networks.backbone import Backbone
from heartlens.networks.view import NetworkView
from training.datasets.slice_dataset import NOT_CORONARY, SliceSet


class AttentionMap(NamedTuple):
    """What to draw: a slice as the network sees it, and its attention on the same grid.

    Parameters
    ----------
    image
        (size, size), -1 to 1
    heads
        (heads, size, size), each pixel has the value of its patch; each head sums to at most 1 over the patches
    mean
        (size, size), over the heads
    calcium
        (size, size), labeled calcium on the same grid
    on_calcium
        Share of the mean attention on patches that touch the labeled calcium; NaN without any.
    calcium_area
        Share of the patches that touch it: what attention without aim would give.
    """

    image: NDArray[np.float32]
    heads: NDArray[np.float32]
    mean: NDArray[np.float32]
    calcium: NDArray[np.bool_]
    on_calcium: float
    calcium_area: float


@torch.no_grad()
def attention_map(
    backbone: Backbone,
    hu: ArrayLike,
    spacing_mm: tuple[float, float],
    view: NetworkView,
    *,
    labels: ArrayLike | None = None,
    center_mm: tuple[float, float] | None = None,
) -> AttentionMap:
    """Attention of one backbone over one slice; call it with DINO and with DINO-LG to compare them.

    Parameters
    ----------
    hu
        (rows, columns)
    labels
        (rows, columns), true where there is coronary calcium
    center_mm
        Of the view, see `NetworkView.render_slice`.
    """
    image = view.render_slice(hu, spacing_mm, center_mm)
    device = next(backbone.parameters()).device
    attention = backbone.class_attention(torch.from_numpy(image)[None, None].to(device))[0].float().cpu().numpy()
    patch = backbone.shape.patch
    heads = attention.repeat(patch, axis=1).repeat(patch, axis=2)
    on_calcium, area, calcium_in_view = math.nan, math.nan, np.zeros(image.shape, bool)
    if labels is not None and np.asarray(labels).any():
        # Through the same view as the image: 1000 HU where there is calcium, seen between -1 and 1.
        painted = np.where(np.asarray(labels, dtype=bool), 1000.0, 0.0)
        calcium_in_view = replace(view, window_hu=(0.0, 1000.0)).render_slice(painted, spacing_mm, center_mm) > -0.999
        patches = calcium_in_view.reshape(len(attention[0]), patch, -1, patch).any(axis=(1, 3))
        if patches.any():
            mean = attention.mean(axis=0)
            on_calcium, area = float(mean[patches].sum() / mean.sum()), float(patches.mean())
    return AttentionMap(image, heads, heads.mean(axis=0), calcium_in_view, on_calcium, area)


def attention_of_slices(
    backbones: Mapping[str, Backbone], slices: SliceSet, numbers: ArrayLike, view: NetworkView
) -> list[dict[str, AttentionMap]]:
    """Figure 3: one row a slice, one column a backbone.

    Parameters
    ----------
    backbones
        by the name that the figure shows, "DINO" and "DINO-LG"
    numbers
        Of the slices in the set.
    """
    rows = []
    for number in np.asarray(numbers).tolist():
        scan, k = slices.places[number].tolist()
        hu, labels = np.array(slices.shards.image(scan)[k]), np.array(slices.shards.labels(scan)[k])
        is_coronary = ~np.isin(labels, NOT_CORONARY)
        spacing_mm = slices.spacing_mm(number)
        center_mm = slices.heart_mm(number) if view.center == "heart" else None
        rows.append(
            {
                name: attention_map(backbone.eval(), hu, spacing_mm, view, labels=is_coronary, center_mm=center_mm)
                for name, backbone in backbones.items()
            }
        )
    return rows

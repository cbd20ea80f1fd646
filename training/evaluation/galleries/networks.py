"""Chew's table of networks and ensembles on the same slices, and pictures of what each of them calls calcium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure

from heartlens.core.lesions import Artery
from training.datasets.segmentation_dataset import UNVARIED, SliceSamples
from training.deploy.bundle_writer import Trained
from training.evaluation import plots as figures
from training.evaluation.tables import number, table
from training.segmentation.ensembles import Ensemble, evaluate_ensemble, seconds_per_slice
from training.segmentation.networks import count_parameters

FIGURES = ("bce", "dice", "bce+dice", "iou", "tversky")
"""As losses over all pixels of all slices."""

CALLED = 0.5
"""Least product of probabilities and image that is shown as calcium."""


class NetworkRow(NamedTuple):
    """One row of the table.

    Parameters
    ----------
    name
        Of the network or the ensemble.
    loss
        With which it was trained, in words.
    epochs
        Of its training; None for an ensemble.
    parameters
        Of its weights.
    losses
        The five figures.
    seconds
        For one slice, median.
    """

    name: str
    loss: str
    epochs: int | None
    parameters: int
    losses: Mapping[str, float]
    seconds: float


def row_of(name: str, member: Trained, baseline: Trained | None, samples: SliceSamples, batch: int) -> NetworkRow:
    """Judge a network, or its product with the squared baseline.

    Parameters
    ----------
    name
        Of the row.
    member, baseline
        Networks of one output, that see the same view.
    samples
        Slices of unseen patients.
    batch
        Slices at once.
    """
    ensemble = Ensemble(
        member.network, None if baseline is None else baseline.network, member.recipe.view.neighbors
    ).eval()
    loss, recipe = member.recipe.loss, member.recipe
    words = "BCE" if loss.name == "ce" else str(loss.name)
    if "tversky" in loss.name:
        words += f" ({loss.alpha:g} / {loss.beta:g})"
    parameters = count_parameters(member.network) + (0 if baseline is None else count_parameters(baseline.network))
    if baseline is not None:
        words += ", with the baseline's square"
    epochs = None if baseline is not None or recipe.steps else recipe.epochs
    losses = evaluate_ensemble(ensemble, samples, batch)
    return NetworkRow(name, words, epochs, parameters, losses, seconds_per_slice(ensemble, samples, batch))


def networks_table(rows: Sequence[NetworkRow]) -> str:
    """The table as Markdown.

    Parameters
    ----------
    rows
        In its order.
    """
    head = ["network", "trained by", "epochs", "parameters", *(name.upper() for name in FIGURES), "ms a slice"]
    return table(
        head,
        [
            [row.name, row.loss, "" if row.epochs is None else str(row.epochs), f"{row.parameters:,}",
             *(number(row.losses[name], 4) for name in FIGURES), number(1000 * row.seconds, 1)]
            for row in rows
        ],
    )  # fmt: skip


@torch.no_grad()
def network_pictures(networks: Mapping[str, Ensemble], samples: SliceSamples, count: int) -> list[tuple[str, Figure]]:
    """Slices with the most calcium, each of another scan: the image, the truth, and what each network calls calcium.

    Parameters
    ----------
    networks
        By name.
    samples
        Slices of unseen patients.
    count
        How many slices.

    Returns
    -------
    list[tuple[str, Figure]]
        Name of the slice, and its picture.
    """
    areas = np.array([_pixels(samples, n) if calcified else 0 for n, calcified in enumerate(samples.calcified)])
    chosen: dict[int, int] = {}
    for n in np.argsort(-areas, kind="stable").tolist():
        if areas[n]:
            chosen.setdefault(int(samples.places[n, 0]), n)
    low, high = samples.view.window_hu
    found = []
    for n in list(chosen.values())[:count]:
        sample: dict[str, Any] = samples[UNVARIED, n]
        image = torch.from_numpy(np.asarray(sample["image"], np.float32))[None]
        masks = {"truth": _as_code(sample["target"] > 0)}
        masks |= {name: _as_code(network.eval()(image)[0, 0].numpy() >= CALLED) for name, network in networks.items()}
        hu = image[0, samples.view.neighbors].numpy() * (high - low) + low
        found.append((samples.name(n), figures.masks_figure(hu, masks, letters=False)))
    return found


def _pixels(samples: SliceSamples, n: int) -> int:
    return int((samples[UNVARIED, n]["target"] > 0).sum())


def _as_code(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, np.uint8(Artery.RCA), np.uint8(0))

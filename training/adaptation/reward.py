"""Whether a labeling of islands is one that anatomy allows: a network that learned it from labels and their distortion.

After RL4Seg (Judge et al., MICCAI 2024), which judges pixels of echocardiograms; here a label of an island is judged,
by where the island lies, what surrounds it, and what the other islands of the scan are called. The votes of the network
that is adapted are not among its inputs: it cannot be flattered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.adaptation.islands import PLACE, ScanIslands, coronary_classes
from training.metrics.classification import area_under_roc

COMPANY = ("same", "nearest_same", "nearest_other_artery", "coronary")
"""What the labels of the other islands say of one: how many have its own label, how near the nearest of those and of
another artery lies, how many are coronary."""

FAR_MM = 120.0


@dataclass(frozen=True)
class RewardRecipe:
    """How labels are distorted, and how the network learns to tell.

    Parameters
    ----------
    rate
        Share of a scan's coronary islands that lose their label or get another artery's, each.
    added
        Share of its other islands that are called coronary; a few of them are enough to be found out.
    steps
        Of the optimizer, a scan each.
    width
        Of the two hidden layers.
    learning_rate
        Of AdamW.
    """

    rate: float = 0.25
    added: float = 0.15
    steps: int = 2000
    width: int = 64
    learning_rate: float = 2e-3

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 0.5 and 0 < self.added <= 1):
            raise ValueError(f"rate must lie in (0, 0.5] and added in (0, 1], got {self.rate} and {self.added}")
        if self.steps < 1 or self.width < 1:
            raise ValueError(f"steps and width must be at least 1, got {self.steps} and {self.width}")


class RewardNetwork(nn.Module):
    """(islands, inputs) -> (islands,) logits that a label is valid.

    Parameters
    ----------
    classes
        Of the bundle, "none" first.
    width
        Of the hidden layers.
    """

    def __init__(self, classes: Sequence[str], width: int) -> None:
        super().__init__()
        self.classes = tuple(classes)
        inputs = len(PLACE) + len(classes) + len(COMPANY)
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, inputs) -> (n,) logits."""
        logits: torch.Tensor = self.layers(x)[:, 0]
        return logits

    @torch.no_grad()
    def judge(self, islands: ScanIslands, code: NDArray[np.int64]) -> NDArray[np.float64]:
        """(islands,) how likely each label is valid, were the scan labeled so.

        Parameters
        ----------
        islands
            Of a scan.
        code
            (islands,) class of each
        """
        p: NDArray[np.float64] = torch.sigmoid(self(inputs_of(islands, code, self.classes))).double().numpy()
        return p


def inputs_of(islands: ScanIslands, code: NDArray[np.int64], classes: Sequence[str]) -> torch.Tensor:
    """(islands, inputs) float32: places, labels and company."""
    named = np.eye(len(classes), dtype=np.float32)[code]
    return torch.from_numpy(np.concatenate([islands.place, named, _company(islands, code, classes)], axis=1))


def _company(islands: ScanIslands, code: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.float32]:
    is_coronary = coronary_classes(classes)[code]
    apart = np.linalg.norm(islands.center_mm[:, None] - islands.center_mm[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    same = (code[:, None] == code[None]) & ~np.eye(len(code), dtype=bool)
    other = (code[:, None] != code[None]) & is_coronary[None]
    nearest = [np.where(mask, apart, np.inf).min(axis=1, initial=FAR_MM) / FAR_MM for mask in (same, other)]
    columns = [np.log1p(same.sum(axis=1)), *nearest, np.full(len(code), np.log1p(is_coronary.sum()))]
    return np.stack(columns, axis=1).astype(np.float32)


def distorted(
    code: NDArray[np.int64], classes: Sequence[str], recipe: RewardRecipe, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Labels of a scan with some coronary ones dropped, some under another artery, and some added where none is.

    Lesions are dropped as well as added, so that a labeling without calcium is no safe one.

    Parameters
    ----------
    code
        (islands,) valid classes
    classes
        "none" first
    recipe
        How many.
    rng
        Draws them.
    """
    is_coronary = coronary_classes(classes)
    arteries, others = np.flatnonzero(is_coronary), np.flatnonzero(~is_coronary)
    out = code.copy()
    drawn = rng.random(len(code))
    own = is_coronary[code]
    dropped, swapped = own & (drawn < recipe.rate), own & (drawn >= recipe.rate) & (drawn < 2 * recipe.rate)
    out[dropped] = rng.choice(others, dropped.sum())
    step = rng.integers(1, len(arteries), swapped.sum())
    out[swapped] = arteries[(np.searchsorted(arteries, code[swapped]) + step) % len(arteries)]
    added = ~own & (drawn < recipe.added)
    out[added] = rng.choice(arteries, added.sum())
    return out


def train_reward(
    scans: Sequence[ScanIslands], classes: Sequence[str], recipe: RewardRecipe, seed: int
) -> RewardNetwork:
    """Teach a reward network on labeled scans.

    Every second step shows a scan as it is labeled. What is coronary, or is called so, weighs as much in a scan as all
    else together, of which there is far more.

    Parameters
    ----------
    scans
        Labeled; islands that nobody knows are called what they are and weigh nothing.
    classes
        "none" first
    recipe
        How.
    seed
        Of weights and draws.
    """
    usable = [scan for scan in scans if len(scan)]
    if not usable:
        raise ValueError("expected a scan with an island to learn from, got none")
    rng = np.random.default_rng([seed, 11])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = RewardNetwork(classes, recipe.width)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.steps)
    is_coronary = coronary_classes(classes)
    for step in range(recipe.steps):
        scan = usable[rng.integers(len(usable))]
        known, valid = scan.code >= 0, np.maximum(scan.code, 0)
        said = valid if step % 2 else distorted(valid, classes, recipe, rng)
        weight = known * _even(is_coronary[said] | is_coronary[valid])
        if not weight.any():
            continue
        loss = nn.functional.binary_cross_entropy_with_logits(
            network(inputs_of(scan, said, classes)),
            torch.from_numpy((said == valid).astype(np.float32)),
            torch.from_numpy((weight / weight.sum()).astype(np.float32)),
            reduction="sum",
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _even(is_coronary: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n,) weights that give both kinds the same sum."""
    count = is_coronary.sum()
    return np.where(is_coronary, 1 / max(count, 1), 1 / max(len(is_coronary) - count, 1))


def reward_auroc(network: RewardNetwork, scans: Sequence[ScanIslands], recipe: RewardRecipe, seed: int) -> float:
    """How well the network tells valid labels from distorted ones, of islands that are or are called coronary.

    Parameters
    ----------
    network
        To be judged.
    scans
        Labeled ones that it did not learn from.
    recipe
        Of the distortion.
    seed
        Of the draws.

    Returns
    -------
    float
        Area under the ROC curve; nan where only one kind occurs
    """
    rng = np.random.default_rng([seed, 12])
    is_coronary = coronary_classes(network.classes)
    is_valid, p = [], []
    for scan in scans:
        valid = np.maximum(scan.code, 0)
        said = distorted(valid, network.classes, recipe, rng)
        asked = (scan.code >= 0) & (is_coronary[said] | is_coronary[valid])
        is_valid.append((said == valid)[asked])
        p.append(network.judge(scan, said)[asked])
    truth = np.concatenate(is_valid) if is_valid else np.zeros(0, bool)
    if truth.all() or not truth.any():
        return float("nan")
    return area_under_roc(truth, np.concatenate(p))

"""The slice classifier trained through from random weights, with the labels: the ceiling of an experiment."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional

from heartlens.networks.backbone import Backbone, BackboneShape
from heartlens.networks.slice_classifier import SliceClassifier
from training.datasets.sampling import balanced_order, batch_at, share_of_rank
from training.datasets.slice_dataset import SliceSet
from training.dino.distillation import warmup_cosine
from training.dino.features import crop_batch
from training.engine.config import runtime_only
from training.engine.distributed import Ranks, all_mean, data_parallel, require_even_batch
from training.engine.loop import TrainingLoop, clip_gradient
from training.slice_classifier.linear_probe import SlicesRecipe, crops_of


@dataclass(frozen=True)
class SupervisedRecipe:
    """One run.

    Parameters
    ----------
    backbone
        Name, see `BackboneShape.named`.
    steps, batch
        Half of each batch, of all processes together, is calcified.
    learning_rate, weight_decay
        Of AdamW; the rate rises for a tenth of the steps, then falls to 0 by a cosine.
    clip
        Largest length of the gradient; 0 for no limit.
    views
        How a slice is looked at, and its crops.
    """

    backbone: str = "vit_mini_patch8_32"
    steps: int = 250
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    clip: float = 3.0
    views: SlicesRecipe = field(default_factory=SlicesRecipe)
    seed: int = 0
    save_every: int = runtime_only(100)
    log_every: int = runtime_only(20)


def train_supervised(
    recipe: SupervisedRecipe,
    slices: SliceSet,
    run: Path,
    *,
    start: Backbone | None = None,
    ranks: Ranks | None = None,
    until: int | None = None,
    deadline: float | None = None,
) -> SliceClassifier | None:
    """Run, or go on with, one training.

    Parameters
    ----------
    run
        Folder of the run.
    start
        A backbone of the recipe's shape to go on from; None begins with random weights.
    ranks
        The processes that share each batch.
    until, deadline
        Stop after this step, or after this time, as if a signal had come, see `training.engine.loop.TrainingLoop`.

    Returns
    -------
    SliceClassifier | None
        With the weights of the last step; None when it was asked to stop.

    Raises
    ------
    InputRefused
        The run was begun with another recipe or other slices, or the disk is full.
    TrainingFailed
        Three steps in a row were not finite.
    """
    ranks = ranks or Ranks()
    require_even_batch(recipe.batch, ranks)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = SliceClassifier(Backbone(BackboneShape.named(recipe.backbone))).to(ranks.device)
    if start is not None:
        network.backbone.load_state_dict(start.state_dict())
    parallel = data_parallel(_LogOdds(network), ranks)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=recipe.weight_decay)
    loop = TrainingLoop(
        run,
        recipe,
        {"network": network, "optimizer": optimizer},
        "supervised",
        recipe.steps,
        data=slices.identity(),
        other_data="begun with other slices; give another --out",
        ranks=ranks,
        save_every=recipe.save_every,
        until=until,
        deadline=deadline,
    )
    length = len(balanced_order(slices.is_calcified, recipe.seed, 0))
    with loop:
        while not loop.is_complete:
            rate = warmup_cosine(loop.done, recipe.steps, rise=recipe.steps // 10, peak=recipe.learning_rate, end=0.0)
            optimizer.param_groups[0]["lr"] = rate
            epoch, places = batch_at(loop.done, recipe.batch, length)
            order = balanced_order(slices.is_calcified, recipe.seed, epoch)[places]
            numbers = share_of_rank(order, ranks.rank, ranks.world).tolist()
            crops = [crops_of(recipe.views, slices, n, epoch + 1) for n in numbers]
            images, spacing_mm = slices.read(numbers)
            center_mm, side_mm = (
                torch.tensor([getattr(place, part) for place, _ in crops], dtype=torch.float64, device=ranks.device)
                for part in ("center_mm", "side_mm")
            )
            input_crops = crop_batch(
                images.to(ranks.device), spacing_mm.to(ranks.device), recipe.views.view, center_mm, side_mm
            )
            truth = torch.tensor([float(is_calcified) for _, is_calcified in crops], device=ranks.device)
            loss = functional.binary_cross_entropy_with_logits(parallel(input_crops), truth)
            loss.backward()
            gradient = float(clip_gradient(network, recipe.clip))
            if loop.is_finite(float(loss.detach()) + gradient, partial(list, map(slices.name, numbers))):
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            # Log, save
            loop.count(recipe.batch)
            if loop.is_due(recipe.log_every):
                loop.note(loss=float(all_mean(loss.detach())), gradient=gradient, rate=rate)
            if loop.save_or_stop():
                break
    return network.eval().requires_grad_(False) if loop.is_complete else None


class _LogOdds(torch.nn.Module):
    """(n, 1, size, size) -> (n,) log odds: what DDP calls, where a classifier gives probabilities."""

    def __init__(self, classifier: SliceClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, view: torch.Tensor) -> torch.Tensor:
        return self.classifier.logits(view)

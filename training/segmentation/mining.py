"""Hard negatives: slices without calcium on which the network fires are shown more often (the idea is AI-CAC's)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from training.datasets.segmentation_dataset import SliceSamples, validation_batches
from training.engine.distributed import Ranks, all_sum

FIRES = 0.5
"""Least probability of calcium, in a pixel that counts, that makes a slice without calcium a false alarm."""


@torch.no_grad()
def find_false_alarms(
    probability: Callable[[torch.Tensor], torch.Tensor], samples: SliceSamples, batch: int, ranks: Ranks, workers: int
) -> NDArray[np.int64]:
    """Numbers of the slices without coronary calcium on which a pixel that counts reaches `FIRES`.

    A function of the weights alone, so that a resumed run finds the same slices; the same on all processes.

    Parameters
    ----------
    probability
        (n, channels, rows, columns) -> (n, rows, columns) of coronary calcium
    """
    blank = np.flatnonzero(~samples.calcified)
    fired = torch.zeros(len(samples), device=ranks.device)
    for validation_batch in validation_batches(samples, batch, ranks, workers, blank):
        is_alarm = ((probability(validation_batch.image) >= FIRES) & validation_batch.mask).flatten(1).any(1)
        fired[validation_batch.numbers[is_alarm.cpu()].to(ranks.device)] = 1
    return np.flatnonzero(all_sum(fired).cpu().numpy()).astype(np.int64)


class Mined:
    """The mined slices as a part of a checkpoint."""

    def __init__(self, samples: SliceSamples) -> None:
        self.samples = samples

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Numbers of the mined slices as a part of a checkpoint."""
        return {"numbers": torch.from_numpy(self.samples.mined)}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Take up the mined slices of a checkpoint."""
        self.samples.mined = state["numbers"].numpy()

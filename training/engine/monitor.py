"""Signs that self-distillation has died, and when to stop a run that will not come back.

Two ways to die: the teacher gives every prototype the same probability whatever it sees (its entropy reaches ln K), or
every slice gets the same embedding (the effective rank of embeddings reaches 1). The loss shows neither.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from training.engine.distributed import all_mean

logger = logging.getLogger(__name__)

UNIFORM = 0.999
"""Teacher entropy over ln K above which it says nothing."""

DEAD_RANK, LOW_RANK = 2.0, 10.0
"""Effective rank below which embeddings have collapsed, and below which a run is to be watched; the thresholds that
AIM-Harvard/DINOv2-3D-Med uses."""


def teacher_entropy(teacher_p: Tensor) -> float:
    """Mean entropy of what the teacher says, over that of knowing nothing: 0 sure, 1 uniform.

    Parameters
    ----------
    teacher_p
        (..., K), sums to 1; slices of all processes are averaged

    Examples
    --------
    >>> round(teacher_entropy(torch.full((3, 8), 1 / 8)), 6)
    1.0
    """
    entropy = torch.special.entr(teacher_p.double()).sum(-1).mean()
    return float(all_mean(entropy) / math.log(teacher_p.shape[-1]))


def effective_rank(embeddings: Tensor) -> float:
    """In how many directions embeddings spread (Roy and Vetterli, EUSIPCO 2007): exp of the entropy of their shares.

    Parameters
    ----------
    embeddings
        (n, dim); those of all processes count

    Examples
    --------
    >>> round(effective_rank(torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])), 3)
    2.0
    """
    x = embeddings.detach().double()
    mean = all_mean(x.mean(0))
    spread = all_mean((x - mean).T @ (x - mean) / len(x))  # (dim, dim), the same in every process
    singular = torch.linalg.eigvalsh(spread.cpu()).clamp_min(0).sqrt()
    if not float(singular.sum()) > 1e-9 * (1 + float(mean.norm())):
        return 1.0  # one point
    return float(torch.special.entr(singular / singular.sum()).sum().exp())


class TrainingFailed(Exception):
    """A run that will not recover, with the reason; it is stopped before it costs more."""


@dataclass
class NonFiniteGuard:
    """Counts steps in a row whose loss or gradient is not finite; such a step changes nothing.

    Parameters
    ----------
    patience
        So many in a row end the run.
    unit
        What is counted: "step", or "epoch" where only a whole epoch can be looked at.
    """

    patience: int = 3
    in_a_row: int = 0
    unit: str = "step"

    def note(self, step: int, is_bad: bool, batch: list[str]) -> None:
        """Take note of one step.

        Parameters
        ----------
        step
            Its number as in the log, from 1 on.
        batch
            Names of what it saw, for the message.

        Raises
        ------
        TrainingFailed
            Too many in a row.
        """
        self.in_a_row = self.in_a_row + 1 if is_bad else 0
        if is_bad and self.patience == 1:
            raise TrainingFailed(f"{self.unit} {step}: the loss is not finite; lower the learning rate")
        if is_bad:
            shown = ", ".join(batch[:16]) + (f" and {len(batch) - 16} more" if len(batch) > 16 else "")
            logger.warning("%s %d: loss or gradient is not finite; left out. It saw %s", self.unit, step, shown)
            if self.in_a_row >= self.patience:
                raise TrainingFailed(
                    f"{self.unit} {step}: loss or gradient not finite {self.in_a_row} times in a row, the last on "
                    f"{shown}; look at these slices, lower the learning rate, or set bf16=false"
                )


@dataclass
class CollapseMonitor:
    """Counts bad signs in a row; part of a checkpoint.

    Parameters
    ----------
    patience
        So many in a row end the run.
    """

    patience: int
    uniform_in_a_row: int = 0
    rank_in_a_row: int = 0
    _warned: bool = field(default=False, repr=False)

    def check(self, step: int, entropy: float, rank: float) -> str | None:
        """Take note of one check; the reason to stop, or None.

        Parameters
        ----------
        entropy
            Of the teacher, over ln K.
        rank
            Effective, of the teacher's embeddings.
        """
        self.uniform_in_a_row = self.uniform_in_a_row + 1 if entropy > UNIFORM else 0
        self.rank_in_a_row = self.rank_in_a_row + 1 if rank < DEAD_RANK else 0
        if rank < LOW_RANK and not self._warned:
            self._warned = True
            logger.warning("step %d: embeddings spread in %.1f directions only; watch effective_rank", step, rank)
        if self.uniform_in_a_row >= self.patience:
            return (
                f"step {step}: the teacher gives every prototype the same probability (entropy / ln K = {entropy:.4f}, "
                f"{self.uniform_in_a_row} checks in a row); lower the teacher temperature or the number of prototypes"
            )
        if self.rank_in_a_row >= self.patience:
            return (
                f"step {step}: every slice has the same embedding (effective rank {rank:.2f}, {self.rank_in_a_row} "
                "checks in a row); lower the learning rate, raise the teacher temperature or the batch"
            )
        return None

    def state_dict(self) -> dict[str, int]:
        """The counts as a part of a checkpoint."""
        return {"uniform_in_a_row": self.uniform_in_a_row, "rank_in_a_row": self.rank_in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take up the counts of a checkpoint."""
        self.uniform_in_a_row, self.rank_in_a_row = state["uniform_in_a_row"], state["rank_in_a_row"]

"""Self-distillation without labels: projection head, loss, center, teacher, schedules.

Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021 (arXiv 2104.14294). A student
sees all views of a slice, a teacher the global ones; the student is to say of each view what the teacher says of
another view of the same slice. The teacher is a moving average of the student. Two things keep both from saying the
same of everything: the teacher's answers are centered (no answer wins always) and sharpened (not all answers alike).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heartlens.networks.backbone import Backbone
from training.engine.distributed import all_mean

HEAD_RULE = (  # largest number of slices, prototypes, teacher temperature
    (20_000, 1024, 0.02),
    (50_000, 2048, 0.03),
    (100_000, 4096, 0.04),
    (500_000, 16_384, 0.05),
    (math.inf, 65_536, 0.07),
)
"""Few images cannot fill many prototypes, and need a sharper teacher: the steps that lightly-train found useful,
with our own middle values. COCA without validation and test patients falls into the second row."""

EPS = 1e-6
"""Smallest length in a normalization; 1e-12, torch's default, is zero in bfloat16's gradients."""


def head_rule(slices: int) -> tuple[int, float]:
    """Prototypes and final teacher temperature for a number of pre-training slices.

    Examples
    --------
    >>> head_rule(36_411)
    (2048, 0.03)
    """
    _, prototypes, temperature = next(row for row in HEAD_RULE if slices <= row[0])
    return prototypes, temperature


def in_float32(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast inside: it takes products in bfloat16, also those of einsum."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()  # the meta device


class ProjectionHead(nn.Module):
    """Embedding -> similarity to each prototype; used in pre-training alone.

    Parameters
    ----------
    dim
        Length of the embedding.
    prototypes
        K
    hidden, bottleneck
        Widths of the three linear layers.
    """

    def __init__(self, dim: int, prototypes: int, *, hidden: int = 2048, bottleneck: int = 256) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.prototypes = nn.Linear(bottleneck, prototypes, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights again, as before training."""
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.prototypes.reset_parameters()

    def forward(self, embedding: Tensor) -> Tensor:
        """(n, dim) -> (n, K) float32, cosines in -1..1 because both sides have length 1."""
        x = self.mlp(embedding)
        # A temperature of 0.02 multiplies errors by 50: the last product is not done in bfloat16.
        with in_float32(x.device):
            directions = functional.normalize(self.prototypes.weight.float(), dim=-1, eps=EPS)
            return functional.linear(functional.normalize(x.float(), dim=-1, eps=EPS), directions)


class DinoModel(nn.Module):
    """Backbone and head: what student and teacher both are."""

    def __init__(self, backbone: Backbone, head: ProjectionHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 1, size, size) -> embeddings (n, dim), cosines (n, K)."""
        embedding = self.backbone(views)
        return embedding, self.head(embedding)


class DistillationLoss(nn.Module):
    """Cross-entropy between what the teacher says of one view and the student of another.

    The sum that it is, for teacher views t, student views s, slices b, prototypes k::

        loss = 0
        for b in slices:
            for t in global views:
                for s in all views but t:
                    for k in prototypes:
                        loss -= p_teacher[t, b, k] * log(p_student[s, b, k])
        loss /= slices * pairs

    with ``p_teacher = softmax((teacher - center) / teacher_temperature)`` and
    ``p_student = softmax(student / student_temperature)``, in float32.

    Parameters
    ----------
    prototypes
        K
    student_temperature
        0.1 in the paper
    center_momentum
        Share of the old center in the new one.
    """

    center: Tensor
    moves: Tensor

    def __init__(self, prototypes: int, *, student_temperature: float = 0.1, center_momentum: float = 0.9) -> None:
        super().__init__()
        self.student_temperature = student_temperature
        self.center_momentum = center_momentum
        self.register_buffer("center", torch.zeros(prototypes))
        self.register_buffer("moves", torch.zeros(()))

    def teacher_probs(self, cosines: Tensor, temperature: float) -> Tensor:
        """(t, b, k) cosines -> probabilities, centered and sharpened, without gradient."""
        return ((cosines.detach().float() - self.center) / temperature).softmax(-1)

    def forward(self, teacher_p: Tensor, student: Tensor, *, first_view: int, views: int) -> Tensor:
        """The part of the loss that some views of the student have; the parts of all views add up to it.

        Parameters
        ----------
        teacher_p
            (t, b, k), of the global views, which are views 0..t-1
        student
            (s, b, k) cosines, of the views first_view..first_view+s-1
        views
            How many the student sees in all.
        """
        t, b, _ = teacher_p.shape
        s = len(student)
        with in_float32(student.device):
            student_log_p = (student.float() / self.student_temperature).log_softmax(-1)
            per_pair = -torch.einsum("t b k, s b k -> t s", teacher_p, student_log_p)
        another_view = torch.arange(t)[:, None] != torch.arange(first_view, first_view + s)
        pairs = t * views - min(t, views)
        return (per_pair * another_view.to(per_pair.device)).sum() / (b * pairs)

    @torch.no_grad()
    def update_center(self, cosines: Tensor) -> None:
        """Towards the mean of what the teacher said, (t, b, k), over the slices of all processes.

        The first moves make it the mean so far: from zero it would take 20 steps to arrive, in which a fresh teacher
        gives every slice the same sharp answer, and teaches the student just that.
        """
        mean = all_mean(cosines.float().mean((0, 1)))
        self.moves += 1
        self.center.lerp_(mean, torch.clamp(1 / self.moves, min=1 - self.center_momentum))


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """Move the teacher towards the student: teacher = momentum * teacher + (1 - momentum) * student."""
    torch._foreach_lerp_(_local(teacher.parameters()), _local(student.parameters()), 1 - momentum)


def _local(parameters: Iterable[Tensor]) -> list[Tensor]:
    # Under FSDP2 both are spread in the same way, so each process moves its own part.
    return [p.to_local() if hasattr(p, "to_local") else p.detach() for p in parameters]


# Schedules: functions of the step alone, so that a resumed run is on the same curve


def cosine(step: int, steps: int, start: float, end: float) -> float:
    """From `start` at step 0 to `end` at the last of `steps`.

    Examples
    --------
    >>> [round(cosine(s, 5, 0.0, 1.0), 3) for s in range(5)]
    [0.0, 0.146, 0.5, 0.854, 1.0]
    """
    part = min(step / max(1, steps - 1), 1.0)
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def warmup_cosine(step: int, steps: int, *, rise: int, peak: float, end: float) -> float:
    """Straight up to `peak` during `rise` steps, then by a cosine down to `end`.

    Examples
    --------
    >>> [round(warmup_cosine(s, 6, rise=2, peak=1.0, end=0.0), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.75, 0.25, 0.0]
    """
    if step < rise:
        return peak * (step + 1) / rise
    return cosine(step - rise, steps - rise, peak, end)


def linear_warmup(step: int, rise: int, start: float, end: float) -> float:
    """Straight from `start` to `end` during `rise` steps, then `end`.

    Examples
    --------
    >>> [round(linear_warmup(s, 2, 0.02, 0.04), 3) for s in range(4)]
    [0.02, 0.03, 0.04, 0.04]
    """
    return end if step >= rise else start + (end - start) * step / rise

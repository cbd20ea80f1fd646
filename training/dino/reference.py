"""The steps of training written plainly, as published references write them: what ours are held against.

Views are cut on the CPU, one after the other; the student sees one group of crops at a time, as `MultiCropWrapper` of
DINO does; attention keeps its weights; the teacher follows in a Python loop; everything is float32. Tests hold the
loss and the weights of both forms equal on the same crops, and `training.bench` says how much faster ours is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from heartlens.networks.backbone import Backbone
from heartlens.networks.view import AIR_HU
from training.dino.augment import AugmentConfig, Views
from training.dino.distillation import DinoModel
from training.dino.view_batches import ViewBatch

# Views


def reference_views(
    image: NDArray[np.int16], spacing_mm: Sequence[float], views: Views, *, size: int, window_hu: tuple[float, float]
) -> list[Tensor]:
    """Views of one slice, one by one, as torchvision's functions on tensors make them.

    A crop is of whole pixels, so that it lies up to half a pixel beside the one that was drawn, and the noise is
    another; otherwise it shows what `render_views` shows.

    Parameters
    ----------
    image
        (rows, columns), HU
    spacing_mm
        Row and column distance.
    views
        Of this slice, leading shape (views,).

    Returns
    -------
    list[Tensor]
        (1, size, size) each
    """
    low, high = window_hu
    shown = []
    for n in range(len(views.side_mm)):
        first = [round((views.center_mm[n, a] - views.side_mm[n, a] / 2) / spacing_mm[a]) for a in (0, 1)]
        shape = [max(1, round(views.side_mm[n, a] / spacing_mm[a])) for a in (0, 1)]
        view = torch.from_numpy(_crop(image, first, shape)).float()[None, None]
        view = functional.interpolate(view, (size, size), mode="bilinear", antialias=True, align_corners=False)
        view = view.flip([2 + a for a in (0, 1) if views.flip[n, a]])
        if views.blur_mm[n] > 0:
            view = _blur(view, [float(views.blur_mm[n] / views.side_mm[n, a] * size) for a in (0, 1)])
        view = views.gain[n] * view + views.offset_hu[n]
        if views.noise_hu[n] > 0:
            generator = torch.Generator().manual_seed(int(views.noise_seed[n]))
            view = view + views.noise_hu[n] * torch.randn(view.shape, generator=generator)
        shown.append(((view[0] - low) * (2 / (high - low)) - 1).clamp(-1, 1))
    return shown


def _crop(image: NDArray[np.int16], first: Sequence[int], shape: Sequence[int]) -> NDArray[np.int16]:
    """Part of an image; beyond its edge there is air."""
    crop = np.full(shape, AIR_HU, image.dtype)
    starts = [max(0, f) for f in first]
    stops = [min(n, f + s) for n, f, s in zip(image.shape, first, shape, strict=True)]
    inside = tuple(slice(start - f, stop - f) for start, stop, f in zip(starts, stops, first, strict=True))
    crop[inside] = image[starts[0] : stops[0], starts[1] : stops[1]]
    return crop


def _blur(view: Tensor, sigma_px: Sequence[float]) -> Tensor:
    """(1, 1, rows, columns); a square kernel, as torchvision's."""
    reach = max(1, int(np.ceil(3 * max(sigma_px))))
    place = torch.arange(-reach, reach + 1, dtype=torch.float32)
    rows, columns = (torch.exp(-(place**2) / (2 * max(s, 1e-2) ** 2)) for s in sigma_px)
    kernel = rows[:, None] * columns
    padded = functional.pad(view, [reach] * 4, mode="reflect")
    return functional.conv2d(padded, (kernel / kernel.sum())[None, None])


def reference_crops(batch: ViewBatch, config: AugmentConfig) -> list[Tensor]:
    """All crops of a batch, the global ones first, each (batch, 1, size, size)."""
    crops: list[Tensor] = []
    for kind, size in ((batch.global_views, config.global_size), (batch.local_views, config.local_size)):
        slices = []
        for n, image in enumerate(batch.images.numpy()):
            own = Views(*(part[n] for part in kind))
            slices.append(
                reference_views(image, batch.spacing_mm[n].tolist(), own, size=size, window_hu=config.window_hu)
            )
        crops += [torch.stack(crop) for crop in zip(*slices, strict=True)]
    return crops


# Self-distillation


def reference_embedding(backbone: Backbone, images: Tensor) -> Tensor:
    """(n, 1, height, width) -> (n, dim), with attention weights written out."""
    x = backbone.tokens(images)
    for block in backbone.blocks:
        q, k, v = block.attn._split(block.norm1(x))
        weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        x = x + block.attn.proj((weights @ v).transpose(1, 2).flatten(2))
        x = x + block.mlp(block.norm2(x))
    return backbone.norm(x)[:, 0]


class ReferenceDino:
    """Student, teacher and center, and the step that moves them (facebookresearch/dino, main_dino.py).

    Parameters
    ----------
    student, teacher
        Of equal weights.
    optimizer
        Of the student.
    """

    def __init__(self, student: DinoModel, teacher: DinoModel, optimizer: torch.optim.Optimizer) -> None:
        self.student, self.teacher, self.optimizer = student, teacher, optimizer
        self.center = torch.zeros(1, student.head.prototypes.out_features, device=next(student.parameters()).device)
        self.steps = 0

    def step(
        self,
        crops: Sequence[Tensor],
        *,
        teacher_temperature: float,
        momentum: float,
        student_temperature: float = 0.1,
        center_momentum: float = 0.9,
        clip: float = 3.0,
    ) -> float:
        """One step on crops of (batch, 1, size, size), of which the first two are global; the loss."""
        crops = [crop.to(self.center.device) for crop in crops]
        with torch.no_grad():
            teacher_out = _one_group_at_a_time(self.teacher, crops[:2])
        student_out = _one_group_at_a_time(self.student, crops)
        loss = self._loss(student_out, teacher_out, len(crops), teacher_temperature, student_temperature)
        value = loss.item()
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), clip, foreach=False)
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for mine, theirs in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                mine.mul_(momentum).add_((1 - momentum) * theirs.detach())
            # Published: center_momentum from the first step on. Ours begins with the mean so far (`update_center`).
            self.steps += 1
            kept = min(center_momentum, 1 - 1 / self.steps)
            self.center = kept * self.center + (1 - kept) * teacher_out.mean(dim=0, keepdim=True)
        return value

    def _loss(self, student: Tensor, teacher: Tensor, crops: int, sharp: float, soft: float) -> Tensor:
        """DINOLoss: each of the teacher's crops against each other of the student's."""
        student_parts = (student / soft).chunk(crops)
        teacher_parts = ((teacher - self.center) / sharp).softmax(dim=-1).detach().chunk(2)
        total, terms = torch.zeros((), device=student.device), 0
        for t, target in enumerate(teacher_parts):
            for s, prediction in enumerate(student_parts):
                if s != t:
                    total = total + torch.sum(-target * prediction.log_softmax(dim=-1), dim=-1).mean()
                    terms += 1
        return total / terms


def _one_group_at_a_time(learner: DinoModel, crops: Sequence[Tensor]) -> Tensor:
    """Crops of one size are one group; all of them then go through the head: (crops * batch, prototypes)."""
    embeddings: list[Tensor] = []
    first = 0
    for n in range(1, len(crops) + 1):
        if n == len(crops) or crops[n].shape != crops[first].shape:
            embeddings.append(reference_embedding(learner.backbone, torch.cat(list(crops[first:n]))))
            first = n
    return learner.head(torch.cat(embeddings))


# Segmentation


def reference_batch(samples: Iterable[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor]:
    """Turn, shift and zoom samples of `SliceSamples` one by one, as MONAI's RandAffine does: image, target, mask."""
    images, targets, masks = [], [], []
    for sample in samples:
        image = torch.from_numpy(sample["image"])[None]
        codes = torch.from_numpy(np.stack([sample["target"], sample["weight"] > 0]).astype(np.float32))[None]
        if "move" in sample:
            move = torch.from_numpy(sample["move"])[None]
            grid = functional.affine_grid(move, list(image.shape), align_corners=False)
            image = functional.grid_sample(image, grid, align_corners=False)
            codes = functional.grid_sample(codes, grid, mode="nearest", align_corners=False)
        images.append(image[0])
        targets.append(codes[0, 0].long())
        masks.append(codes[0, 1] > 0)
    return torch.stack(images), torch.stack(targets), torch.stack(masks)


def reference_ce_tversky(logits: Tensor, target: Tensor, mask: Tensor, alpha: float, beta: float) -> Tensor:
    """Cross-entropy plus 1 - TP / (TP + alpha FP + beta FN), class by class, over the pixels of the mask."""
    scores = logits.permute(0, 2, 3, 1)[mask]  # (pixels, classes)
    truth = target[mask]
    p = scores.softmax(dim=1)
    missing = torch.zeros((), device=logits.device)
    for c in range(1, logits.shape[1]):
        tp = p[truth == c, c].sum()
        fp, fn = p[truth != c, c].sum(), (1 - p[truth == c, c]).sum()
        missing = missing + 1 - (tp + 1e-5) / (tp + alpha * fp + beta * fn + 1e-5)
    return functional.cross_entropy(scores, truth) + missing / (logits.shape[1] - 1)


def reference_unet_step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    samples: Iterable[dict[str, Any]],
    *,
    alpha: float,
    beta: float,
    clip: float,
) -> float:
    """One step on samples of `SliceSamples`; the loss."""
    device = next(network.parameters()).device
    image, target, mask = (part.to(device) for part in reference_batch(samples))
    loss = reference_ce_tversky(network(image), target, mask, alpha, beta)
    value = loss.item()
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), clip, foreach=False)
    optimizer.step()
    optimizer.zero_grad()
    return value


# Slice classifier


def reference_head_epoch(
    backbone: Backbone,
    head: nn.Linear,
    optimizer: torch.optim.Optimizer,
    images: Sequence[Tensor],
    is_calcified: ArrayLike,
    batch: int,
) -> float:
    """One epoch of a linear head as eval_linear.py of DINO fits it: the frozen backbone runs again for each image.

    Parameters
    ----------
    images
        (1, size, size) each, cut for this epoch
    """
    truth = torch.as_tensor(np.asarray(is_calcified)).float().to(images[0].device)
    total = 0.0
    for first in range(0, len(images), batch):
        with torch.no_grad():
            features = reference_embedding(backbone, torch.stack(list(images[first : first + batch])))
        logits = head(features)[:, 0]
        loss = functional.binary_cross_entropy_with_logits(logits, truth[first : first + batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(features)
    return total / len(images)

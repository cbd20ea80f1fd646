"""The network that names calcium: a U-Net on a few neighboring slices of the heart.

The architecture of Ronneberger et al. (MICCAI 2015) with padding, so that output and input are of one size, and with
group normalization, so that a result does not depend on what else is in the batch. 16 filters at the top read a
heart crop in milliseconds on a CPU; 64 are the U-Net of the DINO-LG paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class UNetNumbers:
    """What fixes the shape of every weight.

    Parameters
    ----------
    in_channels
        Images side by side, and the threshold mask.
    classes
        Outputs.
    base
        Filters of the first level; each level below has twice as many.
    depth
        How often the image is halved.
    groups
        Of group normalization; 0 for none, as the U-Net was published.
    """

    in_channels: int = 4
    classes: int = 6
    base: int = 16
    depth: int = 4
    groups: int = 8

    def __post_init__(self) -> None:
        if min(self.in_channels, self.classes, self.base, self.depth) < 1:
            raise ValueError(f"in_channels, classes, base and depth must be at least 1, got {self}")
        if self.groups < 0 or (self.groups and self.base % self.groups):
            raise ValueError(f"base ({self.base}) must divide by groups ({self.groups})")

    @property
    def multiple_px(self) -> int:
        """Rows and columns must be a multiple of this."""
        return 2**self.depth

    @property
    def widths(self) -> list[int]:
        """Filters of each level, top to bottom."""
        return [self.base * 2**level for level in range(self.depth + 1)]


class UNet(nn.Module):
    """(n, in_channels, rows, columns) -> (n, classes, rows, columns) logits.

    Parameters
    ----------
    numbers
        Shape of the weights.
    bottom
        What happens to the lowest level; nothing, unless a recipe says so.
    """

    def __init__(self, numbers: UNetNumbers, bottom: nn.Module | None = None) -> None:
        super().__init__()
        widths = numbers.widths
        self.down = nn.ModuleList(
            conv_twice(i, o, numbers.groups) for i, o in zip([numbers.in_channels, *widths[:-1]], widths, strict=True)
        )
        self.bottom = bottom or nn.Identity()
        self.rise = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1]))
        self.up = nn.ModuleList(conv_twice(2 * w, w, numbers.groups) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(numbers.base, numbers.classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, in_channels, rows, columns) -> (n, classes, rows, columns) logits."""
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else nn.functional.max_pool2d(x, 2))
            skips.append(x)
        x = self.bottom(skips.pop())
        for rise, block in zip(self.rise, self.up, strict=True):
            x = block(torch.cat([skips.pop(), rise(x)], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def conv_twice(inputs: int, outputs: int, groups: int) -> nn.Sequential:
    """Two 3x3 convolutions, each normalized (unless `groups` is 0) and rectified."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        # The normalization has a bias of its own.
        layers.append(nn.Conv2d(channels, outputs, 3, padding=1, bias=not groups))
        if groups:
            layers.append(nn.GroupNorm(groups, outputs))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)

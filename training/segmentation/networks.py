"""The segmentation networks of the two papers, by name; MONAI's where MONAI has them.

All are normalized by groups and not by batch, MONAI's too: a batch shared among processes then gives the same result
as on one, and a batch of one image can train. The numbers of parameters stay what they are with batch normalization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from heartlens.core.errors import InputRefused
from heartlens.networks.vessel_unet import UNet, UNetNumbers

NetworkName = Literal[
    "unet", "attention-unet", "swin-unet", "chew-baseline", "chew-wide", "chew-wide-1x1", "chew-attention"
]

PUBLISHED_PARAMETERS = {
    "chew-baseline": 7_759_521,
    "chew-wide": 124_424_363,
    "chew-wide-1x1": 131_420_267,
    "chew-attention": 131_420_368,
}
"""Chew 2024: models 1 and 2, 4, 3, 5."""


@dataclass(frozen=True)
class NetworkRecipe:
    """Which network.

    Parameters
    ----------
    name
        "unet" with 16 filters is the one that HeartLens ships, with 64 the DINO-LG paper's
    base
        Filters of the first level (Swin: embedding length, a multiple of 12).
    depth
        Halvings of the U-Nets.
    groups
        Of the U-Net's group normalization, 0 for none.
    checkpointing
        Swin computes activations again in the backward pass instead of keeping them.
    """

    name: NetworkName = "unet"
    base: int = 16
    depth: int = 4
    groups: int = 8
    checkpointing: bool = False


def build_network(recipe: NetworkRecipe, in_channels: int, classes: int) -> nn.Module:
    """A network with random weights: (n, in_channels, rows, columns) -> (n, classes, rows, columns) logits.

    Chew's networks have the shape that was published, whatever `base` and `depth` say, unless these are smaller than
    published: then they are miniatures for tests.

    Raises
    ------
    InputRefused
        ``input``: there is no network of these numbers
    """
    try:
        network = _named_network(recipe, in_channels, classes)
    except ValueError as error:
        raise InputRefused("input", f"network: {error}; choose other numbers for it") from None
    for module in network.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = ChannelsLastGroupNorm  # the same weights under the same names
    return network


def _named_network(recipe: NetworkRecipe, in_channels: int, classes: int) -> nn.Module:
    match recipe.name:
        case "unet":
            return UNet(UNetNumbers(in_channels, classes, recipe.base, recipe.depth, recipe.groups))
        case "attention-unet":
            return _attention_unet(recipe, in_channels, classes)
        case "swin-unet":
            return _swin_unet(recipe, in_channels, classes)
        case "chew-baseline":
            return UNet(UNetNumbers(in_channels, classes, recipe.base, recipe.depth, groups=0))
        case _:
            return WideUNet(
                UNetNumbers(in_channels, classes, recipe.base, recipe.depth, recipe.groups),
                with_1x1=recipe.name != "chew-wide",
                with_attention=recipe.name == "chew-attention",
            )


def multiple_px(recipe: NetworkRecipe) -> int:
    """Rows and columns of the input must be a multiple of this."""
    return 32 if recipe.name == "swin-unet" else 2**recipe.depth


def count_parameters(network: nn.Module) -> int:
    """Numbers that training moves."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def activation_bytes(network: nn.Module, in_channels: int, size_px: int) -> int:
    """What autograd keeps of one fp32 image for the backward pass, weights not counted; found without computing.

    Parameters
    ----------
    network
        Moved to the meta device, where tensors have shapes and no values.
    """
    network = network.to("meta")
    kept: dict[int, torch.UntypedStorage] = {}
    own = {p.untyped_storage()._cdata for p in network.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _graph = network(torch.empty(1, in_channels, size_px, size_px, device="meta"))
    return sum(storage.nbytes() for storage in kept.values())


class ChannelsLastGroupNorm(nn.GroupNorm):
    """Group normalization that does not lose on a CPU what convolutions gain from channels-last and bfloat16.

    torch's backward pass is written for contiguous tensors: over 16 channels of 256 x 256 it takes 79 ms channels-last
    and 2.5 ms contiguous, and bringing a tensor from one order to the other takes 3.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, rows, columns) -> the same shape, normalized."""
        if x.dtype == torch.bfloat16 and x.device.type == "cpu":
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x)


class SpatialAttention(nn.Module):
    """Weigh each place by a 7x7 convolution over the mean and the maximum of its channels.

    Woo et al., CBAM (ECCV 2018). 98 weights, a bias, and the gain and offset of a normalization: the 101 parameters by
    which Chew's model 5 exceeds model 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(2, 1, 7, padding=3)
        self.norm = nn.GroupNorm(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, rows, columns) -> the same shape, weighed place by place."""
        pooled = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * self.norm(self.weigh(pooled)).sigmoid()


class WideUNet(UNet):
    """Chew's wide U-Nets: five halvings from 64 to 2,048 channels, normalized; with 1x1 convolutions; with attention.

    The publication gives totals and not every layer. With a normalization after each convolution model 4 comes to
    124,373,057 of its 124,424,363 parameters, and with a 1x1 convolution after each block model 3 to 131,366,849 of
    131,420,267: 0.04 % short. Where the rest sits is not said; the difference of models 3 and 5, 101, is met exactly.
    """

    def __init__(self, numbers: UNetNumbers, *, with_1x1: bool, with_attention: bool) -> None:
        super().__init__(numbers, SpatialAttention() if with_attention else None)
        if with_1x1:
            widths = numbers.widths
            for blocks, level_widths in ((self.down, widths), (self.up, widths[-2::-1])):
                for n, width in enumerate(level_widths):
                    blocks[n] = nn.Sequential(blocks[n], nn.Conv2d(width, width, 1), nn.ReLU(inplace=True))


def _attention_unet(recipe: NetworkRecipe, in_channels: int, classes: int) -> nn.Module:
    from monai.networks.nets import AttentionUnet

    widths = [recipe.base * 2**level for level in range(recipe.depth + 1)]
    return normalize_by_groups(
        AttentionUnet(2, in_channels, classes, channels=widths, strides=[2] * recipe.depth), recipe.groups
    )


def _swin_unet(recipe: NetworkRecipe, in_channels: int, classes: int) -> nn.Module:
    from monai.networks.nets import SwinUNETR

    if recipe.base % 12:
        raise ValueError(f"network.base: Swin needs a multiple of 12, got {recipe.base}; nearest to the paper's 64: 60")
    return SwinUNETR(
        in_channels, classes, feature_size=recipe.base, spatial_dims=2, use_checkpoint=recipe.checkpointing
    )


def normalize_by_groups(network: nn.Module, groups: int) -> nn.Module:
    """Put group normalization in the place of every batch normalization of a network, in place."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                channels = child.num_features
                setattr(module, name, nn.GroupNorm(groups if groups and channels % groups == 0 else 1, channels))
    return network

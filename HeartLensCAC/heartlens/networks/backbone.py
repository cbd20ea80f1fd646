"""The vision transformer that looks at one CT slice: plain torch, with the parameter names of timm.

Dosovitskiy et al., ICLR 2021 (arXiv 2010.11929). The same names let weights that were published for timm be loaded
from a local file, and let a parity test hold this file against timm without timm being needed to score a scan.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

WIDTHS = {
    "mini": (96, 4, 3),
    "compact": (128, 5, 4),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
}
"""Embedding length, blocks, heads. tiny, small and base as in timm; mini and compact are ours, for tests and a CPU."""

NORM_EPS = 1e-6
"""timm's; torch's own default is 1e-5."""


@dataclass(frozen=True)
class BackboneShape:
    """The numbers that make a backbone; they travel with its weights.

    Parameters
    ----------
    dim
        Length of the embedding.
    depth, heads
        Blocks, and attention heads in each.
    patch
        Side of a patch, pixels.
    size
        Side of the square image that the position embedding is stored for, pixels.
    """

    dim: int
    depth: int
    heads: int
    patch: int
    size: int

    def __post_init__(self) -> None:
        if min(self.dim, self.depth, self.heads, self.patch, self.size) < 1 or self.dim % self.heads:
            raise ValueError(f"a backbone needs positive numbers and dim divisible by heads, got {self}")
        if self.size % self.patch:
            raise ValueError(f"size must be a multiple of patch, got {self.size} and {self.patch}")

    @classmethod
    def named(cls, name: str) -> BackboneShape:
        """Shape of a name such as `vit_base_patch8_224`.

        Examples
        --------
        >>> BackboneShape.named("vit_small_patch16_224")
        BackboneShape(dim=384, depth=12, heads=6, patch=16, size=224)
        """
        match = re.fullmatch(r"vit_([a-z]+)_patch(\d+)_(\d+)", name)
        if match is None or match[1] not in WIDTHS:
            raise ValueError(f"backbone must be vit_<{'|'.join(WIDTHS)}>_patch<pixels>_<pixels>, got {name!r}")
        return cls(*WIDTHS[match[1]], patch=int(match[2]), size=int(match[3]))

    def to_json(self) -> dict[str, int]:
        """Plain values, by the names of the fields."""
        return asdict(self)


class Attention(nn.Module):
    """Multi-head self-attention over all tokens of an image.

    Attributes
    ----------
    in_products
        Two matrix products and a softmax instead of torch's fused kernel; see `Backbone.attend_in_products`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_products = False
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(n, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (n, heads, tokens, dim / heads)
        return q, k, v

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, dim) -> the same shape, mixed over all tokens of each image."""
        q, k, v = self._split(x)
        if self.in_products:
            weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1)
            mixed = weights.to(v.dtype) @ v  # autocast takes the softmax in float32
        else:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor) -> Tensor:
        """(n, heads, tokens, tokens): how much each token (row) takes from each (column); rows sum to 1."""
        q, k, _ = self._split(x)
        return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)


class Mlp(nn.Module):
    """Two linear layers on each token, four times as wide in between."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, dim) -> the same shape, each token for itself."""
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each behind a norm and added to what came in.

    Attributes
    ----------
    drop_path
        Probability with which, in training, each of the two is left out of an image; see `Backbone.drop_paths`.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.drop_path = 0.0
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, dim) -> the same shape."""
        x = x + self._dropped(self.attn(self.norm1(x)))
        return x + self._dropped(self.mlp(self.norm2(x)))

    def _dropped(self, x: Tensor) -> Tensor:
        """In training, nothing for some images, and more for the others, so that the mean stays."""
        if not (self.training and self.drop_path):
            return x
        kept = 1 - self.drop_path
        is_kept = torch.rand(x.shape[0], 1, 1, device=x.device) < kept
        return x * (is_kept / kept).to(x.dtype)


class PatchEmbed(nn.Module):
    """One token for each square patch."""

    def __init__(self, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch, stride=patch)

    def forward(self, image: Tensor) -> Tensor:
        """(n, 3, height, width) -> (n, patches, dim), row by row."""
        return self.proj(image).flatten(2).transpose(1, 2)


class Backbone(nn.Module):
    """A CT slice goes in, one embedding comes out.

    Any image whose sides are multiples of the patch is taken; the position embedding is interpolated to its grid.

    Parameters
    ----------
    shape
        Its numbers.
    recompute
        Keep no activations inside blocks and compute them again going backward; less memory, more time.
    """

    def __init__(self, shape: BackboneShape, *, recompute: bool = False) -> None:
        super().__init__()
        self.shape = shape
        self.recompute = recompute
        self.gray_to_rgb = nn.Conv2d(1, 3, kernel_size=1)
        self.patch_embed = PatchEmbed(shape.dim, shape.patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, shape.dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (shape.size // shape.patch) ** 2, shape.dim))
        self.blocks = nn.ModuleList(Block(shape.dim, shape.heads) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.dim, eps=NORM_EPS)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start values; the first convolution repeats gray in three channels, so that RGB weights see a gray photo."""
        nn.init.ones_(self.gray_to_rgb.weight)
        nn.init.zeros_(self.gray_to_rgb.bias)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.normal_(self.cls_token, std=1e-6)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        self.patch_embed.proj.reset_parameters()

    def tokens(self, image: Tensor) -> Tensor:
        """What enters the first block.

        Parameters
        ----------
        image
            (n, 1, height, width), HU window scaled to -1..1

        Returns
        -------
        Tensor
            (n, 1 + patches, dim), the class token first
        """
        if image.shape[-2] % self.shape.patch or image.shape[-1] % self.shape.patch:
            size = tuple(image.shape[-2:])
            raise ValueError(f"image sides must be multiples of the patch, {self.shape.patch} pixels, got {size}")
        patches = self.patch_embed(self.gray_to_rgb(image))
        grid = (image.shape[-2] // self.shape.patch, image.shape[-1] // self.shape.patch)
        first = self.cls_token.expand(patches.shape[0], -1, -1)  # len() would fix the batch of an exported graph
        tokens = torch.cat([first, patches], dim=1)
        return tokens + resample_position(self.pos_embed, grid)

    def forward(self, image: Tensor) -> Tensor:
        """(n, 1, height, width), HU window scaled to -1..1 -> (n, dim): the last layer's class token."""
        x = self.tokens(image)
        for block in self.blocks:
            again = self.recompute and self.training and torch.is_grad_enabled()
            x = checkpoint(block, x, use_reentrant=False) if again else block(x)
        return self.norm(x[:, 0])

    def attend_in_products(self) -> Backbone:
        """Attend in two matrix products, in place: what trains faster in bfloat16 on a CPU.

        There the backward pass of torch's fused kernel takes a third of a training step. Attention weights are then
        kept, tokens squared for each head; on a GPU the fused kernel is faster and keeps none.
        """
        for block in self.blocks:
            block.attn.in_products = True
        return self

    def drop_paths(self, rate: float) -> Backbone:
        """Leave blocks out at random in training (stochastic depth; Huang et al., arXiv 1603.09382), in place.

        Parameters
        ----------
        rate
            Of the last block; those before it rise to it from 0 in equal steps, as in timm and in DINO. 0 is none.
        """
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path must lie in 0..1, 1 left out, got {rate}")
        for block, one in zip(self.blocks, torch.linspace(0, rate, len(self.blocks)).tolist(), strict=True):
            block.drop_path = one
        return self

    def class_attention(self, image: Tensor) -> Tensor:
        """What the class token of the last block looks at.

        Returns
        -------
        Tensor
            (n, heads, height / patch, width / patch), sums to at most 1 over the patches; the rest is on the class
            token
        """
        x = self.tokens(image)
        for block in self.blocks[:-1]:
            x = block(x)
        last = self.blocks[-1]
        weights = last.attn.weights(last.norm1(x))
        grid = (image.shape[-2] // self.shape.patch, image.shape[-1] // self.shape.patch)
        return weights[:, :, 0, 1:].unflatten(-1, grid)

    @torch.no_grad()
    def fix_size(self, size: int) -> Backbone:
        """Store the position embedding for one image size, so that an exported graph does not interpolate."""
        side = size // self.shape.patch
        self.pos_embed = nn.Parameter(resample_position(self.pos_embed, (side, side)).clone())
        self.shape = BackboneShape(**(self.shape.to_json() | {"size": size}))
        return self


def resample_position(embedding: Tensor, grid: tuple[int, int]) -> Tensor:
    """Interpolate a position embedding to another grid of patches; the class token keeps its own.

    Parameters
    ----------
    embedding
        (1, 1 + side * side, dim)
    grid
        Rows, columns of patches.

    Returns
    -------
    Tensor
        (1, 1 + rows * columns, dim)
    """
    side = round((embedding.shape[1] - 1) ** 0.5)
    if grid == (side, side):
        return embedding
    first, rest = embedding[:, :1], embedding[:, 1:]
    image = rest.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, dim, side, side)
    # Bicubic with antialias is what timm does; without antialias, weights trained at 512 would differ at 96.
    image = functional.interpolate(image, size=grid, mode="bicubic", antialias=True)
    return torch.cat([first, image.flatten(2).transpose(1, 2).to(first.dtype)], dim=1)

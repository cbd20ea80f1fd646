"""Weights of vision transformers that others pre-trained on photographs: from a local file, by their own names.

Three kinds of names are known: timm's, those of facebookresearch/dino, and those of facebookresearch/dinov2. All become
the weights of `heartlens.networks.backbone.Backbone`, which gives the same features: three channels become one by the
gray of a photograph, and a scaled layer (LayerScale) becomes a layer with scaled weights.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone, BackboneShape, resample_position
from training.engine.config import runtime_only

Normalization = Literal["half", "imagenet"]
"""What a pre-training took off its images and divided them by."""

CHANNELS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation of red, green and blue of 0 to 1: timm's augmented ViTs; DINO, DINOv2 and most others."""

PREFIXES = ("module.", "backbone.")
"""Before the names in a checkpoint of facebookresearch/dino or dinov2."""

LEFT_OUT = ("head.", "fc_norm.", "head_dist.", "dino_head.", "ibot_head.", "mask_token")
"""Parts that make no features."""

REGISTERS = ("register_tokens", "reg_token")

CHUNKED = re.compile(r"^blocks\.\d+\.(\d+)\.")
"""dinov2 names its blocks by the part of the network that a process holds, then by their own number."""

SCALED = {"ls1.gamma": "attn.proj", "ls2.gamma": "mlp.fc2"}
"""The scale of a branch, and the last layer of that branch."""


@dataclass(frozen=True)
class FoundationRecipe:
    """A backbone that was pre-trained elsewhere, taken as it is.

    Parameters
    ----------
    weights
        File on this computer; None is no such backbone.
    backbone
        Its name, see `BackboneShape.named`; DINOv2 has patches of 14 pixels.
    normalization
        Of its pre-training.
    size
        Pixels of the view that it is shown; a multiple of its patch.
    """

    weights: Path | None = runtime_only(None)  # noqa: RUF009  - it is a field
    backbone: str = "vit_small_patch16_224"
    normalization: Normalization = "imagenet"
    size: int = 224

    def __post_init__(self) -> None:
        if self.size % BackboneShape.named(self.backbone).patch:
            raise ValueError(f"size must be a multiple of the patch of {self.backbone}, got {self.size}")


def load_foundation(recipe: FoundationRecipe) -> Backbone:
    """The backbone of a recipe, with its weights.

    Parameters
    ----------
    recipe
        Which; with weights.

    Raises
    ------
    InputRefused
        ``input``: no weights are named, or they do not fit
    """
    if recipe.weights is None:
        raise InputRefused("input", "foundation.weights: expected a file of weights, found none; give one")
    backbone = Backbone(BackboneShape.named(recipe.backbone))
    load_published_weights(backbone, recipe.weights, normalization=recipe.normalization)
    return backbone.eval().requires_grad_(False)


def load_published_weights(backbone: Backbone, path: Path, *, normalization: Normalization = "half") -> None:
    """Load weights from a local file; a classification head is left out, positions of another size are interpolated.

    Parameters
    ----------
    backbone
        Takes the weights.
    path
        A safetensors file, or a .pth file as facebookresearch publishes them: a backbone, or a whole checkpoint, of
        which the teacher is taken.
    normalization
        Of the pre-training, see `CHANNELS`: the first convolution makes of a slice, -1 to 1, what a gray photograph
        was there. A file that has such a convolution keeps its own.

    Raises
    ------
    InputRefused
        ``input``, the file cannot be read or is of another network
    """
    state = _published_names(_pth_state(path) if path.suffix == ".pth" else _safetensors_state(path), path)
    own = backbone.state_dict()
    if "pos_embed" in state and state["pos_embed"].shape != own["pos_embed"].shape:
        side = backbone.shape.size // backbone.shape.patch
        if (round((state["pos_embed"].shape[1] - 1) ** 0.5) ** 2) == state["pos_embed"].shape[1] - 1:
            state["pos_embed"] = resample_position(state["pos_embed"], (side, side))
    for name, tensor in gray_weights(normalization).items():
        state.setdefault(name, tensor)
    missing, unknown = sorted(set(own) - set(state)), sorted(set(state) - set(own))
    shapes = [n for n in own if n in state and own[n].shape != state[n].shape]
    if missing or unknown or shapes:
        mismatch = f"missing {missing[:3]}, unknown {unknown[:3]}, of another shape {shapes[:3]}"
        raise InputRefused(
            "input", f"{path} does not fit {backbone.shape}: {mismatch}; choose the backbone of these weights"
        )
    backbone.load_state_dict(state)


def gray_weights(normalization: Normalization) -> dict[str, Tensor]:
    """The first convolution, which makes three normalized channels of one from -1 to 1.

    A pixel x is the gray g = (x + 1) / 2 of a photograph, and (g - mean) / std is linear in x.

    Parameters
    ----------
    normalization
        See `CHANNELS`.

    Examples
    --------
    >>> gray_weights("half")["gray_to_rgb.weight"].flatten().tolist()
    [1.0, 1.0, 1.0]
    """
    if normalization not in get_args(Normalization):
        raise ValueError(f"normalization must be one of {', '.join(CHANNELS)}, got {normalization!r}")
    mean, deviation = (torch.tensor(values) for values in CHANNELS[normalization])
    return {
        "gray_to_rgb.weight": (0.5 / deviation).reshape(3, 1, 1, 1),
        "gray_to_rgb.bias": (0.5 - mean) / deviation,
    }


def _published_names(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same weights by the names of the backbone."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if name.startswith(REGISTERS):
            raise InputRefused(
                "input",
                f"{path} was trained with register tokens, which this backbone has not; choose weights without "
                "(DINOv2 is published with and without)",
            )
        if not name.startswith(LEFT_OUT):
            renamed[CHUNKED.sub(r"blocks.\1.", name)] = tensor
    for name in [name for name in renamed if name.endswith(tuple(SCALED))]:
        block, scale = name.rsplit(".", 2)[0], ".".join(name.rsplit(".", 2)[1:])
        gamma = renamed.pop(name)
        for part in ("weight", "bias"):
            layer = f"{block}.{SCALED[scale]}.{part}"
            if layer in renamed:
                renamed[layer] = renamed[layer] * (gamma[:, None] if part == "weight" else gamma)
    return renamed


def _safetensors_state(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state: dict[str, Any] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputRefused(
            "input", f"{path}: expected weights as safetensors, in timm's names; found: {error}"
        ) from None
    return state


def _pth_state(path: Path) -> dict[str, Any]:
    """Weights of a .pth file; nothing in it is run: of objects, only the command line of its training is taken."""
    from argparse import Namespace

    try:
        with torch.serialization.safe_globals([Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
        content = content.get("teacher", content)
        if not all(isinstance(tensor, Tensor) for tensor in content.values()):
            raise ValueError("something else than tensors by name")
    except Exception as error:  # torch raises a dozen kinds for a damaged file
        words = " ".join(str(error).split())[:120]
        raise InputRefused("input", f"{path}: expected weights of a DINO backbone, found: {words}") from None
    return dict(content)

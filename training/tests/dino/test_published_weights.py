"""Backbones that were pre-trained on photographs: timm's own networks, saved and read back, give the same features."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest
from needed import need, torch

from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone, BackboneShape
from training.dino.published_weights import CHANNELS, FoundationRecipe, gray_weights, load_published_weights
from training.dino.recipe import DinoRecipe, build_dino_model

pytestmark = pytest.mark.slow

safetensors = need("safetensors.torch")

SHAPE = BackboneShape(dim=48, depth=3, heads=3, patch=14, size=56)


def theirs_of(timm, *, scaled: bool, registers: int = 0):
    """A network of timm's, by its own initialization; then the scales of its layers are drawn, which begin alike."""
    torch.manual_seed(5)
    network = timm.models.vision_transformer.VisionTransformer(
        img_size=SHAPE.size, patch_size=SHAPE.patch, embed_dim=SHAPE.dim, depth=SHAPE.depth, num_heads=SHAPE.heads,
        num_classes=0, init_values=1e-5 if scaled else None, dynamic_img_size=True, reg_tokens=registers,
        weight_init="",
    ).eval()  # fmt: skip
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):
                parameter.uniform_(0.2, 1.5)
            elif name.endswith("bias"):
                parameter.uniform_(-0.1, 0.1)
    return network


def in_names_of_dinov2(state: dict) -> dict:
    """As a training checkpoint of facebookresearch/dinov2 calls them, with what makes no features."""
    renamed = {f"backbone.{name.replace('blocks.', 'blocks.0.')}": tensor for name, tensor in state.items()}
    more = {"backbone.mask_token": torch.zeros(1, SHAPE.dim), "dino_head.last_layer.weight": torch.ones(3)}
    return {"teacher": renamed | more | {"ibot_head.mlp.0.weight": torch.ones(2)}}


def save(state: dict, folder: Path, names: str) -> Path:
    if names == "timm":
        path = folder / "weights.safetensors"
        safetensors.save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        return path
    content = in_names_of_dinov2(state)
    if names == "dino":
        prefixed = {f"module.backbone.{name}": tensor for name, tensor in state.items()}
        content = {"teacher": prefixed, "student": {}, "args": argparse.Namespace(lr=1.0)}
    elif names == "dinov2, backbone alone":
        content = {**state, "mask_token": torch.zeros(1, SHAPE.dim)}
    torch.save(content, folder / "weights.pth")
    return folder / "weights.pth"


def features(network, gray: torch.Tensor, normalization: str) -> np.ndarray:
    """Of a gray photograph, 0 to 1, as its pre-training has normalized it."""
    mean, deviation = (torch.tensor(v).reshape(1, 3, 1, 1) for v in CHANNELS[normalization])
    with torch.no_grad():
        return network((gray.expand(-1, 3, -1, -1) - mean) / deviation).numpy()


@pytest.mark.parametrize("normalization", ["half", "imagenet"])
@pytest.mark.parametrize(
    ("names", "scaled"),
    [("timm", False), ("timm", True), ("dino", False), ("dinov2", True), ("dinov2, backbone alone", True)],
)
def test_features_of_a_gray_image_are_those_of_timms_network(timm, tmp_path, names, scaled, normalization):
    theirs = theirs_of(timm, scaled=scaled)
    state = theirs.state_dict()
    assert any(name.endswith("gamma") for name in state) == scaled
    ours = Backbone(SHAPE).eval()
    load_published_weights(ours, save(state, tmp_path, names), normalization=normalization)
    for size in (56, 98):
        gray = torch.rand(2, 1, size, size)
        with torch.no_grad():
            own = ours(2 * gray - 1).numpy()  # a slice comes as -1 to 1
        np.testing.assert_allclose(own, features(theirs, gray, normalization), atol=2e-5)


def test_positions_that_were_learned_for_a_larger_image_are_resized_as_timm_resizes_them(timm, tmp_path):
    theirs = theirs_of(timm, scaled=True)
    smaller = Backbone(BackboneShape(**{**SHAPE.to_json(), "size": 42})).eval()
    load_published_weights(smaller, save(theirs.state_dict(), tmp_path, "timm"), normalization="imagenet")
    gray = torch.rand(1, 1, 42, 42)
    with torch.no_grad():
        own = smaller(2 * gray - 1).numpy()
    np.testing.assert_allclose(own, features(theirs, gray, "imagenet"), atol=2e-5)


def test_weights_of_another_normalization_see_another_image(timm, tmp_path):
    theirs = theirs_of(timm, scaled=False)
    ours = Backbone(SHAPE).eval()
    load_published_weights(ours, save(theirs.state_dict(), tmp_path, "timm"), normalization="half")
    gray = torch.rand(2, 1, 56, 56)
    with torch.no_grad():
        assert np.abs(ours(2 * gray - 1).numpy() - features(theirs, gray, "imagenet")).max() > 1e-3


def test_weights_with_register_tokens_are_refused_by_name(timm, tmp_path):
    state = theirs_of(timm, scaled=True, registers=4).state_dict()
    with pytest.raises(InputRefused, match="was trained with register tokens"):
        load_published_weights(Backbone(SHAPE), save(state, tmp_path, "timm"))
    state["register_tokens"] = state.pop("reg_token")
    with pytest.raises(InputRefused, match="was trained with register tokens"):
        load_published_weights(Backbone(SHAPE), save(state, tmp_path, "dinov2"))


def test_weights_of_another_width_are_refused(timm, tmp_path):
    path = save(theirs_of(timm, scaled=True).state_dict(), tmp_path, "timm")
    with pytest.raises(InputRefused, match=r"does not fit .* choose the backbone of these weights"):
        load_published_weights(Backbone(BackboneShape(24, 3, 3, 14, 56)), path)


def test_black_and_white_become_what_a_photograph_was():
    weights = gray_weights("imagenet")
    weight, bias = (weights[f"gray_to_rgb.{part}"].flatten() for part in ("weight", "bias"))
    mean, deviation = (torch.tensor(values) for values in CHANNELS["imagenet"])
    torch.testing.assert_close(-weight + bias, -mean / deviation)
    torch.testing.assert_close(weight + bias, (1 - mean) / deviation)
    with pytest.raises(ValueError, match="normalization must be one of half, imagenet"):
        gray_weights("none")


def test_a_file_that_has_a_first_convolution_keeps_it(tmp_path):
    """A backbone of ours that was saved and is read again, after its convolution has learned."""
    first = Backbone(SHAPE)
    with torch.no_grad():
        first.gray_to_rgb.weight.fill_(0.25)
    path = save(first.state_dict(), tmp_path, "timm")
    second = Backbone(SHAPE)
    load_published_weights(second, path, normalization="imagenet")
    assert second.gray_to_rgb.weight.flatten().tolist() == [0.25] * 3


def test_a_pre_training_begins_with_them(timm, tmp_path):
    tiny = timm.create_model("vit_tiny_patch16_224", num_classes=0)
    safetensors.save_file(tiny.state_dict(), tmp_path / "w.safetensors")
    recipe = DinoRecipe(
        backbone="vit_tiny_patch16_96", pretrained=tmp_path / "w.safetensors", normalization="imagenet", hidden=8,
        bottleneck=4,
    )  # fmt: skip
    backbone = build_dino_model(recipe, 12).backbone
    torch.testing.assert_close(backbone.blocks[3].mlp.fc1.weight, tiny.blocks[3].mlp.fc1.weight)
    assert backbone.gray_to_rgb.weight.flatten().tolist() == pytest.approx([0.5 / d for d in CHANNELS["imagenet"][1]])


def test_a_view_that_patches_do_not_fill_is_refused():
    with pytest.raises(ValueError, match="size must be a multiple of the patch of vit_small_patch14_518, got 96"):
        FoundationRecipe(backbone="vit_small_patch14_518", size=96)

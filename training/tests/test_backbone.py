"""The backbone against timm, and what is ours: one gray channel, weights from a file, attention of a slice."""

from __future__ import annotations

import numpy as np
import pytest
from needed import need, torch

from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone, BackboneShape, resample_position
from training.dino.published_weights import load_published_weights

pytestmark = pytest.mark.slow

safetensors = need("safetensors.torch")

MINI = BackboneShape(dim=12, depth=2, heads=3, patch=4, size=16)


@pytest.fixture
def mini():
    torch.manual_seed(0)
    return Backbone(MINI).eval()


@pytest.mark.parametrize("size", [224, 96])
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch8_224"])
def test_the_same_weights_give_what_timm_gives(timm, name, size):
    if name.endswith("patch8_224") and size == 224:
        size = 64  # 785 tokens take seconds and say nothing that 64 tokens do not
    torch.manual_seed(1)
    theirs = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    ours = Backbone(BackboneShape.named(name)).eval()
    state = theirs.state_dict()
    assert set(ours.state_dict()) - set(state) == {"gray_to_rgb.weight", "gray_to_rgb.bias"}
    ours.load_state_dict(ours.state_dict() | state)
    image = torch.randn(1, 1, size, size)
    with torch.no_grad():
        difference = (theirs(image.expand(-1, 3, -1, -1)) - ours(image)).abs().max().item()
    assert difference < 1e-5


@pytest.mark.parametrize(("name", "millions"), [("tiny", 5.5), ("small", 21.7), ("base", 85.8)])
def test_parameters_are_as_many_as_published(name, millions):
    with torch.device("meta"):
        backbone = Backbone(BackboneShape.named(f"vit_{name}_patch8_224"))
    count = sum(p.numel() for p in backbone.parameters()) - 6  # without gray_to_rgb
    assert count / 1e6 == pytest.approx(millions, abs=0.06)


def test_at_step_0_the_first_convolution_repeats_gray(mini):
    gray = torch.randn(2, 1, 16, 16)
    assert torch.equal(mini.gray_to_rgb(gray), gray.expand(-1, 3, -1, -1))
    with torch.no_grad():
        color_first = mini.norm(_through_blocks(mini, gray.expand(-1, 3, -1, -1)))[:, 0]
        assert torch.equal(mini(gray), color_first)


def _through_blocks(backbone, color):
    patches = backbone.patch_embed(color)
    x = torch.cat([backbone.cls_token.expand(len(color), -1, -1), patches], 1) + backbone.pos_embed
    for block in backbone.blocks:
        x = block(x)
    return x


def test_rgb_weights_of_a_local_file_are_loaded_and_their_head_left_out(tmp_path, mini):
    state = {n: torch.randn_like(t) for n, t in mini.state_dict().items() if not n.startswith("gray")}
    side = 6  # stored for another image size
    state["pos_embed"] = torch.randn(1, 1 + side * side, 12)
    safetensors.save_file(state | {"head.weight": torch.ones(10, 12), "head.bias": torch.ones(10)}, tmp_path / "w")
    load_published_weights(mini, tmp_path / "w")
    assert torch.equal(mini.blocks[1].mlp.fc2.weight, state["blocks.1.mlp.fc2.weight"])
    assert torch.equal(mini.pos_embed, resample_position(state["pos_embed"], (4, 4)))
    assert mini.gray_to_rgb.weight.flatten().tolist() == [1, 1, 1]


def test_weights_of_another_network_are_refused(tmp_path, mini):
    other = Backbone(BackboneShape(dim=24, depth=2, heads=3, patch=4, size=16))
    safetensors.save_file(other.state_dict(), tmp_path / "w")
    with pytest.raises(InputRefused, match=r"does not fit .* choose the backbone of these weights"):
        load_published_weights(mini, tmp_path / "w")
    (tmp_path / "w").write_bytes(b"no weights")
    with pytest.raises(InputRefused, match="expected weights as safetensors"):
        load_published_weights(mini, tmp_path / "w")


def test_recomputing_activations_changes_no_gradient(mini):
    image = torch.randn(2, 1, 16, 16)
    grads = []
    for recompute in (False, True):
        mini.recompute = recompute
        mini.train().zero_grad()
        mini(image).square().sum().backward()
        grads.append(torch.cat([p.grad.flatten() for p in mini.parameters()]))
    assert torch.equal(*grads)


def test_attending_in_products_gives_what_the_fused_kernel_gives(mini):
    image, results = torch.randn(2, 1, 16, 24), []
    for network in (mini, mini.attend_in_products()):
        network.zero_grad()
        embedding = network(image)
        embedding.square().sum().backward()
        results.append((embedding.detach(), torch.cat([p.grad.flatten() for p in network.parameters()])))
    assert all(block.attn.in_products for block in mini.blocks)
    for fused, products in zip(*results, strict=True):
        assert torch.allclose(fused, products, atol=1e-5, rtol=1e-4)


def test_a_fixed_size_gives_the_same_embedding_without_interpolation(mini):
    image = torch.randn(1, 1, 24, 24)
    with torch.no_grad():
        before = mini(image)
        assert torch.equal(mini.fix_size(24)(image), before)
    assert (mini.shape.size, tuple(mini.pos_embed.shape)) == (24, (1, 37, 12))


def test_attention_of_the_class_token_is_a_map_per_head(mini):
    with torch.no_grad():
        attention = mini.class_attention(torch.randn(2, 1, 16, 24))
    assert attention.shape == (2, 3, 4, 6)
    total = attention.sum((-2, -1))
    assert (total > 0).all()
    assert (total < 1).all()


def test_attention_weights_are_those_that_the_block_uses(mini):
    attention, x = mini.blocks[0].attn, torch.randn(1, 5, 12)
    _, _, v = attention._split(x)
    mixed = (attention.weights(x) @ v).transpose(1, 2).flatten(2)
    np.testing.assert_allclose(attention.proj(mixed).detach(), attention(x).detach(), atol=1e-6)


def test_an_image_that_patches_do_not_fill_is_refused(mini):
    with pytest.raises(ValueError, match=r"multiples of the patch, 4 pixels, got \(16, 18\)"):
        mini(torch.zeros(1, 1, 16, 18))


@pytest.mark.parametrize("name", ["vit_huge_patch14_224", "resnet50", "vit_base_patch8"])
def test_an_unknown_backbone_name_is_refused(name):
    with pytest.raises(ValueError, match="backbone must be vit_"):
        BackboneShape.named(name)

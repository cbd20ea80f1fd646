"""The plain form of each step is the judge of ours: the same crops must give the same loss and the same weights."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
from needed import torch

from heartlens.networks.backbone import Backbone, BackboneShape
from heartlens.networks.view import classifier_view
from training.datasets.segmentation_dataset import _Steps, to_batch
from training.dino.augment import AugmentConfig, draw_views, render_views, stack
from training.dino.features import embed_slices
from training.dino.recipe import build_dino_model, build_optimizer, plan
from training.dino.reference import (
    ReferenceDino,
    reference_batch,
    reference_ce_tversky,
    reference_crops,
    reference_embedding,
    reference_head_epoch,
    reference_unet_step,
    reference_views,
)
from training.dino.training import pretrain_backbone, render_batch
from training.dino.view_batches import ViewBatches
from training.engine.checkpoint import read_checkpoint
from training.engine.distributed import Ranks
from training.engine.run_log import read_log
from training.segmentation.losses import LossRecipe, segmentation_loss
from training.segmentation.networks import NetworkRecipe, build_network
from training.segmentation.training import build, read_data
from training.segmentation.training import train_segmentation as train_unet
from training.tests.test_train_dino import TINY, folder, parts_of, slices  # noqa: F401
from training.tests.test_train_unet import blob_scan, blobs, tiny  # noqa: F401

pytestmark = pytest.mark.slow


def unfused(optimizer: torch.optim.AdamW) -> torch.optim.AdamW:
    """The same groups moved by torch's loop over parameters."""
    groups = [{k: v for k, v in g.items() if k in ("params", "lr", "weight_decay")} for g in optimizer.param_groups]
    return torch.optim.AdamW(groups, foreach=False)


def test_three_steps_of_dino_lg_are_those_of_the_plain_loop(tmp_path, slices):  # noqa: F811
    recipe = replace(TINY, steps=3, learning_rate=1e-3, freeze_epochs=0, log_every=1, save_every=3)
    pretrain_backbone(recipe, slices, tmp_path)
    schedule, prototypes = plan(recipe, len(slices))
    student = build_dino_model(recipe, prototypes)
    plain = ReferenceDino(student, copy.deepcopy(student).requires_grad_(False), unfused(build_optimizer(student)))
    batches = ViewBatches(slices, recipe.augment, batch=recipe.batch, seed=recipe.seed)
    for step in range(3):
        for group in plain.optimizer.param_groups:
            group["lr"] = schedule.learning_rate(step)
        plain.optimizer.param_groups[0]["weight_decay"] = schedule.weight_decay(step)
        crops = [crop for views in render_batch(batches[step], recipe.augment, torch.device("cpu")) for crop in views]
        assert len(crops) == 4  # two global, one random, one guided
        value = plain.step(
            crops, teacher_temperature=schedule.teacher_temperature(step), momentum=schedule.momentum(step)
        )
        assert read_log(tmp_path)[step + 1]["loss"] == pytest.approx(value, abs=1e-5)
    ours = parts_of(tmp_path)
    assert torch.allclose(ours["loss"]["center"], plain.center[0], atol=1e-6)
    for name, learner in (("student", plain.student), ("teacher", plain.teacher)):
        for key, weight in learner.state_dict().items():
            assert torch.allclose(ours[name][key], weight, atol=1e-6), (name, key)


def test_three_steps_of_the_unet_are_those_of_the_plain_loop(blobs, tmp_path):  # noqa: F811
    recipe = tiny("steps=3", "validate_every=3", "save_every=3", "optimizer.rate=1e-3")
    data = read_data(recipe, blobs[1], blobs[2], tmp_path, Ranks())
    train_unet(recipe, data, tmp_path)
    network, _, optimizer = build(recipe, Ranks())
    network.to(memory_format=torch.contiguous_format)
    optimizer = unfused(optimizer)
    for step, places in enumerate(_Steps(data.training, recipe.batch, 0, 3, Ranks())):
        optimizer.param_groups[0]["lr"] = recipe.optimizer.rate_at(step, 3)
        samples = [data.training[place] for place in places]
        value = reference_unet_step(network, optimizer, samples, alpha=0.3, beta=0.7, clip=recipe.optimizer.clip)
        assert read_log(tmp_path)[step + 1]["loss"] == pytest.approx(value, abs=1e-5)
    ours = read_checkpoint(tmp_path / "checkpoints" / "step-000000003.pt")["parts"]["network"]
    worst = max(float((ours[name] - weight).abs().max()) for name, weight in network.state_dict().items())
    assert worst < 1e-5


def test_the_plain_loss_is_that_of_the_masked_sums():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 6, 6, generator=generator)
    target = torch.randint(0, 4, (2, 6, 6), generator=generator)
    mask = torch.rand(2, 6, 6, generator=generator) > 0.5
    ours = segmentation_loss(LossRecipe("ce+tversky", 0.3, 0.7), logits, target, mask)
    assert reference_ce_tversky(logits, target, mask, 0.3, 0.7).item() == pytest.approx(ours.item(), rel=1e-5)


def test_a_batch_varied_at_once_is_one_varied_image_by_image(blobs, tmp_path):  # noqa: F811
    recipe = tiny()
    samples = read_data(recipe, blobs[1], blobs[2], tmp_path, Ranks()).training
    places = [(0, n) for n in range(4)]
    ours = to_batch(
        torch.utils.data.default_collate([samples[place] for place in places]), samples, torch.device("cpu")
    )
    image, target, mask = reference_batch(samples[place] for place in places)
    assert torch.allclose(ours.image, image, atol=1e-6)
    assert torch.equal(ours.target, target)
    assert torch.equal(ours.mask, mask)


def test_plain_views_show_what_ours_show():
    """Of a smooth slice, to the half pixel by which whole pixels lie beside what was drawn."""
    config = AugmentConfig(
        global_size=32, local_size=32, random_local_crops=3, guided_local_crops=1, noise_probability=0.0,
        guided_placement="centre",
    )  # fmt: skip
    row, column = np.mgrid[:256, :256]
    image = (300 * np.sin(row / 25) * np.cos(column / 40)).astype(np.int16)
    boxes = np.array([[5.0, 150.0, 9.0, 154.0]])  # near the edge: the view looks beyond it
    views = draw_views(config, (192.0, 192.0), boxes, seed=1, epoch=0, sample=0)[1]
    spacing = torch.tensor([[0.75, 0.75]])
    ours = render_views(torch.from_numpy(image)[None], spacing, stack([views]), size=32, window_hu=config.window_hu)
    plain = reference_views(image, (0.75, 0.75), views, size=32, window_hu=config.window_hu)
    for one, other in zip(ours[:, 0, 0], plain, strict=True):
        inside = slice(5, -5)  # blurs differ in what they take for the outside
        assert np.corrcoef(one[inside, inside].ravel(), other[0, inside, inside].ravel())[0, 1] > 0.985
        assert (one - other[0])[inside, inside].abs().mean() < 0.04  # of 2


def test_plain_crops_are_in_the_order_of_ours(slices):  # noqa: F811
    config = replace(TINY.augment, noise_probability=0.0)
    batch = ViewBatches(slices, config, batch=4, seed=1)[0]
    ours = [crop for views in render_batch(batch, config, torch.device("cpu")) for crop in views]
    plain = reference_crops(batch, config)
    assert [c.shape for c in plain] == [c.shape for c in ours]
    mean = [torch.stack([crop.mean((1, 2, 3)) for crop in crops]).flatten() for crops in (ours, plain)]
    assert torch.corrcoef(torch.stack(mean))[0, 1] > 0.97


def test_an_embedding_is_the_same_cut_and_computed_one_by_one(slices):  # noqa: F811
    torch.manual_seed(0)
    backbone = Backbone(BackboneShape.named("vit_mini_patch8_32")).eval()
    view = classifier_view(120.0, 32)
    ours = embed_slices(backbone, slices, range(6), view, device=torch.device("cpu"))
    images, spacing_mm = slices.read(range(6))
    with torch.no_grad():
        for n in range(6):
            view_tensor = torch.from_numpy(view.render_slice(images[n], tuple(spacing_mm[n].tolist())))[None, None]
            assert torch.allclose(reference_embedding(backbone, view_tensor)[0], torch.from_numpy(ours[n]), atol=1e-5)


def test_a_plain_epoch_lowers_the_loss_of_a_head_and_leaves_the_backbone():
    torch.manual_seed(0)
    backbone = Backbone(BackboneShape.named("vit_mini_patch8_32")).eval().requires_grad_(False)
    before = copy.deepcopy(backbone.state_dict())
    head = torch.nn.Linear(96, 1)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.05)
    images = [torch.full((1, 32, 32), -1.0 if n % 2 else 1.0) for n in range(8)]
    values = [reference_head_epoch(backbone, head, optimizer, images, np.arange(8) % 2 == 0, 4) for _ in range(20)]
    assert values[-1] < values[0] / 2
    assert all(torch.equal(before[name], weight) for name, weight in backbone.state_dict().items())


def test_group_normalization_in_the_fast_order_is_group_normalization():
    network = build_network(NetworkRecipe("unet", base=8, depth=2, groups=2), 1, 3).to(
        memory_format=torch.channels_last
    )
    image = torch.randn(2, 1, 16, 16).contiguous(memory_format=torch.channels_last)
    norm = next(m for m in network.modules() if isinstance(m, torch.nn.GroupNorm))
    x = torch.randn(2, 8, 16, 16).bfloat16().contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.group_norm(x, 2, norm.weight, norm.bias)
    assert torch.allclose(norm(x).float(), expected.float(), atol=0.02)  # bfloat16 has 8 bits
    assert norm(x).is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(network(image).float(), network(image.contiguous()).float(), atol=0.05)

"""Against numbers that facebookresearch/dino itself gave (main_dino.py and utils.py at commit 7c446df, torch 2.13).

Its classes were run once, on the inputs that these tests draw again; what came out is written here. Not its code.
"""

from __future__ import annotations

import numpy as np
import pytest
from needed import torch

from heartlens.core.errors import InputRefused
from heartlens.networks.backbone import Backbone, BackboneShape
from training.dino.distillation import DistillationLoss, cosine
from training.dino.published_weights import load_published_weights
from training.engine.loop import clip_gradient

LOSSES = (6.38063907623291, 6.554325103759766, 6.704626083374023)
"""DINOLoss(6, 5, 0.04, 0.07, 2, 4) in epochs 0, 1 and 2, called one after the other with the same answers."""

CENTERS = (
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.003826980711892247, 0.005786343943327665, 0.04187917336821556,
     0.0204163771122694, -0.014978406019508839, 0.005546217784285545),
    (0.007271263282746077, 0.010994053445756435, 0.07957042753696442,
     0.03879111632704735, -0.02845897153019905, 0.010537814348936081),
)  # fmt: skip
"""Its center before each of the three calls."""


@pytest.mark.parametrize("epoch", range(3))
def test_the_loss_is_that_of_the_published_program(epoch):
    rng = np.random.default_rng(2104)
    teacher, student = (torch.from_numpy(rng.uniform(-1, 1, (views, 3, 6))).float() for views in (2, 5))
    loss = DistillationLoss(6)
    loss.center.copy_(torch.tensor(CENTERS[epoch]))
    p = loss.teacher_probs(teacher, (0.04, 0.07, 0.07)[epoch])
    assert loss(p, student, first_view=0, views=5).item() == pytest.approx(LOSSES[epoch], rel=1e-6)


def test_the_center_moves_as_the_published_one_once_it_has_begun():
    """Ours is the mean so far for its first ten moves; from the eleventh on, 0.9 of the old one, as there."""
    rng = np.random.default_rng(2104)
    teacher = torch.from_numpy(rng.uniform(-1, 1, (2, 3, 6))).float()
    loss = DistillationLoss(6)
    loss.moves.fill_(10)
    loss.center.copy_(torch.tensor(CENTERS[1]))
    loss.update_center(teacher)
    assert loss.center.tolist() == pytest.approx(CENTERS[2], rel=1e-5)


def test_the_teachers_momentum_is_the_published_schedule():
    """cosine_scheduler(0.996, 1, 3, 4); it never arrives, ours does in the last step: at most 7e-5 apart of 12."""
    published = (0.996, 0.9960681483474219, 0.9962679491924311, 0.9965857864376269, 0.997, 0.997482361909795, 0.998,
                 0.998517638090205, 0.999, 0.9994142135623731, 0.9997320508075689, 0.9999318516525781)  # fmt: skip
    assert [cosine(step, 13, 0.996, 1.0) for step in range(12)] == pytest.approx(published, rel=1e-12)


def gradients():
    """Two tensors with gradients of length 5 and 1.5."""
    network = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(n)) for n in (4, 9)])
    network[0].grad, network[1].grad = torch.tensor([3.0, 4.0, 0.0, 0.0]), torch.full((9,), 0.5)
    return network


def test_clipping_each_tensor_is_that_of_the_published_program():
    network = gradients()
    length = clip_gradient(network, 3.0, each=True)
    assert float(length) == pytest.approx(27.25**0.5)
    assert network[0].grad.tolist() == pytest.approx([1.799999713897705, 2.3999996185302734, 0.0, 0.0])
    assert network[1].grad.tolist() == [0.5] * 9
    together = gradients()
    clip_gradient(together, 3.0)
    assert together[1].grad[0].item() == pytest.approx(0.5 * 3 / 27.25**0.5, rel=1e-4)


SHAPE = BackboneShape(dim=12, depth=3, heads=3, patch=4, size=16)


def test_stochastic_depth_rises_over_the_blocks_keeps_the_mean_and_is_gone_when_asked():
    torch.manual_seed(0)
    backbone = Backbone(SHAPE).drop_paths(0.5)
    assert [block.drop_path for block in backbone.blocks] == pytest.approx([0.0, 0.25, 0.5])
    x = torch.ones(4000, 2, 3)
    dropped = backbone.blocks[2].train()._dropped(x)
    assert sorted(dropped.unique().tolist()) == [0.0, 2.0]
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert (dropped.amin((1, 2)) == dropped.amax((1, 2))).all()  # an image loses the whole branch, or nothing
    image = torch.randn(2, 1, 16, 16)
    asked = backbone.eval()(image)
    assert torch.equal(asked, backbone.drop_paths(0.0).train()(image))
    with pytest.raises(ValueError, match="drop_path must lie in"):
        backbone.drop_paths(1.0)


@pytest.mark.parametrize("prefix", ["", "backbone.", "module.backbone."])
def test_a_published_pth_file_is_loaded_by_its_names(tmp_path, prefix):
    from argparse import Namespace

    torch.manual_seed(1)
    theirs = {n: torch.randn_like(t) for n, t in Backbone(SHAPE).state_dict().items() if not n.startswith("gray")}
    content = {prefix + name: tensor for name, tensor in theirs.items()}
    if prefix:  # a whole checkpoint, with the command line that made it
        content = {"student": {}, "teacher": content | {"head.last.weight": torch.ones(2)}, "args": Namespace(lr=1.0)}
    torch.save(content, tmp_path / "weights.pth")
    backbone = Backbone(SHAPE)
    load_published_weights(backbone, tmp_path / "weights.pth")
    assert torch.equal(backbone.blocks[2].mlp.fc2.weight, theirs["blocks.2.mlp.fc2.weight"])
    assert backbone.gray_to_rgb.weight.flatten().tolist() == [1, 1, 1]


class Harmful:
    """What a pickle could run; a file with one is refused unread."""

    def __reduce__(self):
        return (print, ("run",))


def test_a_pth_file_that_would_run_something_is_refused(tmp_path, capsys):
    torch.save({"teacher": Harmful()}, tmp_path / "weights.pth")
    with pytest.raises(InputRefused, match="expected weights of a DINO backbone"):
        load_published_weights(Backbone(SHAPE), tmp_path / "weights.pth")
    assert "run" not in capsys.readouterr().out

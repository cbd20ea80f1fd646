"""The fork design by its command, as small as it can be: everything runs, is kept, and goes on."""

from __future__ import annotations

import json

import numpy as np
import pytest
from needed import torch
from schematic_chest import schematic_chest

from heartlens.core.errors import InputRefused
from training import fork
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet
from training.datasets.slice_dataset import PartlyLabeled, SliceSet
from training.dino.augment import AugmentConfig
from training.dino.recipe import DinoRecipe
from training.dino.training import pretrain_backbone
from training.engine.checkpoint import read_checkpoint
from training.engine.config import write_recipe
from training.evaluation.sources.forks import ARMS, ForkRecipe
from training.slice_classifier.linear_probe import SlicesRecipe

pytestmark = pytest.mark.slow

DINO = DinoRecipe(
    backbone="vit_mini_patch8_32", hidden=16, bottleneck=8, prototypes=12, teacher_temperature=0.04, steps=3,
    batch=8, bf16=False, save_every=1,
    augment=AugmentConfig(global_size=32, local_size=16, random_local_crops=2, guided_local_crops=0),
)  # fmt: skip
TINY = ForkRecipe(
    patients=(4, 2, 3), seeds=2, steps=2, ancestor=DINO, crops=(1, 1), shares=(0.5, 1.0), draws=20,
    head=SlicesRecipe(size=32, views=1, field_mm=120.0, epochs=2),
)  # fmt: skip


def scan(number: int) -> LabeledScan:
    """A chest with a spot of the LAD and one of something else on slices of their own, in the heart."""
    spots = ((40, -30, 2), (28 - number, -38, 5), (16, -46, 2), (22, -54, 5))
    ct = schematic_chest(add=tuple((x, -20, z, 3.5, 500 + 10 * n + number) for n, (x, z, _) in enumerate(spots)))
    labels = np.zeros(ct.shape, np.uint8)
    for n, (*_, code) in enumerate(spots):
        labels[ct.hu == 500 + 10 * n + number] = code
    return LabeledScan(f"made/{number}", f"patient-{number}", "phantom", ct, labels)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fork")
    write_shards(folder / "out" / "shards", (scan(n) for n in range(9)))
    write_recipe(TINY, folder / "tiny.toml")
    words = ["--recipe", str(folder / "tiny.toml"), "--out", str(folder / "out"), "--device", "cpu"]
    assert fork.main([*words, "--minutes", "0.00001"]) == 4
    assert not (folder / "out" / "fork.json").exists()
    assert fork.main(words) == 0
    return folder / "out", words


def test_every_arm_is_there_at_every_share_and_differences_are_paired(out):
    document = json.loads((out[0] / "fork.json").read_text())
    arms = {*ARMS, "untrained", "ancestor"}
    assert set(document["methods"]) == {f"{arm} {share}" for arm in arms for share in ("50%", "100%")}
    assert all(len(method["by_seed"]) == 2 for method in document["methods"].values())
    effect = document["differences"]["zoom 50% - random 50%"]
    zoom, random = (document["methods"][f"{arm} 50%"]["by_seed"] for arm in ("zoom", "random"))
    assert effect["by_seed"] == pytest.approx(np.subtract(zoom, random).tolist())
    assert set(document["verdicts"]) == {"50%", "100%"}
    assert document["died"] == {}
    text = (out[0] / "table.md").read_text()
    assert "smallest effect that would have been seen" in text
    assert document["verdicts"]["100%"] in text


def test_a_run_that_is_complete_trains_nothing_anew_and_a_lost_answer_alone_is_asked_again(out):
    folder, words = out
    before = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/checkpoints/*.pt")}
    first = (folder / "fork.json").read_text()
    (folder / "answers" / "zoom-1-0.5.npz").unlink()
    assert fork.main(words) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/checkpoints/*.pt")} == before
    assert json.loads((folder / "fork.json").read_text())["methods"] == json.loads(first)["methods"]


def test_continuations_begin_as_the_ancestor_ended(out, tmp_path):
    """One step at a rate of 0 leaves the weights of the student as the ancestor's were."""
    shards = ShardSet.open(out[0] / "shards")
    slices = SliceSet(shards, (0, 1, 2, 3))
    still = DinoRecipe(**{**vars(DINO), "learning_rate": 0.0, "final_learning_rate": 0.0, "steps": 1, "seed": 9})
    assert pretrain_backbone(still, slices, tmp_path / "run", start=out[0] / "runs" / "ancestor")
    last = sorted((out[0] / "runs" / "ancestor" / "checkpoints").glob("*.pt"))[-1]
    one = read_checkpoint(last)["parts"]["student"]
    (own,) = (tmp_path / "run" / "checkpoints").glob("*.pt")
    other = read_checkpoint(own)["parts"]["student"]
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    with pytest.raises(InputRefused, match="holds no checkpoints"):
        pretrain_backbone(still, slices, tmp_path / "new", start=tmp_path / "none")
    wider = DinoRecipe(**{**vars(still), "prototypes": 16})
    with pytest.raises(InputRefused, match="is of other networks than this recipe"):
        pretrain_backbone(wider, slices, tmp_path / "new", start=out[0] / "runs" / "ancestor")


def test_guides_come_from_those_alone_whose_labels_are_known(out):
    shards = ShardSet.open(out[0] / "shards")
    everybody, few = SliceSet(shards, (0, 1, 2, 3)), PartlyLabeled(shards, (0, 1, 2, 3), (0, 2))
    for guided_by in ("coronary", "traps"):
        for n in range(len(few)):
            boxes = few.guides_mm(n, guided_by, 1)
            known = everybody.guides_mm(n, guided_by, 1) if few.places[n, 0] in (0, 2) else np.zeros((0, 4))
            np.testing.assert_array_equal(boxes, known)
    shuffled = sum(len(few.guides_mm(n, "shuffled", 1)) for n in range(len(few)))
    assert shuffled == sum(len(few.guides_mm(n, "coronary", 1)) for n in range(len(few))) > 0
    assert few.identity() != everybody.identity()
    assert PartlyLabeled(shards, (0, 1, 2, 3), (0, 1, 2, 3)).identity() == everybody.identity()

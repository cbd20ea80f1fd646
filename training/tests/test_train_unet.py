"""The segmentation loop: learns, resumes bit for bit, gives the same on two processes, stops when it must."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from needed import torch
from seen_steps import gradient_lengths

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from training.datasets.scans import LabeledScan
from training.datasets.segmentation_dataset import SampleRecipe, even_weights, to_batch, training_batches
from training.datasets.shard_writer import write_shards
from training.datasets.splits import Splits, split_patients
from training.engine.checkpoint import read_checkpoint
from training.engine.config import fingerprint, load_recipe
from training.engine.distributed import Ranks
from training.engine.monitor import TrainingFailed
from training.engine.run_log import read_log
from training.segmentation.best_weights import BestSoFar
from training.segmentation.mining import find_false_alarms
from training.segmentation.recipe import OptimizerRecipe, SegmentationRecipe
from training.segmentation.training import build, mixed_labels, read_data, train_segmentation

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]

TINY = [
    "steps=20", "batch=4", "seed=3", "bf16=false", "validate_every=10", "save_every=10", "log_every=1",
    "view.size_px=32", "view.spacing_mm=1.0", "network.base=4", "network.depth=2", "network.groups=2",
    "optimizer.rate=1e-2", 'samples.classes=["LAD","RCA","OTHER"]', "samples.shift_mm=3",
]  # fmt: skip


def blob_scan(n: int) -> LabeledScan:
    """Six slices of noise with calcium at the left (LAD) or right (RCA), and a brighter trap in the middle."""
    rng = np.random.default_rng(n)
    hu = rng.normal(40, 10, (6, 40, 40)).astype(np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    for k, artery in ((1, Artery.LAD), (2, Artery.RCA), (4, Artery.LAD if n % 2 else Artery.RCA)):
        column = 8 if artery is Artery.LAD else 28
        row = int(rng.integers(12, 26))
        hu[k, row : row + 4, column : column + 4] = 300
        labels[k, row : row + 4, column : column + 4] = artery
    hu[3, 18:22, 18:22] = 600
    labels[3, 18:22, 18:22] = Artery.OTHER
    return LabeledScan(f"blob/{n}", f"patient-{n}", "phantom", CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0])), labels)


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    """Shards of ten scans and their splits."""
    folder = tmp_path_factory.mktemp("blobs")
    shards = write_shards(folder / "shards", (blob_scan(n) for n in range(10)))
    splits = split_patients(shards, seed=1, proportions=(6, 2, 2))
    splits.save(folder / "splits.json")
    return folder, shards, splits


def tiny(*changes: str) -> SegmentationRecipe:
    return load_recipe(SegmentationRecipe, None, [*TINY, *changes])


def run(blobs, folder: Path, *changes: str, until: int | None = None) -> bool:
    folder.mkdir(exist_ok=True)
    recipe = tiny(*changes)
    data = read_data(recipe, blobs[1], blobs[2], folder, Ranks())
    return train_segmentation(recipe, data, folder, until=until)


def weights(folder: Path, step: int = 20) -> dict:
    return read_checkpoint(folder / "checkpoints" / f"step-{step:09d}.pt")["parts"]


@pytest.mark.parametrize("mine", [0, 1])
def test_twenty_steps_equal_ten_a_resumption_and_ten_bit_for_bit(blobs, tmp_path, mine):
    """Nine steps are an epoch: with mine=1 the run stops in the middle of a stretch that shows mined slices."""
    assert run(blobs, tmp_path / "straight", f"mine={mine}")
    assert not run(blobs, tmp_path / "twice", f"mine={mine}", until=10)
    assert run(blobs, tmp_path / "twice", f"mine={mine}")
    one, other = weights(tmp_path / "straight"), weights(tmp_path / "twice")
    assert all(torch.equal(one["network"][name], other["network"][name]) for name in one["network"])
    for n, state in one["optimizer"]["state"].items():
        assert all(torch.equal(value, other["optimizer"]["state"][n][key]) for key, value in state.items())
    assert one["best"] == other["best"]
    logs = [read_log(tmp_path / name) for name in ("straight", "twice")]
    for log in logs:
        for line in log.values():
            line.pop("images_per_second", None)
    assert logs[0] == logs[1]
    assert sorted(logs[0]) == list(range(1, 21))
    assert [step for step in logs[0] if "mined" in logs[0][step]] == [9, 18] * mine


def test_a_second_stage_begins_with_the_best_weights_of_the_first_and_refuses_another_network(blobs, tmp_path):
    run(blobs, tmp_path / "first", until=20)
    best = torch.load(tmp_path / "first" / "best.pt", weights_only=True)["network"]
    (network, _, _) = build(tiny("steps=10"), Ranks(), tmp_path / "first" / "best.pt")
    assert all(torch.equal(tensor, best[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(InputRefused, match="network"):
        build(tiny("network.base=8"), Ranks(), tmp_path / "first" / "best.pt")
    with pytest.raises(InputRefused, match="earlier stage"):
        build(tiny(), Ranks(), tmp_path / "nowhere" / "best.pt")
    whole = (tmp_path / "first" / "best.pt").read_bytes()
    for content in (whole[: len(whole) // 2], b"no weights", b""):
        (tmp_path / "first" / "best.pt").write_bytes(content)
        with pytest.raises(InputRefused, match=r"unreadable: .*best\.pt: expected weights"):
            build(tiny(), Ranks(), tmp_path / "first" / "best.pt")


def test_the_rate_halves_when_validation_does_not_improve_also_across_a_resumption(blobs, tmp_path):
    """A rate that moves no weight: no validation is better than the first, and two in a row are the patience."""
    changes = ("steps=8", "validate_every=1", "optimizer.name=sgd", "optimizer.rate=1e-30", "optimizer.patience=2")
    assert not run(blobs, tmp_path, *changes, "optimizer.schedule=plateau", until=4)
    assert run(blobs, tmp_path, *changes, "optimizer.schedule=plateau")
    rates = [metrics["rate"] / 1e-30 for metrics in read_log(tmp_path).values()]
    assert rates == pytest.approx([1, 1, 1, 1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 8])


def test_the_weights_with_the_largest_validation_dice_are_kept_also_across_a_resumption(blobs, tmp_path, monkeypatch):
    """Dice is largest at step 10 and again at 20; the loss falls all the time."""
    dice = {5: 0.3, 10: 0.6, 15: 0.4, 20: 0.6}
    seen: dict[int, dict] = {}

    def scripted(network, *_):
        step = 5 * (len(seen) + 1)
        seen[step] = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        return {"validation_loss": 1 / step, "validation_dice": dice[step]}

    monkeypatch.setattr("training.segmentation.training.validate", scripted)
    assert not run(blobs, tmp_path, "validate_every=5", until=12)
    assert run(blobs, tmp_path, "validate_every=5")
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert (best["step"], best["judgement"]["validation_dice"]) == (10, 0.6)
    assert all(torch.equal(best["network"][name], tensor) for name, tensor in seen[10].items())
    assert not all(torch.equal(best["network"][name], tensor) for name, tensor in seen[20].items())


def test_no_step_is_made_by_a_gradient_longer_than_the_limit(blobs, tmp_path):
    with gradient_lengths() as lengths:
        run(blobs, tmp_path, "steps=4", "optimizer.clip=0.05")
    assert max(metrics["gradient"] for metrics in read_log(tmp_path).values()) > 0.1
    assert len(lengths) == 4
    assert max(lengths) <= 0.05 * (1 + 1e-4)


def test_a_better_validation_keeps_the_rate():
    best = BestSoFar(OptimizerRecipe(schedule="plateau", patience=2))
    for loss in (3.0, 4.0, 2.0, 2.5, 1.0):
        best.take({"validation_loss": loss, "validation_dice": 0.5})
    assert best.rate_factor == 1
    for _ in range(2):
        best.take({"validation_loss": 1.0, "validation_dice": 0.5})
    assert best.rate_factor == 0.5


def test_schedules_are_functions_of_the_step():
    cosine = OptimizerRecipe(rate=2.0, warmup_steps=4)
    assert [cosine.rate_at(step, 104) for step in (0, 1, 4, 54)] == pytest.approx([0.4, 0.8, 2, 1])
    assert cosine.rate_at(103, 104) < 0.001
    constant = OptimizerRecipe(rate=1e-4, schedule="constant")
    assert {constant.rate_at(step, 100) for step in range(100)} == {1e-4}


def test_a_run_that_is_complete_is_left_as_it_is(blobs, tmp_path):
    run(blobs, tmp_path, "steps=2")
    before = (tmp_path / "checkpoints" / "step-000000002.pt").read_bytes()
    assert run(blobs, tmp_path, "steps=2")
    assert (tmp_path / "checkpoints" / "step-000000002.pt").read_bytes() == before


def test_a_second_stage_begins_under_torchrun_too(blobs, tmp_path):
    """torchrun takes --start for one of its own options, and --from for none."""
    run(blobs, tmp_path / "first", "steps=2")
    (tmp_path / "empty.toml").write_text("")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "training.train_unet", str(tmp_path / "empty.toml"), *TINY, "steps=1",
        "--from", str(tmp_path / "first"), "--shards",
        str(blobs[0] / "shards"), "--splits", str(blobs[0] / "splits.json"), "--out", str(tmp_path / "second"),
        "--device", "cpu",
    ]  # fmt: skip
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    first, second = weights(tmp_path / "first", 2)["network"], weights(tmp_path / "second", 1)["network"]
    # Adam's first step is the rate at most, and decay takes less: nearer to the first stage than to any other start.
    assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1.1e-2


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_give_the_weights_of_one(blobs, tmp_path, parallel):
    """Through the command line and torchrun, over gloo; the loss and each gradient are those of the whole batch.

    Five steps are an epoch: after the first, hard negatives are searched for. Adam divides a gradient by its own size,
    which blows rounding up to the learning rate: the rate is kept small, the bound is the 1e-6 of the method.
    """
    changes = ("steps=6", "mine=1", "samples.positive_share=0.9", "optimizer.rate=1e-3", f"parallel={parallel}")
    run(blobs, tmp_path / "one", *changes)
    (tmp_path / "empty.toml").write_text("")
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "training.train_unet",
        str(tmp_path / "empty.toml"), *TINY, *changes, "--shards", str(blobs[0] / "shards"),
        "--splits", str(blobs[0] / "splits.json"), "--out", str(tmp_path / "two"), "--device", "cpu",
    ]  # fmt: skip
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "HeartLensCAC")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-6000:]
    one, two = weights(tmp_path / "one", 6), weights(tmp_path / "two", 6)
    worst = max(float((one["network"][n] - two["network"][n]).abs().max()) for n in one["network"])
    assert worst < 1e-6
    assert one["mined"]["numbers"].tolist() == two["mined"]["numbers"].tolist()
    assert [read_log(tmp_path / name)[5]["mined"] for name in ("one", "two")] == [len(one["mined"]["numbers"])] * 2
    metrics = [read_log(tmp_path / name)[6] for name in ("one", "two")]
    for name in ("loss", "gradient", "validation_loss", "validation_dice", "dice_LAD"):
        assert metrics[0][name] == pytest.approx(metrics[1][name], abs=1e-5), name


def test_it_learns_to_name_what_is_left_and_what_is_right(blobs, tmp_path):
    run(blobs, tmp_path, "steps=120", "validate_every=120", "network.depth=3")
    metrics = read_log(tmp_path)[120]
    assert metrics["validation_dice"] > 0.7  # naming by chance would reach a third
    assert {"dice_LAD", "dice_RCA", "dice_OTHER"} <= set(metrics)
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["step"] == 120
    assert best["recipe"]["samples"]["classes"] == ["LAD", "RCA", "OTHER"]


def test_slices_on_which_the_network_fires_are_mined_and_shown_once_an_epoch(blobs, tmp_path):
    """The trap of 600 HU is on slice 3 of every scan and is no coronary calcium."""
    samples = read_data(tiny(), blobs[1], blobs[2], tmp_path, Ranks()).training
    mined = find_false_alarms(lambda image: (image[:, 1] > 0.5).float(), samples, 4, Ranks(), 0)  # 400 HU and more
    assert samples.places[mined, 1].tolist() == [3] * 6
    before = samples.epoch(2)
    samples.mined = mined
    after = samples.epoch(2)
    assert len(after) == len(before) == 36
    assert (after != before).sum() <= 6
    assert set(mined) <= set(after)
    assert np.array_equal(after[samples.calcified[before]], before[samples.calcified[before]])
    samples.mined = np.flatnonzero(~samples.calcified)
    assert (samples.epoch(2) != before).sum() <= 9  # half of the 18 places, whatever their number


def test_mining_needs_an_order_that_leaves_slices_out():
    with pytest.raises(InputRefused, match=r'mine .* needs samples.order="balanced"'):
        tiny("mine=2", "samples.order=all")


def test_a_setting_that_came_later_leaves_older_checkpoints_valid_at_its_default():
    assert "mine" not in fingerprint(tiny())["recipe"]
    assert fingerprint(tiny("mine=2"))["recipe"]["mine"] == 2


def test_the_cut_off_of_islands_is_frozen_with_the_best_weights(blobs, tmp_path):
    run(blobs, tmp_path, "steps=60", "validate_every=30", "network.depth=3")
    frozen = torch.load(tmp_path / "best.pt", weights_only=True)["islands"]
    assert (frozen["islands"], frozen["coronary"]) == (8, 6)  # two scans of three plaques and a trap
    assert 0 < frozen["cut_off"] < 1
    before = (tmp_path / "best.pt").read_bytes()
    run(blobs, tmp_path, "steps=60", "validate_every=30", "network.depth=3")
    assert (tmp_path / "best.pt").read_bytes() == before  # chosen once


def test_sigterm_saves_and_ends_and_nothing_is_lost(blobs, tmp_path, monkeypatch):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    run(blobs, straight)
    count = iter(range(1000))

    def batches(*args):
        for batch in training_batches(*args):
            if next(count) == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    monkeypatch.setattr("training.segmentation.training.training_batches", batches)
    assert not run(blobs, killed)
    assert [path.name for path in (killed / "checkpoints").iterdir()] == ["step-000000007.pt"]
    assert run(blobs, killed)
    one, other = weights(straight)["network"], weights(killed)["network"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_three_bad_steps_in_a_row_end_the_run_and_name_the_slices(blobs, tmp_path):
    with pytest.raises(TrainingFailed, match=r"not finite 3 times in a row, the last on blob/\d+ slice \d"):
        run(blobs, tmp_path, "optimizer.name=sgd", "optimizer.rate=1e38", "optimizer.clip=0")


def test_other_data_or_another_recipe_is_refused(blobs, tmp_path):
    run(blobs, tmp_path, "steps=2")
    with pytest.raises(InputRefused, match=r"another recipe .*batch: 4, 2"):
        run(blobs, tmp_path, "steps=2", "batch=2")
    folder, shards, _ = blobs
    other = split_patients(shards, seed=2, proportions=(6, 2, 2))
    with pytest.raises(InputRefused, match="begun with other scans"):
        run((folder, shards, other), tmp_path, "steps=2")


def test_a_batch_that_does_not_divide_by_the_processes_is_refused(blobs, tmp_path):
    recipe = tiny("batch=3")
    data = read_data(recipe, blobs[1], blobs[2], tmp_path, Ranks())
    with pytest.raises(ValueError, match="a batch of 3 does not divide by 2"):
        next(training_batches(data.training, 3, 0, 1, Ranks(0, 2), 0))


def test_a_sample_depends_on_slice_and_epoch_alone(blobs, tmp_path):
    data = read_data(tiny(), blobs[1], blobs[2], tmp_path, Ranks()).training
    same, other = data[(0, 3)], data[(1, 3)]
    _ = data[(5, 1)]
    assert all(np.array_equal(same[key], data[(0, 3)][key]) for key in same)
    assert not np.array_equal(same["move"], other["move"])
    assert np.linalg.det(same["move"][:, :2]) > 0  # turned, never mirrored


def test_only_pixels_above_the_threshold_count_and_half_of_a_batch_is_calcified(blobs, tmp_path):
    recipe = tiny("samples.shift_mm=0", "samples.turn_degrees=0", "samples.zoom=0", "samples.noise_hu=0")
    data = read_data(recipe, blobs[1], blobs[2], tmp_path, Ranks()).training
    batch = next(training_batches(data, 4, 0, 1, Ranks(), 0))
    dense = batch.image[:, 3] > 0.5
    assert torch.equal(batch.mask, dense)
    assert (batch.target > 0).flatten(1).any(1).sum() >= 2
    assert batch.image.shape == (4, 4, 32, 32)


def test_the_marked_order_shows_every_slice_with_any_label_once_and_others_beside(blobs, tmp_path):
    changes = ('samples.order="marked"', "samples.positive_share=0.8")
    samples = read_data(tiny(*changes), blobs[1], blobs[2], tmp_path, Ranks()).training
    order = samples.epoch(0)
    labeled = [n for n, (scan, k) in enumerate(samples.places.tolist()) if blobs[1].labels(scan)[k].any()]
    assert sum(samples.calcified) < len(labeled)  # the trap's slice is one of them
    assert sorted(set(order) & set(labeled)) == labeled
    assert len(order) == round(len(labeled) / 0.8)


def test_calcium_that_has_no_output_does_not_count():
    table = SampleRecipe(classes=("LAD", "RCA")).class_of_code()
    assert table.tolist() == [0, -1, 1, -1, 2, 0, -1, -1]  # none LM LAD LCX RCA OTHER UNASSIGNED UNREVIEWED
    assert SampleRecipe(classes=("CALCIUM",)).class_of_code().tolist() == [0, 1, 1, 1, 1, 0, 1, -1]


def test_hearts_are_found_once_and_a_broken_file_is_made_anew(blobs, tmp_path):
    recipe = tiny()
    read_data(recipe, blobs[1], blobs[2], tmp_path, Ranks())
    path = tmp_path / "hearts.json"
    before = path.read_text()
    path.write_text(before[:20])
    read_data(recipe, blobs[1], blobs[2], tmp_path, Ranks())
    assert path.read_text() == before


def test_a_share_of_samples_stands_alone_and_the_others_are_as_they_were(blobs, tmp_path):
    plain = read_data(tiny(), blobs[1], blobs[2], tmp_path, Ranks()).training
    half = read_data(tiny("samples.lone_share=0.5"), blobs[1], blobs[2], tmp_path, Ranks()).training
    lone = []
    for n in range(len(plain)):
        was, now = plain[(0, n)]["image"], half[(0, n)]["image"]
        lone.append(np.array_equal(now[0], now[1]) and np.array_equal(now[2], now[1]))
        assert np.array_equal(now[1], was[1])
        assert np.array_equal(now[3], was[3])  # the mask
        assert lone[-1] or np.array_equal(now, was)
    assert 0.3 < np.mean(lone) < 0.7


STILL = ("samples.shift_mm=0", "samples.turn_degrees=0", "samples.zoom=0", "samples.noise_hu=0", "samples.offset_hu=0")


def test_soft_tissue_covers_what_is_darker_and_leaves_what_is_brighter(blobs, tmp_path):
    plain = read_data(tiny(*STILL), blobs[1], blobs[2], tmp_path, Ranks()).training
    covered = read_data(tiny("samples.cover_share=1", *STILL), blobs[1], blobs[2], tmp_path, Ranks()).training
    low, high = plain.view.window_hu
    changed = 0.0
    for step in range(4):
        was, now = (next(training_batches(s, 4, step, step + 1, Ranks(), 0)) for s in (plain, covered))
        hu_was, hu_now = (batch.image[:, :3] * (high - low) + low for batch in (was, now))
        bright = hu_was >= 70.0
        assert torch.equal(hu_was[bright], hu_now[bright])
        assert (hu_now >= hu_was - 1e-3).all()
        moved = (hu_now - hu_was) > 1.0
        assert (hu_now[moved] < 70.0).all()
        assert torch.equal(was.image[:, 3], now.image[:, 3])  # the mask
        assert torch.equal(was.target, now.target)
        changed += float(moved.float().mean()) / 4
    assert 0.05 < changed < 0.95


def test_no_sample_is_covered_without_a_share_and_about_half_with_a_half(blobs, tmp_path):
    half = read_data(tiny("samples.cover_share=0.5"), blobs[1], blobs[2], tmp_path, Ranks()).training
    fields = [half[(epoch, n)]["cover"] for epoch in range(8) for n in range(len(half))]
    assert 0.35 < np.mean([(field == -1).all() for field in fields]) < 0.65
    assert "cover" not in read_data(tiny(), blobs[1], blobs[2], tmp_path, Ranks()).training[(0, 0)]


def test_a_bent_slice_is_moved_by_as_many_millimeters_as_asked_and_its_labels_with_it(blobs, tmp_path):
    """A slice that holds its own column numbers says where each of its pixels was read."""
    bent = read_data(tiny("samples.warp_mm=2", *STILL), blobs[1], blobs[2], tmp_path, Ranks()).training
    size = bent.view.size_px
    samples = [bent[(epoch, n)] for epoch in range(6) for n in range(len(bent))]
    columns = torch.arange(size, dtype=torch.float32).expand(len(samples), 4, size, size)
    sample = {
        "image": columns,
        "target": torch.arange(size, dtype=torch.int16).expand(len(samples), size, size),
        "weight": torch.ones(len(samples), size, size),
        **{name: torch.from_numpy(np.stack([s[name] for s in samples])) for name in ("move", "bend")},
        "number": torch.zeros(len(samples), dtype=torch.int64),
    }
    batch = to_batch(sample, bent, torch.device("cpu"))
    inner = slice(size // 2 - 1, size // 2 + 1)
    moved_mm = (batch.image[:, 0] - columns[:, 0])[:, inner, inner] * bent.view.spacing_mm
    # In the middle of four knots, each of which moves by 2 mm on its own, their mean moves by half of that.
    assert float(moved_mm.square().mean().sqrt()) == pytest.approx(1.0, rel=0.3)
    nearest = batch.target[:, inner, inner].float() - batch.image[:, 0, inner, inner]
    assert float(nearest.abs().max()) <= 0.5 + 1e-4


@pytest.mark.parametrize("change", ["samples.warp_mm=2", "samples.cover_share=0.5"])
def test_a_view_of_the_whole_field_has_no_millimeters_to_bend_or_cover_by(change):
    with pytest.raises((ValueError, InputRefused), match="fixed spacing"):
        tiny("view.spacing_mm=0", change)


def test_even_islands_let_a_small_one_weigh_more_than_its_pixels(blobs, tmp_path):
    changes = ("samples.shift_mm=0", "samples.turn_degrees=0", "samples.zoom=0", "samples.noise_hu=0")
    samples = read_data(tiny("samples.even_islands=true", *changes), blobs[1], blobs[2], tmp_path, Ranks()).training
    batch = next(training_batches(samples, 4, 0, 1, Ranks(), 0))
    # every island of these scans is 4 x 4 pixels and alone on its slice
    assert batch.weight[batch.mask].unique().tolist() == [0.25]
    counted = np.zeros((8, 8), bool)
    counted[0, 0] = counted[1, 1] = True  # touch at a corner: one island of two
    counted[4:7, 4:7] = True
    weight = even_weights(counted)
    assert weight[0, 0] == weight[1, 1] == pytest.approx(2**-0.5)
    assert weight[5, 5] == pytest.approx(1 / 3)
    assert not weight[~counted].any()


@pytest.mark.parametrize(
    ("sources", "classes", "is_told"),
    [
        (("coca-gated", "phantom"), ("LAD", "OTHER"), True),
        (("coca-gated", "coca-gated"), ("LAD", "OTHER"), False),
        (("coca-gated", "phantom"), ("LAD",), False),
        (("case", "phantom"), ("LAD", "OTHER"), False),
    ],
)
def test_labels_with_and_without_other_are_not_mixed_in_silence(tmp_path, sources, classes, is_told):
    scans = []
    for n, source in enumerate((*sources, "case", "case")):
        hu = np.full((2, 8, 8), n, np.int16)
        ct = CTVolume(hu, np.diag([1.0, 1.0, 3.0, 1.0]))
        scans.append(LabeledScan(f"{source}/{n}", f"p{n}", source, ct, np.zeros(hu.shape, np.uint8)))
    shards = write_shards(tmp_path / "s", scans)
    recipe = replace(SegmentationRecipe(), samples=SampleRecipe(classes=classes))
    words = mixed_labels(recipe, shards, Splits(("p0", "p1"), ("p2",), ("p3",)))
    assert bool(words) is is_told
    if is_told:
        assert words.startswith("labels of coca-gated name no calcium that is not coronary, those of phantom do")

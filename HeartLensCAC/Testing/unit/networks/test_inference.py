"""The interface to the networks: votes of islands worked out by hand, who is asked, progress, devices."""

from __future__ import annotations

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from plain_bundle import FOLDER
from schematic_chest import schematic_chest

import heartlens.networks.inference
import heartlens.networks.runtime
from heartlens.anatomy import heart_region
from heartlens.calcium import judge_by_rules
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import Calibration, load_bundle
from heartlens.networks.inference import (
    BATCH,
    MIN_SLICES_FOR_GPU,
    Networks,
    classify_slices,
    segment_vessels,
    slices_with_candidates,
)
from heartlens.networks.runtime import OnnxNetwork, OutOfDeviceMemory, cpu_threads

PROTOCOL = ScoringProtocol()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.fixture(scope="module")
def bundle():
    return load_bundle(FOLDER)


@pytest.fixture(scope="module")
def networks(bundle):
    return Networks(bundle, "cpu")


@pytest.fixture(scope="module")
def chest() -> CTVolume:
    """Calcium in the heart at z = -30 and -75 mm, slices 18 to 22 and 5 with their neighbors, and in a lung."""
    return schematic_chest(add=((40, -10, -30, 7, 450), (10, 5, -75, 4, 300), (-75, 0, -15, 5, 900)))


def squares(*islands: tuple[slice, slice, slice, float]) -> CTVolume:
    """(5, 80, 80) of the view's own pixels, 2.8 mm, so that nothing is resampled; no heart is seen in it."""
    hu = np.zeros((5, 80, 80), np.int16)
    for k, j, i, value in islands:
        hu[k, j, i] = value
    return CTVolume(hu, np.diag([2.8, 2.8, 3.0, 1.0]))


def name_islands(ct: CTVolume, bundle, networks, *, calibration=None, **more):
    stage = replace(bundle.vessel, calibration=calibration or Calibration())
    return segment_vessels(ct, heart_region(ct), networks.vessel, stage, PROTOCOL, **more)


def by_place(lesions, k: int, j: int, i: int):
    """Artery and note of the lesion at a voxel; None where there is none."""
    lesion = int(lesions.labels[k, j, i])
    return (lesions.arteries[lesion], lesions.notes[lesion]) if lesion else None


@pytest.mark.parametrize(
    ("hu", "artery", "review"),
    [
        (620, Artery.LAD, False),  # log odds 2.2
        (500, Artery.LAD, True),  # 1, and ln 3 is 1.0986
        (400, Artery.LAD, True),  # 0: on the cut-off
        (300, Artery.OTHER, True),  # -1: not coronary, but in doubt
        (150, Artery.OTHER, False),  # -2.5
    ],
)
def test_the_vote_by_hand(bundle, networks, hu, artery, review):
    ct = squares((slice(1, 3), slice(10, 14), slice(20, 23), hu))
    lesions = name_islands(ct, bundle, networks)
    named, note = by_place(lesions, 1, 10, 20)
    assert named is artery
    assert note.probability == pytest.approx(sigmoid((hu - 400) / 100), abs=1e-5)
    assert (note.source, note.undecided) == ("network", review)
    assert ("review" in note.why) == review
    assert (lesions.labels > 0).sum() == 2 * 4 * 3


def test_voxels_of_an_island_vote_together(bundle, networks):
    """Nine voxels of 700 HU and one of 200: their mean probability, not that of their mean."""
    ct = squares((2, 10, slice(20, 29), 700), (2, 11, 20, 200))
    _, note = by_place(name_islands(ct, bundle, networks), 2, 11, 20)
    assert note.probability == pytest.approx((9 * sigmoid(3) + sigmoid(-2)) / 10, abs=1e-5)
    assert note.why == f"network votes: LAD {note.probability:.2f}, none {1 - note.probability:.2f}"


def test_calibration_moves_the_probability_and_not_the_decision(bundle, networks):
    """Log odds 1 and -2.5 become 2 * 1 - 0.5 = 1.5 and 2 * -2.5 - 0.5 = -5.5; the cut-off's 0 becomes -0.5."""
    ct = squares((1, slice(10, 14), slice(20, 24), 500), (3, slice(50, 54), slice(20, 24), 150))
    lesions = name_islands(ct, bundle, networks, calibration=Calibration(2.0, -0.5))
    artery, note = by_place(lesions, 1, 10, 20)
    assert artery is Artery.LAD
    assert note.probability == pytest.approx(sigmoid(1.5), abs=1e-5)
    assert not note.undecided, "2 from the cut-off, where uncalibrated it would be 1"
    assert by_place(lesions, 3, 50, 20) is None  # 0.0041: too little to keep in doubt


def test_what_is_too_small_to_count_is_not_kept_in_doubt(bundle, networks):
    """Pixels of 0.5 mm2 and a minimum of 1 mm2: one pixel is too small. The view is laid over all of the slice."""
    hu = np.zeros((3, 40, 40), np.int16)
    hu[1, 10, 10], hu[1, 20, 20:24] = 300, 300
    ct = CTVolume(hu, np.diag([0.7, 0.7, 3.0, 1.0]))
    lesions = segment_vessels(
        ct, heart_region(ct), lambda x: np.stack([x[:, 1] * 0, x[:, 1] * 0 - 1], axis=1),
        replace(bundle.vessel, cut_off=0.5, calibration=Calibration()), PROTOCOL,
    )  # fmt: skip
    assert by_place(lesions, 1, 10, 10) is None
    assert by_place(lesions, 1, 20, 20)[0] is Artery.OTHER


def test_an_island_is_named_whole_by_the_slices_that_were_chosen(bundle, networks):
    """500 HU on slice 1 and 700 HU on slice 2: named by slice 2 alone, with all its voxels."""
    ct = squares((1, slice(10, 14), slice(20, 24), 500), (2, slice(10, 14), slice(20, 24), 700),
                 (4, slice(60, 64), slice(20, 24), 700))  # fmt: skip
    only = np.array([False, False, True, False, False])
    lesions = name_islands(ct, bundle, networks, chosen_slices=only)
    _, note = by_place(lesions, 1, 10, 20)
    assert note.probability == pytest.approx(sigmoid(3), abs=1e-5)
    assert by_place(lesions, 2, 10, 20) == by_place(lesions, 1, 10, 20)
    assert by_place(lesions, 4, 60, 20) is None


LAD_MM = (50, -42, -14)
"""In the fat before the schematic heart, where the rules see the LAD."""


def refusing(*log_odds: float):
    """A network that says the same of every pixel: logits of none, LAD and OTHER."""
    return lambda image: np.tile(np.array(log_odds, np.float32)[None, :, None, None], (len(image), 1, *image.shape[2:]))


def refuse(ct: CTVolume, bundle, log_odds, place=LAD_MM, *, rules=True):
    region = heart_region(ct)
    stage = replace(bundle.vessel, classes=("none", "LAD", "OTHER"), calibration=Calibration())
    opinion = judge_by_rules(ct, region, PROTOCOL) if rules else None
    lesions = segment_vessels(ct, region, refusing(*log_odds), stage, PROTOCOL, rules=opinion)
    k, j, i = ct.index_kji(np.array([place]))[0].round().astype(int)
    return by_place(lesions, k, j, i), opinion


def test_what_the_rules_believe_in_is_not_refused_as_something_else_without_a_word(bundle):
    """OTHER 0.98, LAD 0.01: it stays OTHER, undecided, with the mean of both opinions for its probability."""
    ct = schematic_chest(add=[(*LAD_MM, 3, 500)])
    votes = (0.0, 0.0, math.log(98))
    (artery, note), opinion = refuse(ct, bundle, votes)
    believed = opinion.notes[int(np.flatnonzero(opinion.left)[0])].probability
    assert believed > 0.7
    assert artery is Artery.OTHER
    assert note.undecided
    assert note.probability == pytest.approx((0.01 + believed) / 2, abs=1e-3)
    assert "may be coronary: review" in note.why
    (artery, note), _ = refuse(ct, bundle, votes, rules=False)
    assert (artery, note.undecided) == (Artery.OTHER, False)


@pytest.mark.parametrize(
    ("none", "is_heard"), [(0.49, True), (0.51, False)], ids=["just likelier something", "just likelier nothing"]
)
def test_the_rules_are_not_heard_on_what_the_network_takes_for_nothing(bundle, none, is_heard):
    ct = schematic_chest(add=[(*LAD_MM, 3, 500)])
    found, _ = refuse(ct, bundle, (math.log(none), math.log(0.01), math.log(0.99 - none)))
    assert (found is not None and found[1].undecided) is is_heard


def test_a_coronary_island_keeps_its_name_and_probability_whatever_the_rules_say(bundle):
    (artery, note), _ = refuse(schematic_chest(add=[(*LAD_MM, 3, 500)]), bundle, (0.0, math.log(98), 0.0))
    assert artery is Artery.LAD
    assert note.probability == pytest.approx(0.98, abs=1e-3)
    assert not note.undecided


def test_the_rules_dispute_nothing_that_they_remove_by_its_place(bundle):
    """Calcium beside the spine: OTHER for both, and decided."""
    ct = schematic_chest(add=[(0, 60, -14, 3, 500), (*LAD_MM, 3, 500)])
    region = heart_region(ct)
    opinion = judge_by_rules(ct, region, PROTOCOL)
    away = np.linalg.norm(opinion.pieces.center_mm - np.array((0, 60, -14)), axis=1)
    assert np.isnan(opinion.disputes[away.argmin()])
    near = np.linalg.norm(opinion.pieces.center_mm - np.array(LAD_MM), axis=1)
    assert opinion.disputes[near.argmin()] > 0.7


def test_slices_without_a_candidate_in_the_heart_are_not_classified(chest):
    region = heart_region(chest)
    candidate_slices = slices_with_candidates(chest, region, PROTOCOL)
    z = chest.lps_mm([(k, 0, 0) for k in range(chest.shape[0])])[:, 2]
    # A ball of radius r is on slices nearer than r; its last slice may be too small to count.
    assert set(np.flatnonzero(np.abs(z + 30) < 6)) <= set(np.flatnonzero(candidate_slices))
    assert set(np.flatnonzero(candidate_slices)) <= set(np.flatnonzero((np.abs(z + 30) < 7) | (np.abs(z + 75) < 4)))
    clean = schematic_chest()
    assert not slices_with_candidates(clean, heart_region(clean), PROTOCOL).any()


def test_calcium_beside_the_zone_of_the_arteries_asks_for_no_slice():
    """In the box around the zone, whose corners no artery reaches."""
    clean = schematic_chest()
    region = heart_region(clean)
    box = np.zeros(clean.shape, bool)
    box[region.box(clean)] = True
    kji = np.argwhere(box)
    beside = kji[~region.grid.sample(region.zone, kji)]
    k, j, i = beside[np.abs(beside[:, 0] - 20).argmin()]
    hu = clean.hu.copy()
    hu[k, j, i] = 500  # a pixel of 7.8 mm2 counts on its own
    dotted = CTVolume(hu, clean.affine, clean.header)
    region = heart_region(dotted)
    assert not region.grid.sample(region.zone, np.array([[k, j, i]]))[0]
    assert not slices_with_candidates(dotted, region, PROTOCOL).any()


def test_the_brightest_pixel_speaks_for_a_slice(chest, bundle, networks):
    region = heart_region(chest)
    candidate_slices = slices_with_candidates(chest, region, PROTOCOL)
    sizes = []

    def counted(image):
        sizes.append(image.shape)
        return networks.slices(image)

    p = classify_slices(chest, region, counted, bundle.slices.view, candidate_slices)
    assert np.isnan(p[~candidate_slices]).all()
    assert p[20] == pytest.approx(sigmoid((450 - 400) / 50), abs=1e-4)  # the middle of the ball, 14 mm wide
    assert (p[:10][candidate_slices[:10]] < 0.2).all()  # 300 HU
    assert sum(shape[0] for shape in sizes) == candidate_slices.sum()
    assert all(shape[0] <= BATCH and shape[1:] == (1, 36, 36) for shape in sizes)


def test_on_progress_is_called_for_every_batch_and_may_end_the_work(bundle, networks):
    ct = squares((slice(0, 5), slice(10, 14), slice(20, 24), 500))
    fractions, batch_sizes = [], []

    def network(image):
        batch_sizes.append(len(image))
        return networks.vessel(image)

    def cancelled(done):
        fractions.append(done)
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        segment_vessels(ct, heart_region(ct), network, bundle.vessel, PROTOCOL, batch=2, on_progress=cancelled)
    assert fractions == [0.0, 0.4]
    assert batch_sizes == [2]


def test_without_a_gpu_cuda_is_refused_and_auto_is_the_cpu(bundle, monkeypatch):
    monkeypatch.setattr(heartlens.networks.inference, "sees_cuda", lambda: False)
    with pytest.raises(InputRefused, match="sees no GPU"):
        Networks(bundle, "cuda")
    assert Networks(bundle, "auto").device == "cpu"
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        Networks(bundle, "tpu")


def test_auto_does_not_ask_for_a_gpu_that_could_not_run_the_bundle(bundle, monkeypatch):
    """The plain bundle has ONNX files alone."""
    monkeypatch.setattr(heartlens.networks.inference, "sees_cuda", lambda: pytest.fail("nobody needs to know"))
    assert Networks(bundle, "auto").device == "cpu"


def test_auto_does_not_wake_a_gpu_for_a_few_slices_unless_torch_is_awake(bundle, monkeypatch):
    monkeypatch.setattr(heartlens.networks.inference, "torch_can_run", lambda bundle: True)
    monkeypatch.setattr(heartlens.networks.inference, "sees_cuda", lambda: True)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    few, many = MIN_SLICES_FOR_GPU - 1, MIN_SLICES_FOR_GPU
    assert [Networks(bundle, "auto", slices=n).device for n in (few, many, None)] == ["cpu", "cuda", "cuda"]
    assert Networks(bundle, "cuda", slices=few).device == "cuda"
    monkeypatch.setitem(sys.modules, "torch", object())
    assert Networks(bundle, "auto", slices=few).device == "cuda"


def test_when_the_gpu_is_full_the_cpu_goes_on_and_says_so(bundle, networks, monkeypatch):
    """The GPU's part is played by ONNX Runtime, whose memory ends with the second batch."""

    class SmallGpu:
        def __init__(self, bundle, role, *, device):
            self.network, self.calls = OnnxNetwork(bundle, role, threads=1), 0

        def __call__(self, image):
            self.calls += 1
            if self.calls > 1:
                raise OutOfDeviceMemory("CUDA out of memory")
            return self.network(image)

    monkeypatch.setattr(heartlens.networks.inference, "sees_cuda", lambda: True)
    monkeypatch.setattr(heartlens.networks.inference, "TorchNetwork", SmallGpu)
    door = Networks(bundle, "cuda")
    ct = squares((slice(0, 5), slice(10, 14), slice(20, 24), 500))
    lesions = name_islands(ct, bundle, door, batch=2)
    assert door.device == "cpu"
    assert [c.code for c in door.cautions] == ["device"]
    assert "out of memory" in door.cautions[0].text
    other = name_islands(ct, bundle, networks)
    assert np.array_equal(lesions.labels, other.labels)
    assert lesions.notes[1].probability == pytest.approx(other.notes[1].probability, abs=1e-6)


@pytest.mark.parametrize(
    ("files", "setting", "most"),
    [
        ({"cpu.max": "150000 100000\n"}, None, 2),
        ({"cpu.max": "max 100000\n"}, None, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, 1),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None, None),
        ({}, None, None),
        ({"cpu.max": "100000 100000\n"}, "3", 3),
        ({"cpu.max": "100000 100000\n"}, "many", 1),
    ],
)
def test_threads_are_what_was_said_or_what_the_container_may_use(tmp_path, monkeypatch, files, setting, most):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(heartlens.networks.runtime, "CGROUP", tmp_path)
    monkeypatch.setattr(heartlens.networks.runtime.os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    if setting is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
    assert cpu_threads() == (8 if most is None else most)

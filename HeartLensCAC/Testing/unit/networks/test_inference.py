"""The interface to the networks: which slices they are asked about, progress, devices."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from plain_islands import name_islands, sigmoid, squares
from schematic_chest import schematic_chest

import heartlens.networks.inference
import heartlens.networks.runtime
from heartlens.anatomy import heart_region
from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.inference import BATCH, MIN_SLICES_FOR_GPU, Networks, classify_slices, slices_with_candidates
from heartlens.networks.islands import segment_vessels
from heartlens.networks.runtime import OnnxNetwork, OutOfDeviceMemory, cpu_threads

PROTOCOL = ScoringProtocol()


@pytest.fixture(scope="module")
def chest() -> CTVolume:
    """Calcium in the heart at z = -30 and -75 mm, slices 18 to 22 and 5 with their neighbors, and in a lung."""
    return schematic_chest(add=((40, -10, -30, 7, 450), (10, 5, -75, 4, 300), (-75, 0, -15, 5, 900)))


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

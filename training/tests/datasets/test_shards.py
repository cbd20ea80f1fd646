"""Shards give back what was put in, and say which file is damaged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from heartlens.core.ct import CTHeader, CTVolume
from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from training.datasets.scans import LabeledScan, Skipped
from training.datasets.shard_writer import write_shards
from training.datasets.shards import ShardSet


def scan(number: int, *, size: int = 8, slices: int = 4, patient: str | None = None, **changes) -> LabeledScan:
    """On slice 1 a plaque of ten pixels of 1 mm2 at 250 HU: Agatston 10 x 2 = 20 at 3 mm."""
    hu = np.full((slices, size, size), -100, np.int16)
    hu[0, 0, 0] = number  # no two scans alike
    hu[1, 2:4, 2:7] = 250
    labels = np.zeros(hu.shape, np.uint8)
    labels[1, 2:4, 2:7] = Artery.LAD
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    ct = CTVolume(hu, affine, CTHeader(kvp=120.0, slice_thickness_mm=3.0, kernel="I30f", is_gated=True))
    facts = {"labels": labels, "ct": ct, **changes}
    return LabeledScan(f"phantom/{number}", patient or f"p{number}", "phantom", **facts)


@pytest.fixture
def shards(tmp_path):
    return write_shards(tmp_path / "shards", [scan(1), scan(2, size=9), scan(3)])


def test_voxels_labels_and_geometry_come_back(shards):
    for n, original in enumerate([scan(1), scan(2, size=9), scan(3)]):
        np.testing.assert_array_equal(shards.image(n), original.ct.hu)
        np.testing.assert_array_equal(shards.labels(n), original.labels)
        np.testing.assert_array_equal(shards.ct(n).affine, original.ct.affine)
        assert shards.ct(n).header == original.ct.header
        assert shards.scans[n].spacing_mm == (3.0, 1.0, 1.0)


def test_scans_of_one_size_share_a_shard(shards):
    assert [s.shard for s in shards.scans] == [0, 1, 0]
    assert [s.start for s in shards.scans] == [0, 0, 4]
    assert shards.image(2).base is not None
    assert isinstance(shards.image(2), np.memmap)


def test_a_full_shard_is_closed_and_a_scan_is_never_divided(tmp_path):
    shards = write_shards(tmp_path / "s", [scan(n) for n in range(5)], shard_bytes=4 * 64 * 2 + 1)
    assert [s.shard for s in shards.scans] == [0, 0, 1, 1, 2]
    np.testing.assert_array_equal(shards.image(3), scan(3).ct.hu)


def test_images_cannot_be_written_to(shards):
    with pytest.raises(ValueError, match="read-only"):
        shards.image(0)[0, 0, 0] = 1


def test_the_index_knows_score_category_and_calcified_slices(shards):
    record = shards.scans[0]
    assert record.agatston == {"LM": 0, "LAD": 20, "LCX": 0, "RCA": 0, "UNASSIGNED": 0, "total": 20}
    assert record.category == "11-100"
    assert record.calcified_slices == (1,)
    places, is_calcified = shards.slices([2, 0])
    assert places.tolist() == [[2, 0], [2, 1], [2, 2], [2, 3], [0, 0], [0, 1], [0, 2], [0, 3]]
    assert np.flatnonzero(is_calcified).tolist() == [1, 5]


def test_what_is_not_coronary_makes_no_calcified_slice_and_no_score(tmp_path):
    labels = np.where(scan(1).labels > 0, Artery.OTHER, 0).astype(np.uint8)
    record = write_shards(tmp_path / "s", [scan(1, labels=labels)]).scans[0]
    assert record.agatston["total"] == 0
    assert (record.category, record.calcified_slices) == ("0-10", ())


def test_a_scan_without_labels_keeps_its_score_and_says_why(tmp_path):
    score = {"LM": 0.0, "LAD": 3.0, "LCX": 0.0, "RCA": 500.0, "UNASSIGNED": 0.0, "total": 503.0}
    plain = scan(1, labels=None, agatston=score, why_unlabelled="scores only")
    shards = write_shards(tmp_path / "s", [plain])
    record = shards.scans[0]
    assert not record.is_labeled
    assert (record.category, record.calcified_slices, record.why_unlabelled) == ("over-400", (), "scores only")
    assert not shards.labels(0).any()


def test_a_scan_without_labels_and_without_reason_does_not_exist():
    with pytest.raises(ValueError, match="must say why"):
        scan(1, labels=None)
    with pytest.raises(ValueError, match="on the CT's grid"):
        scan(1, labels=np.zeros((4, 8, 7), np.uint8))


def test_the_same_voxels_count_once(tmp_path):
    twin = LabeledScan("case/1", "somebody", "case", scan(1).ct, scan(1).labels)
    shards = write_shards(tmp_path / "s", [scan(1), twin])
    assert len(shards.scans) == 1
    assert shards.skipped == (Skipped("case/1", "duplicate", "its voxels are those of phantom/1; a scan counts once"),)


def test_skipped_scans_are_listed_in_the_index(tmp_path):
    shards = write_shards(tmp_path / "s", [Skipped("coca-gated/12", "input", "no images"), scan(1)])
    assert shards.skipped == (Skipped("coca-gated/12", "input", "no images"),)


def test_shards_without_any_scan_are_refused_and_nothing_is_left(tmp_path):
    with pytest.raises(InputRefused, match="input: no scan can be used: a: broken"):
        write_shards(tmp_path / "s", [Skipped("a", "gap", "broken")])
    assert list(tmp_path.iterdir()) == []


def test_a_failure_half_way_leaves_nothing(tmp_path):
    def scans():
        yield scan(1)
        raise OSError(28, "No space left on device")

    with pytest.raises(InputRefused, match=r"output: cannot write .*No space left on device.*nothing was written"):
        write_shards(tmp_path / "s", scans())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_disk_that_takes_no_more_is_refused_and_nothing_is_left(tmp_path):
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "from training.prepare import main\n"
        "sys.exit(main(['phantoms', '--out', sys.argv[1], '--count', '1', '--workers', '1', '--set', 'matrix=64',\n"
        "               '--set', 'slice_thickness_mm=10', '--set', 'increment_mm=10', '--set', 'category=0']))\n"
    )
    root = Path(__file__).resolve().parents[3]
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, timeout=100, check=False,
        env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{root / 'HeartLensCAC'}"},
    )  # fmt: skip
    assert run.returncode == 3, run.stderr
    assert run.stderr.startswith("error: output: cannot write ")
    assert "nothing was written" in run.stderr
    assert run.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_touched(tmp_path, shards):
    before = sorted(p.name for p in shards.folders[0].iterdir())
    with pytest.raises(InputRefused, match=r"output: .* exists; choose another --out"):
        write_shards(shards.folders[0], [scan(9)])
    assert sorted(p.name for p in shards.folders[0].iterdir()) == before


def test_the_same_scans_give_the_same_bytes(tmp_path):
    a, b = (write_shards(tmp_path / name, [scan(1), scan(2)]).folders[0] for name in "ab")
    assert [p.read_bytes() for p in sorted(a.iterdir())] == [p.read_bytes() for p in sorted(b.iterdir())]


def test_hu_that_are_no_int16_are_rounded_and_marked(tmp_path):
    hu = scan(1).ct.hu.astype(np.float32)
    hu[0, 0, :3] = (0.5, 129.6, 70000)
    ct = CTVolume(hu, scan(1).ct.affine)
    shards = write_shards(tmp_path / "s", [scan(1, ct=ct), scan(2)])
    assert [s.is_rounded for s in shards.scans] == [True, False]
    assert shards.image(0)[0, 0, :3].tolist() == [0, 130, 32767]


def test_several_folders_are_one_set(tmp_path):
    write_shards(tmp_path / "a", [scan(1)])
    write_shards(tmp_path / "b", [scan(2, size=6, slices=3), scan(3)])
    shards = ShardSet.open(tmp_path / "a", tmp_path / "b")
    assert [s.name for s in shards.scans] == ["phantom/1", "phantom/2", "phantom/3"]
    np.testing.assert_array_equal(shards.image(2), scan(3).ct.hu)
    shards.verify()
    with pytest.raises(InputRefused, match="ambiguous: the scan phantom/1 is in the shards twice"):
        ShardSet.open(tmp_path / "a", tmp_path / "a")


# damage


def damage(path, how):
    content = path.read_bytes()
    if how == "cut":
        path.write_bytes(content[:-100])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "other":
        np.save(path, np.zeros((2, 2)))
    elif how == "pickle":
        np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    elif how == "gone":
        path.unlink()


@pytest.mark.parametrize(
    ("how", "code"),
    [("cut", "truncated"), ("empty", "truncated"), ("other", "checksum"), ("pickle", "truncated"), ("gone", "unread")],
)
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_damaged_shard_is_named_when_it_is_opened(shards, kind, how, code):
    path = shards.folders[0] / f"{kind}-00000.npy"
    damage(path, how)
    with pytest.raises(InputRefused, match=f"{code}.*{path.name}.*make the shards again"):
        (shards.image if kind == "images" else shards.labels)(2)


def test_one_flipped_bit_is_found_by_verifying(shards):
    path = shards.folders[0] / "labels-00001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputRefused, match=r"checksum: .*labels-00001.npy: expected SHA-256 .*, found"):
        shards.verify()


def test_verifying_whole_shards_says_nothing(shards):
    verified = []
    shards.verify(verified.append)
    assert verified == ["images-00000.npy", "labels-00000.npy", "images-00001.npy", "labels-00001.npy"]


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(schema="heartlens.shards/9"),
        lambda d: d.pop("scans"),
        lambda d: d["scans"][0].pop("shape"),
        lambda d: d["scans"][0].update(shard=7),
        lambda d: d["scans"][0].update(start=1000),
        lambda d: d["scans"][0].update(surprise=1),
        lambda d: d["shards"][0].pop("rows"),
    ],
)
def test_a_damaged_index_is_refused(shards, change):
    path = shards.folders[0] / "index.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(InputRefused, match=r"unreadable: .*index.json: expected an index of shards, found"):
        ShardSet.open(shards.folders[0])


def test_an_index_that_is_cut_off_is_refused(shards):
    path = shards.folders[0] / "index.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(InputRefused, match="unreadable"):
        ShardSet.open(shards.folders[0])


def test_a_folder_without_index_is_refused(tmp_path):
    with pytest.raises(InputRefused, match=r"input: .* holds no shards: expected index.json"):
        ShardSet.open(tmp_path)

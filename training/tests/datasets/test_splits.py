"""Splits are by patient, stratified, and closed: nothing of validation and test leaks into training."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from full_disk import a_disk_with_room_for
from hypothesis import given
from hypothesis import strategies as st

from heartlens.core.errors import InputRefused
from training.datasets.shards import ScanRecord, ShardSet
from training.datasets.splits import (
    Splits,
    check_splits,
    pretraining_patients,
    pretraining_scans,
    scans_of,
    share_out,
    split_patients,
)

CATEGORIES = ("0-10", "11-100", "101-400", "over-400")


def record(name: str, patient: str, category: str | None, *, labeled: bool = True, voxels: str | None = None):
    return ScanRecord(
        name=name, patient=patient, source="coca-gated", shard=0, start=0, shape=(4, 8, 8), spacing_mm=(3.0, 1.0, 1.0),
        affine=(), kvp=None, slice_thickness_mm=None, kernel=None, is_gated=True, agatston=None, category=category,
        calcified_slices=(), is_rounded=False, voxels_sha256=voxels or name,
        why_unlabelled="" if labeled else "no outlines", notes=(), provenance={},
    )  # fmt: skip


def dataset(*records: ScanRecord) -> ShardSet:
    return ShardSet(tuple(records), (), (Path("nowhere"),), ((),), (0,) * len(records))


def cohort(*sizes: int) -> ShardSet:
    """So many patients in each category, each with one labeled scan."""
    return dataset(
        *(
            record(f"{row}/{n}", f"{row}-{n}", row)
            for row, size in zip(CATEGORIES, sizes, strict=True)
            for n in range(size)
        )
    )


def test_the_paper_cohort_gives_the_papers_table():
    splits = split_patients(cohort(56, 147, 122, 118), seed=3)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [354, 44, 45]
    table = {
        row: tuple(
            sum(patient.startswith(f"{row}-") and patient.rpartition("-")[0] == row for patient in part)
            for part in (splits.train, splits.validation, splits.test)
        )
        for row in CATEGORIES
    }
    assert table == {"0-10": (45, 5, 6), "11-100": (117, 15, 15), "101-400": (98, 12, 12), "over-400": (94, 12, 12)}


def test_splits_depend_on_the_seed_and_not_on_the_order_of_scans():
    shards = cohort(20, 20, 20, 20)
    turned = dataset(*shards.scans[::-1])
    assert split_patients(shards, seed=1) == split_patients(turned, seed=1)
    assert split_patients(shards, seed=1).test != split_patients(shards, seed=2).test


def test_every_labelled_patient_is_in_exactly_one_part():
    shards = cohort(9, 8, 7, 6)
    splits = split_patients(shards, seed=0)
    counted = Counter((*splits.train, *splits.validation, *splits.test))
    assert counted == {scan.patient: 1 for scan in shards.scans}


def test_all_scans_of_a_patient_go_together():
    shards = dataset(*(record(f"{n}/{visit}", f"p{n}", "0-10") for n in range(20) for visit in range(2)))
    splits = split_patients(shards, seed=5)
    assert len(splits.train) + len(splits.validation) + len(splits.test) == 20
    assert len(scans_of(shards, splits.test)) == 2 * len(splits.test)


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_scan_of_a_patient_decides_the_category(seed):
    first = [record(f"{n}/1", f"p{n}", "0-10") for n in range(20)]
    second = [record(f"{n}/2", f"p{n}", "over-400") for n in range(10)]
    splits = split_patients(dataset(*first, *second), seed=seed, proportions=(8, 1, 1))
    grown = {f"p{n}" for n in range(10)}
    assert [len(grown & set(part)) for part in (splits.train, splits.validation, splits.test)] == [8, 1, 1]


def test_patients_without_labels_are_in_no_part():
    shards = dataset(*cohort(10, 10, 10, 10).scans, record("x", "unlabelled", "0-10", labeled=False))
    splits = split_patients(shards, seed=0)
    assert "unlabelled" not in (*splits.train, *splits.validation, *splits.test)
    assert "unlabelled" in pretraining_patients(shards, splits)


def test_pretraining_sees_no_patient_of_validation_or_test():
    labeled = cohort(20, 20, 20, 20)
    second_visits = [record(f"again/{n}", scan.patient, None, labeled=False) for n, scan in enumerate(labeled.scans)]
    others = [record(f"nongated/{n}", f"nongated-{n}", None, labeled=False) for n in range(30)]
    shards = dataset(*labeled.scans, *second_visits, *others)
    splits = split_patients(shards, seed=4)
    held_out = {*splits.validation, *splits.test}
    patients = pretraining_patients(shards, splits)
    assert not held_out & set(patients)
    assert set(patients) | held_out == {scan.patient for scan in shards.scans}
    scans = pretraining_scans(shards, splits)
    assert not held_out & {shards.scans[n].patient for n in scans}
    assert len(scans) == 2 * len(splits.train) + 30


def test_a_copy_of_a_test_scan_under_another_name_is_not_pretrained_on():
    shards = cohort(20, 20, 20, 20)
    splits = split_patients(shards, seed=4)
    tested = next(scan for scan in shards.scans if scan.patient == splits.test[0])
    copy = record("copy", "somebody-else", None, labeled=False, voxels=tested.voxels_sha256)
    with_copy = dataset(*shards.scans, copy)
    assert "somebody-else" not in pretraining_patients(with_copy, splits)
    assert len(pretraining_scans(with_copy, splits)) == len(splits.train)


def test_patients_who_share_a_scan_land_in_one_part():
    scans = [record(f"{n}", f"p{n}", "0-10", voxels=f"v{n // 2}") for n in range(40)]
    splits = split_patients(dataset(*scans), seed=7)
    part_of = {p: name for name in ("train", "validation", "test") for p in getattr(splits, name)}
    assert all(part_of[f"p{2 * n}"] == part_of[f"p{2 * n + 1}"] for n in range(20))
    check_splits(dataset(*scans), splits)


def test_the_same_voxels_in_two_parts_are_refused():
    shards = dataset(record("a", "p1", "0-10"), record("b", "p2", "0-10", voxels="a"), record("c", "p3", "0-10"))
    with pytest.raises(InputRefused, match=r"b \(test\) and a \(train\) hold the same voxels"):
        check_splits(shards, Splits(("p1",), ("p3",), ("p2",)))


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ((("a", "b"), ("b",), ("c",)), "1 patients are in both train and validation"),
        ((("a",), ("b",), ("a",)), "1 patients are in both train and test"),
        ((("a",), ("b", "c"), ("c", "d")), "1 patients are in both validation and test"),
        ((("a", "a"), ("b",), ("c",)), "the train split names a patient twice"),
        ((("a",), (), ("c",)), "the validation split has no patient"),
        (((), ("b",), ("c",)), "the train split has no patient"),
        ((("a",), ("b",), ()), "the test split has no patient"),
    ],
)
def test_a_patient_in_two_parts_and_an_empty_part_are_refused(parts, text):
    with pytest.raises(InputRefused, match=f"input: {text}"):
        Splits(*parts)


def test_a_patient_in_two_parts_is_refused_from_a_file_too(tmp_path):
    path = tmp_path / "splits.json"
    Splits(("a",), ("b",), ("c",)).save(path)
    document = json.loads(path.read_text())
    document["test"].append("a")
    path.write_text(json.dumps(document))
    with pytest.raises(InputRefused, match="input: 1 patients are in both train and test"):
        Splits.load(path)


def test_too_few_patients_are_refused():
    with pytest.raises(InputRefused, match="split has no patient; give more patients"):
        split_patients(cohort(1, 1, 1, 1), seed=0)
    assert split_patients(cohort(2, 2, 2, 1), seed=0).validation


def test_shards_without_labels_cannot_be_split():
    with pytest.raises(InputRefused, match="no patient has complete labels"):
        split_patients(dataset(record("a", "p", None, labeled=False)), seed=0)


def test_splits_of_other_shards_are_refused():
    shards = cohort(5, 5, 5, 5)
    splits = split_patients(shards, seed=0)
    with pytest.raises(InputRefused, match="1 patients of the splits are not in the shards"):
        pretraining_patients(shards, replace(splits, test=(*splits.test, "stranger")))


def test_splits_that_the_disk_does_not_take_leave_those_of_before(tmp_path):
    splits = Splits(("a", "b"), ("c",), ("d",))
    splits.save(tmp_path / "splits.json")
    with a_disk_with_room_for(20), pytest.raises(InputRefused, match="output: cannot write"):
        replace(splits, seed=5).save(tmp_path / "splits.json")
    assert Splits.load(tmp_path / "splits.json") == splits
    assert len(list(tmp_path.iterdir())) == 1


def test_splits_survive_a_file(tmp_path):
    splits = split_patients(cohort(20, 20, 20, 20), seed=11, proportions=(8, 1, 1))
    splits.save(tmp_path / "splits.json")
    assert Splits.load(tmp_path / "splits.json") == splits


@pytest.mark.parametrize("text", ["", "{}", '{"schema": "heartlens.splits/1", "train": 3}', "[]", '{"schema": "x"}'])
def test_a_damaged_splits_file_is_refused(tmp_path, text):
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(InputRefused, match=r"unreadable: .*splits.json: expected splits"):
        Splits.load(path)
    with pytest.raises(InputRefused, match="input: cannot read"):
        Splits.load(tmp_path / "none.json")


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.lists(st.integers(1, 50), min_size=2, max_size=4))
def test_shares_add_up_and_stay_near_their_proportion(sizes, proportions):
    counts = share_out(sizes, proportions)
    whole = sum(proportions)
    assert [sum(row) for row in counts] == sizes
    for c, p in enumerate(proportions):
        assert abs(sum(row[c] for row in counts) - sum(sizes) * p / whole) < 1
    for size, row in zip(sizes, counts, strict=True):
        for p, count in zip(proportions, row, strict=True):
            assert size * p / whole - 1 < count < size * p / whole + len(sizes) + 1


def test_proportions_must_be_some():
    with pytest.raises(ValueError, match="proportions must be 0 or more"):
        share_out([5], (0, 0))

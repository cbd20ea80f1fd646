"""A site's data beside others: who is drawn against forgetting, and who must not be."""

from __future__ import annotations

import numpy as np
import pytest

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from training.adaptation.site import Site, same_people, with_replay
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.datasets.splits import Splits, scans_of


def scan(patient, number, name=None):
    """A slice of its own for every number, with one calcified voxel."""
    hu = np.full((1, 8, 8), -100, np.int16)
    hu[0, 0, 0], hu[0, 4, 4] = number, 400
    labels = np.where(hu == 400, 2, 0).astype(np.uint8)
    ct = CTVolume(hu, np.diag([0.5, 0.5, 3.0, 1.0]))
    return LabeledScan(name or f"{patient}/{number}", patient, "made up", ct, labels)


@pytest.fixture
def site(tmp_path):
    """Patients a, b teach, c chooses, d judges."""
    shards = write_shards(tmp_path / "site", [scan(p, n) for n, p in enumerate("abcd")])
    return Site(shards, Splits(("a", "b"), ("c",), ("d",)), (), 4)


def drawn(site, folder, judges=(), seed=0):
    shards, splits = with_replay(site, [folder], seed, judges)
    return shards, sorted(set(splits.train) - set(site.splits.train))


def test_nobody_who_judges_is_replayed_whatever_the_seed(site, tmp_path):
    """Of p, q and r, p judges, and q shares a scan with s, who judges: r alone is left."""
    write_shards(tmp_path / "elsewhere", [scan("p", 50), scan("q", 51), scan("r", 52)])
    judges = write_shards(tmp_path / "judge", [scan("p", 60), scan("s", 51, "judge/51")]).scans
    for seed in range(5):
        assert drawn(site, tmp_path / "elsewhere", judges, seed)[1] == ["r"]
    assert len(drawn(site, tmp_path / "elsewhere")[1]) == 2  # as many scans as teach from the site


def test_nobody_who_gave_a_case_is_replayed_under_another_name(site, tmp_path):
    write_shards(tmp_path / "elsewhere", [scan("x", 3, "again"), scan("r", 52)])  # voxels of d, who judges
    assert drawn(site, tmp_path / "elsewhere")[1] == ["r"]


def test_as_many_scans_are_replayed_as_teach_and_not_as_many_patients(site, tmp_path):
    """Two scans teach: one patient who has three is enough."""
    write_shards(tmp_path / "elsewhere", [scan(p, 50 + 3 * m + n) for m, p in enumerate("pqr") for n in range(3)])
    shards, chosen = drawn(site, tmp_path / "elsewhere")
    assert len(chosen) == 1
    assert len(scans_of(shards, chosen)) == 3


def test_a_replay_of_judges_alone_is_refused_with_a_way_out(site, tmp_path):
    judges = write_shards(tmp_path / "elsewhere", [scan("p", 50)]).scans
    with pytest.raises(InputRefused, match="give other scans, or leave --replay out"):
        with_replay(site, [tmp_path / "elsewhere"], 0, judges)
    shards, splits = with_replay(site, [], 0, judges)  # the way out
    assert (shards, splits) == (site.shards, site.splits)


def test_people_are_the_same_by_name_or_by_a_scan_that_they_share(tmp_path):
    one = write_shards(tmp_path / "one", [scan("a", 1), scan("b", 2), scan("c", 3)]).scans
    two = write_shards(tmp_path / "two", [scan("a", 9), scan("z", 2, "z")]).scans
    assert same_people(one, two) == {"a", "b"}

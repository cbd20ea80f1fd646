"""A site's data beside others: who is drawn against forgetting, and who must not be."""

from __future__ import annotations

import numpy as np
import pytest
from signed_cases import make_signed

from heartlens.core.ct import CTVolume
from heartlens.core.errors import InputRefused
from training.adaptation.site import Site, patients_needed, read_site, same_people, with_replay
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


def test_a_site_with_too_few_cases_gives_more_with_the_same_command(tmp_path):
    """Sixteen are refused, with how many are needed; the seventeenth is given beside them, and the folder goes on."""
    cases = [make_signed(tmp_path / f"case{n}", seed=n) for n in range(patients_needed())]
    with pytest.raises(InputRefused, match=r"16 patients with a signed case; expected 17 or more.*sign cases of more"):
        read_site(cases[:-1], tmp_path / "work", 0)
    found = read_site(cases, tmp_path / "work", 0)
    assert len(found.shards.scans) == 17
    assert len(found.splits.test) == 5
    again = read_site(cases, tmp_path / "work", 0)
    assert (again.splits, again.contradictions) == (found.splits, found.contradictions)


def test_a_site_without_calcium_goes_on_once_some_is_signed(tmp_path):
    empty = [make_signed(tmp_path / f"case{n}", seed=n, emptied=True) for n in range(patients_needed())]
    with pytest.raises(InputRefused, match="sign cases with some and give them too"):
        read_site(empty, tmp_path / "work", 0)
    more = [make_signed(tmp_path / f"more{n}", seed=50 + n) for n in range(patients_needed())]
    found = read_site([*empty, *more], tmp_path / "work", 0)
    assert any(found.shards.scans[n].calcified_slices for n in scans_of(found.shards, found.splits.train))


def test_who_judges_does_not_change_in_a_folder_by_cases_nor_by_a_seed(tmp_path):
    cases = [make_signed(tmp_path / f"case{n}", seed=n) for n in range(patients_needed() + 1)]
    first = read_site(cases[:-1], tmp_path / "work", 3)
    with pytest.raises(InputRefused, match=r"other cases.*give another --work"):
        read_site(cases, tmp_path / "work", 3)
    with pytest.raises(InputRefused, match=r"drawn with --seed 3.*give that seed, or another --work"):
        read_site(cases[:-1], tmp_path / "work", 4)
    assert read_site(cases[:-1], tmp_path / "work", 3).splits == first.splits  # the ways out
    assert len(read_site(cases, tmp_path / "other", 4).shards.scans) == len(cases)


def test_shards_that_were_cut_short_are_made_anew(tmp_path):
    cases = [make_signed(tmp_path / f"case{n}", seed=n) for n in range(patients_needed())]
    read_site(cases, tmp_path / "work", 0)
    for name in ("cases.json", "splits.json"):  # as after a kill between the shards and what says of which cases
        (tmp_path / "work" / name).unlink()
    assert len(read_site(cases, tmp_path / "work", 0).shards.scans) == 17


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

"""Adapting without labels as a command: on small chests, from shards to a bundle, or to a reason why there is none."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from needed import torch
from schematic_chest import ROOT_MM, schematic_chest
from test_learn import OWED, make_start

from heartlens.anatomy.territories import COURSES_MM
from heartlens.core.lesions import Artery
from heartlens.networks.bundle import load_bundle
from training import adapt
from training.adaptation import islands
from training.adaptation.adapted import FIGURES, is_valid
from training.adaptation.islands import PLACE, vessel_network
from training.datasets.scans import LabeledScan
from training.datasets.shard_writer import write_shards
from training.engine.cli import DONE, REFUSED

pytestmark = pytest.mark.slow

STILL = ["policy.rounds=1", "policy.learning_rate=1e-9", "policy.entropy=0.0"]
QUICK = ["reward.steps=400", "reward.width=32", "reward.learning_rate=5e-3", *STILL]


def chest(number: int) -> LabeledScan:
    """Calcium on each artery's course, and two balls in the wall of the aorta."""
    rng = np.random.default_rng([number, 5])
    add, codes = [], []
    for artery in (Artery.LAD, Artery.LCX, Artery.RCA):
        course = COURSES_MM[artery]
        for place in course[rng.choice(len(course), 2, replace=False)]:
            add.append((*(place + ROOT_MM + rng.normal(0, 2, 3)), 3.2, 400 + len(add)))
            codes.append(artery)
    for turn in rng.uniform(0, 2 * np.pi, 2):
        add.append((ROOT_MM[0] + 15 * np.cos(turn), ROOT_MM[1] + 15 * np.sin(turn), 25.0, 3.2, 400 + len(add)))
        codes.append(Artery.OTHER)
    ct = schematic_chest(add=tuple(add))
    labels = np.zeros(ct.shape, np.uint8)
    for n, artery in enumerate(codes):
        labels[ct.hu == 400 + n] = artery
    return LabeledScan(f"made/{number}", f"patient-{number}", "phantom", ct, labels)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A bundle that calls everything LAD, six people with labels and six to adapt to."""
    folder = tmp_path_factory.mktemp("adapt")
    make_start(folder / "start", bias=(0.0, 0.0, 2.0, 0.0, 0.0, 0.0))
    write_shards(folder / "source", [chest(n) for n in range(6)])
    write_shards(folder / "target", [chest(n) for n in range(10, 16)])
    return folder


def run(world, tmp_path, *words, target="target", settings=QUICK):
    command = ["--start", world / "start", "--source", world / "source", "--target", world / target]
    return adapt.main([*map(str, command), "--out", str(tmp_path / "new"), "--set", *settings, *words])


def test_a_policy_that_stays_ships_as_the_bundle_that_it_was(world, tmp_path, capsys):
    assert run(world, tmp_path) == DONE
    said = capsys.readouterr().out
    assert "AUROC of 0.9" in said or "AUROC of 1.0" in said
    assert f"| | {' | '.join(FIGURES)} |" in said
    made, start = load_bundle(tmp_path / "new"), load_bundle(world / "start")
    for a, b in zip(vessel_network(made).parameters(), vessel_network(start).parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    manifest = json.loads((tmp_path / "new" / "manifest.json").read_text())
    assert manifest["adapted"]["method"] == "ppo"
    assert manifest["attribution"] == [OWED]
    assert "then 3 scans that nobody labeled, by ppo" in manifest["trained_on"]
    assert manifest["lineage"]["from"]["title"] == start.title
    record = json.loads((tmp_path / "new-work" / "adapt.json").read_text())
    assert record["shipped"]
    assert record["patients"] == {"source": 6, "target": 6}
    assert set(record["judged"]) == {f"{a}, {b}" for a in ("target", "source") for b in ("as it was", "ppo")}


def test_what_the_network_saw_is_read_once(world, tmp_path, monkeypatch):
    assert run(world, tmp_path) == DONE
    (tmp_path / "new").rename(tmp_path / "first")

    def again(*_, **__):
        raise AssertionError("a scan went through the network twice")

    monkeypatch.setattr(islands, "read_islands", again)
    assert run(world, tmp_path) == DONE


def test_a_bundle_that_calls_worse_is_not_written(world, tmp_path, capsys, monkeypatch):
    figures, calls = adapt.figures, itertools.count(1)

    def fallen(counts):
        found = figures(counts)
        if next(calls) == 2:  # the target, adapted
            a, n, share, interval = found["valid"]
            found["valid"] = (a, n, share - 0.3, interval)
        return found

    monkeypatch.setattr(adapt, "figures", fallen)
    assert run(world, tmp_path) == REFUSED
    assert "error: not shipped: target: valid fell from " in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert not json.loads((tmp_path / "new-work" / "adapt.json").read_text())["shipped"]


def test_a_reward_network_that_knows_nothing_steers_nothing(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(adapt, "LEAST_AUROC", 0.95)
    assert run(world, tmp_path, settings=["reward.steps=1", "reward.learning_rate=1e-9", *STILL]) == REFUSED
    assert "--source: expected an AUROC of 0.95 or more, found 0." in capsys.readouterr().err


def test_the_same_people_on_both_sides_and_too_few_are_refused(world, tmp_path, capsys):
    assert run(world, tmp_path, target="source") == REFUSED
    assert "--target: 12 patients or scans are in --source, too; give other people" in capsys.readouterr().err
    write_shards(world / "few", [chest(n) for n in range(20, 23)])
    assert run(world, tmp_path, target="few") == REFUSED
    assert "--target: expected 4 patients or more, found 3; give more scans" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_validity_is_of_place_alone():
    """On its course, beside the course of another, outside of the zone, and removed by the rules."""
    classes = ("none", "LAD", "RCA")
    place = np.zeros((5, len(PLACE)), np.float32)
    place[:, PLACE.index("in_zone")], place[:, PLACE.index("rules")] = 0.9, 0.5
    place[:, PLACE.index("fit_RCA")] = -8
    place[2, PLACE.index("in_zone")], place[3, PLACE.index("rules")] = 0.2, 0.0
    assert is_valid(place, np.array([1, 2, 1, 1, 0]), classes).tolist() == [True, False, False, False, True]

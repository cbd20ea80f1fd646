"""What a policy acts on is what the product asks its network about: the same islands, the same votes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from needed import torch
from schematic_chest import schematic_chest
from test_learn import make_start

from heartlens.anatomy import heart_region
from heartlens.calcium import judge_by_rules
from heartlens.core.lesions import CORONARY, Artery
from heartlens.core.protocol import ScoringProtocol
from heartlens.networks.bundle import load_bundle
from heartlens.networks.fusion import Fusion
from heartlens.networks.inference import Networks
from heartlens.networks.islands import segment_vessels, vote_of_islands
from training.adaptation.adapted import is_called
from training.adaptation.islands import (
    PLACE,
    UNKNOWN,
    ScanIslands,
    coronary_classes,
    read_islands,
    vessel_network,
)
from training.adaptation.policy import Policy

SPOTS = ((-10, -20, -30, 3.5, 400), (20, -30, -40, 3.5, 450), (40, -20, -46, 3.5, 500))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    bundle = load_bundle(make_start(tmp_path_factory.mktemp("start") / "bundle"))
    ct = schematic_chest(add=SPOTS)
    labels = np.zeros(ct.shape, np.uint8)
    labels[ct.hu == 400], labels[ct.hu == 450], labels[ct.hu == 500] = Artery.RCA, Artery.LAD, Artery.UNASSIGNED
    network = vessel_network(bundle)
    with torch.no_grad():
        network.head.weight.copy_(torch.linspace(-1, 1, network.head.weight.numel()).reshape(network.head.weight.shape))
    return bundle, ct, labels, network, read_islands(bundle, network, ct, labels)


class Asked:
    """A network of torch, asked as the product asks its own."""

    def __init__(self, network):
        self.network = network

    def __call__(self, images):
        with torch.no_grad():
            return self.network(torch.from_numpy(images)).numpy()


def test_a_policy_votes_as_the_product_does(seen):
    bundle, ct, _, network, islands = seen

    votes = vote_of_islands(ct, heart_region(ct), Asked(network), bundle.vessel, ScoringProtocol())
    assert len(islands) == votes.counts.sum() >= 3
    assert Policy(network.head).votes(islands) == pytest.approx(votes.vote[votes.counts], abs=1e-5)
    assert np.ptp(votes.vote[votes.counts], axis=1).min() > 0.01, "votes that tell classes apart"


@pytest.mark.parametrize("is_fused", [False, True])
def test_what_is_called_is_what_the_product_calls(seen, is_fused):
    """By its cut-off, and by networks and rules together; each set between the least and the most likely island."""
    bundle, ct, _, network, islands = seen
    vote = Policy(network.head).votes(islands)
    p = vote[:, coronary_classes(bundle.vessel.classes)].sum(axis=1)
    fusion = Fusion(0.0, 1.0, 1.5, -0.2, 0.5, 0.0, 1.0)
    by_both = fusion(p, vote[:, 0], islands.place[:, PLACE.index("rules")].astype(float))
    middle = [float(np.sort(values)[:2].mean()) for values in (p, by_both)]
    stage = replace(bundle.vessel, cut_off=middle[0], fusion=replace(fusion, cut_off=middle[1]) if is_fused else None)
    region, protocol = heart_region(ct), ScoringProtocol()
    said = segment_vessels(ct, region, Asked(network), stage, protocol, rules=judge_by_rules(ct, region, protocol))
    coronary = {n for n, artery in said.arteries.items() if artery in CORONARY and said.notes[n].counts}
    called = is_called(replace(bundle, vessel=stage), vote, islands.place)
    assert called.sum() == len(coronary) == len(islands) - 1


def test_the_network_of_a_bundle_answers_as_its_other_form(seen):
    bundle, *_ = seen
    image = np.random.default_rng(0).normal(size=(1, bundle.vessel.view.channels, 64, 64)).astype(np.float32)
    with torch.no_grad():
        ours = vessel_network(bundle)(torch.from_numpy(image)).numpy()
    assert ours == pytest.approx(Networks(bundle, "cpu", slices=1).vessel(image), abs=1e-4)


def test_labels_are_classes_and_calcium_without_an_artery_is_unknown(seen):
    bundle, _, _, _, islands = seen
    classes = bundle.vessel.classes
    found = {c for c in islands.code.tolist() if c}
    assert found == {classes.index("RCA"), classes.index("LAD"), UNKNOWN}
    assert set(islands.without_labels().code.tolist()) == {UNKNOWN}


def test_places_lie_within_bounds_and_hold_what_their_names_say(seen):
    *_, islands = seen
    assert islands.place.shape == (len(islands), len(PLACE))
    assert np.isfinite(islands.place).all()
    assert np.abs(islands.place).max() <= 8
    peak = islands.place[:, PLACE.index("peak")] * 500 + 500
    assert {400, 450, 500} <= set(peak.round().astype(int).tolist())


def test_islands_come_back_as_they_were_written(seen, tmp_path):
    *_, islands = seen
    islands.save(tmp_path / "scan.npz")
    back = ScanIslands.load(tmp_path / "scan.npz")
    for name, value in vars(islands).items():
        assert np.array_equal(value, getattr(back, name)), name
        assert value.dtype == getattr(back, name).dtype, name

"""What a bundle takes from its run, and what is said in its place."""

from __future__ import annotations

from needed import torch

from heartlens.networks.bundle import Calibration
from training.deploy.bundle_writer import BundleMetadata, Trained, _vessel_stage
from training.segmentation.recipe import SegmentationRecipe

FROZEN = {"cut_off": 0.37, "slope": 2.0, "intercept": -1.0, "f1": 0.9}


def stage(islands=FROZEN, **said):
    recipe = SegmentationRecipe()
    trained = Trained(torch.nn.Identity(), recipe, 10, {}, islands)
    return _vessel_stage(trained, BundleMetadata({}, **said))


def test_a_bundle_has_the_cut_off_and_calibration_that_its_run_froze():
    assert stage().cut_off == 0.37
    assert stage().calibration == Calibration(2.0, -1.0)


def test_what_is_said_at_the_export_takes_their_place():
    assert stage(cut_off=0.6).cut_off == 0.6
    assert stage(cut_off=0.6).calibration == Calibration(2.0, -1.0), "what was not said stays"
    assert stage(calibration=Calibration(1.5, 0.5)).calibration == Calibration(1.5, 0.5)


def test_a_run_that_froze_nothing_gives_one_half_and_no_calibration():
    assert stage({}).cut_off == 0.5
    assert stage({}).calibration == Calibration()

"""The recipe of the bundle that ships: a frozen generator, seeds kept apart, and what is kept of a scan."""

from __future__ import annotations

import numpy as np
import pytest
from needed import torch  # noqa: F401  - skips, or fails in CI, without it

from heartlens.phantom import PhantomParameters, make_phantom
from training import embedded
from training.config import load_recipe
from training.train_dino import DinoRecipe
from training.train_slices import SlicesRecipe
from training.train_unet import SegmentationRecipe
from training.tune_slices import TuneRecipe


def test_the_phantom_is_the_one_that_the_shipped_networks_were_trained_on():
    """When this fails, train again (`python -m training.embedded`) or undo the change of the phantom."""
    assert embedded.generator_hash() == embedded.GENERATOR


def test_no_seed_has_two_purposes():
    every = [*embedded.TRAINING.range, *embedded.VALIDATION.range, *embedded.SPARE.range, *embedded.TEST.range]
    assert len(set(every)) == len(every)
    made = {seed for seeds in embedded.parts(embedded.Path("work")).values() for seed in seeds}
    assert not made & set(embedded.TEST.range)
    assert made == {*embedded.TRAINING.range, *embedded.VALIDATION.range, *embedded.SPARE.range}


def test_phantoms_of_validation_are_drawn_as_any_other_and_those_of_training_hold_more():
    assert embedded.parameters_of(embedded.VALIDATION.first) == PhantomParameters.varied(embedded.VALIDATION.first)
    burdens = {embedded.parameters_of(seed).matched_burden for seed in embedded.TRAINING.range if seed % embedded.PLAIN}
    assert burdens == {">400"}


def test_what_is_kept_of_a_training_scan_lies_where_it_lay(monkeypatch):
    small = PhantomParameters.random(
        3, field_of_view="chest", cover="heart", matrix=160, pixel_mm=2.2, slice_thickness_mm=8.0, increment_mm=8.0
    )
    monkeypatch.setattr(embedded, "parameters_of", lambda seed: small)
    phantom = make_phantom(small)
    scan, ((row, column, low, high), asked) = embedded.make_scan(embedded.TRAINING.first)
    whole, ((whole_row, whole_column, whole_low, _), whole_asked) = embedded.make_scan(embedded.VALIDATION.first)
    assert asked is None
    assert whole_asked is not None
    assert scan.ct.shape[1:] == (96, 96)  # 82 pixels are 180 mm; the next multiple of 32
    assert np.array_equal(whole.ct.hu, phantom.ct.hu)
    offset = np.rint(phantom.ct.index_kji(scan.ct.affine[:3, 3])).astype(int)
    window = tuple(slice(o, o + n) for o, n in zip(offset, scan.ct.shape, strict=True))
    assert np.array_equal(scan.ct.hu, phantom.ct.hu[window])
    assert np.array_equal(scan.labels, phantom.labels[window])
    assert (row + offset[1], column + offset[2], low + offset[0]) == (whole_row, whole_column, whole_low)
    assert 0 <= low < high <= scan.ct.shape[0]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("unet", SegmentationRecipe),
        ("dino", DinoRecipe),
        ("slices", SlicesRecipe),
        ("tuned", TuneRecipe),
    ],
)
def test_every_recipe_can_be_read(name, kind):
    assert load_recipe(kind, embedded.RECIPES / f"embedded-{name}.toml") != kind()

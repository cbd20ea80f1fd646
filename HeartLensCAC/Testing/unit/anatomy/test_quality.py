"""What to know before trusting a score."""

import re
from dataclasses import replace

import numpy as np
import pytest
from schematic_chest import cropped, schematic_chest
from tiny_ct import make_ct

from heartlens.anatomy import heart_region
from heartlens.anatomy.quality import acquisition_cautions, content_findings
from heartlens.core.ct import CTVolume
from heartlens.core.protocol import PROFILES, ScoringProtocol
from heartlens.core.reconstruction_kernel import kernel_class

DEFAULT = ScoringProtocol()
GOOD = {"kvp": 120.0, "slice_thickness_mm": 3.0, "kernel": "B35f", "is_gated": True}


def cautions(spacing_mm=(3.0, 0.5, 0.5), protocol=DEFAULT, **header):
    ct = make_ct(np.zeros((4, 8, 8), np.int16), spacing_mm=spacing_mm, **{**GOOD, **header})
    return {caution.code: caution.text for caution in acquisition_cautions(ct, protocol)}


def findings(ct):
    return dict(content_findings(ct, heart_region(ct)))


@pytest.fixture(scope="module")
def clean_findings():
    return findings(schematic_chest(noise_hu=12))


def test_a_usual_gated_scan_needs_no_caution():
    assert cautions() == {}


@pytest.mark.parametrize(("kvp", "word"), [(100, "more"), (140, "less")])
def test_another_tube_voltage_says_which_way_the_score_moves(kvp, word):
    text = cautions(kvp=float(kvp))["kvp"]
    assert f"{kvp} kVp" in text
    assert "120 kVp thresholds" in text
    assert f"the score is {word}" in text


def test_adapted_thresholds_are_named():
    text = cautions(kvp=100.0, protocol=DEFAULT.adapted_to(100))["kvp"]
    assert "145, 222, 334, 446 HU" in text


def test_an_unknown_tube_voltage_is_said():
    assert "--kvp" in cautions(kvp=None)["kvp"]


@pytest.mark.parametrize(
    ("increment", "thickness", "codes"),
    [
        (3.0, 3.0, set()),
        (2.5, 2.5, set()),
        (5.0, 5.0, {"increment", "thickness"}),
        (1.5, 3.0, {"increment", "overlap"}),
        (2.7, 3.0, set()),
        (1.0, 1.0, {"increment", "thickness", "thin-slices"}),
        (10.0, 3.0, {"increment", "extrapolated-gaps"}),
        (3.0, 2.5, set()),
        (3.0, 2.4, {"thickness", "extrapolated-gaps"}),
        (3.0, None, {"unknown-thickness"}),
    ],
)
def test_slices_are_judged_by_increment_and_thickness(increment, thickness, codes):
    assert set(cautions((increment, 0.5, 0.5), slice_thickness_mm=thickness)) == codes


def test_each_slice_counts_by_its_increment():
    assert "counts 1.67 times" in cautions((5.0, 0.5, 0.5))["increment"]
    unscaled = replace(DEFAULT, normalisation="none")
    assert "as the protocol asks" in cautions((5.0, 0.5, 0.5), protocol=unscaled)["increment"]


def test_gaps_withhold_the_category():
    assert "category is withheld" in cautions((6.0, 0.5, 0.5))["extrapolated-gaps"]


@pytest.mark.parametrize("name", ["B70f", "LUNG", "BONEPLUS", "FC51", "EDGE", "Br64d\\3", "YC", "Hr60", "I70f\\3"])
def test_sharp_kernels_are_known_by_name(name):
    assert kernel_class(name) == "sharp"
    assert set(cautions(kernel=name)) == {"sharp-kernel"}


@pytest.mark.parametrize(
    "name", ["B35f", "Qr36d\\3", "STANDARD", "SOFT", "FC12", "FC13-H", "B", "Sa36f", "Br40", "I26f\\2"]
)
def test_soft_kernels_are_not_sharp(name):
    assert kernel_class(name) != "sharp"


def test_an_unknown_kernel_is_said():
    assert set(cautions(kernel=None)) == {"unknown-kernel"}


def test_a_number_of_images_that_nobody_confirmed_is_said_with_what_it_does_to_the_score():
    ct = make_ct(np.zeros((7, 2, 2), np.int16), **GOOD)
    assert "image-count" not in {caution.code for caution in acquisition_cautions(ct, DEFAULT)}
    (text,) = (c.text for c in acquisition_cautions(ct, DEFAULT, is_count_unverified=True) if c.code == "image-count")
    assert "7 slices were scored" in text
    assert "not in the score" in text


@pytest.mark.parametrize(("is_gated", "words"), [(False, "not ECG-gated"), (None, "gating unknown")])
def test_without_gating_the_score_is_an_estimate(is_gated, words):
    text = cautions(is_gated=is_gated)["non-gated"]
    assert words in text
    assert "estimated Agatston" in text


def test_a_clean_chest_has_no_findings(clean_findings):
    assert clean_findings == {}


def test_bright_blood_is_contrast():
    assert "200 HU" in findings(schematic_chest(blood_hu=200))["contrast"]


def test_noise_of_40_hu_is_high():
    assert "high-noise" in findings(schematic_chest(noise_hu=40))


def test_metal_is_named_by_its_slices():
    text = findings(schematic_chest(add=[(25, -8, -45, 4, 3000)]))["metal"]
    assert "slices 15 to 17" in text


def test_a_scan_that_ends_in_the_heart_is_said():
    short = cropped(schematic_chest(), slice(None), slice(None), slice(8, 31))
    assert "at its top" in findings(short)["heart-cut-top"]
    assert "at its bottom" in findings(short)["heart-cut"]


def test_no_heart_between_lungs_is_said():
    hu = np.full((10, 64, 64), -1000, np.int16)
    hu[:, 10:54, 10:54] = 50
    assert set(findings(CTVolume(hu, np.diag([4.0, 4.0, 4.0, 1.0])))) == {"no-heart"}


def test_values_that_cannot_be_hu_are_said():
    shifted = schematic_chest()
    unsigned = CTVolume((shifted.hu + np.int16(1024)).astype(np.int16), shifted.affine, shifted.header)
    assert "no-hu" in findings(unsigned)


def test_every_profile_gets_the_same_cautions_for_the_same_scan():
    assert all(set(cautions(kvp=100.0, protocol=p)) == {"kvp"} for p in PROFILES.values())


def test_noise_is_that_of_what_is_scored_and_not_of_its_softened_copy():
    """A softened copy is looked through; peaks are read where the noise is."""
    quiet, loud = schematic_chest(noise_hu=12), schematic_chest(noise_hu=45)
    found = dict(content_findings(quiet, heart_region(quiet), scored_ct=loud))
    assert re.search(r"noise of (3[5-9]|4\d) HU", found["high-noise"])
    assert "high-noise" not in findings(quiet)

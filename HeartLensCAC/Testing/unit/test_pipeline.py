"""What the user said against what the file says, and what the pipeline tells of slices that the networks dispute."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from dicom_builder import write_ct_series

from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery, LesionMap
from heartlens.io.volumes import write_volume
from heartlens.networks.inference import discordance_cautions
from heartlens.pipeline import Request, read_ct, score_series
from heartlens.risk.person import RiskInputs


@pytest.fixture
def scan(tmp_path):
    """Six slices of a 64-year-old man, of whom the file also says an ethnic group."""
    hu = np.full((6, 32, 32), -1000, np.int16)
    hu[:, 4:28, 4:28] = 40
    hu[2:4, 10:14, 10:14] = 300
    write_ct_series(
        tmp_path / "ct",
        hu,
        spacing_mm=(3.0, 4.0, 4.0),
        PatientAge="064Y",
        PatientSex="M",
        EthnicGroup="white",
        KVP="120",
    )
    return tmp_path / "ct"


@pytest.fixture
def labels(scan, tmp_path):
    """The plaque, labeled LAD; with labels no heart has to be found."""
    ct, *_ = read_ct(scan, Request())
    codes = np.where(ct.hu == 300, int(Artery.LAD), 0).astype(np.int16)
    write_volume(tmp_path / "labels.nrrd", replace(ct, hu=codes))
    return tmp_path / "labels.nrrd"


def person(scan, labels, **said):
    return score_series(scan, Request(segmentation=labels, risk=RiskInputs(**said))).case.risk_inputs


@pytest.mark.parametrize("unverified", [True, False])
def test_a_number_of_images_that_nobody_confirmed_limits_what_may_be_said_and_changes_no_score(
    scan, labels, unverified
):
    case = score_series(scan, Request(segmentation=labels, unverified_count=unverified)).case
    assert ("image-count" in case.assessment.reasons) is unverified
    assert ("nobody confirmed that all images are here" in case.assessment.limits()) is unverified
    (text,) = [one.text for one in case.cautions if one.code == "image-count"] or [""]
    assert ("6 slices were scored" in text) is unverified
    assert case.report.total.agatston == 2 * 16 * 16 * 3


def test_age_and_sex_come_from_the_header_where_the_user_says_nothing(scan, labels):
    inputs = person(scan, labels)
    assert (inputs.age_years, inputs.sex) == (64.0, "M")


def test_what_the_user_says_of_the_person_wins_over_the_header(scan, labels):
    assert person(scan, labels, age_years=71.0).age_years == 71.0
    assert person(scan, labels, age_years=71.0).sex == "M", "what was not said still comes from the header"
    assert person(scan, labels, sex="F").sex == "F"
    assert person(scan, labels, sex="F").age_years == 64.0


def test_the_race_is_never_taken_from_the_header(scan, labels):
    assert person(scan, labels).race is None
    assert person(scan, labels, race="chinese").race == "chinese"


def test_disputed_slices_are_told_the_likeliest_first_and_beyond_five_counted(a_ct):
    ct = a_ct(np.zeros((9, 4, 4), np.int16))
    probability = np.array([0.91, 0.97, 0.5, 0.95, 0.93, 0.99, 0.92, 0.2, 0.94])
    (warning,) = discordance_cautions(ct, probability, LesionMap.empty(ct.shape))
    assert warning.code == "unsettled"
    assert (
        "on slice index 5 (z 15.0 mm, 0.99), 1 (z 3.0 mm, 0.97), 3 (z 9.0 mm, 0.95), 8 (z 24.0 mm, 0.94), "
        "4 (z 12.0 mm, 0.93) and 2 more: look at these slices" in warning.text
    )
    assert discordance_cautions(ct, np.full(9, 0.5), LesionMap.empty(ct.shape)) == ()


def test_with_labels_the_content_of_a_scan_only_warns(scan, labels, tmp_path):
    """Nothing is as dark as lung: without labels nothing is scored, with labels it is told."""
    ct, *_ = read_ct(scan, Request())
    write_volume(tmp_path / "no_air.nrrd", replace(ct, hu=np.maximum(ct.hu, -400).astype(np.int16)))
    with pytest.raises(InputRefused, match="values are not HU"):
        score_series(tmp_path / "no_air.nrrd", Request(bundle="none"))
    case = score_series(tmp_path / "no_air.nrrd", Request(segmentation=labels)).case
    assert "no-hu" in {caution.code for caution in case.cautions}
    assert case.report.total.agatston > 0

"""A phantom on disk is the phantom in memory, and valid DICOM."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import numpy as np
import pydicom
import pytest

from heartlens.core.errors import InputRefused
from heartlens.dicom.read import read_series
from heartlens.dicom.series import find_series
from heartlens.dicom.write import write_ct_series
from heartlens.io.volumes import read_labels, read_volume
from heartlens.phantom import PhantomParameters, make_phantom
from heartlens.phantom.files import write_phantom


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(
        PhantomParameters(
            seed=31,
            matrix=128,
            pixel_mm=(1.6, 1.5),
            slice_thickness_mm=6,
            increment_mm=5,
            category="101-400",
            traps=("stent",),
        )
    )


@pytest.fixture(scope="module")
def written(phantom, tmp_path_factory):
    out = tmp_path_factory.mktemp("phantom") / "dicom"
    write_phantom(out, phantom, format="dicom")
    return out


@pytest.mark.slow
def test_dicom_reads_back_equal_with_pydicom(phantom, written):
    datasets = [pydicom.dcmread(path) for path in sorted((written / "ct").iterdir())]
    assert len(datasets) == phantom.ct.shape[0]
    for k, d in enumerate(datasets):
        hu = d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)
        assert np.array_equal(hu, phantom.ct.hu[k])
        assert d.SOPInstanceUID == phantom.ct.header.sop_instance_uids[k]
        assert np.allclose([float(v) for v in d.ImagePositionPatient], phantom.ct.lps_mm((k, 0, 0)), atol=1e-6)
        assert [float(v) for v in d.PixelSpacing] == [1.6, 1.5]
        assert str(d.PatientName) == "HeartLens^Phantom"


def test_dicom_reads_back_equal_with_our_reader(phantom, written):
    ct, _ = read_series(find_series(written / "ct")[0])
    assert np.array_equal(ct.hu, phantom.ct.hu)
    assert np.allclose(ct.affine, phantom.ct.affine, atol=1e-6)
    assert ct.header.instance_numbers == tuple(range(1, ct.shape[0] + 1))
    assert replace(ct.header, acquired=None, instance_numbers=()) == phantom.ct.header


def test_an_independent_validator_finds_no_error(written, require_tool):
    for path in sorted((written / "ct").iterdir())[:2]:
        run = subprocess.run(
            [require_tool("dciodvfy"), str(path)], capture_output=True, text=True, check=False, timeout=60
        )
        assert "Error" not in run.stderr + run.stdout


@pytest.mark.parametrize(("format", "name"), [("nrrd", "ct.nrrd"), ("nifti", "ct.nii.gz")])
def test_volumes_labels_and_truth_read_back_equal(phantom, tmp_path, format, name):
    out = tmp_path / "phantom"
    write_phantom(out, phantom, format=format)
    assert sorted(p.name for p in out.iterdir()) == sorted([name, "labels.nrrd", "truth.json"])
    ct, _ = read_volume(out / name)
    assert np.array_equal(ct.hu, phantom.ct.hu)
    assert np.allclose(ct.affine, phantom.ct.affine, atol=1e-3)
    assert np.array_equal(read_labels(out / "labels.nrrd", phantom.ct), phantom.labels)
    truth = json.loads((out / "truth.json").read_text())
    assert truth == phantom.truth
    assert PhantomParameters.from_json(truth["parameters"]).seed == 31


def test_a_folder_with_something_in_it_is_left_alone(phantom, tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputRefused, match="exists; choose another --out"):
        write_phantom(tmp_path, phantom)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written_leaves_nothing(phantom, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(InputRefused, match="cannot write"):
        write_phantom(blocked / "out", phantom)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_unknown_formats_are_refused(phantom, tmp_path):
    with pytest.raises(ValueError, match="dicom, nrrd, nifti"):
        write_phantom(tmp_path / "x", phantom, format="png")


def test_a_volume_without_uids_is_no_series(a_ct, tmp_path):
    with pytest.raises(ValueError, match="UIDs"):
        write_ct_series(tmp_path, a_ct(np.zeros((3, 4, 4), np.int16)), patient_name="A", patient_id="1", description="")

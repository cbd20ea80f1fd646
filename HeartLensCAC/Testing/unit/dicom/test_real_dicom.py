"""Real CT: what scanners write, read bit for bit, and the bad geometry that must not pass.

The data lie beside the repository and are not distributed with it; the files of pydicom come with pydicom.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dicom_builder import write, write_converted_ct, write_enhanced_ct
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from heartlens.core.ct import CTVolume
from heartlens.core.errors import OVERRIDABLE, InputRefused
from heartlens.dicom.header import Instance
from heartlens.dicom.pixels import stored_frames
from heartlens.dicom.read import read_series
from heartlens.dicom.series import choose_series, find_series, rank_series

pytestmark = pytest.mark.slow


def read(source: Path, allow: frozenset[str] = frozenset(), **options) -> tuple[CTVolume, list[str]]:
    ct, cautions = read_series(choose_series(rank_series(find_series(source)), allow=allow), allow=allow, **options)
    return ct, [caution.code for caution in cautions]


@pytest.fixture(scope="module")
def unzipped(shared_data, tmp_path_factory):
    """`unzipped("folder/series.zip")` is a folder with its files."""
    done: dict[str, Path] = {}

    def unzip(name: str) -> Path:
        if name not in done:
            done[name] = tmp_path_factory.mktemp("real")
            with zipfile.ZipFile(shared_data / name) as archive:
                archive.extractall(done[name])
        return done[name]

    return unzip


@pytest.fixture(scope="module")
def qrm(unzipped) -> Path:
    return unzipped("qrm_cci_canon/series.zip")


@pytest.fixture(scope="module")
def qrm_insert(qrm, tmp_path_factory) -> list[Path]:
    """Ten slices of the phantom, z ascending."""
    files = [p for p in qrm.rglob("*") if p.is_file()]
    by_z = sorted(files, key=lambda p: dcmread(p, stop_before_pixels=True).ImagePositionPatient[2])
    folder = tmp_path_factory.mktemp("insert")
    return [Path(shutil.copy(path, folder)) for path in by_z[17:27]]


class TestQrmPhantom:
    def test_the_volume_is_what_the_scanner_measured(self, qrm):
        ct, cautions = read(qrm)
        assert ct.shape == (47, 512, 512)
        assert ct.hu.dtype == np.int16
        assert (int(ct.hu.min()), int(ct.hu.max())) == (-2048, 1275)
        assert ct.spacing_mm == pytest.approx((3.0, 0.488, 0.488))
        assert cautions == ["reformatted"]
        assert (ct.header.kvp, ct.header.kernel, ct.header.slice_thickness_mm) == (120, "FC12", 3)
        assert (ct.header.patient_age_years, ct.header.patient_sex) == (None, None)

    def test_it_is_ranked_a_calcium_scan(self, qrm):
        (entry,) = rank_series(find_series(qrm))
        assert (entry.points, entry.comes_first) == (10, True)

    @pytest.mark.parametrize(
        "syntax",
        [
            ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLossless,
            JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless,
        ],
        ids=lambda uid: uid.keyword,
    )  # fmt: skip
    def test_every_lossless_copy_under_shuffled_names_is_the_same_volume(self, qrm_insert, tmp_path, syntax):
        order = np.random.default_rng(0).permutation(len(qrm_insert))
        for path, n in zip(qrm_insert, order, strict=True):
            write(_with_words(path), tmp_path / f"I{n:02d}", syntax)
        original, _ = read(qrm_insert[0].parent)
        copy, _ = read(tmp_path)
        np.testing.assert_array_equal(copy.hu, original.hu)
        np.testing.assert_array_equal(copy.affine, original.affine)
        assert copy.header.sop_instance_uids == original.header.sop_instance_uids

    def test_flipped_and_transposed_copies_are_the_same_volume(self, qrm_insert, tmp_path):
        for path in qrm_insert:
            dataset = _with_words(path)
            image = np.frombuffer(dataset.PixelData, "<i2").reshape(512, 512)
            x, y, z = (float(v) for v in dataset.ImagePositionPatient)
            dataset.ImageOrientationPatient = [0, -1, 0, 1, 0, 0]  # rows run to the front, columns to the left
            dataset.ImagePositionPatient = [x, round(y + 511 * 0.488, 6), z]
            dataset.PixelData = np.ascontiguousarray(image[::-1].T).tobytes()
            write(dataset, tmp_path / path.name)
        original, _ = read(qrm_insert[0].parent)
        turned, _ = read(tmp_path)
        np.testing.assert_array_equal(turned.hu, original.hu)
        np.testing.assert_allclose(turned.affine, original.affine, atol=1e-5)

    @pytest.mark.parametrize("build", [write_enhanced_ct, write_converted_ct], ids=["enhanced", "converted"])
    def test_multiframe_copies_are_the_same_volume(self, qrm_insert, tmp_path, build):
        build(qrm_insert, tmp_path / "multi.dcm")
        original, _ = read(qrm_insert[0].parent)
        copy, _ = read(tmp_path / "multi.dcm")
        np.testing.assert_array_equal(copy.hu, original.hu)
        np.testing.assert_allclose(copy.affine, original.affine, atol=1e-9)

    def test_a_slice_too_many_or_too_few_is_refused(self, qrm_insert, tmp_path):
        for path in qrm_insert:
            shutil.copy(path, tmp_path)
        (tmp_path / qrm_insert[4].name).unlink()
        with pytest.raises(InputRefused, match=r"^gap: slices are missing: 1 between"):
            read(tmp_path)
        for name in ("again", "twice"):
            shutil.copy(qrm_insert[4], tmp_path / name)
        with pytest.raises(InputRefused, match=r"^duplicate: again and twice"):
            read(tmp_path)


@pytest.mark.parametrize(
    "name", ["qrm_cci_canon/series.zip", "lung_pet_ct_dx_a0001/series.zip", "lidc_idri_0001_contrast/series.zip"]
)
def test_the_volume_is_what_a_plain_reading_gives(unzipped, name):
    folder = unzipped(name)
    slices = [dcmread(path) for path in folder.rglob("*") if path.is_file()]
    slices.sort(key=lambda s: s.ImagePositionPatient[2])
    plain = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    ct, _ = read(folder, frozenset({"contrast"}))
    np.testing.assert_array_equal(ct.hu, plain)
    assert ct.header.sop_instance_uids == tuple(s.SOPInstanceUID for s in slices)


class TestChestScans:
    def test_the_whole_chest(self, unzipped):
        ct, cautions = read(unzipped("lung_pet_ct_dx_a0001/series.zip"))
        assert ct.shape == (64, 512, 512)
        assert (int(ct.hu.min()), int(ct.hu.max())) == (-1024, 2976)
        assert ct.spacing_mm == pytest.approx((5.0, 0.841796875, 0.841796875))
        assert cautions == []
        assert (ct.header.patient_age_years, ct.header.patient_sex, ct.header.is_gated) == (58, "M", None)

    def test_contrast_is_refused_by_its_tag_and_padding_stays(self, unzipped):
        folder = unzipped("lidc_idri_0001_contrast/series.zip")
        with pytest.raises(InputRefused, match=r"^contrast: .*ContrastBolusAgent \(0018,0010\) names an agent"):
            read(folder)
        ct, cautions = read(folder, frozenset({"contrast"}))
        assert (cautions, ct.header.contrast) == (["contrast"], "agent named")
        assert (int(ct.hu.min()), int(ct.hu.max())) == (-2048, 3071)
        # InstanceNumber descends with z; positions decide.
        assert ct.affine[2, 3] < ct.lps_mm([15, 0, 0])[2]

    @pytest.mark.parametrize(
        ("name", "dz", "low", "high"),
        [
            ("cac_lad_aortic_root_GE_2p5mm", 2.5, -3024, 1475),
            ("aorta_plaque_GE_5mm", 5, -3024, 1302),
            ("clean_heart_TOSHIBA_5mm", 5, -2048, 1149),
            ("metal_hilum_GE_5mm", 5, -3024, 3071),
        ],
    )
    def test_single_slices_are_read_when_allowed(self, shared_data, name, dz, low, high):
        path = shared_data / "covid19_nysbu_slices" / f"{name}.dcm"
        with pytest.raises(InputRefused, match=r"^few-slices: found 1 slice"):
            read(path)
        ct, cautions = read(path, frozenset({"few-slices"}))
        assert cautions == ["few-slices"]
        assert (ct.increment_mm, int(ct.hu.min()), int(ct.hu.max())) == (dz, low, high)

    def test_the_coronal_average_is_refused_twice(self, shared_data):
        path = shared_data / "covid19_nysbu_slices" / "coronal_reformat_GE.dcm"
        with pytest.raises(InputRefused, match=r"^derived: .*AVERAGE"):
            read(path)
        with pytest.raises(InputRefused, match=r"^not-axial"):
            read(path, frozenset({"derived"}))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("gantrytilting", r"^tilt: .*14\.0 degrees"),
            ("notavolume", r"^duplicate: .*001\.dcm and 002\.dcm"),
            ("sliceincrement", r"^gap: slices are missing: 1 between .*-0009-0001\.dcm and .*\(28\.11 and 38\.11 mm\)"),
        ],
    )
    def test_bad_geometry_is_never_scored(self, unzipped, name, message):
        with pytest.raises(InputRefused, match=message):
            read(unzipped(f"dicom2nifti_bad_geometry/{name}.zip"), OVERRIDABLE)


class TestPydicomFiles:
    @pytest.mark.parametrize(
        "name",
        ["CT_small.dcm", "693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm", "MR_small_bigendian.dcm", "MR_small_RLE.dcm",
         "MR_small.dcm", "image_dfl.dcm"],
    )  # fmt: skip
    def test_stored_values_are_those_of_another_decoder(self, name):
        path = Path(str(get_testdata_file(name)))
        instance = Instance.read(path)
        assert instance is not None
        (frame,) = stored_frames(instance)
        expected = dcmread(path).pixel_array  # GDCM for JPEG 2000; ours goes through OpenJPEG
        np.testing.assert_array_equal(frame, expected)

    def test_a_jpeg_2000_slice_with_the_wrong_sign_is_read_as_its_header_means(self, tmp_path):
        dataset = dcmread(str(get_testdata_file("J2K_pixelrep_mismatch.dcm")))
        dataset.GantryDetectorTilt = 0
        dataset.save_as(tmp_path / "a.dcm")
        ct, _ = read(tmp_path / "a.dcm", OVERRIDABLE)
        assert (int(ct.hu.min()), int(ct.hu.max())) == (-2000, 1896)

    def test_a_tilted_head_scan_is_refused(self):
        with pytest.raises(InputRefused, match=r"^tilt: .*GantryDetectorTilt \(0018,1120\) is -22 degrees"):
            read(Path(str(get_testdata_file("J2K_pixelrep_mismatch.dcm"))), OVERRIDABLE)

    def test_the_lossy_slice_is_said_to_be_lossy(self):
        _, cautions = read(Path(str(get_testdata_file("693_J2KI.dcm"))), frozenset({"few-slices"}))
        assert cautions == ["reformatted", "few-slices", "lossy"]

    def test_pixels_without_rescale_are_no_hu(self, tmp_path):
        dataset = dcmread(str(get_testdata_file("CT_small.dcm")))
        del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.ContrastBolusAgent
        dataset.save_as(tmp_path / "a.dcm")
        with pytest.raises(InputRefused, match=r"^no-hu"):
            read(tmp_path / "a.dcm", frozenset({"few-slices"}))

    def test_ct_headers_without_an_image_are_truncated(self):
        folder = Path(str(get_testdata_file("CT_small.dcm"))).parent / "dicomdirtests" / "TINY_ALPHA"
        with pytest.raises(InputRefused, match=r"^truncated: IM000000 is a CT that ends within its header"):
            find_series(folder)

    def test_a_gated_calcium_scan_of_ge(self):
        folder = Path(str(get_testdata_file("CT_small.dcm"))).parent / "dicomdirtests" / "98892001"
        ct, cautions = read(folder)
        assert ct.shape == (5, 16, 16)
        assert ct.spacing_mm == pytest.approx((2.5, 0.488281, 0.488281))
        assert (ct.header.is_gated, ct.header.kvp, ct.header.reconstruction_diameter_mm) == (True, 120, 250)
        assert cautions == ["field"], "16 pixels of what was 250 mm wide"


def _with_words(path: Path) -> Dataset:
    """A slice of implicit VR, with the VR of its pixels decided."""
    dataset = dcmread(path)
    dataset["PixelData"].VR = "OW"
    return dataset

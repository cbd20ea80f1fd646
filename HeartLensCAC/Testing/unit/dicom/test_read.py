"""DICOM series into HU: every syntax, every plane, every gate."""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_builder import set_pixels, write, write_converted_ct, write_ct_series, write_encoded, write_enhanced_ct
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from heartlens.core.ct import CTVolume, hu_array
from heartlens.core.errors import InputRefused
from heartlens.dicom.read import read_series, source_datasets
from heartlens.dicom.series import choose_series, find_series, rank_series

LOSSLESS = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
    JPEGLossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless,
)  # fmt: skip

HTJ2K_STREAM = (
    "/0//UQApQAAAAAAIAAAACAAAAAAAAAAAAAAACAAAAAgAAAAAAAAAAAABjwEB/1AACAACAAAACf9SAAwAAgABAAEEBEAB/1wAByCIiIiI/2QAFwAB"
    "T3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAHkAAf+TwAAt4E1Xmcos5kKIeMC9L/QARNzbqIELHv0A9YchANc4AMAALWgABa0AALSAAhtnYSDY"
    "SAIxawWUrv4AZOkQgOSYAAIbsxCJWYGsMBDYKF35AV6fGIAIeAAGynJg1oGz6PoAgQs+IQD+2QD/2Q=="
)
"""8 x 8 signed pixels, -1000 with a square of 40 and one of 400 within; made with OpenJPH."""


def ramp(shape: tuple[int, int, int] = (4, 6, 8)) -> np.ndarray:
    """HU from -1000 up in which neighbors differ, with a bright voxel."""
    hu = np.arange(np.prod(shape)).reshape(shape) * 7 % 2001 - 1000
    hu[-1, 2, 3] = 1500
    return hu


def read(source: Path, **options) -> tuple[CTVolume, list[str]]:
    """The volume and the codes of its cautions."""
    allow = frozenset(options.pop("allow", ()))
    series = choose_series(rank_series(find_series(source)), allow=allow)
    ct, cautions = read_series(series, allow=allow, **options)
    return ct, [caution.code for caution in cautions]


def refusal(source: Path, **options) -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        read(source, **options)
    return caught.value


class TestVoxels:
    @pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword)
    @pytest.mark.parametrize("signed", [0, 1], ids=["unsigned", "signed"])
    def test_every_lossless_syntax_gives_the_same_hu(self, tmp_path, syntax, signed):
        hu = ramp((3, 40, 48))
        write_ct_series(tmp_path, hu, syntax=syntax, PixelRepresentation=signed, BitsStored=12 if not signed else 16)
        assert {dcmread(p, stop_before_pixels=True).file_meta.TransferSyntaxUID for p in tmp_path.iterdir()} == {syntax}
        ct, cautions = read(tmp_path)
        assert ct.hu.dtype == np.int16
        np.testing.assert_array_equal(ct.hu, hu)
        assert cautions == []

    @pytest.mark.parametrize("syntax", [JPEG2000, JPEGLSNearLossless], ids=lambda uid: uid.keyword)
    def test_lossy_syntaxes_are_read_and_said(self, tmp_path, syntax):
        hu = np.tile(np.linspace(-200, 400, 64).astype(int), (3, 64, 1))
        write_ct_series(tmp_path, hu, syntax=syntax, PixelRepresentation=0, BitsStored=12)
        ct, cautions = read(tmp_path)
        assert cautions == ["lossy"]
        assert np.abs(ct.hu - hu).max() <= 20

    def test_pixels_that_were_compressed_with_loss_once_are_said_to_be_lossy(self, tmp_path):
        """Stored without compression now: only the tag knows (PS3.3 C.7.6.1.1.5)."""
        write_ct_series(tmp_path / "once", ramp(), LossyImageCompression="01")
        assert read(tmp_path / "once")[1] == ["lossy"]
        write_ct_series(tmp_path / "never", ramp(), LossyImageCompression="00")
        assert read(tmp_path / "never")[1] == []

    def test_eight_bit_jpeg_is_read_and_said_to_be_lossy(self, tmp_path):
        hu = np.tile(np.linspace(-1000, 1000, 64).astype(int) // 10 * 10, (3, 64, 1))
        scale = {"BitsAllocated": 8, "BitsStored": 8, "PixelRepresentation": 0}
        paths = write_ct_series(tmp_path, hu, RescaleSlope=10, RescaleIntercept=-1000, **scale)
        streams = []
        for image in hu:
            buffer = io.BytesIO()
            Image.fromarray(((image + 1000) // 10).astype(np.uint8)).save(buffer, "JPEG", quality=95)
            streams.append(buffer.getvalue())
        write_encoded(paths, streams, JPEGBaseline8Bit)
        ct, cautions = read(tmp_path)
        assert cautions == ["lossy"]
        assert np.abs(ct.hu - hu).max() <= 40

    @pytest.mark.parametrize(
        ("syntax", "stated", "cautions"),
        [
            (HTJ2KLossless, None, []), (HTJ2KLosslessRPCL, None, []), (HTJ2K, "00", []), (HTJ2K, None, ["lossy"]),
        ],
    )  # fmt: skip
    def test_high_throughput_jpeg_2000_is_read(self, tmp_path, syntax, stated, cautions):
        hu = np.full((3, 8, 8), -1000)
        hu[:, 2:6, 2:6], hu[:, 3:5, 3:5] = 40, 400
        paths = write_ct_series(tmp_path, hu, RescaleIntercept=0, LossyImageCompression=stated)
        write_encoded(paths, [base64.b64decode(HTJ2K_STREAM)] * 3, syntax)
        ct, cautions_read = read(tmp_path)
        np.testing.assert_array_equal(ct.hu, hu)
        assert cautions_read == cautions

    def test_without_openjpeg_another_decoder_reads_jpeg_2000(self, tmp_path, monkeypatch):
        hu = ramp((3, 40, 48))
        write_ct_series(tmp_path, hu, syntax=JPEG2000Lossless)
        monkeypatch.setitem(sys.modules, "openjpeg", None)  # as where pylibjpeg-openjpeg is not installed
        np.testing.assert_array_equal(read(tmp_path)[0].hu, hu)

    def test_a_fractional_rescale_is_kept_in_float32(self, tmp_path):
        hu = ramp() // 2 * 2 + 0.5
        write_ct_series(tmp_path, hu, RescaleSlope=2, RescaleIntercept=-1023.5)
        ct, _ = read(tmp_path)
        assert ct.hu.dtype == np.float32
        np.testing.assert_array_equal(ct.hu, hu)

    def test_rescale_is_taken_from_each_slice(self, tmp_path):
        hu = ramp()

        def own_rescale(dataset: Dataset, n: int) -> None:
            dataset.RescaleSlope, dataset.RescaleIntercept = [(1, -1024), (1, 0), (0.5, 10), (1, -2000)][n]
            set_pixels(dataset, hu[n])

        write_ct_series(tmp_path, hu, edit=own_rescale)
        ct, _ = read(tmp_path)
        assert ct.hu.dtype == np.int16
        np.testing.assert_array_equal(ct.hu, hu)

    def test_one_slice_of_halves_makes_the_whole_volume_float32(self, tmp_path):
        hu = ramp().astype(float)
        hu[2] += 0.5

        def halves(dataset: Dataset, n: int) -> None:
            if n == 2:
                dataset.RescaleSlope = 0.5
            set_pixels(dataset, hu[n])

        write_ct_series(tmp_path, hu, edit=halves)
        ct, _ = read(tmp_path)
        assert ct.hu.dtype == np.float32
        np.testing.assert_array_equal(ct.hu, hu)

    @settings(max_examples=25, deadline=None)
    @given(
        stored=st.lists(st.integers(-32768, 32767), min_size=12, max_size=12),
        slope=st.sampled_from([1, 2, 0.5, 0.1]),
        intercept=st.sampled_from([0, -1024, 100000, -8192.25]),
    )
    def test_the_stack_is_what_hu_array_makes_of_all_slices(self, tmp_path_factory, stored, slope, intercept):
        values = np.array(stored).reshape(3, 2, 2)
        folder = tmp_path_factory.mktemp("rescale")

        def raw(dataset: Dataset, n: int) -> None:
            dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
            dataset.PixelData = values[n].astype("<i2").tobytes()

        write_ct_series(folder, np.zeros((3, 2, 2)), edit=raw)
        ct, _ = read(folder)
        expected = hu_array(values * float(slope) + float(intercept))
        assert ct.hu.dtype == expected.dtype
        np.testing.assert_array_equal(ct.hu, expected)

    def test_unused_high_bits_are_ignored_where_the_sign_is_not_extended(self, tmp_path):
        hu = ramp()

        def clear_high_bits(dataset: Dataset, n: int) -> None:
            dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") & 0x0FFF).tobytes()

        write_ct_series(tmp_path, hu, BitsStored=12, RescaleIntercept=0, edit=clear_high_bits)
        ct, _ = read(tmp_path)
        np.testing.assert_array_equal(ct.hu, hu)

    def test_an_overlay_in_the_high_bits_is_masked(self, tmp_path):
        hu = ramp()

        def draw_overlay(dataset: Dataset, n: int) -> None:
            dataset.add_new(0x60000102, "US", 12)
            dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") | 0x1000).tobytes()

        write_ct_series(tmp_path, hu, BitsStored=12, PixelRepresentation=0, edit=draw_overlay)
        ct, _ = read(tmp_path)
        np.testing.assert_array_equal(ct.hu, hu)

    def test_pixels_in_the_upper_bits_are_moved_down(self, tmp_path):
        def move_up(dataset: Dataset, n: int) -> None:
            dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") << 4).tobytes()

        write_ct_series(tmp_path, ramp(), BitsStored=12, HighBit=15, PixelRepresentation=0, edit=move_up)
        np.testing.assert_array_equal(read(tmp_path)[0].hu, ramp())

    @pytest.mark.parametrize(("stored", "high"), [(12, 5), (12, 20), (0, 11)])
    def test_bits_that_cannot_be_are_refused(self, tmp_path, stored, high):
        def nonsense(dataset: Dataset, n: int) -> None:
            dataset.BitsStored, dataset.HighBit = stored, high

        write_ct_series(tmp_path, ramp(), edit=nonsense)
        error = refusal(tmp_path)
        assert (error.code, f"found 16, {stored} and {high}" in error.text) == ("unreadable", True)

    def test_pixels_that_need_more_bits_than_stated_are_refused(self, tmp_path):
        hu = ramp()
        hu[1, 0, 0] = 5000
        write_ct_series(tmp_path, hu, BitsStored=12, PixelRepresentation=0)
        error = refusal(tmp_path)
        assert error.code == "unreadable"
        assert "0001.dcm" in error.text
        assert "BitsStored (0028,0101) is 12" in error.text


class TestPadding:
    @pytest.mark.parametrize("value", [-2000, 63536], ids=["signed", "written as unsigned"])
    def test_padding_below_air_is_left_as_stored(self, tmp_path, value):
        hu = ramp()
        hu[:, 0, :] = -3024

        def pad(dataset: Dataset, n: int) -> None:
            dataset.add_new("PixelPaddingValue", "US" if value > 0 else "SS", value)

        write_ct_series(tmp_path, hu, edit=pad)
        ct, _ = read(tmp_path)
        np.testing.assert_array_equal(ct.hu, hu)

    def test_padding_that_would_read_as_calcium_becomes_air_outside_the_field_only(self, tmp_path):
        hu = np.zeros((3, 7, 9), int)
        padded = np.zeros((7, 9), bool)
        padded[:2, :3] = padded[:, 0] = True
        hu[:, padded] = 64511
        hu[:, 4, 5] = 64511  # inside the patient: measured, whatever it is

        def pad(dataset: Dataset, n: int) -> None:
            dataset.add_new("PixelPaddingValue", "US", 65535)

        write_ct_series(tmp_path, hu, edit=pad, PixelRepresentation=0)
        ct, _ = read(tmp_path)
        assert (ct.hu[:, padded] == -1024).all()
        assert (ct.hu[:, 4, 5] == 64511).all()
        assert (ct.hu[:, ~padded] == hu[:, ~padded]).all()

    def test_a_padding_range_reaches_to_its_limit(self, tmp_path):
        hu = np.zeros((3, 5, 5), int)
        hu[:, 0, :], hu[:, 1, :] = 3000, 3010

        def pad(dataset: Dataset, n: int) -> None:
            dataset.add_new("PixelPaddingValue", "SS", 3010 + 1024)
            dataset.add_new("PixelPaddingRangeLimit", "SS", 3000 + 1024)

        write_ct_series(tmp_path, hu, edit=pad)
        ct, _ = read(tmp_path)
        assert (ct.hu[:, :2] == -1024).all()
        assert (ct.hu[:, 2:] == 0).all()


def planes() -> list:
    """Every way to lay the columns and rows of an image along two of the three axes, either way."""
    return [
        ((i, si), (j, sj)) for i, j in itertools.permutations(range(3), 2) for si in (1, -1) for sj in (1, -1)
    ]  # fmt: skip


def rotation(radians: np.ndarray) -> np.ndarray:
    """Rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(radians):
        one = np.eye(3)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        out = one @ out
    return out


class TestGeometry:
    def test_positions_spacing_and_uids_of_a_plain_series(self, tmp_path):
        paths = write_ct_series(tmp_path, ramp(), spacing_mm=(3.0, 0.6, 0.5))
        ct, _ = read(tmp_path)
        assert ct.spacing_mm == (3.0, 0.6, 0.5)
        np.testing.assert_array_equal(ct.lps_mm([0, 0, 0]), [-50, -60, -100])
        np.testing.assert_allclose(ct.lps_mm([3, 5, 7]), [-46.5, -57, -91])
        assert ct.header.sop_instance_uids == tuple(dcmread(p).SOPInstanceUID for p in paths)
        assert ct.header.frame_numbers == ()

    @pytest.mark.parametrize("plane", [p for p in planes() if p[0][0] != 2 and p[1][0] != 2], ids=str)
    def test_flipped_and_transposed_axial_slices_give_the_same_volume(self, tmp_path, plane):
        paths = write_ct_series(tmp_path, ramp(), spacing_mm=(3.0, 0.6, 0.5), plane=plane)
        ct, _ = read(tmp_path)
        np.testing.assert_array_equal(ct.hu, ramp())
        np.testing.assert_allclose(ct.affine, [[0.5, 0, 0, -50], [0, 0.6, 0, -60], [0, 0, 3, -100], [0, 0, 0, 1]])
        assert ct.header.sop_instance_uids == tuple(dcmread(p).SOPInstanceUID for p in paths)
        assert ct.hu.flags.c_contiguous

    @settings(max_examples=20, deadline=None)
    @given(
        order=st.permutations(range(5)),
        plane=st.sampled_from([p for p in planes() if p[0][0] != 2 and p[1][0] != 2]),
        spacing=st.tuples(*[st.floats(0.3, 5).map(lambda x: round(x, 3))] * 3),
        corner=st.tuples(*[st.floats(-900, 900).map(lambda x: round(x, 3))] * 3),
    )
    def test_neither_names_nor_plane_nor_place_change_the_voxels(self, tmp_path_factory, order, plane, spacing, corner):
        hu = ramp((5, 3, 4))
        folder = tmp_path_factory.mktemp("shuffled")
        names = [f"IM{n:03d}" for n in order]
        write_ct_series(folder, hu, spacing_mm=spacing, corner_lps_mm=corner, plane=plane, names=names)
        ct, _ = read(folder)
        np.testing.assert_array_equal(ct.hu, hu)
        np.testing.assert_allclose(ct.spacing_mm, spacing, atol=2e-6)
        np.testing.assert_allclose(ct.lps_mm([0, 0, 0]), corner, atol=2e-6)

    @pytest.mark.parametrize("plane", [p for p in planes() if 2 in (p[0][0], p[1][0])], ids=str)
    def test_coronal_and_sagittal_slices_are_refused_or_turned(self, tmp_path, plane):
        write_ct_series(tmp_path, ramp((6, 6, 6)), plane=plane)
        error = refusal(tmp_path)
        assert error.code == "not-axial"
        assert "--allow not-axial" in error.text
        ct, cautions = read(tmp_path, allow={"not-axial"})
        np.testing.assert_array_equal(ct.hu, ramp((6, 6, 6)))
        assert cautions == ["not-axial"]
        assert ct.header.sop_instance_uids == ()

    def test_slightly_oblique_cosines_are_axial(self, tmp_path):
        angle = np.deg2rad(5)
        row, column = [1, 0, 0], [0, np.cos(angle), np.sin(angle)]
        normal = np.cross(row, column)

        def turn(dataset: Dataset, n: int) -> None:
            dataset.ImageOrientationPatient = [*row, *[round(float(x), 6) for x in column]]
            dataset.ImagePositionPatient = [round(float(x), 4) for x in 3.0 * n * normal]

        write_ct_series(tmp_path, ramp(), edit=turn)
        ct, _ = read(tmp_path)
        assert ct.increment_mm == pytest.approx(3.0, abs=1e-4)
        np.testing.assert_allclose(ct.affine[:3, 2] / 3, normal, atol=1e-4)

    @settings(max_examples=25, deadline=None)
    @given(
        tip=st.tuples(*[st.floats(-4, 4)] * 3),
        plane=st.sampled_from([p for p in planes() if p[0][0] != 2 and p[1][0] != 2]),
        spacing=st.tuples(st.floats(0.5, 5), st.floats(0.3, 1), st.floats(0.3, 1)),
        corner=st.tuples(*[st.floats(-500, 500)] * 3),
    )
    def test_every_voxel_lies_where_dicom_puts_it(self, tmp_path_factory, tip, plane, spacing, corner):
        """PS3.3 C.7.6.2.1.1, for slices tipped by a few degrees, flipped and transposed."""
        turn = rotation(np.deg2rad(tip))
        hu = np.arange(5 * 3 * 4).reshape(5, 3, 4)  # every voxel names itself
        folder = tmp_path_factory.mktemp("tipped")

        def tipped(dataset: Dataset, n: int) -> None:
            axes = turn @ np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3)).T
            dataset.ImageOrientationPatient = [round(float(x), 9) for x in axes.T.ravel()]
            position = turn @ np.array(dataset.ImagePositionPatient, float)
            dataset.ImagePositionPatient = [round(float(x), 6) for x in position]

        paths = write_ct_series(folder, hu, spacing_mm=spacing, corner_lps_mm=corner, plane=plane, edit=tipped)
        ct, _ = read(folder)
        for path in paths:
            dataset = dcmread(path)
            row_direction, column_direction = np.reshape(np.array(dataset.ImageOrientationPatient, float), (2, 3))
            dy, dx = (float(x) for x in dataset.PixelSpacing)
            stored = dataset.pixel_array + dataset.RescaleIntercept
            for row, column in ((0, 0), (stored.shape[0] - 1, 0), (1, 2)):
                place = np.array(dataset.ImagePositionPatient, float)
                place = place + row_direction * dx * column + column_direction * dy * row
                (k, j, i) = np.argwhere(ct.hu == stored[row, column])[0]
                np.testing.assert_allclose(ct.lps_mm([k, j, i]), place, atol=2e-3)

    def test_one_slice_takes_its_thickness_as_increment(self, tmp_path):
        (path,) = write_ct_series(tmp_path, ramp((1, 4, 5)), SliceThickness=2.5)
        assert refusal(path).code == "few-slices"
        ct, cautions = read(path, allow={"few-slices"})
        assert (ct.increment_mm, cautions) == (2.5, ["few-slices"])

    def test_one_slice_without_thickness_needs_to_be_told(self, tmp_path):
        (path,) = write_ct_series(tmp_path, ramp((1, 4, 5)), SliceThickness=None)
        assert "--thickness-mm" in refusal(path, allow={"few-slices"}).text
        ct, _ = read(path, allow={"few-slices"}, slice_thickness_mm=1.5)
        assert ct.increment_mm == 1.5

    def test_two_slices_take_their_distance(self, tmp_path):
        write_ct_series(tmp_path, ramp((2, 4, 5)), SliceThickness=5)
        assert refusal(tmp_path).code == "few-slices"
        ct, _ = read(tmp_path, allow={"few-slices"})
        assert ct.increment_mm == 3.0

    def test_tags_that_contradict_the_positions_are_ignored(self, tmp_path):
        write_ct_series(tmp_path, ramp(), SpacingBetweenSlices=10, SliceThickness=1, SliceLocation=0)
        assert read(tmp_path)[0].increment_mm == 3.0


class TestGates:
    """Spec 6.1: each refusal with its code, and the slice or tag that is to blame."""

    @pytest.mark.parametrize(
        ("code", "words", "tags"),
        [
            ("contrast", "(found Omnipaque 350)", {"ContrastBolusAgent": "Omnipaque 350"}),
            ("contrast", "80 ml", {"ContrastBolusVolume": 80}),
            ("derived", "LOCALIZER", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
            ("derived", "MIP", {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MIP"]}),
            ("derived", "AVERAGE", {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "AVERAGE"]}),
            ("derived", "CT_SOM5 MIP", {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MIP"]}),
            ("derived", "PROJECTION", {"ImageType": ["ORIGINAL", "PRIMARY", "PROJECTION"]}),
            ("derived", "SECONDARY", {"ImageType": ["DERIVED", "SECONDARY", "REFORMATTED"]}),
            ("no-hu", "RescaleSlope (0028,1053)", {"RescaleSlope": None}),
            ("no-hu", "RescaleIntercept (0028,1052)", {"RescaleIntercept": None}),
            ("no-hu", "RescaleType (0028,1054) must be HU, but is not (found OD)", {"RescaleType": "OD"}),
        ],
    )
    def test_refused_unless_allowed(self, tmp_path, code, words, tags):
        write_ct_series(tmp_path, ramp(), **tags)
        error = refusal(tmp_path)
        assert error.code == code
        assert words in error.text
        assert "0000.dcm" in error.text
        assert f"--allow {code}" in error.text
        ct, cautions = read(tmp_path, allow={code})
        assert code in cautions
        assert ct.shape == (4, 6, 8)

    def test_an_unspecified_unit_is_taken_as_hu_and_said(self, tmp_path):
        write_ct_series(tmp_path, ramp(), RescaleType="US")
        assert read(tmp_path)[1] == ["unit"]

    def test_a_modality_lut_is_not_hu(self, tmp_path):
        def lut(dataset: Dataset, n: int) -> None:
            item = Dataset()
            item.LUTDescriptor = [2, 0, 16]
            item.add_new(0x00283006, "US", [0, 1])
            dataset.ModalityLUTSequence = [item]
            del dataset.RescaleSlope, dataset.RescaleIntercept

        write_ct_series(tmp_path, ramp(), edit=lut)
        error = refusal(tmp_path)
        assert (error.code, "ModalityLUTSequence" in error.text) == ("no-hu", True)

    @pytest.mark.parametrize("agent", ["", "NONE", "No", "N/A", "none given", "no IV contrast"])
    def test_a_contrast_tag_that_says_none_is_no_contrast(self, tmp_path, agent):
        write_ct_series(tmp_path, ramp(), ContrastBolusAgent=agent)
        ct, cautions = read(tmp_path)
        assert cautions == []
        assert ct.header.contrast == (None if agent == "" else "")

    @pytest.mark.parametrize("agent", ["IV", "ORAL", "NON-IONIC", "ISOVUE300/100", "IV CONTRAST", "Nonionic iodine"])
    def test_any_other_contrast_tag_is_contrast(self, tmp_path, agent):
        write_ct_series(tmp_path, ramp(), ContrastBolusAgent=agent)
        assert refusal(tmp_path).code == "contrast"

    def test_an_axial_reformat_is_scored_and_said(self, tmp_path):
        write_ct_series(tmp_path, ramp(), ImageType=["DERIVED", "PRIMARY", "MPR"])
        assert read(tmp_path)[1] == ["reformatted"]

    def test_spectral_ct_is_scored_and_said(self, tmp_path):
        write_ct_series(tmp_path, ramp(), MultienergyCTAcquisition="YES")
        assert read(tmp_path)[1] == ["spectral"]

    def test_a_tilt_tag_that_positions_contradict_warns_and_zero_does_not(self, tmp_path):
        write_ct_series(tmp_path / "zero", ramp(), GantryDetectorTilt="+0.0")
        assert read(tmp_path / "zero")[1] == []
        write_ct_series(tmp_path / "tilted", ramp(), GantryDetectorTilt=-12.5)
        assert read(tmp_path / "tilted")[1] == ["tilt"]
        write_ct_series(tmp_path / "one", ramp()[:2], GantryDetectorTilt=-12.5)  # where no position can contradict it
        error = refusal(tmp_path / "one")
        assert (error.code, "GantryDetectorTilt (0018,1120) is -12.5" in error.text) == ("tilt", True)

    def test_sheared_positions_are_a_tilt(self, tmp_path):
        def shear(dataset: Dataset, n: int) -> None:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y + 0.2 * n, z]

        write_ct_series(tmp_path, ramp(), edit=shear)
        error = refusal(tmp_path)
        assert error.code == "tilt"
        assert "3.8 degrees" in error.text

    def test_rounded_positions_are_no_tilt(self, tmp_path):
        def round_off(dataset: Dataset, n: int) -> None:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x + (0.05 if n % 2 else 0), y, z]

        write_ct_series(tmp_path, ramp(), edit=round_off)
        assert read(tmp_path)[0].spacing_mm == (3.0, 0.5, 0.5)

    def test_a_slice_shifted_within_its_plane_is_refused(self, tmp_path):
        def shift(dataset: Dataset, n: int) -> None:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x + (20 if n == 2 else 0), y, z]

        write_ct_series(tmp_path, ramp(), edit=shift)
        error = refusal(tmp_path)
        assert (error.code, "0002.dcm is shifted 20.0 mm" in error.text) == ("mixed", True)

    def move(self, folder: Path, shifts_mm: dict[int, float], n_slices: int = 6) -> InputRefused:
        def along_z(dataset: Dataset, n: int) -> None:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, z + sum(d for first, d in shifts_mm.items() if n >= first)]

        write_ct_series(folder, ramp((n_slices, 6, 8)), edit=along_z)
        return refusal(folder)

    def test_two_slices_at_one_place_are_named(self, tmp_path):
        error = self.move(tmp_path, {3: -3.0})
        assert error.code == "duplicate"
        assert "0002.dcm and 0003.dcm lie at the same position (-94.00 mm)" in error.text

    def test_a_copied_file_is_a_duplicate(self, tmp_path):
        paths = write_ct_series(tmp_path, ramp())
        (tmp_path / "copy of 0002.dcm").write_bytes(paths[2].read_bytes())
        error = refusal(tmp_path)
        assert (error.code, "copy of 0002.dcm" in error.text) == ("duplicate", True)

    @pytest.mark.parametrize("missing", [1, 2])
    def test_missing_slices_are_counted_between_their_neighbors(self, tmp_path, missing):
        error = self.move(tmp_path, {4: 3.0 * missing})
        assert error.code == "gap"
        assert f"slices are missing: {missing} between 0003.dcm and 0004.dcm (-91.00 and " in error.text

    def test_a_gap_in_three_slices_is_found(self, tmp_path):
        assert self.move(tmp_path, {2: 3.0}, n_slices=3).code == "gap"

    @pytest.mark.parametrize("shift", [0.4, -0.6, 0.8])
    def test_uneven_increments_are_refused(self, tmp_path, shift):
        error = self.move(tmp_path, {4: shift})
        assert error.code == "uneven"
        assert f"increments {3 + shift:.2f} mm between 0003.dcm and 0004.dcm" in error.text

    def test_two_scans_joined_are_uneven_and_every_place_is_counted(self, tmp_path):
        error = self.move(tmp_path, dict.fromkeys(range(6, 10), 3.0), n_slices=10)
        assert error.code == "uneven"
        assert "6.00 mm between 0005.dcm and 0006.dcm" in error.text
        assert "and 1 more" in error.text

    def test_increments_may_differ_by_rounding(self, tmp_path):
        def jitter(dataset: Dataset, n: int) -> None:
            x, y, z = dataset.ImagePositionPatient
            dataset.ImagePositionPatient = [x, y, z + 0.04 * (n % 2)]

        write_ct_series(tmp_path, ramp((5, 6, 8)), edit=jitter)
        assert read(tmp_path)[0].increment_mm == pytest.approx(3.0)

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("PixelSpacing", [0.6, 0.5]),
            ("ImageOrientationPatient", [-1, 0, 0, 0, -1, 0]),
            ("RescaleType", "OD"),
            ("KVP", 80),
        ],
    )
    def test_one_slice_that_differs_makes_the_series_mixed(self, tmp_path, keyword, value):
        def other(dataset: Dataset, n: int) -> None:
            if n == 2:
                setattr(dataset, keyword, value)

        write_ct_series(tmp_path, ramp(), edit=other)
        error = refusal(tmp_path)
        assert (error.code, keyword in error.text) == ("mixed", True)

    def test_slices_of_two_sizes_are_mixed(self, tmp_path):
        def crop(dataset: Dataset, n: int) -> None:
            if n == 3:
                dataset.Rows = 5
                set_pixels(dataset, ramp()[3, :5])

        write_ct_series(tmp_path, ramp(), edit=crop)
        error = refusal(tmp_path)
        assert error.code == "mixed"
        assert "0000.dcm has 6, 0003.dcm has 5" in error.text

    def test_more_pixels_than_the_header_describes_are_refused(self, tmp_path):
        def half(dataset: Dataset, n: int) -> None:
            dataset.Rows = 32

        write_ct_series(tmp_path, ramp((3, 64, 544)), edit=half)
        error = refusal(tmp_path)
        assert error.code == "unreadable"
        assert "0000.dcm: expected 34816 bytes of pixel data, found 69632" in error.text

    def test_compressed_pixels_that_say_they_are_not_are_refused(self, tmp_path):
        paths = write_ct_series(tmp_path, ramp((3, 40, 48)), syntax=RLELossless)
        data = paths[0].read_bytes()
        paths[0].write_bytes(data.replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0", 1))
        error = refusal(tmp_path)
        assert (error.code, "0000.dcm: TransferSyntaxUID (0002,0010)" in error.text) == ("unreadable", True)

    @pytest.mark.parametrize("slope", [0, 1e300, -1])
    def test_a_slope_that_cannot_be_is_no_hu(self, tmp_path, slope):
        def impossible(dataset: Dataset, n: int) -> None:
            dataset.RescaleSlope = slope

        write_ct_series(tmp_path, ramp(), edit=impossible)
        assert refusal(tmp_path).code == "no-hu"
        assert read(tmp_path, allow={"no-hu"})[1] == ["no-hu"]

    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
    def test_missing_pixels_are_truncated(self, tmp_path, syntax):
        def cut(dataset: Dataset, n: int) -> None:
            if n == 1:
                dataset.PixelData = dataset.PixelData[:-10]

        write_ct_series(tmp_path, ramp(), edit=cut, syntax=syntax)
        error = refusal(tmp_path)
        assert error.code == "truncated"
        assert "0001.dcm: expected 96 bytes of pixel data, found 86" in error.text

    @pytest.mark.parametrize(
        "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLosslessSV1, JPEGLSLossless, RLELossless]
    )
    def test_a_file_cut_short_is_refused_by_name(self, tmp_path, syntax):
        paths = write_ct_series(tmp_path, ramp((3, 40, 48)), syntax=syntax)
        paths[2].write_bytes(paths[2].read_bytes()[:-200])
        error = refusal(tmp_path)
        assert error.code in ("truncated", "unreadable")
        assert "0002.dcm" in error.text

    def test_a_file_cut_within_its_header_is_refused_by_name(self, tmp_path):
        paths = write_ct_series(tmp_path, ramp())
        data = paths[0].read_bytes()
        for end in range(140, data.index(b"\xe0\x7f\x10\x00"), 20):
            paths[0].write_bytes(data[:end])
            error = refusal(tmp_path)
            assert error.code in ("truncated", "unreadable")
            assert "0000.dcm" in error.text

    def test_a_slice_without_pixels_is_truncated(self, tmp_path):
        def remove(dataset: Dataset, n: int) -> None:
            if n == 2:
                del dataset.PixelData

        write_ct_series(tmp_path, ramp(), edit=remove)
        error = refusal(tmp_path)
        assert (error.code, "0002.dcm ends before its pixel data" in error.text) == ("truncated", True)

    def test_a_damaged_pixel_element_is_refused_by_name(self, tmp_path):
        paths = write_ct_series(tmp_path, ramp(), syntax=ExplicitVRBigEndian)
        data = paths[1].read_bytes()
        paths[1].write_bytes(data.replace(b"\x7f\xe0\x00\x10OW", b"\x7f\xe0\x00\x10O\xe6", 1))
        error = refusal(tmp_path)
        assert (error.code, "0001.dcm" in error.text) == ("unreadable", True)

    def test_a_broken_compressed_stream_is_refused_by_name(self, tmp_path):
        paths = write_ct_series(tmp_path, ramp((3, 40, 48)), syntax=JPEGLSLossless)
        data = bytearray(paths[1].read_bytes())
        start = data.index(b"\xff\xd8")
        data[start + 2 : start + 60] = bytes(58)
        paths[1].write_bytes(data)
        error = refusal(tmp_path)
        assert error.code == "unreadable"
        assert "0001.dcm cannot be decoded (JPEG-LS Lossless" in error.text

    @pytest.mark.parametrize(
        ("offset", "value"),
        [(11, 0xBC), (4, 0x20), (6, 0x29), (8, 0x31), (13, 0x01), (14, 0x8E), (2, 0x00), (19, 0xFF), (60, 0x00)],
    )
    def test_damaged_jpeg_is_refused_and_nothing_is_printed(self, tmp_path, capfd, offset, value):
        """GDCM aborts the process on the first of these, and its library prints to stderr on the last."""
        paths = write_ct_series(tmp_path, ramp((3, 40, 48)), syntax=JPEGLosslessSV1)
        data = bytearray(paths[1].read_bytes())
        start = data.index(b"\xff\xd8\xff\xc3")
        data[start + offset] = value
        if offset == 60:
            data[start + 60 : -20] = bytes(len(data) - start - 80)
        paths[1].write_bytes(data)
        error = refusal(tmp_path)
        assert error.code == "unreadable"
        assert "0001.dcm cannot be decoded (JPEG Lossless" in error.text
        assert capfd.readouterr() == ("", "")

    def test_a_damaged_jpeg_2000_stream_is_refused_and_nothing_is_printed(self, tmp_path, capfd):
        paths = write_ct_series(tmp_path, ramp((3, 40, 48)), syntax=JPEG2000Lossless)
        data = bytearray(paths[1].read_bytes())
        start = data.index(b"\xff\x4f\xff\x51")
        data[start + 2 : start + 40] = bytes(38)
        paths[1].write_bytes(data)
        error = refusal(tmp_path)
        assert (error.code, "0001.dcm" in error.text) == ("unreadable", True)
        assert capfd.readouterr() == ("", "")

    def test_several_frames_in_a_classic_ct_have_no_place(self, tmp_path):
        write_ct_series(tmp_path, ramp(), NumberOfFrames=2)
        error = refusal(tmp_path)
        assert (error.code, "NumberOfFrames (0028,0008) is 2" in error.text) == ("unreadable", True)

    @pytest.mark.parametrize(
        "syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, JPEGLosslessSV1], ids=lambda uid: uid.keyword
    )
    @settings(max_examples=40, deadline=None)
    @given(places=st.lists(st.floats(0, 1), min_size=1, max_size=8), values=st.binary(min_size=8, max_size=8))
    def test_damaged_bytes_end_in_a_volume_or_a_refusal(self, tmp_path_factory, syntax, places, values):
        folder = tmp_path_factory.mktemp("damaged")
        paths = write_ct_series(folder, ramp((3, 8, 10)), syntax=syntax)
        data = bytearray(paths[1].read_bytes())
        for place, value in zip(places, values, strict=False):
            data[128 + int(place * (len(data) - 129))] = value
        paths[1].write_bytes(data)
        with contextlib.suppress(InputRefused):
            ct, _ = read(folder)
            assert ct.shape[1:] == (8, 10)

    def test_a_syntax_without_decoder_is_refused_by_name(self, tmp_path):
        paths = write_ct_series(tmp_path, ramp())
        for path in paths:
            write_encoded([path], [b"no such movie"], "1.2.840.10008.1.2.4.102")  # MPEG-4
        error = refusal(tmp_path)
        assert (error.code, "0000.dcm" in error.text) == ("unreadable", True)

    def test_color_is_not_ct(self, tmp_path):
        write_ct_series(tmp_path, ramp(), SamplesPerPixel=3)
        assert refusal(tmp_path).code == "modality"

    def test_two_patients_in_one_series_are_refused(self, tmp_path):
        def swap(dataset: Dataset, n: int) -> None:
            dataset.PatientID = f"P{n % 2}"

        write_ct_series(tmp_path, ramp(), edit=swap)
        error = refusal(tmp_path)
        assert error.code == "ambiguous"
        assert "P0" not in error.text
        assert "P1" not in error.text
        (series,) = find_series(tmp_path)  # and so it is when the reader has named the series, so that none was chosen
        with pytest.raises(InputRefused, match="holds slices of 2 patients, expected one"):
            read_series(series)


class TestMultiframe:
    @pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ExplicitVRBigEndian, JPEG2000Lossless, RLELossless])
    def test_enhanced_ct_gives_the_same_volume(self, tmp_path, syntax):
        hu = ramp((4, 40, 48))
        paths = write_ct_series(tmp_path / "classic", hu, spacing_mm=(3.0, 0.6, 0.5))
        shuffled = [paths[n] for n in (2, 0, 3, 1)]
        write_enhanced_ct(shuffled, tmp_path / "enhanced.dcm", syntax=syntax)
        ct, cautions = read(tmp_path / "enhanced.dcm")
        np.testing.assert_array_equal(ct.hu, hu)
        assert ct.spacing_mm == (3.0, 0.6, 0.5)
        assert cautions == []
        assert ct.header.frame_numbers == (2, 4, 1, 3)
        assert len(set(ct.header.sop_instance_uids)) == 1
        assert (ct.header.kvp, ct.header.kernel, ct.header.is_gated) == (120, "Qr36", True)
        assert ct.header.reconstruction_diameter_mm == 24
        assert ct.header.mass_factor_patient == pytest.approx(0.81)

    def test_converted_ct_gives_the_same_volume(self, tmp_path):
        hu = ramp()
        paths = write_ct_series(tmp_path / "classic", hu, plane=((0, -1), (1, -1)))
        write_converted_ct(paths, tmp_path / "converted.dcm")
        classic, _ = read(tmp_path / "classic")
        ct, cautions = read(tmp_path / "converted.dcm")
        np.testing.assert_array_equal(ct.hu, hu)
        np.testing.assert_allclose(ct.affine, classic.affine)
        assert cautions == []
        assert (ct.header.kvp, ct.header.kernel, ct.header.patient_age_years) == (120, "B35f", 63)
        assert sorted(ct.header.frame_numbers) == [1, 2, 3, 4]

    def test_rescale_of_each_frame_counts(self, tmp_path):
        hu = ramp()

        def own_rescale(dataset: Dataset, n: int) -> None:
            dataset.RescaleIntercept = -1024 + 10 * n
            set_pixels(dataset, hu[n])

        paths = write_ct_series(tmp_path / "classic", hu, edit=own_rescale)
        write_enhanced_ct(paths, tmp_path / "enhanced.dcm")
        np.testing.assert_array_equal(read(tmp_path / "enhanced.dcm")[0].hu, hu)

    def test_a_series_in_two_multiframe_files_is_one_volume(self, tmp_path):
        hu = ramp((6, 6, 8))
        paths = write_ct_series(tmp_path / "classic", hu)
        for name, half in (("a.dcm", paths[3:]), ("b.dcm", paths[:3])):
            write_enhanced_ct(half, tmp_path / "both" / name)
            dataset = dcmread(tmp_path / "both" / name)
            dataset.SeriesInstanceUID = "1.2.3.4"
            dataset.save_as(tmp_path / "both" / name)
        ct, _ = read(tmp_path / "both")
        np.testing.assert_array_equal(ct.hu, hu)
        assert ct.header.frame_numbers == (1, 2, 3, 1, 2, 3)
        a, b = (str(dcmread(tmp_path / "both" / name).SOPInstanceUID) for name in ("a.dcm", "b.dcm"))
        assert ct.header.sop_instance_uids == (b, b, b, a, a, a)

    def test_two_frames_at_one_place_are_named(self, tmp_path):
        paths = write_ct_series(tmp_path / "classic", ramp())
        write_enhanced_ct([*paths, paths[1]], tmp_path / "enhanced.dcm")
        error = refusal(tmp_path / "enhanced.dcm")
        assert error.code == "duplicate"
        assert "enhanced.dcm frame 2 and enhanced.dcm frame 5" in error.text

    def test_a_wrong_number_of_frames_is_refused(self, tmp_path):
        paths = write_ct_series(tmp_path / "classic", ramp())
        write_enhanced_ct(paths, tmp_path / "enhanced.dcm")
        dataset = dcmread(tmp_path / "enhanced.dcm")
        dataset.NumberOfFrames = 7
        write(dataset, tmp_path / "enhanced.dcm")
        error = refusal(tmp_path / "enhanced.dcm")
        assert (error.code, "describes 4 frames" in error.text) == ("unreadable", True)

    def test_missing_frames_are_truncated(self, tmp_path):
        paths = write_ct_series(tmp_path / "classic", ramp())
        write_enhanced_ct(paths, tmp_path / "enhanced.dcm")
        dataset = dcmread(tmp_path / "enhanced.dcm")
        dataset.PixelData = dataset.PixelData[:300]
        write(dataset, tmp_path / "enhanced.dcm")
        assert refusal(tmp_path / "enhanced.dcm").code == "truncated"


class TestHeader:
    def test_what_the_tags_say(self, tmp_path):
        write_ct_series(
            tmp_path, ramp(), ReconstructionDiameter=250, CalciumScoringMassFactorPatient=0.7,
            CalciumScoringMassFactorDevice=[0.7, 0.8, 0.9], SeriesDescription="CaSc 3.0 BestDiast 71 %",
        )  # fmt: skip
        header = read(tmp_path)[0].header
        assert (header.kvp, header.slice_thickness_mm, header.kernel) == (120, 3, "B35f")
        assert (header.patient_age_years, header.patient_sex, header.is_gated) == (63, "F", True)
        assert (header.manufacturer, header.model) == ("HeartLens test", "Phantom 1")
        assert header.reconstruction_diameter_mm == 250
        assert header.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")
        assert header.mass_factor_patient == pytest.approx(0.7)
        assert header.mass_factors_device == pytest.approx((0.7, 0.8, 0.9))
        assert header.contrast is None

    def test_what_no_tag_says_is_unknown(self, tmp_path):
        write_ct_series(
            tmp_path, ramp(), KVP=None, ConvolutionKernel=None, PatientAge=None, PatientSex="O", Manufacturer="",
            SliceThickness=None,
        )  # fmt: skip
        header = read(tmp_path)[0].header
        assert (header.kvp, header.kernel, header.patient_age_years, header.patient_sex) == (None, None, None, None)
        assert (header.is_gated, header.manufacturer, header.slice_thickness_mm) == (None, None, None)
        assert (header.mass_factor_patient, header.mass_factors_device) == (None, ())

    @pytest.mark.parametrize(
        ("age", "born", "years"),
        [
            ("090Y", "", 90), ("018M", "", 1.5), ("", "19640301", 59), ("", "19640229", 60), ("000Y", "", None),
            ("000Y", "19640229", 60), ("", "18640229", None), ("", "", None),
        ],
    )  # fmt: skip
    def test_age_from_the_tag_or_from_two_dates(self, tmp_path, age, born, years):
        write_ct_series(tmp_path, ramp(), PatientAge=age, PatientBirthDate=born, StudyDate="20240229")
        assert read(tmp_path)[0].header.patient_age_years == years

    @pytest.mark.parametrize(
        ("tags", "gated"),
        [
            ({"CardiacSynchronizationTechnique": "RETROSPECTIVE"}, True),
            ({"CardiacSynchronizationTechnique": "NONE", "SeriesDescription": "gated"}, False),
            ({"SeriesDescription": "DS_CaSc 3.0 B35f 70%"}, True),
            ({"SeriesDescription": "SmartScore - Gated 0.5 sec"}, True),
            ({"ProtocolName": "Calcium BestDiast"}, True),
            ({"SeriesDescription": "CHEST NON-GATED"}, False),
            ({"SeriesDescription": "CHEST ASiR 40%"}, None),
            ({"SeriesDescription": "Chest 5mm"}, None),
        ],
    )
    def test_gating_from_tags_then_words(self, tmp_path, tags, gated):
        write_ct_series(tmp_path, ramp(), **tags)
        assert read(tmp_path)[0].header.is_gated is gated

    def test_the_user_says_what_the_file_does_not(self, tmp_path):
        write_ct_series(tmp_path, ramp(), KVP=None, SliceThickness=None)
        ct, cautions = read(tmp_path, kvp=100, slice_thickness_mm=2.5)
        assert (ct.header.kvp, ct.header.slice_thickness_mm, cautions) == (100, 2.5, [])

    def test_a_contradiction_of_user_and_file_is_said(self, tmp_path):
        write_ct_series(tmp_path, ramp())
        ct, cautions = read(tmp_path, kvp=100)
        assert (ct.header.kvp, cautions) == (100, ["header"])


class TestSourceDatasets:
    def test_headers_follow_the_slices(self, tmp_path):
        names = [f"IM{n}" for n in (3, 1, 2, 0)]
        write_ct_series(tmp_path, ramp(), names=names, plane=((0, -1), (1, 1)))
        series = choose_series(rank_series(find_series(tmp_path)))
        ct, _ = read_series(series)
        datasets = source_datasets(series, ct)
        assert tuple(d.SOPInstanceUID for d in datasets) == ct.header.sop_instance_uids
        assert [d.ImagePositionPatient[2] for d in datasets] == [-100, -97, -94, -91]
        assert all("PixelData" not in d and d.PatientName == "Test^Phantom" for d in datasets)

    def test_a_multiframe_ct_is_one_header(self, tmp_path):
        write_enhanced_ct(write_ct_series(tmp_path / "classic", ramp()), tmp_path / "enhanced.dcm")
        series = choose_series(rank_series(find_series(tmp_path / "enhanced.dcm")))
        (dataset,) = source_datasets(series, read_series(series)[0])
        assert dataset.NumberOfFrames == 4

    def test_another_series_is_an_error(self, tmp_path):
        write_ct_series(tmp_path / "a", ramp())
        write_ct_series(tmp_path / "b", ramp())
        one, other = (choose_series(rank_series(find_series(tmp_path / name))) for name in "ab")
        with pytest.raises(ValueError, match="was not read from this series"):
            source_datasets(other, read_series(one)[0])

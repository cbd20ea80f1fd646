"""What slices must share: whatever contradicts itself is refused by name, and what only looks odd is scored."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_builder import set_pixels, write_ct_series, write_enhanced_ct
from pydicom import dcmread
from pydicom.dataset import Dataset
from schematic_chest import SPACING_MM, cropped, schematic_chest

from heartlens.core.errors import InputRefused
from heartlens.dicom.read import read_series
from heartlens.dicom.series import choose_series, find_series, rank_series

CHEST = np.maximum(cropped(schematic_chest(noise_hu=12), slice(None), slice(None), slice(14, 22)).hu, -1024)


def write(folder, edit=None, hu=CHEST, **tags):
    return write_ct_series(folder, hu, spacing_mm=SPACING_MM, edit=edit, **tags)


def read(folder):
    ct, cautions = read_series(choose_series(rank_series(find_series(folder))))
    return ct, [caution.code for caution in cautions]


def refusal(folder):
    with pytest.raises(InputRefused) as caught:
        read(folder)
    return caught.value.code, caught.value.text


def on(slices, **values):
    """An edit that sets attributes on some slices."""

    def edit(dataset: Dataset, n: int) -> None:
        if n in slices:
            for keyword, value in values.items():
                setattr(dataset, keyword, value)

    return edit


class TestRescale:
    @pytest.mark.parametrize(
        ("slices", "values"),
        [
            ({4}, {"RescaleIntercept": -1124}),
            ({4, 5, 6, 7}, {"RescaleIntercept": -1124}),
            ({4}, {"RescaleIntercept": -1044}),
            ({3}, {"RescaleSlope": 1.2}),
            ({0}, {"RescaleIntercept": 0}),
        ],
    )
    def test_a_change_that_shows_in_the_tissue_is_refused(self, tmp_path, slices, values):
        write(tmp_path, on(slices, **values))
        code, text = refusal(tmp_path)
        first = min(slices) or 1
        assert code == "mixed"
        assert f"from {first - 1:04d}.dcm" in text
        assert f"to {first:04d}.dcm" in text

    def test_a_rescale_of_its_own_for_every_slice_is_read_when_tissue_goes_on(self, tmp_path):
        def own(dataset: Dataset, n: int) -> None:
            dataset.RescaleIntercept = -1024 - 100 * n
            set_pixels(dataset, CHEST[n])

        write(tmp_path, own)
        ct, cautions = read(tmp_path)
        np.testing.assert_array_equal(ct.hu, CHEST)
        assert cautions == []

    def test_a_multiframe_file_may_not_say_it_twice(self, tmp_path):
        paths = write(tmp_path / "classic")
        write_enhanced_ct(paths, tmp_path / "enhanced.dcm")
        dataset = dcmread(tmp_path / "enhanced.dcm")
        item = Dataset()
        item.RescaleSlope, item.RescaleIntercept, item.RescaleType = 1, -1000, "HU"
        dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [item]
        dataset.save_as(tmp_path / "enhanced.dcm")
        code, text = refusal(tmp_path / "enhanced.dcm")
        assert (code, "RescaleIntercept" in text) == ("mixed", True)


class TestShared:
    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("ConvolutionKernel", "B70f"),
            ("SliceThickness", 1.0),
            ("ImageType", ["DERIVED", "PRIMARY", "AXIAL"]),
            ("PatientName", "Other^Person"),
        ],
    )
    def test_one_slice_that_differs_makes_the_series_mixed(self, tmp_path, keyword, value):
        write(tmp_path, on({5}, **{keyword: value}))
        code, text = refusal(tmp_path)
        assert (code, keyword in text) == ("mixed", True)
        assert "Other" not in text

    @pytest.mark.parametrize(
        ("keyword", "value"),
        [
            ("ConvolutionKernel", ""),
            ("SliceThickness", 3.001),
            ("SliceThickness", None),
            ("PatientName", "PHANTOM TEST"),
            ("PatientName", "Test^Phantom^^^"),
            ("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]),
        ],
    )
    def test_the_same_said_otherwise_or_not_at_all_agrees(self, tmp_path, keyword, value):
        write(tmp_path, on({5}, **{keyword: value}))
        np.testing.assert_array_equal(read(tmp_path)[0].hu, CHEST)

    def test_an_element_that_stands_twice_is_refused(self, tmp_path):
        paths = write(tmp_path)
        data = paths[2].read_bytes()
        element = b"\x28\x00\x52\x10DS\x08\x00-1024.0 "
        assert data.count(element) == 1
        paths[2].write_bytes(data.replace(element, element + b"\x28\x00\x52\x10DS\x08\x00-1300.0 "))
        code, text = refusal(tmp_path)
        assert (code, "0002.dcm says RescaleIntercept twice" in text) == ("unreadable", True)


class TestField:
    def test_an_image_wider_than_it_was_reconstructed_is_no_geometry(self, tmp_path):
        write(tmp_path, ReconstructionDiameter=240)  # 128 x 2.8 mm = 358 mm
        code, text = refusal(tmp_path)
        assert code == "geometry"
        assert "358 mm, ReconstructionDiameter (0018,1100) says 240 mm" in text

    @pytest.mark.parametrize(("diameter", "cautions"), [(358.4, []), (350, []), (500, ["field"])])
    def test_a_part_of_the_image_is_scored_and_said(self, tmp_path, diameter, cautions):
        write(tmp_path, ReconstructionDiameter=diameter)
        assert read(tmp_path)[1] == cautions

    def test_prone_is_said(self, tmp_path):
        write(tmp_path, PatientPosition="HFP")
        assert read(tmp_path)[1] == ["prone"]


class TestOrder:
    def exchanged(self, *keywords):
        """Positions of slices 2 and 3 exchanged; the other witnesses stay."""

        def edit(dataset: Dataset, n: int) -> None:
            x, y, z = dataset.ImagePositionPatient
            dataset.SliceLocation = z
            at = {2: 3, 3: 2}.get(n, n)
            dataset.ImagePositionPatient = [x, y, z + 3.0 * (at - n)]
            for keyword in keywords:
                delattr(dataset, keyword)

        return edit

    def test_positions_that_two_witnesses_contradict_are_refused(self, tmp_path):
        write(tmp_path, self.exchanged())
        code, text = refusal(tmp_path)
        assert code == "mixed"
        assert "0003.dcm, 0002.dcm elsewhere" in text

    @pytest.mark.parametrize("missing", ["SliceLocation", "InstanceNumber"])
    def test_one_witness_alone_is_heard(self, tmp_path, missing):
        write(tmp_path, self.exchanged(missing))
        assert read(tmp_path)[1] == ["slice-order"]

    @pytest.mark.parametrize(
        "edit",
        [
            lambda dataset, n: setattr(dataset, "SliceLocation", 500 - 3.0 * n),
            lambda dataset, n: setattr(dataset, "SliceLocation", 0),
            lambda dataset, n: setattr(dataset, "InstanceNumber", 1),
            lambda dataset, n: setattr(dataset, "InstanceNumber", (5 * n) % 8),
            lambda dataset, n: delattr(dataset, "InstanceNumber"),
        ],
        ids=["downward", "constant", "one number", "numbers without order", "no number"],
    )
    def test_a_witness_that_tells_nothing_is_not_heard(self, tmp_path, edit):
        write(tmp_path, edit)
        assert read(tmp_path)[1] == []

    def test_a_witness_against_the_other_is_not_heard(self, tmp_path):
        def edit(dataset: Dataset, n: int) -> None:
            dataset.SliceLocation = dataset.ImagePositionPatient[2]
            dataset.InstanceNumber = {2: 3, 3: 2}.get(n, n)

        write(tmp_path, edit)
        assert read(tmp_path)[1] == []


class TestPixelLength:
    @pytest.mark.parametrize("extra", [1, 2, 96, 4096, 19044])
    def test_zeros_after_the_pixels_are_padding(self, tmp_path, extra):
        def pad(dataset: Dataset, n: int) -> None:
            dataset.PixelData = bytes(dataset.PixelData) + bytes(extra)

        write(tmp_path, pad)
        np.testing.assert_array_equal(read(tmp_path)[0].hu, CHEST)

    @pytest.mark.parametrize("edge_hu", [-1024, None], ids=["rows end in zeros", "rows end in air"])
    @pytest.mark.parametrize("too_few", [1, 3])
    def test_columns_that_are_too_few_are_refused(self, tmp_path, too_few, edge_hu):
        """The last row is what seems to follow the image; where it is stored as zeros it looks like padding."""
        hu = CHEST.copy()
        if edge_hu is not None:
            hu[:, -4:] = edge_hu

        def narrow(dataset: Dataset, n: int) -> None:
            dataset.Columns = dataset.Columns - too_few

        write(tmp_path, narrow, hu=hu, PixelRepresentation=0)
        code, text = refusal(tmp_path)
        assert (code, "Columns" in text) == ("unreadable", True)

    def test_a_padding_range_over_all_values_is_refused(self, tmp_path):
        def pad(dataset: Dataset, n: int) -> None:
            if n == 3:
                dataset.add_new("PixelPaddingValue", "SS", -2000)
                dataset.add_new("PixelPaddingRangeLimit", "SS", 4000)

        write(tmp_path, pad)
        code, text = refusal(tmp_path)
        assert (code, "0003.dcm" in text) == ("unreadable", True)

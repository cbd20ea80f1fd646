"""Every quirk of the COCA download, on folders that were made up in its shape."""

from __future__ import annotations

import plistlib
import socket
import warnings
from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

from heartlens.core.errors import InputRefused
from heartlens.core.lesions import Artery
from heartlens.phantom.truth import agatston_per_artery
from training.datasets.coca import VESSELS, CocaDataset, read_annotations
from training.datasets.coca.outlines import pixels_inside, polygon_area_px, share_components

LAD, LCX = "Left Anterior Descending Artery", "Left Circumflex Artery"
RCA, LEFT_MAIN = "Right Coronary Artery", "Left Coronary Artery"


@pytest.fixture
def read(coca):
    """`read(1)` reads gated patient 1 of the folder."""
    return lambda number, **options: CocaDataset.find(coca.root).read_gated(number, **options)


def edit(path, **values):
    dataset = dcmread(path)
    for keyword, value in values.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.save_as(path)


def verdicts(patient):
    return [check.verdict for check in patient.checks]


def test_proven_outlines_label_whole_islands_and_nothing_else(coca, read, plaque_ct, roi, image):
    coca.images(306, plaque_ct)
    coca.annotations(
        306,
        [
            image(2, roi(plaque_ct, LAD, 2, (11, 11), (20, 22))),  # the middle row of a 3 x 3 island
            image(5, roi(plaque_ct, RCA, 5, (30, 33), (8, 9)), roi(plaque_ct, LEFT_MAIN, 5, (5, 6), (40, 43))),
        ],
    )
    patient = read(306)
    expected = np.zeros((8, 48, 48), np.uint8)
    expected[2, 10:13, 20:23] = Artery.LAD
    expected[5, 30:34, 8:10] = Artery.RCA
    expected[5, 5:7, 40:44] = Artery.LM
    np.testing.assert_array_equal(patient.labels, expected)
    assert verdicts(patient) == ["proven"] * 3
    assert patient.is_labeled
    first = patient.checks[0]
    assert (first.slice_index, first.pixels, first.max_hu, first.labeled) == (2, 3, 420.0, 9)
    assert first.mean_hu == pytest.approx((200 + 420 + 200) / 3)
    assert first.area_mm2 == pytest.approx(2.8 * 0.8 * 0.16)
    assert first.notes == ()


def test_vessel_names_are_the_four_full_ones():
    assert VESSELS == {LEFT_MAIN: Artery.LM, LAD: Artery.LAD, LCX: Artery.LCX, RCA: Artery.RCA}


# 1 and 2: slots without an outline, and outlines too small to hold a pixel center


def test_placeholders_are_counted_and_label_nothing(coca, read, plaque_ct, roi, image):
    empty = {"Name": LAD, "NumberOfPoints": 0, "Area": 0, "Point_px": [], "Point_mm": [], "Max": 0, "Mean": 0}
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, empty, roi(plaque_ct, LAD, 2, (10, 12), (20, 22)))])
    patient = read(1)
    assert verdicts(patient) == ["placeholder", "proven"]
    assert patient.is_labeled


@pytest.mark.parametrize("points", [["(21.2, 10.9)"], ["(21.2, 10.9)", "(20.4, 11.4)"]])
def test_outlines_of_one_or_two_points_are_the_pixels_they_hit(coca, read, plaque_ct, roi, image, points):
    entry = roi(plaque_ct, LAD, 2, (11, 11), (21, 21), Point_px=points, NumberOfPoints=len(points), Area=0.0)
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, entry)])
    patient = read(1)
    assert patient.checks[0].pixels == len(points)
    assert patient.checks[0].notes == ()
    assert (patient.labels == Artery.LAD).sum() == 9


def test_a_sliver_between_pixel_centers_is_the_pixels_of_its_vertices():
    np.testing.assert_array_equal(pixels_inside([(2.1, 1.1), (3.2, 1.1), (3.2, 1.2)], (4, 6)), [8, 9])


# 3 and 4: axes and rasterization


def test_points_are_column_then_row(coca, read, plaque_ct, roi, image):
    coca.images(1, plaque_ct)
    swapped = roi(plaque_ct, RCA, 5, (30, 33), (8, 9))
    swapped["Point_px"] = ["({1}, {0})".format(*text.strip("()").split(", ")) for text in swapped["Point_px"]]
    coca.annotations(1, [image(5, roi(plaque_ct, RCA, 5, (30, 33), (8, 9)), swapped)])
    patient = read(1)
    assert verdicts(patient) == ["proven", "failed"]
    assert patient.checks[1].reason == "Max is 511, the brightest pixel inside has -80 HU"


@pytest.mark.parametrize(
    ("points", "flat"),
    [
        ([(0.4, 0.4), (2.6, 0.4), (2.6, 1.6), (0.4, 1.6)], [7, 8]),  # truncation to whole numbers would add row 0
        ([(1, 1), (2, 1), (2, 2), (1, 2)], [7, 8, 13, 14]),  # centers on the edge belong to it
        ([(0.9, 0.9), (3.1, 0.9), (0.9, 3.1)], [7, 8, 9, 13, 14, 19]),  # a triangle with its diagonal
        ([(-5, -5), (0.5, -5), (0.5, 0.5), (-5, 0.5)], [0]),  # cut off at the image's corner
    ],
)
def test_a_pixel_is_inside_when_its_center_is(points, flat):
    np.testing.assert_array_equal(pixels_inside(points, (5, 6)), flat)


def test_rasterization_agrees_with_counting_crossings_point_by_point():
    rng = np.random.default_rng(5)
    for _ in range(20):
        polygon = rng.uniform(0, 12, (rng.integers(3, 9), 2))
        plain = []
        for row in range(12):
            for column in range(12):
                winding = False
                for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
                    if (y0 > row) != (y1 > row) and column < x0 + (row - y0) / (y1 - y0) * (x1 - x0):
                        winding = not winding
                if winding:
                    plain.append(row * 12 + column)
        if plain:
            np.testing.assert_array_equal(pixels_inside(polygon, (12, 12)), plain)


def test_area_of_a_polygon_does_not_depend_on_its_direction():
    triangle = [(0, 0), (4, 0), (0, 3)]
    assert polygon_area_px(triangle) == polygon_area_px(triangle[::-1]) == 6


# 5: parts that are missing


def test_a_patient_without_xml_has_images_and_no_labels(coca, read, plaque_ct):
    coca.images(7, plaque_ct)
    patient = read(7)
    assert patient.labels is None
    assert not patient.is_labeled
    assert patient.ct.shape == (8, 48, 48)


def test_an_xml_without_images_is_a_patient_that_is_refused(coca, plaque_ct):
    coca.images(1, plaque_ct)
    coca.annotations(12, [])
    dataset = CocaDataset.find(coca.root)
    assert dataset.gated_numbers == (1, 12)
    with pytest.raises(InputRefused, match="input: gated patient 12 has labels but no images"):
        dataset.read_gated(12)


def test_patients_are_sorted_by_number_and_strays_are_noted(coca, plaque_ct):
    for number in (100, 9, 20):
        coca.images(number, plaque_ct)
    (coca.release / "patient" / "notes").mkdir()
    (coca.release / "calcium_xml" / "readme.txt").write_text("")
    dataset = CocaDataset.find(coca.root)
    assert dataset.gated_numbers == (9, 20, 100)
    assert dataset.notes == ("patient/notes is no patient; left out", "calcium_xml/readme.txt is no patient; left out")


def test_the_folder_may_be_nested_twice(a_coca, tmp_path, plaque_ct):
    coca = a_coca(tmp_path, nested=True)
    coca.images(3, plaque_ct)
    assert CocaDataset.find(tmp_path).gated_numbers == (3,)
    assert CocaDataset.find(coca.release).gated_numbers == (3,)


def test_a_download_put_together_of_links_is_found_even_when_one_leads_in_a_circle(a_coca, tmp_path, plaque_ct):
    coca = a_coca(tmp_path / "disk")
    coca.images(3, plaque_ct)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "release").symlink_to(coca.release)
    (tmp_path / "links" / "circle").symlink_to(tmp_path / "links")
    assert CocaDataset.find(tmp_path / "links").gated_numbers == (3,)


def test_two_downloads_in_one_folder_are_refused(a_coca, tmp_path):
    a_coca(tmp_path / "one")
    a_coca(tmp_path / "two")
    with pytest.raises(InputRefused, match=r"ambiguous: .* expected one patient folder, found one/.*two/"):
        CocaDataset.find(tmp_path)


def test_a_folder_without_coca_is_refused(tmp_path):
    with pytest.raises(InputRefused, match="holds no COCA download: expected patient/ and calcium_xml/"):
        CocaDataset.find(tmp_path)


# 6 and 7: several series, files without a series, doubled slices


def test_of_several_series_the_longest_is_read(coca, read, plaque_ct, coca_ct):
    coca.images(388, coca_ct(plaque_ct.hu[:1], uid=2), folder="a scout")
    coca.images(388, plaque_ct)
    patient = read(388)
    assert patient.ct.shape[0] == 8
    assert patient.notes == ("2 series: took the one of 8 slices, left out those of 1",)


def test_of_series_of_equal_length_the_lower_number_is_read(coca, read, plaque_ct, coca_ct):
    other = coca_ct(plaque_ct.hu - 500, uid=2)
    for path in coca.images(78, other, folder="a").iterdir():
        edit(path, SeriesNumber=7)
    for path in coca.images(78, plaque_ct, folder="b").iterdir():
        edit(path, SeriesNumber=5)
    np.testing.assert_array_equal(read(78).ct.hu, plaque_ct.hu)


@pytest.mark.parametrize("numbers", [(5, 5), (None, None)])
def test_of_series_of_equal_length_and_number_the_lower_uid_is_read(coca, read, plaque_ct, coca_ct, numbers):
    """Whatever their folders are called, and also where the numbers are lost."""
    other = coca_ct(plaque_ct.hu - 500, uid=2)
    for ct, folder, number in ((other, "a", numbers[0]), (plaque_ct, "b", numbers[1])):
        for path in coca.images(78, ct, folder=folder).iterdir():
            edit(path, SeriesNumber=number)
    patient = read(78)
    assert patient.ct.header.series_uid == "2.25.1.2"
    np.testing.assert_array_equal(patient.ct.hu, plaque_ct.hu)


def test_a_file_that_belongs_to_no_series_is_left_out_and_noted(coca, read, plaque_ct, coca_ct):
    folder = coca.images(159, plaque_ct)
    stray = coca.images(159, coca_ct(plaque_ct.hu[:1], uid=2), folder="stray") / "IM-6130-0001.dcm"
    edit(stray, SeriesInstanceUID=None)
    patient = read(159)
    np.testing.assert_array_equal(patient.ct.hu, plaque_ct.hu)
    assert "IM-6130-0001.dcm belongs to no series: SeriesInstanceUID (0020,000E) is missing" in patient.notes[0]
    assert len(list(folder.iterdir())) == 8


def test_doubled_slices_are_dropped_and_the_index_still_counts_them(coca, read, plaque_ct, roi, image):
    folder = coca.images(159, plaque_ct)
    double = dcmread(folder / "IM-6130-0002.dcm")
    double.SOPInstanceUID = double.file_meta.MediaStorageSOPInstanceUID = "2.25.99"
    double.save_as(folder / "IM-6130-0099.dcm")
    # By its number alone: slice 5 of eight is stored image 6 of nine, because slice 1 is there twice.
    entry = roi(plaque_ct, RCA, 5, (30, 33), (8, 9), Center=None, Point_mm=None)
    coca.annotations(159, [image(6, entry)])
    patient = read(159)
    assert patient.ct.shape[0] == 8
    assert patient.checks[0].slice_index == 5
    assert patient.is_labeled
    assert patient.notes == ("1 doubled slices left out: IM-6130-0099.dcm",)


def test_two_different_slices_at_one_place_are_refused(coca, read, plaque_ct):
    folder = coca.images(1, plaque_ct)
    double = dcmread(folder / "IM-6130-0002.dcm")
    double.SOPInstanceUID = double.file_meta.MediaStorageSOPInstanceUID = "2.25.99"
    double.PixelData = bytes(len(double.PixelData))
    double.save_as(folder / "IM-6130-0099.dcm")
    with pytest.raises(InputRefused, match="duplicate"):
        read(1)


def test_a_gap_between_slices_is_refused(coca, read, plaque_ct):
    folder = coca.images(1, plaque_ct)
    (folder / "IM-6130-0004.dcm").unlink()
    with pytest.raises(InputRefused, match="gap"):
        read(1)


# 8: outlines of another reconstruction


def test_outlines_between_two_slices_are_rejected(coca, read, plaque_ct, roi, image):
    entry = roi(plaque_ct, LAD, 2, (10, 12), (20, 22))
    x, y, z = (float(v) for v in entry["Center"].strip("()").split(","))
    coca.images(268, plaque_ct)
    coca.annotations(268, [image(2, {**entry, "Center": f"({x}, {y}, {z + 1.5})"})])
    patient = read(268)
    assert verdicts(patient) == ["failed"]
    assert patient.checks[0].reason == "it lies at z -112.50 mm, 1.50 mm from the nearest slice: another reconstruction"
    assert not patient.labels.any()
    assert not patient.is_labeled


def test_a_position_rounded_by_a_tenth_of_a_millimeter_still_matches(coca, read, plaque_ct, roi, image):
    entry = roi(plaque_ct, LAD, 2, (10, 12), (20, 22), Center="(0, 0, -113.9)")
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, entry)])
    assert read(1).checks[0].slice_index == 2


@pytest.mark.parametrize("z", [-121.6, -97.4, 500.0])
def test_outlines_beyond_the_first_or_last_slice_are_rejected(coca, read, plaque_ct, roi, image, z):
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(0, roi(plaque_ct, LAD, 2, (10, 12), (20, 22), Center=f"(0, 0, {z})"))])
    patient = read(1)
    assert verdicts(patient) == ["failed"]
    assert "outside the scan" in patient.checks[0].reason


# 9: the slice is found by position, whatever the numbers say


def test_instance_numbers_and_image_indices_do_not_decide_the_slice(coca, read, plaque_ct, roi, image):
    folder = coca.images(78, plaque_ct)
    for n, path in enumerate(sorted(folder.iterdir())):
        edit(path, InstanceNumber=[3, 1, 8, 2, 7, 5, 4, 6][n])
    for index in (2, 5, 8 - 1 - 2, 3):  # ascending, wrong, descending, 1-based
        coca.annotations(78, [image(index, roi(plaque_ct, LAD, 2, (10, 12), (20, 22)))])
        assert read(78).checks[0].slice_index == 2


def test_without_a_position_the_index_is_0_based_from_the_feet_and_max_proves_it(coca, read, plaque_ct, roi, image):
    entry = roi(plaque_ct, LAD, 2, (10, 12), (20, 22), Center=None, Point_mm=None)
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, entry), image(8 - 1 - 2, entry)])
    patient = read(1)
    assert verdicts(patient) == ["proven", "failed"]
    assert patient.checks[1].reason == "Max is 420, the brightest pixel inside has -80 HU"


# 10: outlines that reach too far


def test_an_outline_that_reaches_air_is_proven_and_labels_calcium_only(coca, read, plaque_ct, roi, image, coca_ct):
    hu = plaque_ct.hu.copy()
    hu[5, 34:40, 8:10] = -1000
    ct = coca_ct(hu)
    coca.images(184, ct)
    coca.annotations(184, [image(5, roi(ct, RCA, 5, (30, 39), (8, 9)))])
    patient = read(184)
    assert patient.checks[0].verdict == "proven"
    assert (patient.labels == Artery.RCA).sum() == 8


def test_an_edge_on_a_brighter_neighbor_fails_and_is_reported(coca, read, plaque_ct, roi, image, coca_ct):
    hu = plaque_ct.hu.copy()
    hu[5, 34, 8] = 889  # OsiriX did not count this pixel, the outline covers its center
    ct = coca_ct(hu)
    coca.images(126, ct)
    coca.annotations(126, [image(5, roi(ct, RCA, 5, (30, 34), (8, 9), Max=511.0))])
    patient = read(126)
    assert verdicts(patient) == ["failed"]
    assert patient.checks[0].reason == "Max is 511, the brightest pixel inside has 889 HU"
    assert not patient.is_labeled


def test_whether_pixels_on_the_outline_itself_belong_to_it_is_decided_by_max(coca, read, roi, image, coca_ct):
    hu = np.full((4, 32, 32), -80, np.int16)
    hu[1, 10:13, 10:13] = 200
    hu[1, 11, 11], hu[1, 9, 11] = 350, 500
    ct = coca_ct(hu)
    # Its upper edge runs through the centers of row 9, where a neighbor is brighter.
    on_centers = ["(9.0, 9.0)", "(13.0, 9.0)", "(13.0, 13.0)", "(9.0, 13.0)"]
    entry = roi(ct, RCA, 1, (10, 12), (10, 12), Point_px=on_centers, Area=16 * ct.pixel_area_mm2 / 100)
    coca.images(238, ct)
    coca.annotations(238, [image(1, entry), image(1, {**entry, "Max": 500.0}), image(1, {**entry, "Max": 499.0})])
    patient = read(238)
    assert verdicts(patient) == ["proven", "proven", "failed"]
    assert [check.pixels for check in patient.checks] == [9, 25, 25]


# 11 and 12: numbers that lead nowhere


@pytest.mark.parametrize("index", [-1, 8, 4000])
def test_an_image_index_outside_the_scan_is_rejected(coca, read, plaque_ct, roi, image, index):
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(index, roi(plaque_ct, LAD, 2, (10, 12), (20, 22), Center=None, Point_mm=None))])
    assert read(1).checks[0].reason == f"ImageIndex {index} lies outside the 8 slices"


@pytest.mark.parametrize("center", [None, "(12.5, 30.0)", "(a, b, c)", ""])
def test_without_a_whole_center_the_points_say_where_the_slice_is(coca, read, plaque_ct, roi, image, center):
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(7, roi(plaque_ct, LAD, 2, (10, 12), (20, 22), Center=center))])
    assert read(1).checks[0].slice_index == 2


# 13 and 14: several outlines on one slice


def test_a_later_outline_does_not_erase_an_earlier_one(coca, read, plaque_ct, roi, image):
    coca.images(1, plaque_ct)
    entries = roi(plaque_ct, LCX, 5, (5, 6), (40, 43)), roi(plaque_ct, RCA, 5, (30, 33), (8, 9))
    coca.annotations(1, [image(5, entries[0]), image(5, entries[1])])
    labels = read(1).labels
    assert (labels == Artery.LCX).sum() == 8
    assert (labels == Artery.RCA).sum() == 8


def test_two_arteries_in_one_island_keep_their_own_pixels(coca, read, roi, image, coca_ct):
    hu = np.full((4, 32, 32), -80, np.int16)
    hu[1, 10, 4:14] = 200  # one island of ten pixels: three outlined as LM, five as LAD, two as neither
    hu[1, 10, 4], hu[1, 10, 11] = 250, 300
    ct = coca_ct(hu)
    coca.images(1, ct)
    coca.annotations(1, [image(1, roi(ct, LEFT_MAIN, 1, (10, 10), (4, 6)), roi(ct, LAD, 1, (10, 10), (7, 11)))])
    patient = read(1)
    assert patient.labels[1, 10, 4:14].tolist() == [Artery.LM] * 3 + [Artery.LAD] * 7
    assert patient.checks[0].notes == (f"shares an island with image 1, ROI 2 ({LAD})",)


def test_where_outlines_overlap_the_earlier_one_keeps_its_pixels():
    islands = np.array([[1, 1, 1, 1, 0, 2]])
    outlines = [np.array([0, 1]), np.array([1, 2, 3]), np.array([4])]
    assert share_components(islands, outlines, [Artery.LM, Artery.LAD, Artery.RCA]).tolist() == [[1, 1, 2, 2, 0, 0]]


def test_overlapping_outlines_count_once(coca, read, plaque_ct, roi, image):
    twice = roi(plaque_ct, LAD, 2, (10, 12), (20, 22))
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, twice, twice)])
    patient = read(1)
    # 9 pixels of 0.16 mm2, weight 4 (Max 420), slices of 3 mm
    assert agatston_per_artery(patient.ct, patient.labels)[Artery.LAD] == pytest.approx(9 * 0.16 * 4)


# 15: names of folders, and the DTD


def test_reading_the_xml_touches_no_network(coca, plaque_ct, roi, image, monkeypatch):
    path = coca.annotations(1, [image(2, roi(plaque_ct, LAD, 2, (10, 12), (20, 22)))])
    assert b"http://www.apple.com/DTDs/PropertyList-1.0.dtd" in path.read_bytes()

    def no_network(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    assert len(read_annotations(path).rois) == 1


def test_an_xml_that_defines_entities_is_refused(coca):
    path = coca.release / "calcium_xml" / "1.xml"
    path.write_text('<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "b">]><plist><dict/></plist>')
    with pytest.raises(InputRefused, match=r"unreadable: .*1\.xml: expected an XML property list"):
        read_annotations(path)


# dirty names, damaged entries, damaged files


@pytest.mark.parametrize("name", ["555614876", "Unnamed", "1", "LAD", ""])
def test_a_name_that_names_no_artery_is_unassigned_and_said(coca, read, plaque_ct, roi, image, name):
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, roi(plaque_ct, name, 2, (10, 12), (20, 22)))])
    patient = read(1)
    assert (patient.labels == Artery.UNASSIGNED).sum() == 9
    assert patient.checks[0].notes == (f"the name {name!r} names no artery",)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"NumberOfPoints": 7}, "NumberOfPoints is 7, Point_px has 4"),
        ({"Point_px": ["(1, 2)", "here", "(3, 4)", "(5, 6)"]}, "Point_px is not a list of (column, row)"),
        ({"Point_px": "(1, 2)"}, "Point_px is not a list of (column, row)"),
        ({"Max": None}, "no Max to prove it by"),
        ({"Point_px": ["(900, 900)"] * 4}, "the outline lies outside the image of 48 x 48"),
        ({"Center": None, "Point_mm": ["(0, 0, -114)", "(0, 0, -105)"]}, "its points lie on several slices, 9.00 mm"),
    ],
)
def test_damaged_entries_are_reported_with_their_reason(coca, read, plaque_ct, roi, image, change, reason):
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, roi(plaque_ct, LAD, 2, (10, 12), (20, 22), **change))])
    patient = read(1)
    assert verdicts(patient) == ["failed"]
    assert patient.checks[0].reason.startswith(reason)
    assert patient.checks[0].roi.place == "image 2, ROI 1"


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"Mean": 299.0}, "Mean is 299, pixels inside have 224 HU"),
        ({"Area": 0.05}, "Area is 5.00 mm2, the outline has 1.25"),
        ({"Total": 9000.0}, "Total / Mean gives 40 pixels, inside are 9"),
    ],
)
def test_soft_numbers_that_are_off_are_noted_and_the_outline_stands(coca, read, plaque_ct, roi, image, change, note):
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, roi(plaque_ct, LAD, 2, (10, 12), (20, 22), **change))])
    patient = read(1)
    assert verdicts(patient) == ["proven"]
    assert note in patient.checks[0].notes


def test_a_mean_of_partly_covered_pixels_is_not_noted(coca, read, plaque_ct, roi, image):
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, roi(plaque_ct, LAD, 2, (10, 12), (20, 22), Mean=224 + 55.0, Total=None))])
    assert read(1).checks[0].notes == ()


def test_an_outline_whose_island_is_much_larger_is_noted(coca, read, roi, image, coca_ct):
    hu = np.full((4, 32, 32), -80, np.int16)
    hu[1, 5:20, 5:20] = 400  # bone, say, and an outline that touches it
    ct = coca_ct(hu)
    coca.images(1, ct)
    coca.annotations(1, [image(1, roi(ct, RCA, 1, (5, 6), (5, 6)))])
    assert read(1).checks[0].notes == ("its islands have 225 pixels, the outline 4: check for bone or a valve",)


def test_an_outline_without_calcium_labels_nothing_and_says_so(coca, read, plaque_ct, roi, image):
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(3, roi(plaque_ct, RCA, 3, (5, 6), (5, 6)))])
    patient = read(1)
    assert not patient.labels.any()
    assert patient.checks[0].notes == ("no pixel inside reaches 130 HU: no label",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<?xml version='1.0'?><plist><dict>",
        b"\x00\x01",
        plistlib.dumps({"Pictures": []}),
        plistlib.dumps([1, 2]),
        b"<plist><dict><key>Images</key><real>x</real></dict></plist>",
    ],
)
def test_a_damaged_xml_is_refused_and_named(coca, read, plaque_ct, content):
    coca.images(5, plaque_ct)
    (coca.release / "calcium_xml" / "5.xml").write_bytes(content)
    with pytest.raises(InputRefused, match=r"unreadable: .*5\.xml: expected .* property list"):
        read(5)


def test_a_number_of_rois_that_contradicts_the_list_is_noted(coca, read, plaque_ct, roi, image):
    coca.images(1, plaque_ct)
    coca.annotations(1, [{**image(2, roi(plaque_ct, LAD, 2, (10, 12), (20, 22))), "NumberOfROIs": 3}, "odd"])
    assert read(1).notes == (
        "image 2: NumberOfROIs is 3, found 1",
        "entry 2 of Images is no image with ROIs; left out",
    )


def test_uids_that_are_no_uids_are_tolerated(coca, read, plaque_ct):
    folder = coca.images(1, plaque_ct)
    for n, path in enumerate(sorted(folder.iterdir())):
        dataset = dcmread(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.00.abc", "1.3.001.series"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.840.00113619.{n}-x"
            dataset.save_as(path, enforce_file_format=False)
    np.testing.assert_array_equal(read(1).ct.hu, plaque_ct.hu)


def test_a_volume_stored_upside_down_is_outlined_in_its_stored_pixels(coca, read, plaque_ct, roi, image):
    folder = coca.images(1, plaque_ct)
    entry = roi(plaque_ct, LAD, 2, (10, 12), (20, 22))
    for path in folder.iterdir():  # the same patient lying prone: both image axes run the other way
        dataset = dcmread(path)
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        pixels = dataset.pixel_array[::-1, ::-1]
        dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
        dataset.ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        dataset.ImagePositionPatient = [f"{x + 47 * 0.4:.4f}", f"{y + 47 * 0.4:.4f}", z]
        dataset.save_as(path)
    turned = [tuple(47 - float(v) for v in text.strip("()").split(",")) for text in entry["Point_px"]]
    coca.annotations(1, [image(2, {**entry, "Point_px": [f"({x:f}, {y:f})" for x, y in turned]})])
    patient = read(1)
    assert verdicts(patient) == ["proven"]
    np.testing.assert_array_equal(np.argwhere(patient.labels).mean(axis=0), [2, 11, 21])


# the non-gated part


def test_scores_are_read_through_the_sheets_quirks(coca):
    coca.scores(
        [
            ["filename ", "LCA", " LAD", "lcx ", "RCA", "total"],
            ["1A", 0, 12.5, 0, 30, 42.5],
            ["10A", 0, 0, 0, 0, 0],
            [3, 1, 2, 3, 4, 99],
            ["4A", None, 2, 3, 4, 9],
            ["", 1, 2, 3, 4, 10],
            ["1A", 7, 7, 7, 7, 28],
            [None] * 6,
        ]
    )
    dataset = CocaDataset.find(coca.root)
    assert dataset.nongated_numbers == (1, 3, 10)
    first = dataset.scores[1]
    assert (first.arteries[Artery.LM], first.arteries[Artery.LAD], first.total) == (0, 12.5, 42.5)
    assert dataset.notes == (
        "scores.xlsx row 4: total is 99, its arteries sum to 10",
        "scores.xlsx row 5 left out: no score in lca",
        "scores.xlsx row 6 left out: no patient number",
        "scores.xlsx row 7 left out: a second row",
    )


@pytest.mark.parametrize("inner", ["1", "some series", "."])
def test_nongated_images_lie_at_any_depth_and_need_no_score(coca, plaque_ct, inner):
    coca.scores([["filename ", "LCA", "LAD", "LCX", "RCA", "total"], ["2A", 0, 0, 0, 0, 0]])
    coca.nongated_images(1, plaque_ct, inner=inner)
    dataset = CocaDataset.find(coca.root)
    patient = dataset.read_nongated(1)
    assert patient.ct.shape == (8, 48, 48)
    assert patient.ct.header.is_gated is False
    assert patient.score is None
    assert patient.labels is None
    with pytest.raises(InputRefused, match="non-gated patient 2 has labels but no images"):
        dataset.read_nongated(2)


def test_a_sheet_without_its_columns_is_refused(coca):
    coca.scores([["name", "score"], ["1A", 5]])
    with pytest.raises(InputRefused, match=r"labels: .*scores.xlsx: expected the columns filename, lca, lad"):
        CocaDataset.find(coca.root)


def test_a_sheet_that_is_no_sheet_is_refused(coca):
    coca.nongated.mkdir(parents=True)
    (coca.nongated / "scores.xlsx").write_bytes(b"PK not really")
    with pytest.raises(InputRefused, match=r"unreadable: .*scores\.xlsx: expected an Excel sheet"):
        CocaDataset.find(coca.root)


def test_patients_do_not_change(coca, read, plaque_ct, roi, image):
    coca.images(1, plaque_ct)
    coca.annotations(1, [image(2, roi(plaque_ct, LAD, 2, (10, 12), (20, 22)))])
    patient = read(1)
    with pytest.raises(AttributeError):
        patient.number = 2
    assert replace(patient, number=2).labels is patient.labels

"""Stacks below series: a stray object, a second phase or changed UIDs cost nobody a good scan, and no slice is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import small_chest
from dicom_builder import write, write_ct_series, write_enhanced_ct
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from heartlens.core.errors import InputRefused
from heartlens.dicom.read import read_series, source_datasets
from heartlens.dicom.series import choose_series, find_series, rank_series
from heartlens.dicom.source.images import SourceImages

ONE = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "FrameOfReferenceUID": "1.2.9"}


def chest(folder: Path, **tags) -> list[Path]:
    return small_chest.write_series(folder, **{**ONE, **tags})


def read(folder: Path, uid: str | None = None):
    """(CT, warning codes) of what is chosen."""
    series = choose_series(rank_series(find_series(folder)), uid)
    ct, cautions = read_series(series)
    return ct, [caution.code for caution in cautions]


def refusal(folder: Path, uid: str | None = None) -> InputRefused:
    with pytest.raises(InputRefused) as caught:
        read(folder, uid)
    return caught.value


def is_the_chest(ct) -> bool:
    return np.array_equal(ct.hu, small_chest.hu())


def change(paths: list[Path], edit) -> None:
    for n, path in enumerate(paths):
        dataset = dcmread(path)
        edit(dataset, n)
        dataset.save_as(path)


# What lies beside a good stack


def scout(folder: Path) -> None:
    write_ct_series(
        folder, np.zeros((6, 1, 8)), plane=((0, 1), (2, -1)), **ONE, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )


def axial_scout_elsewhere(folder: Path) -> None:
    write_ct_series(
        folder, np.zeros((1, 8, 8)), corner_lps_mm=(0, 0, 400), **ONE, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )


def screenshot(folder: Path) -> None:
    write_ct_series(folder, np.zeros((1, 8, 8)), **ONE, SOPClassUID=SecondaryCaptureImageStorage)


def dose_report(folder: Path) -> None:
    folder.mkdir()
    report = Dataset()
    report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.67", generate_uid()
    report.SeriesInstanceUID, report.StudyInstanceUID = ONE["SeriesInstanceUID"], ONE["StudyInstanceUID"]
    report.Modality, report.PatientID = "SR", "P1"
    write(report, folder / "dose.dcm")


def structures(folder: Path) -> None:
    folder.mkdir()
    dataset = dcmread(get_testdata_file("rtstruct.dcm"), force=True)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        setattr(dataset, keyword, ONE[keyword])
    dataset.PatientID = "P1"
    write(dataset, folder / "rt.dcm")


@pytest.mark.parametrize("stray", [scout, axial_scout_elsewhere, screenshot, dose_report, structures])
def test_a_stray_object_in_the_series_costs_nothing_and_is_named(tmp_path, stray):
    chest(tmp_path / "ct")
    stray(tmp_path / "stray")
    ct, codes = read(tmp_path)
    assert is_the_chest(ct)
    assert codes == ["stacks"]


def two_phases(folder: Path, **second) -> None:
    chest(folder / "a", NominalPercentageOfCardiacPhase=70)
    chest(folder / "b", **{"NominalPercentageOfCardiacPhase": 40, **second})


def test_two_phases_are_two_stacks_with_an_address_each(tmp_path):
    two_phases(tmp_path, RescaleIntercept=-1000)
    told = refusal(tmp_path)
    assert told.code == "ambiguous"
    for address, phase in (("1.2.3.4#1", "phase 40 %"), ("1.2.3.4#2", "phase 70 %")):
        assert f"{phase}), UID {address}" in told.text
    ct, codes = read(tmp_path, "1.2.3.4#2")
    assert is_the_chest(ct)
    assert codes == ["stacks"]
    assert refusal(tmp_path, "1.2.3.4").code == "ambiguous", "the UID alone means both"
    assert refusal(tmp_path, "1.2.3.4#3").code == "input"


@pytest.mark.parametrize(
    "tags",
    [
        {"ConvolutionKernel": "Br59"}, {"SliceThickness": 1.0}, {"KVP": 100}, {"AcquisitionNumber": 2},
        {"TriggerTime": 400}, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "X"]}, {"ContrastBolusAgent": "Iohexol"},
    ],
    ids=lambda tags: next(iter(tags)),
)  # fmt: skip
def test_two_stacks_of_the_same_places_are_told_apart_by_what_differs(tmp_path, tags):
    chest(tmp_path / "a")
    chest(tmp_path / "b", **tags)
    found = find_series(tmp_path)
    assert [(s.n_slices, s.n_positions) for s in found] == [(20, 20), (20, 20)]
    assert {s.address for s in found} == {"1.2.3.4#1", "1.2.3.4#2"}


def test_a_single_slice_of_a_second_acquisition_is_left_out(tmp_path):
    chest(tmp_path / "a", AcquisitionNumber=1)
    paths = chest(tmp_path / "b", AcquisitionNumber=2)
    for path in paths[:7] + paths[8:]:
        path.unlink()
    ct, codes = read(tmp_path)
    assert is_the_chest(ct)
    assert "stacks" in codes


def test_two_halves_of_a_scan_are_not_chosen_between_without_asking(tmp_path):
    a, b = chest(tmp_path / "a", AcquisitionNumber=1), chest(tmp_path / "b", AcquisitionNumber=2)
    for path in (*a[17:], *b[:16]):
        path.unlink()
    told = refusal(tmp_path)
    assert told.code == "ambiguous"
    assert "so no one holds all" in told.text
    assert read(tmp_path, "1.2.3.4#1")[0].shape[0] == 17


@pytest.mark.parametrize("n", [0, 7, 19])
@pytest.mark.parametrize(
    ("code", "edit"),
    [
        ("derived", lambda d: setattr(d, "ImageType", ["DERIVED", "SECONDARY"])),
        ("derived", lambda d: setattr(d, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"])),
        ("ambiguous", lambda d: setattr(d, "PatientID", "P2")),
        ("mixed", lambda d: setattr(d, "PixelSpacing", [4.0, 4.0])),
        ("unreadable", lambda d: delattr(d, "ImagePositionPatient")),
    ],
    ids=["reformat", "localizer", "patient", "spacing", "no position"],
)
def test_a_slice_that_fills_a_place_is_never_left_out_in_silence(tmp_path, n, code, edit):
    paths = chest(tmp_path)
    change(paths[n : n + 1], lambda dataset, _: edit(dataset))
    assert refusal(tmp_path).code == code


def test_frames_of_two_phases_in_one_multi_frame_file_are_two_stacks(tmp_path):
    a, b = chest(tmp_path / "a"), small_chest.write_series(tmp_path / "b", RescaleIntercept=-1000, **ONE)
    write_enhanced_ct([*a, *b], tmp_path / "multi.dcm")
    dataset = dcmread(tmp_path / "multi.dcm")
    for n, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        item = Dataset()
        item.NominalPercentageOfCardiacPhase = 70.0 if n < 20 else 40.0
        group.CardiacSynchronizationSequence = [item]
    dataset.save_as(tmp_path / "multi.dcm")
    for number in (1, 2):
        ct, _ = read(tmp_path / "multi.dcm", f"{dataset.SeriesInstanceUID}#{number}")
        assert is_the_chest(ct)


# One patient


@pytest.mark.parametrize(
    ("edit", "codes"),
    [
        (lambda d, n: n % 2 and setattr(d, "IssuerOfPatientID", "HOSPITAL"), ["patient"]),
        (lambda d, n: setattr(d, "IssuerOfPatientID", "AB"[n % 2]), ["patient"]),
        (lambda d, n: (setattr(d, "PatientID", ""), setattr(d, "PatientName", ("A^B", "a^b^^^")[n % 2])), []),
    ],
    ids=["issuer on half", "two issuers", "carets and case"],
)
def test_one_patient_is_one_however_the_archive_writes_it(tmp_path, edit, codes):
    change(chest(tmp_path), edit)
    ct, said = read(tmp_path)
    assert is_the_chest(ct)
    assert said == codes


@pytest.mark.parametrize("names", [("MILLER^ANN", "MILLER^ANN^^MRS"), ("Miller^Ann", "Miller^Ann^M"),
                                   ("Mueller-Li^An", "Mueller Li^An"), ("Yamada^Tarou=山田^太郎", "Yamada^Tarou")],
                         ids=["title", "middle name", "hyphen", "other alphabet"])  # fmt: skip
def test_one_name_is_one_however_it_is_written(tmp_path, names):
    change(chest(tmp_path), lambda d, n: (setattr(d, "SpecificCharacterSet", "ISO_IR 192"),
                                          setattr(d, "PatientName", names[n % 2])))  # fmt: skip
    ct, said = read(tmp_path)
    assert is_the_chest(ct)
    assert said == []


@pytest.mark.parametrize("stray", ["derived", "another patient"])
def test_slices_without_a_place_do_not_hide_what_else_lies_there(tmp_path, stray):
    """Three slices say no position, and two more are of another kind: refused, and by its name."""

    def edit(d, n):
        if n < 3:
            del d.ImagePositionPatient
        elif n < 5 and stray == "derived":
            d.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED"]
        elif n < 5:
            d.PatientID = "ANOTHER"

    change(chest(tmp_path), edit)
    with pytest.raises(InputRefused):
        read(tmp_path)


def test_slices_whose_orientation_is_nothing_are_not_left_out(tmp_path):
    """Two of twenty: a scan of eighteen slices would score without them."""
    change(chest(tmp_path), lambda d, n: n >= 18 and setattr(d, "ImageOrientationPatient", [0.0] * 6))
    with pytest.raises(InputRefused):
        read(tmp_path)


def test_two_stacks_of_the_same_places_are_no_halves_whichever_way_their_rows_run(tmp_path):
    thin, turned = tmp_path / "thin", tmp_path / "turned"
    change(chest(thin), lambda d, n: setattr(d, "SliceThickness", 1.0))
    for path in chest(turned):
        d = dcmread(path)
        corner = [float(v) for v in d.ImagePositionPatient]
        corner[1] += (d.Rows - 1) * float(d.PixelSpacing[0])
        d.ImagePositionPatient, d.ImageOrientationPatient = corner, [1, 0, 0, 0, -1, 0]
        d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        d.save_as(path)
    ranked = rank_series(find_series(tmp_path))
    reaches = {tuple(round(v) for v in r.series.reach_mm) for r in ranked}
    assert len(reaches) == 1, reaches


def test_slices_of_two_names_are_no_stack_whatever_their_id_says(tmp_path):
    change(chest(tmp_path), lambda d, n: setattr(d, "PatientName", ("Doe^Jane", "Roe^Jane")[n % 2]))
    with pytest.raises(InputRefused, match="must share PatientName") as refused:
        read(tmp_path)
    assert refused.value.code == "mixed"
    assert "Doe" not in refused.value.text


# Changed UIDs


@pytest.mark.parametrize("keywords", [("SeriesInstanceUID",), ("StudyInstanceUID", "SeriesInstanceUID")])
def test_a_new_uid_for_every_file_is_seen_and_the_scan_put_together(tmp_path, keywords):
    change(chest(tmp_path), lambda d, n: [setattr(d, keyword, generate_uid()) for keyword in keywords])
    ct, codes = read(tmp_path)
    assert is_the_chest(ct)
    assert codes == ["uids"]
    (series,) = find_series(tmp_path)
    with pytest.raises(Exception, match="more than one S"):
        SourceImages(ct, source_datasets(series, ct))


def test_a_few_single_slices_are_not_made_a_scan(tmp_path):
    paths = chest(tmp_path)
    for path in paths[9:]:
        path.unlink()
    change(paths[:9], lambda d, n: setattr(d, "SeriesInstanceUID", generate_uid()))
    assert len(find_series(tmp_path)) == 9
    told = refusal(tmp_path)
    assert len(told.text) < 1000


def test_frames_of_reference_that_differ_do_no_harm_where_positions_are_one_grid(tmp_path):
    paths = chest(tmp_path)
    change(paths, lambda d, n: setattr(d, "FrameOfReferenceUID", generate_uid()))
    ct, codes = read(tmp_path)
    assert is_the_chest(ct)
    assert codes == ["frame-of-reference"]
    assert ct.header.frame_of_reference_uid is None
    paths[8].unlink()
    told = refusal(tmp_path)
    assert (told.code, "(0020,0052)" in told.text) == ("mixed", True)


# Places


@pytest.mark.parametrize(("step", "decimals"), [(0.625, 1), (1.25, 1), (0.625, 2), (2.5, 1)])
def test_positions_rounded_by_the_scanner_are_even(tmp_path, step, decimals):
    def rounded(dataset, n):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, round(float(z), decimals)]

    write_ct_series(tmp_path, np.zeros((60, 4, 4)), spacing_mm=(step, 1, 1), corner_lps_mm=(0, 0, 0.3), edit=rounded)
    ct, codes = read(tmp_path)
    assert ct.increment_mm == pytest.approx(step, abs=0.002)
    assert codes == (["positions"] if (step, decimals) in ((0.625, 1), (1.25, 1)) else [])


@pytest.mark.parametrize("off", [0.12, -0.3])
def test_a_slice_off_the_grid_is_uneven(tmp_path, off):
    def moved(dataset, n):
        x, y, z = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, float(z) + (off if n == 9 else 0)]

    chest(tmp_path, edit=moved)
    assert refusal(tmp_path).code == "uneven"


@pytest.mark.parametrize("tilt", [0.5, 14, -20])
def test_a_tilt_that_positions_contradict_is_a_warning(tmp_path, tilt):
    chest(tmp_path, GantryDetectorTilt=tilt)
    ct, codes = read(tmp_path)
    assert is_the_chest(ct)
    assert codes == ["tilt"]


# One verdict


@pytest.mark.parametrize(
    ("code", "edit"),
    [
        (None, lambda d, n: None),
        ("duplicate", lambda d, n: n == 4 and setattr(d, "ImagePositionPatient", [-100, -100, -45])),
        ("mixed", lambda d, n: n == 4 and setattr(d, "KVP", 80)),
        ("no-hu", lambda d, n: delattr(d, "RescaleSlope")),
        ("contrast", lambda d, n: setattr(d, "ContrastBolusAgent", "Iohexol")),
        ("few-slices", lambda d, n: None),
        ("mixed", lambda d, n: n == 4 and setattr(d, "PixelSpacing", [2, 2])),
    ],
)
def test_the_list_of_series_and_the_score_say_the_same(tmp_path, code, edit):
    paths = chest(tmp_path, edit=edit)
    if code == "few-slices":
        for path in paths[2:]:
            path.unlink()
    (entry,) = rank_series(find_series(tmp_path))
    assert entry.refusal == code
    if code is None:
        assert is_the_chest(read(tmp_path)[0])
        return
    told = refusal(tmp_path)
    assert told.code == code
    assert f"would be refused: {code}" in entry.describe()


def test_a_series_that_no_option_saves_does_not_compete(tmp_path):
    chest(tmp_path / "a", SeriesInstanceUID="1.1", ContrastBolusAgent="Iohexol")
    chest(tmp_path / "b", SeriesInstanceUID="1.2", ContrastBolusAgent="Iohexol", SeriesDescription="CaSc", KVP=100)
    for n in (4, 9, 11):
        shutil.copy(sorted((tmp_path / "b").iterdir())[n], tmp_path / "b" / f"copy{n}.dcm")
    ranked = rank_series(find_series(tmp_path))
    assert choose_series(ranked, allow=frozenset({"contrast"})).series_uid == "1.1"

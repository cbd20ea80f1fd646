"""Finding, ranking and choosing DICOM series."""

from __future__ import annotations

import gc
import os
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
from dicom_builder import write, write_ct_series, write_enhanced_ct
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, SecondaryCaptureImageStorage, generate_uid

from heartlens.core.errors import InputRefused
from heartlens.dicom.series import RankedSeries, choose_series, find_series, rank_series
from heartlens.dicom.stacks.series import Series

HU = np.zeros((16, 4, 5))
STUDY = "1.2.826.0.1.3680043.10.1.1"


def add_series(folder: Path, uid: str = "1.2.3", n_slices: int = 16, **tags) -> list[Path]:
    """A series of 16 slices every 3 mm in the one study; neutral apart from its tags."""
    spacing = tags.pop("spacing_mm", (3.0, 0.5, 0.5))
    neutral = {"KVP": 100, "ConvolutionKernel": "unheard", "SliceThickness": 2.2, "StudyInstanceUID": STUDY}
    return write_ct_series(
        folder, HU[:n_slices], spacing_mm=spacing, **{**neutral, "SeriesInstanceUID": uid, **tags}
    )  # fmt: skip


def only(folder: Path) -> Series:
    (series,) = find_series(folder)
    return series


def ranked(folder: Path) -> dict[str, RankedSeries]:
    return {r.series.series_uid: r for r in rank_series(find_series(folder))}


class TestFind:
    def test_folders_are_searched_to_the_bottom_and_files_grouped_by_series(self, tmp_path):
        add_series(tmp_path / "a" / "b", "1.2.3")
        add_series(tmp_path / "a", "1.2.4", n_slices=5)
        by_uid = {s.series_uid: s for s in find_series(tmp_path)}
        assert {uid: s.n_slices for uid, s in by_uid.items()} == {"1.2.3": 16, "1.2.4": 5}
        assert {path.parent.name for path in by_uid["1.2.3"].files} == {"b"}

    @pytest.mark.parametrize("is_multiframe", [False, True])
    def test_headers_that_nobody_holds_any_more_wait_for_no_search_for_garbage(self, tmp_path, is_multiframe):
        """Such a search stops a whole program, and thousands of attributes that wait for it bring it about."""
        classic = add_series(tmp_path / "classic")
        if is_multiframe:
            write_enhanced_ct(classic, tmp_path / "enhanced" / "ct.dcm")
        folder = "enhanced" if is_multiframe else "classic"
        gc.collect()
        gc.disable()
        try:
            datasets = [weakref.ref(frame.instance.dataset) for frame in only(tmp_path / folder).frames]
            assert [ref() for ref in datasets] == [None] * 16
        finally:
            gc.enable()

    def test_facts_for_ranking_come_from_the_headers(self, tmp_path):
        add_series(
            tmp_path, SeriesDescription="CaSc 3.0", KVP=120, ConvolutionKernel="Qr36", ContrastBolusAgent="none",
            SliceThickness=3, ProtocolName="Heart", CardiacSynchronizationTechnique="PROSPECTIVE",
        )  # fmt: skip
        series = only(tmp_path)
        assert (series.modality, series.description, series.protocol) == ("CT", "CaSc 3.0", "Heart")
        assert (series.n_slices, series.n_positions, series.increment_mm, series.length_mm) == (16, 16, 3.0, 45.0)
        assert (series.slice_thickness_mm, series.kvp, series.kernel) == (3.0, 120.0, "Qr36")
        assert (series.contrast, series.is_gated, series.field_of_view_mm) == ("", True, 2.0)
        assert series.image_type == ("ORIGINAL", "PRIMARY", "AXIAL")

    def test_no_identity_is_kept_in_what_is_shown(self, tmp_path):
        add_series(tmp_path, PatientName="Doe^Jane", PatientID="SECRET77", PatientBirthDate="19610504")
        entry = rank_series(find_series(tmp_path))[0]
        shown = repr(entry.series) + repr(entry) + entry.describe() + str(entry.to_json())
        for identity in ("Doe", "SECRET77", "19610504"):
            assert identity not in shown

    def test_one_file_and_a_list_of_files_are_searched_alone(self, tmp_path):
        paths = add_series(tmp_path)
        assert only(paths[3]).files == (paths[3],)
        (series,) = find_series(paths[2:7])
        assert series.files == tuple(paths[2:7])
        assert only(str(tmp_path)).n_slices == 16

    def test_a_multiframe_ct_is_one_file_of_many_slices(self, tmp_path):
        paths = add_series(tmp_path / "classic", SeriesDescription="x")
        write_enhanced_ct(paths, tmp_path / "enhanced.dcm")
        series = only(tmp_path / "enhanced.dcm")
        assert (len(series.files), series.n_slices, series.n_positions, series.increment_mm) == (1, 16, 16, 3.0)
        assert (series.kvp, series.kernel, series.is_gated) == (120.0, "Qr36", True)

    def test_junk_is_skipped(self, tmp_path):
        add_series(tmp_path)
        (tmp_path / "readme.txt").write_text("not an image")
        (tmp_path / ".DS_Store").write_bytes(bytes(6148))
        (tmp_path / "._0003.dcm").write_bytes(b"\0\5\x16\7" + bytes(200))  # what macOS leaves on other disks
        (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(500))
        (tmp_path / "empty").write_bytes(b"")
        assert only(tmp_path).n_slices == 16

    @pytest.mark.parametrize("name", ["0017.dcm", "IM17"])
    def test_a_link_to_a_slice_that_was_not_fetched_is_named_with_the_way_to_get_it(self, tmp_path, name):
        paths = add_series(tmp_path)
        (tmp_path / ".git" / "annex").mkdir(parents=True)
        stored = tmp_path / ".git" / "annex" / "object"
        paths[8].rename(tmp_path / name)
        (tmp_path / name).rename(stored)
        (tmp_path / name).symlink_to(stored)
        assert only(tmp_path).n_slices == 16, "a link to a file is read once, though the folder .git holds it too"
        stored.unlink()
        with pytest.raises(InputRefused, match=rf"^input: {name}: .*target is missing \(git annex get"):
            find_series(tmp_path)

    @pytest.mark.parametrize(
        ("note", "command"),
        [
            ("/annex/objects/SHA256E-s33000--0abc.dcm\n", "git annex get or datalad get"),
            ("version https://git-lfs.github.com/spec/v1\noid sha256:0abc\nsize 33000\n", "git lfs pull"),
        ],
    )
    def test_a_note_that_a_slice_was_not_fetched_is_no_junk(self, tmp_path, note, command):
        paths = add_series(tmp_path)
        paths[-1].unlink()
        (tmp_path / "IM15").write_text(note)
        with pytest.raises(InputRefused, match=rf"^input: IM15 was not fetched, .*; {command} brings it"):
            find_series(tmp_path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    def test_a_pipe_or_a_device_among_slices_is_named_and_not_waited_for(self, tmp_path):
        add_series(tmp_path)
        os.mkfifo(tmp_path / "IM17")
        with pytest.raises(InputRefused, match=r"^input: IM17: .* a named pipe"):
            find_series(tmp_path)
        (tmp_path / "IM17").unlink()
        (tmp_path / "IM17").symlink_to("/dev/zero")
        with pytest.raises(InputRefused, match=r"^input: IM17: .* a device"):
            find_series(tmp_path)
        with pytest.raises(InputRefused, match="IM17: expected a file or folder, found a device"):
            find_series(tmp_path / "IM17")

    @pytest.mark.parametrize("data", [b"", b"This is a text.", bytes(4000)], ids=["empty", "text", "zeros"])
    def test_a_file_named_dcm_that_is_not_dicom_is_refused(self, tmp_path, data):
        add_series(tmp_path)
        (tmp_path / "slice.dcm").write_bytes(data)
        with pytest.raises(InputRefused, match=r"^unreadable: slice\.dcm is not a DICOM file"):
            find_series(tmp_path)

    def test_a_named_file_that_is_not_dicom_is_refused(self, tmp_path):
        (tmp_path / "notes.txt").write_text("text")
        with pytest.raises(InputRefused, match=r"^unreadable: notes\.txt is not a DICOM file"):
            find_series(tmp_path / "notes.txt")

    def test_nothing_there_is_refused(self, tmp_path):
        with pytest.raises(InputRefused, match=r"^input: no such file or folder: .*absent"):
            find_series(tmp_path / "absent")
        with pytest.raises(InputRefused, match=r"^input: no DICOM file in .*: found no file at all"):
            find_series(tmp_path)
        (tmp_path / "notes.txt").write_text("text")
        with pytest.raises(InputRefused, match=r"^input: no DICOM file in .*: found 1 other files"):
            find_series(tmp_path)

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user")
    def test_a_file_that_may_not_be_read_is_refused(self, tmp_path):
        path = add_series(tmp_path)[4]
        path.chmod(0)
        with pytest.raises(InputRefused, match=r"^input: cannot read 0004\.dcm: "):
            find_series(tmp_path)

    def test_files_without_preamble_are_dicom(self, tmp_path):
        for path in add_series(tmp_path):
            dataset = dcmread(path)
            del dataset.file_meta
            dataset.preamble = None
            dataset.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)
            assert path.read_bytes()[:2] == b"\x08\x00"
        assert only(tmp_path).n_slices == 16

    def test_a_dicomdir_is_an_index_not_an_image(self):
        study = Path(get_testdata_file("CT_small.dcm")).parent / "dicomdirtests" / "98892001"
        by_folder = sorted(s.n_slices for s in find_series(study))
        assert by_folder == [2, 5]

    def test_a_dicomdir_given_as_input_means_its_folder(self, tmp_path):
        pet = Path(get_testdata_file("DICOMDIR", download=False) or "")
        shutil.copy(pet, tmp_path / "DICOMDIR")
        add_series(tmp_path / "IMAGES")
        assert only(tmp_path / "DICOMDIR").n_slices == 16
        assert only(tmp_path).n_slices == 16

    def test_only_other_modalities_are_refused_with_their_names(self, tmp_path):
        for name in ("MR_small.dcm", "rtdose.dcm"):
            shutil.copy(get_testdata_file(name), tmp_path)
        with pytest.raises(
            InputRefused, match=r"^modality: no CT image in .*: expected CT, found MR \(1 files\), RTDOSE"
        ):
            find_series(tmp_path)

    def test_a_screenshot_of_a_ct_is_not_ct(self, tmp_path):
        add_series(tmp_path, n_slices=1, SOPClassUID=SecondaryCaptureImageStorage)
        with pytest.raises(InputRefused, match=r"^modality: .*CT stored as Secondary Capture Image Storage"):
            find_series(tmp_path)

    def test_the_objects_own_class_counts_not_the_files(self, tmp_path):
        """Programs that turn a CT into something else often leave the file meta information as it was."""
        for path in add_series(tmp_path, n_slices=3):
            dataset = dcmread(path)
            dataset.SOPClassUID = SecondaryCaptureImageStorage
            dataset.save_as(path)
            assert dcmread(path).file_meta.MediaStorageSOPClassUID == CTImageStorage
        with pytest.raises(InputRefused, match=r"^modality"):
            find_series(tmp_path)

    def test_a_slice_whose_header_is_cut_never_vanishes(self, tmp_path):
        last = add_series(tmp_path)[-1]
        data = last.read_bytes()
        rows = data.index(b"\x28\x00\x10\x00US")
        for end in range(140, rows, 40):
            last.write_bytes(data[:end])
            with pytest.raises(InputRefused, match=r"^(unreadable|truncated): 0015\.dcm"):
                find_series(tmp_path)
        last.write_bytes(data[: rows + 20])
        assert only(tmp_path).n_slices == 16  # the series can be listed; reading it names the file

    @pytest.mark.parametrize(
        "name",
        [
            "no_meta.dcm", "no_meta_group_length.dcm", "meta_missing_tsyntax.dcm", "ExplVR_BigEndNoMeta.dcm",
            "ExplVR_LitEndNoMeta.dcm", "badVR.dcm", "MR_truncated.dcm", "rtplan_truncated.dcm", "rtstruct.dcm",
            "image_dfl.dcm", "MR_small_bigendian.dcm", "SC_rgb_rle.dcm", "reportsi.dcm", "DICOMDIR",
        ],
    )  # fmt: skip
    def test_pydicoms_odd_files_fail_cleanly(self, tmp_path, name):
        shutil.copy(get_testdata_file(name), tmp_path / name)
        with pytest.raises(InputRefused) as caught:
            find_series(tmp_path / name)
        assert caught.value.code in ("unreadable", "modality", "truncated", "input")


class TestRank:
    @pytest.mark.parametrize(
        ("points", "reason", "tags"),
        [
            (0, None, {}),
            (4, "+4 ECG-gated", {"CardiacSynchronizationTechnique": "PROSPECTIVE"}),
            (4, "+4 named a calcium scan", {"SeriesDescription": "CaSc 3.0"}),
            (4, "+4 named a calcium scan", {"ProtocolName": "Calcium Score    (Volume)"}),
            (0, None, {"SeriesDescription": "Scalculated CA bronchi"}),
            (2, "+2 slice thickness 2.5 mm", {"SliceThickness": 2.5}),
            (2, "+2 slice thickness 3 mm", {"SliceThickness": 3}),
            (0, None, {"SliceThickness": 2.4}),
            (0, None, {"SliceThickness": 3.2}),
            (-2, "-2 slice thickness 5 mm, more than 3.5 mm", {"SliceThickness": 5}),
            (-2, "-2 slice thickness 1 mm, less than 2 mm", {"SliceThickness": 1}),
            (0, None, {"SliceThickness": None}),
            (2, "+2 120 kVp", {"KVP": 120}),
            (1, "+1 soft kernel B35f", {"ConvolutionKernel": "B35f"}),
            (1, "+1 soft kernel Br40d\\3", {"ConvolutionKernel": ["Br40d", "3"]}),
            (-3, "-3 sharp kernel LUNG", {"ConvolutionKernel": "LUNG"}),
            (-3, "-3 sharp kernel BONEPLUS", {"ConvolutionKernel": "BONEPLUS"}),
        ],
    )
    def test_points_of_the_table(self, tmp_path, points, reason, tags):
        add_series(tmp_path, **tags)
        entry = ranked(tmp_path)["1.2.3"]
        assert entry.points == points
        assert entry.reasons == ((reason,) if reason else ())
        assert (entry.refusal, entry.comes_first) == (None, True)

    def test_a_field_that_holds_the_heart_counts(self, tmp_path):
        add_series(tmp_path, spacing_mm=(7.0, 50.0, 50.0))
        assert "+1 field of view 200 mm, 105 mm long" in ranked(tmp_path)["1.2.3"].reasons

    @pytest.mark.parametrize(
        ("refusal", "words", "tags"),
        [
            ("contrast", "contrast agent: IV", {"ContrastBolusAgent": "IV"}),
            ("derived", "LOCALIZER", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}),
            ("derived", "SECONDARY", {"ImageType": ["DERIVED", "SECONDARY"]}),
            ("few-slices", "2 positions", {"n_slices": 2}),
            (None, "fewer than 15 positions (14)", {"n_slices": 14}),
            (None, "increment 7.5 mm, more than 5 mm", {"spacing_mm": (7.5, 0.5, 0.5)}),
        ],
    )
    def test_what_holds_a_series_back(self, tmp_path, refusal, words, tags):
        add_series(tmp_path, "1.2.3", **{"KVP": 120, "SeriesDescription": "calcium", **tags})
        add_series(tmp_path / "plain", "1.2.4")
        entries = rank_series(find_series(tmp_path))
        assert [e.series.series_uid for e in entries] == ["1.2.4", "1.2.3"]
        assert (entries[1].refusal, entries[1].comes_first) == (refusal, False)
        assert words in " ".join(entries[1].reasons)

    def test_positions_are_counted_once(self, tmp_path):
        paths = add_series(tmp_path)
        for n, path in enumerate(paths):
            shutil.copy(path, tmp_path / f"copy{n}.dcm")
        series = only(tmp_path)
        assert (series.n_slices, series.n_positions) == (32, 16)

    def test_coronal_slices_come_last(self, tmp_path):
        hu = np.zeros((16, 16, 16))
        write_ct_series(tmp_path, hu, plane=((0, 1), (2, -1)))
        (entry,) = rank_series(find_series(tmp_path))
        assert (entry.refusal, entry.reasons[0]) == ("not-axial", "not axial (cosine 0.000)")

    def test_other_modalities_are_listed_last(self, tmp_path):
        add_series(tmp_path)
        shutil.copy(get_testdata_file("MR_small.dcm"), tmp_path)
        entries = rank_series(find_series(tmp_path))
        assert [e.refusal for e in entries] == [None, "modality"]

    def test_the_real_calcium_scan_beats_its_scout(self):
        study = Path(get_testdata_file("CT_small.dcm")).parent / "dicomdirtests" / "98892001"
        best, scout = rank_series(find_series(study))
        assert (best.series.description, best.points) == ("SmartScore - Gated 0.5 sec", 13)
        assert scout.refusal == "derived"
        assert "would be refused: derived" in scout.describe()
        assert best.to_json()["points"] == 13


class TestChoose:
    def choose(self, folder: Path, *args, **options) -> str:
        return choose_series(rank_series(find_series(folder)), *args, **options).series_uid

    def test_a_single_series_is_chosen_whatever_it_is(self, tmp_path):
        add_series(tmp_path, ContrastBolusAgent="IV", ConvolutionKernel="LUNG")
        assert self.choose(tmp_path) == "1.2.3"

    def test_a_lead_of_two_points_decides(self, tmp_path):
        add_series(tmp_path / "a", "1.2.3")
        add_series(tmp_path / "b", "1.2.4", KVP=120)
        assert self.choose(tmp_path) == "1.2.4"

    def test_a_lead_of_one_point_does_not(self, tmp_path):
        add_series(tmp_path / "a", "1.2.3", SeriesDescription="first")
        add_series(tmp_path / "b", "1.2.4", ConvolutionKernel="B35f")
        with pytest.raises(InputRefused) as caught:
            self.choose(tmp_path)
        assert caught.value.code == "ambiguous"
        for words in ("1.2.3", "1.2.4", "first", "--series", "1 points"):
            assert words in caught.value.text
        assert self.choose(tmp_path, "1.2.3") == "1.2.3"

    def test_a_localizer_or_reformat_beside_a_good_series_does_not_matter(self, tmp_path):
        add_series(tmp_path / "a", "1.2.3")
        add_series(tmp_path / "b", "1.2.4", n_slices=2, KVP=120, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
        add_series(tmp_path / "c", "1.2.5", ImageType=["DERIVED", "SECONDARY", "AVERAGE"])
        add_series(tmp_path / "d", "1.2.6", ContrastBolusAgent="IV")
        add_series(tmp_path / "e", "1.2.7", n_slices=4)
        assert self.choose(tmp_path) == "1.2.3"
        assert self.choose(tmp_path, allow=frozenset({"contrast", "derived"})) == "1.2.3"

    def test_allowed_series_compete_when_nothing_better_is_there(self, tmp_path):
        add_series(tmp_path / "a", "1.2.3", ContrastBolusAgent="IV")
        add_series(tmp_path / "b", "1.2.4", ContrastBolusAgent="IV", ConvolutionKernel="B35f")
        assert self.choose(tmp_path) == "1.2.4"  # reading it refuses and says why
        with pytest.raises(InputRefused, match=r"^ambiguous"):
            self.choose(tmp_path, allow=frozenset({"contrast"}))

    @pytest.mark.parametrize(
        ("words", "tags"),
        [
            ("2 patients", {"PatientID": "P2"}),
            ("2 studies", {"StudyInstanceUID": "1.9.9"}),
        ],
    )
    def test_two_patients_or_studies_are_never_chosen_between(self, tmp_path, words, tags):
        add_series(tmp_path / "a", "1.2.3")
        add_series(tmp_path / "b", "1.2.4", KVP=120, SeriesDescription="calcium", **tags)
        with pytest.raises(InputRefused, match=f"^ambiguous: found {words}") as caught:
            self.choose(tmp_path)
        assert "P2" not in caught.value.text
        assert self.choose(tmp_path, "1.2.3") == "1.2.3"

    def test_patients_without_id_are_told_apart_by_name(self, tmp_path):
        add_series(tmp_path / "a", "1.2.3", PatientID="", PatientName="Doe^Jane")
        add_series(tmp_path / "b", "1.2.4", KVP=120, PatientID="", PatientName="Roe^Jane")
        with pytest.raises(InputRefused, match=r"^ambiguous: found 2 patients") as caught:
            self.choose(tmp_path)
        assert "Jane" not in caught.value.text

    def test_an_unknown_uid_is_refused_with_what_there_is(self, tmp_path):
        add_series(tmp_path)
        with pytest.raises(InputRefused, match=r"^input: no series has UID 9\.9; found .*1\.2\.3"):
            self.choose(tmp_path, "9.9")

    def test_a_report_in_the_folder_does_not_matter(self, tmp_path):
        add_series(tmp_path)
        report = Dataset()
        report.SOPClassUID, report.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.22", generate_uid()
        report.SeriesInstanceUID, report.StudyInstanceUID = "1.5", STUDY
        report.Modality, report.PatientID = "SR", "P1"
        write(report, tmp_path / "sr.dcm")
        assert self.choose(tmp_path) == "1.2.3"


def test_ct_without_pixels_in_its_header_pass_costs_no_pixel_read(tmp_path):
    """The header pass stops where the pixels begin and remembers the place."""
    paths = add_series(tmp_path)
    for instance in only(tmp_path).instances:
        assert instance.dataset.SOPClassUID == CTImageStorage
        assert "PixelData" not in instance.dataset
        data = instance.path.read_bytes()
        assert data[instance.pixel_offset :][:4] == b"\xe0\x7f\x10\x00"
    assert len(paths) == 16

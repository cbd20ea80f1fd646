"""The command line's contract: what it prints, what it writes, what it refuses, and what it leaves behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from heartlens.__main__ import main
from heartlens.app.review_session import ReviewSession
from heartlens.case.folder import append_edit, load_case

pytestmark = pytest.mark.slow

NOTICE = "HeartLens is research software. It is not a medical device"
SMALL = (
    "--set",
    "matrix=160",
    "--set",
    "increment_mm=5",
    "--set",
    "slice_thickness_mm=5",
    "--set",
    "field_of_view=heart",
)


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """A small calcified phantom as DICOM, with its truth."""
    out = tmp_path_factory.mktemp("phantom") / "p"
    assert main(["phantom", "--out", str(out), "--seed", "3", *SMALL, "--set", "category=101-400"]) == 0
    return out


@pytest.fixture(scope="session")
def labels(phantom):
    return phantom / "labels.nrrd"


@pytest.fixture
def run(capsys):
    """`run("score", ...)` is (exit code, stdout, stderr)."""

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_truth_labels_give_the_phantoms_own_score(phantom, labels, run):
    code, out, _ = run("score", phantom / "ct", "--segmentation", labels, "--json")
    assert code == 0
    report = json.loads(out)
    truth = json.loads((phantom / "truth.json").read_text())
    for artery, totals in report["arteries"].items():
        assert totals["agatston"] == pytest.approx(truth["arteries"][artery]["agatston"], rel=1e-9)
    assert report["total"]["agatston"] > 50


def test_the_table_is_printed_with_the_notice_and_nothing_is_written(phantom, labels, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run("score", phantom / "ct", "--segmentation", labels)
    assert (code, err) == (0, "")
    assert NOTICE in out
    assert [line.split()[0] for line in out.splitlines()[1:5]] == ["LM", "LAD", "LCX", "RCA"]
    assert list(tmp_path.iterdir()) == []


def test_the_folder_holds_every_output_and_they_agree(phantom, labels, run, tmp_path):
    out = tmp_path / "result"
    assert run("score", phantom / "ct", "--segmentation", labels, "--out", out)[0] == 0
    assert sorted(p.name for p in out.iterdir()) == [
        "case", "lesions.csv", "report.dcm", "report.html", "report.json", "segmentation.dcm", "segmentation.seg.nrrd",
    ]  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["result"]
    report = json.loads((out / "report.json").read_text())
    assert report["schema"] == "heartlens.report/2"
    assert NOTICE in report["notice"]
    rows = list(csv.DictReader((out / "lesions.csv").read_text().splitlines()))
    assert [float(row["agatston"]) for row in rows] == [lesion["agatston"] for lesion in report["lesions"]]
    for name in ("segmentation.seg.nrrd", "segmentation.dcm"):
        again = json.loads(run("score", phantom / "ct", "--segmentation", out / name, "--json")[1])
        assert again["total"] == report["total"], name
        assert again["arteries"] == report["arteries"], name
    assert load_case(out / "case").report_document() == json.loads((out / "case" / "report.json").read_text())


def test_a_volume_file_gets_no_dicom_but_keeps_its_voxels(phantom, run, tmp_path):
    nrrd = tmp_path / "p"
    assert run("phantom", "--out", nrrd, "--seed", 3, *SMALL, "--set", "category=101-400", "--format", "nrrd")[0] == 0
    out = tmp_path / "result"
    code, _, err = run("score", nrrd / "ct.nrrd", "--segmentation", nrrd / "labels.nrrd", "--out", out)
    assert code == 0, err
    names = {p.name for p in out.iterdir()}
    assert "report.dcm" not in names
    assert "segmentation.dcm" not in names
    assert (out / "case" / "ct.nrrd").exists()
    assert load_case(out / "case").report_document() == json.loads((out / "report.json").read_text())


def test_dicom_and_nrrd_of_the_same_phantom_score_the_same(phantom, labels, run, tmp_path):
    nrrd = tmp_path / "p"
    run("phantom", "--out", nrrd, "--seed", 3, *SMALL, "--set", "category=101-400", "--format", "nrrd")
    one = json.loads(run("score", phantom / "ct", "--segmentation", labels, "--json")[1])
    two = json.loads(run("score", nrrd / "ct.nrrd", "--segmentation", nrrd / "labels.nrrd", "--json")[1])
    assert one["total"]["agatston"] == pytest.approx(two["total"]["agatston"], rel=1e-9)


def test_the_rules_find_calcium_and_say_how_sure_they_are(phantom, run, monkeypatch):
    monkeypatch.setattr("heartlens.networks.bundle.INSTALLED", ())
    report = json.loads(run("score", phantom / "ct", "--json")[1])
    assert report["total"]["agatston"] > 0
    assert "no-bundle" in {w["code"] for w in report["warnings"]}
    for lesion in report["lesions"]:
        assert 0 <= lesion["probability"] <= 1
        assert lesion["why"]
        assert lesion["source"] == "rules"


def test_no_identity_is_written_unless_asked_for(phantom, labels, run, tmp_path):
    series = tmp_path / "ct"
    shutil.copytree(phantom / "ct", series)
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName, dataset.PatientID = "Rosenblatt^Hidden", "MRN-77451"
        dataset.InstitutionName, dataset.PatientBirthDate = "Saint Nowhere", "19481231"
        dataset.save_as(path)
    out = tmp_path / "result"
    code, stdout, stderr = run("score", series, "--segmentation", labels, "--out", out)
    assert code == 0
    for secret in ("Rosenblatt", "MRN-77451", "Saint Nowhere", "19481231"):
        assert secret not in stdout + stderr
        for path in out.rglob("*"):
            if path.is_file() and path.suffix != ".dcm":
                assert secret not in path.read_bytes().decode("latin-1"), path.name
    assert str(pydicom.dcmread(out / "report.dcm").PatientName) == "Rosenblatt^Hidden"  # as DICOM demands
    assert run("score", series, "--segmentation", labels, "--out", out, "--force", "--identify")[0] == 0
    page = (out / "report.html").read_text()
    assert "Rosenblatt" in page
    assert "MRN-77451" in page
    assert "Saint Nowhere" not in page


# Refusals: exit 3, one line, stdout and disk untouched.


def refused(run, code, *arguments, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    exit_code, out, err = run("score", *arguments)
    assert exit_code == 3, err
    assert err.startswith(f"error: {code}: "), err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before
    return err


def test_an_empty_folder_is_refused(run, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(run, "input", tmp_path / "empty", "--out", tmp_path / "o", tmp_path=tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "nowhere.nrrd", "nowhere.dcm"])
def test_a_path_that_does_not_exist_is_refused(run, tmp_path, name):
    assert name in refused(run, "input", tmp_path / name, tmp_path=tmp_path)


def test_text_named_dcm_is_refused(run, tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "a.dcm").write_text("this is not an image, although its name says so")
    assert "a.dcm" in refused(run, "unreadable", tmp_path / "s", tmp_path=tmp_path)


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii.gz", "a.mha"])
def test_a_broken_volume_file_is_refused(run, tmp_path, name):
    (tmp_path / name).write_bytes(b"NRRD0004\nbroken")
    refused(run, "unreadable", tmp_path / name, tmp_path=tmp_path)


def with_change(phantom, tmp_path, change, which=slice(None)):
    series = tmp_path / "ct"
    shutil.copytree(phantom / "ct", series)
    for path in sorted(series.iterdir())[which]:
        dataset = pydicom.dcmread(path)
        change(dataset)
        dataset.save_as(path)
    return series


def set_tags(**tags):
    def change(dataset):
        for name, value in tags.items():
            setattr(dataset, name, value)

    return change


def drop(name):
    return lambda dataset: delattr(dataset, name)


def cut_pixels(dataset):
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]


def other_size(dataset):
    dataset.Rows //= 2
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2]


def shift_one(dataset):
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y, float(z) + 1.0]


def shear(dataset):
    x, y, z = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, float(y) + 0.2 * float(z), z]


def coronal(dataset):
    x, _, z = dataset.ImagePositionPatient
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    dataset.ImagePositionPatient = [x, z, 0]


BAD_SERIES = {
    "contrast": (set_tags(ContrastBolusAgent="Iohexol 350"), slice(None)),
    "derived": (set_tags(ImageType=["DERIVED", "SECONDARY", "MIP"]), slice(None)),
    "not-axial": (coronal, slice(None)),
    "tilt": (shear, slice(None)),
    "no-hu": (drop("RescaleIntercept"), slice(None)),
    "modality": (set_tags(Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4"), slice(None)),
    "truncated": (cut_pixels, slice(4, 5)),
    "mixed": (other_size, slice(4, 5)),
    "uneven": (shift_one, slice(4, 5)),
}


@pytest.mark.parametrize("code", BAD_SERIES)
def test_each_gate_refuses_its_series(phantom, run, tmp_path, code):
    change, which = BAD_SERIES[code]
    series = with_change(phantom, tmp_path, change, which)
    refused(run, code, series, "--out", tmp_path / "o", tmp_path=tmp_path)


def test_what_may_be_allowed_is_scored_with_a_warning(phantom, labels, run, tmp_path):
    series = with_change(phantom, tmp_path, set_tags(ContrastBolusAgent="Iohexol 350"))
    report = json.loads(run("score", series, "--segmentation", labels, "--allow", "contrast", "--json")[1])
    assert "contrast" in {w["code"] for w in report["warnings"]}


def test_what_may_not_be_allowed_is_a_usage_error(phantom, run):
    code, _, err = run("score", phantom / "ct", "--allow", "tilt")
    assert code == 2
    assert "contrast" in err


def test_two_series_that_rank_alike_are_ambiguous_until_one_is_named(phantom, labels, run, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(phantom / "ct", both / "a")
    second = pydicom.uid.generate_uid()
    (both / "b").mkdir()
    for path in sorted((phantom / "ct").iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.SeriesInstanceUID = second
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        dataset.save_as(both / "b" / path.name)
    line = refused(run, "ambiguous", both, tmp_path=tmp_path)
    assert second in line
    assert "--series" in line
    assert run("score", both, "--series", second, "--segmentation", labels)[0] == 0
    code, out, _ = run("series", both, "--json")
    assert code == 0
    assert second in out


def write_labels(phantom, path, change):
    image = sitk.ReadImage(str(phantom / "labels.nrrd"))
    sitk.WriteImage(change(image), str(path))
    return path


def test_labels_on_another_grid_are_refused(phantom, run, tmp_path):
    path = write_labels(phantom, tmp_path / "l.nrrd", lambda image: image[:-1])
    refused(run, "grid", phantom / "ct", "--segmentation", path, tmp_path=tmp_path)

    def move(image):
        x, y, z = image.GetOrigin()
        image.SetOrigin((x + 1, y, z))
        return image

    path = write_labels(phantom, tmp_path / "m.nrrd", move)
    refused(run, "grid", phantom / "ct", "--segmentation", path, tmp_path=tmp_path)


def test_unknown_labels_are_refused(phantom, run, tmp_path):
    path = write_labels(phantom, tmp_path / "l.nrrd", lambda image: image * 9)
    assert "18" in refused(run, "labels", phantom / "ct", "--segmentation", path, tmp_path=tmp_path)


def test_an_existing_folder_is_replaced_only_by_force_and_only_if_it_is_ours(phantom, labels, run, tmp_path):
    out = tmp_path / "result"
    arguments = (phantom / "ct", "--segmentation", labels, "--out", out)
    assert run("score", *arguments)[0] == 0
    first = (out / "report.json").read_text()
    refused(run, "output", *arguments, tmp_path=tmp_path)
    assert (out / "report.json").read_text() == first
    assert run("score", *arguments, "--force", "--profile", "siemens")[0] == 0
    assert json.loads((out / "report.json").read_text())["protocol"]["name"] == "siemens"
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.txt").write_text("years of work")
    refused(run, "output", *arguments[:-1], precious, "--force", tmp_path=tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="Windows has access lists")
def test_results_are_for_the_user_alone_unless_they_are_to_be_shared(phantom, labels, run, tmp_path):
    """DIR, everything in it, and what the reader adds to it."""
    mask = os.umask(0o022)
    try:
        for name, options, modes in [("own", [], {0o600, 0o700}), ("ours", ["--shared-mode"], {0o644, 0o755})]:
            out = tmp_path / name
            assert run("score", phantom / "ct", "--segmentation", labels, "--out", out, *options)[0] == 0
            with ReviewSession.open(out, reader="Rita") as session:
                session.remove(next(iter(session.case.lesions.arteries)))
                session.save_report()
                session.sign("Rita", "Clinic", confirmed=True)
                everything = [out, *out.rglob("*")]
                assert {"signature.json", ".lock", "edits.jsonl", "report.dcm"} <= {path.name for path in everything}
                assert {path.stat().st_mode & 0o777 for path in everything} == modes
                session.export(tmp_path / f"{name}-exported")
            exported = [tmp_path / f"{name}-exported", *(tmp_path / f"{name}-exported").rglob("*")]
            assert {path.stat().st_mode & 0o777 for path in exported} == modes, "as open as the case"
    finally:
        os.umask(mask)


def test_force_does_not_delete_a_readers_edits(phantom, labels, run, tmp_path):
    out = tmp_path / "result"
    arguments = (phantom / "ct", "--segmentation", labels, "--out", out)
    assert run("score", *arguments)[0] == 0
    case = load_case(out / "case")
    append_edit(out / "case", case.remove(next(iter(case.lesions.arteries))).edits[-1])
    before = (out / "case" / "edits.jsonl").read_text()
    assert "reader's edits" in refused(run, "output", *arguments, "--force", tmp_path=tmp_path)
    assert (out / "case" / "edits.jsonl").read_text() == before


@pytest.mark.skipif(os.name != "posix", reason="POSIX resource limits")
@pytest.mark.parametrize("limit_bytes", [0, 1000, 30_000])
def test_a_disk_that_takes_no_more_leaves_nothing(phantom, labels, tmp_path, limit_bytes):
    """The kernel refuses to let files grow beyond the limit, as a full disk would."""
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n"
        "from heartlens.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "score", phantom / "ct", "--segmentation", labels, "--out", tmp_path / "o"],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert run.returncode == 3, run.stderr
    assert run.stderr.startswith("error: output: cannot write ")
    assert run.stderr.count("\n") == 1
    assert run.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no folders")
def test_a_place_that_takes_no_folder_is_refused(phantom, labels, run, tmp_path):
    line = refused(
        run, "output", phantom / "ct", "--segmentation", labels, "--out", "/proc/heartlens", tmp_path=tmp_path
    )
    assert "/proc/heartlens" in line


def test_a_folder_that_cannot_be_made_is_refused(phantom, labels, run, tmp_path):
    (tmp_path / "file").write_text("")
    refused(
        run, "output", phantom / "ct", "--segmentation", labels, "--out", tmp_path / "file" / "o", tmp_path=tmp_path
    )


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_ctrl_c_and_a_system_that_stops_it_end_it_with_4_and_leave_nothing(phantom, tmp_path, number):
    code = (
        "import sys, time, heartlens.report.outputs as o\n"
        "o.write_lesions_csv = lambda *a: (print('writing', flush=True), time.sleep(30))\n"
        "from heartlens.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "score", phantom / "ct", "--bundle", "none", "--out", tmp_path / "o"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert process.stdout.readline() == "writing\n"
    process.send_signal(getattr(signal, number))
    _, err = process.communicate(timeout=20)
    assert process.returncode == 4
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("score",),
        ("score", "x", "--profile", "ge"),
        ("score", "x", "--connectivity", "6"),
        ("score", "x", "--mass-factor", "0.72"),
        ("score", "x", "--slab-mm", "-1"),
        ("score", "x", "--kvp", "-120"),
        ("score", "x", "--scheme", "nobody"),
        ("score", "x", "--pdf"),
        ("score", "x", "--fhir"),
        ("score", "x", "--key-page"),
        ("score", "x", "--embed-ct"),
        ("score", "x", "--predecessor", "report.dcm"),
        ("cohort", "run", "x", "--scheduler", "tcp://127.0.0.1:1", "--slurm", "slurm.toml"),
        ("cohort", "run", "x", "--workers", "-1"),
        ("phantom", "--out", "x", "--set", "matrix"),
        ("phantom", "--out", "x", "--set", "wings=2"),
        ("fly",),
    ],
)
def test_wrong_usage_exits_with_2(run, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err
    assert list(tmp_path.iterdir()) == []


def test_pages_for_the_archive_are_written_once_a_folder_is_given_for_them(phantom, labels, run, tmp_path):
    words = ("score", phantom / "ct", "--segmentation", labels, "--key-page", "--pdf", "--fhir")
    code, _, told = run(*words)
    assert code == 2
    assert "give --out DIR" in told
    code, _, told = run(*words, "--out", tmp_path / "out")
    assert code == 0, told
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"key-page.dcm", "report.pdf", "report.fhir.json"}


def test_a_ct_in_its_case_and_a_predecessor_are_written_once_a_folder_is_given_for_them(phantom, labels, run, tmp_path):
    words = ("score", phantom / "ct", "--segmentation", labels)
    code, _, told = run(*words, "--embed-ct")
    assert (code, "give --out DIR" in told) == (2, True)
    code, _, told = run(*words, "--embed-ct", "--out", tmp_path / "first")
    assert code == 0, told
    assert len(list((tmp_path / "first" / "case" / "ct").iterdir())) == len(list((phantom / "ct").iterdir()))
    earlier = tmp_path / "first" / "report.dcm"
    code, _, told = run(*words, "--predecessor", tmp_path / "none.dcm", "--out", tmp_path / "second")
    assert (code, "none.dcm is no file" in told) == (3, True)
    other = ("--min-area-mm2", "0", "--predecessor", earlier)  # another protocol, and so another document
    code, _, told = run(*words, *other, "--out", tmp_path / "second")
    assert code == 0, told
    (named,) = dcmread(tmp_path / "second" / "report.dcm").PredecessorDocumentsSequence
    (series,) = named.ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == dcmread(earlier).SOPInstanceUID


def test_a_language_that_is_not_there_is_refused_before_the_work(run, tmp_path):
    assert "found 'tlh'" in refused(run, "input", tmp_path / "nowhere", "--language", "tlh", tmp_path=tmp_path)


def test_options_of_the_protocol_reach_the_report(phantom, labels, run):
    report = json.loads(
        run(
            "score", phantom / "ct", "--segmentation", labels, "--json", "--connectivity", 8, "--min-area-mm2", 0,
            "--normalisation", "none", "--mass-factor", 0.0008, "--isotropic-volume", "--scheme", "cac-drs",
            "--age", 60, "--sex", "M", "--race", "white",
        )[1]
    )  # fmt: skip
    protocol = report["protocol"]
    assert (protocol["connectivity"], protocol["minimum_area_mm2"], protocol["normalisation"]) == (8, 0, "none")
    assert report["calibration"]["mass_factor_mg_per_mm3_hu"] == 0.0008
    assert report["total"]["mass_mg"] > 0
    assert report["total"]["volume_isotropic_mm3"] > 0
    assert report["risk"]["scheme"] == "cac-drs"
    assert report["risk"]["percentile"] is not None


def test_slabs_are_scored_and_said(phantom, labels, run, tmp_path):
    out = tmp_path / "o"
    code, _, err = run("score", phantom / "ct", "--segmentation", labels, "--slab-mm", 10, "--out", out)
    assert code == 0, err
    report = json.loads((out / "report.json").read_text())
    assert "slabs" in {w["code"] for w in report["warnings"]}
    slices = json.loads((out / "report.json").read_text())["ct"]["slices"]
    assert len(report["slices"]) == slices // 2
    seg = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "segmentation.seg.nrrd")))
    assert np.count_nonzero(seg) > 0
    assert load_case(out / "case").report_document() == json.loads((out / "case" / "report.json").read_text())


def test_kvp_adapted_thresholds_change_the_score_and_are_said(phantom, labels, run):
    plain = json.loads(run("score", phantom / "ct", "--segmentation", labels, "--json")[1])
    adapted = json.loads(
        run("score", phantom / "ct", "--segmentation", labels, "--json", "--kvp", 100, "--kvp-adapted")[1]
    )
    assert adapted["protocol"]["threshold_hu"] == 145
    assert adapted["total"]["agatston"] < plain["total"]["agatston"]


def test_series_lists_points_and_reasons(phantom, run):
    code, out, _ = run("series", phantom)
    assert code == 0
    assert "120 kVp" in out


def test_the_demo_makes_and_scores_a_phantom_twice_over(run, tmp_path):
    for _ in range(2):  # the second run replaces what the first one made
        code, out, _ = run("demo", "--out", tmp_path / "demo")
        assert code == 0
    assert "Known answer of this phantom" in out
    assert (tmp_path / "demo" / "result" / "report.html").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]
    (tmp_path / "demo").rename(tmp_path / "moved")  # its case is read wherever it lies
    assert load_case(tmp_path / "moved" / "result" / "case").report.total.agatston > 0
    code, out, err = run("draft", tmp_path / "moved" / "result")
    assert (code, "DRAFT" in out) == (0, True), err


def test_rules_only_scoring_works_without_the_optional_libraries(phantom, tmp_path):
    """JSON, CSV and .seg.nrrd need neither onnxruntime nor jinja2 nor matplotlib."""
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        "        if top in ('onnxruntime', 'jinja2', 'matplotlib'): raise ModuleNotFoundError(name, name=top)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from heartlens.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, "score", phantom / "ct", "--bundle", "none", "--out", tmp_path / "o"],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "report.html was not written: it needs jinja2" in run.stderr
    names = {p.name for p in (tmp_path / "o").iterdir()}
    assert {"report.json", "lesions.csv", "segmentation.seg.nrrd", "case"} <= names


def test_progress_is_silent_when_stderr_is_no_terminal(phantom, labels, run):
    assert run("score", phantom / "ct", "--segmentation", labels)[2] == ""


def test_verify_says_of_each_case_what_its_signature_is_worth(phantom, labels, run, tmp_path):
    from heartlens.app.review_session import ReviewSession

    for name in ("a", "b"):
        out = tmp_path / name
        assert run("score", phantom / "ct", "--segmentation", labels, "--out", out)[0] == 0
        with ReviewSession.open(out, reader="Rita") as reading:
            reading.sign("Reader^Rita", "Phantom Hospital", confirmed=True)
    code, out, err = run("verify", tmp_path)
    assert (code, err) == (0, "")
    assert [line.split(": signed by Reader^Rita, Phantom Hospital, ")[0] for line in out.splitlines()] == [
        str(tmp_path / name / "case") for name in ("a", "b")
    ]
    shutil.copy(tmp_path / "a" / "case" / "report.json", tmp_path / "b" / "case" / "report.json")
    report = tmp_path / "b" / "case" / "report.json"
    report.write_text(report.read_text().replace('"draft"', '"read"').replace('"signed"', '"draft"'))
    code, out, err = run("verify", tmp_path)
    assert code == 3
    assert "altered after signing (report.json changed); it had been signed as Reader^Rita" in out.splitlines()[1]
    assert err.startswith("error: checksum: 1 of 2 cases are damaged or not what was signed")
    assert run("verify", tmp_path / "nothing")[0] == 3
